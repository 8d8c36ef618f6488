//! The serving processes that share a database: who is there, what each serves, and what their versions have answered
//! together.
//!
//! [`Fleet`] is where others look; [`reporter`] tells the others about this process; [`Window`] counts what happened since a
//! moment, whichever process it happened in. One process alone works the same way.

mod reporter;
mod window;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tidegate_core::{Clock, ReplicaId, Timestamp, VersionId};
use tidegate_serve::{Server, Slot, Tally};
use tidegate_store::{ReplicaRecord, Store, StoreError};
use tokio_util::sync::CancellationToken;

pub use reporter::report;
pub use window::{Counted, Life, Seen, Window, total};

use crate::controller::Placement;

/// A replica is dead to the others after so many heartbeats that did not come: one lost to a slow commit, one to bad luck.
const MISSED_HEARTBEATS: u32 = 3;

/// How long what a dead replica said is kept after its last sign of life, so that a person can still look at it. Its counts
/// are kept longer where an unsettled deployment may rest on them (`Replicas::sweep`).
const KEEP_DEAD: SignedDuration = SignedDuration::from_hours(1);
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// See the module.
pub struct Fleet {
    store: Arc<Store>,
    server: Arc<Server>,
    placement: Arc<Placement>,
    clock: Arc<dyn Clock>,
    me: Me,
}

/// This process among the others.
#[derive(Clone, Debug)]
pub struct Me {
    pub id: ReplicaId,
    /// Where it says that it can be reached.
    pub address: String,
    pub started_at: Timestamp,
    pub heartbeat: Duration,
}

impl Fleet {
    pub fn new(
        store: Arc<Store>,
        server: Arc<Server>,
        placement: Arc<Placement>,
        clock: Arc<dyn Clock>,
        me: Me,
    ) -> Self {
        Self { store, server, placement, clock, me }
    }

    /// Every process that is alive, the oldest first; this one as it is now.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let now = self.clock.now();
        let since = now.saturating_sub(time_to_live(self.me.heartbeat)).unwrap_or(Timestamp::MIN);
        let mut replicas = self.store.replicas.live(since).await?;
        match replicas.iter_mut().find(|replica| replica.id == self.me.id) {
            Some(myself) => *myself = self.myself(now),
            None => replicas.push(self.myself(now)),
        }
        Ok(replicas)
    }

    /// What a version has answered since it was loaded, for each life in each process, also in those that are gone. Of this
    /// process up to now, of the others up to their last report: a second ago while versions share a route.
    pub async fn counted(&self, version: &VersionId) -> Result<Vec<Counted>, StoreError> {
        let mine = self.server.slot(version);
        let mut counted = Vec::new();
        for record in self.store.replicas.tallies(version).await? {
            let life = Life { replica: record.replica_id, number: record.life };
            if mine.as_ref().is_some_and(|slot| life == self.life_of(slot)) {
                continue;
            }
            // A newer release may count what this one cannot read; its other counts still count.
            let Ok(tally) = serde_json::from_value::<Tally>(record.tally) else { continue };
            counted.push(Counted { life, tally, seen: Seen::Report(record.revision) });
        }
        if let Some(slot) = mine {
            counted.push(Counted { life: self.life_of(&slot), tally: slot.tally(), seen: Seen::Now });
        }
        Ok(counted)
    }

    fn life_of(&self, slot: &Slot) -> Life {
        Life { replica: self.me.id.clone(), number: slot.life() }
    }

    fn myself(&self, now: Timestamp) -> ReplicaRecord {
        ReplicaRecord {
            id: self.me.id.clone(),
            address: self.me.address.clone(),
            binary_version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.me.started_at,
            heartbeat_at: now,
            report: self.placement.report(),
        }
    }
}

/// How long after its last sign of life a replica counts as alive.
pub fn time_to_live(heartbeat: Duration) -> SignedDuration {
    SignedDuration::try_from(heartbeat * MISSED_HEARTBEATS).unwrap_or(SignedDuration::MAX)
}

/// Forgets replicas that are long dead, and counts that nothing rests on, until told to stop.
pub async fn sweep(store: Arc<Store>, clock: Arc<dyn Clock>, stop: CancellationToken) {
    loop {
        let cutoff = clock.now().saturating_sub(KEEP_DEAD).unwrap_or(Timestamp::MIN);
        if let Err(error) = store.replicas.sweep(cutoff).await {
            tracing::warn!(%error, "failed to forget dead replicas");
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}
