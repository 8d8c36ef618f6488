//! The controller: drives deployments through their state machine and performs what it asks for.
//!
//! One process drives a deployment at a time: it holds the lease of the deployment, and every transition is committed only
//! while that lease still has the generation under which it was taken. People's commands (rollback, cancel) are committed
//! by whichever process receives them, against the revision that it read: a rollback does not wait for the driver.
//!
//! [`Controller::run`] finds deployments that nobody drives, [`drive`] takes one through, [`apply`] commits one event. What
//! is remembered is behind [`Ledger`], what is done to models and traffic behind [`Hands`]: with the simulation's own
//! instead of the database and the [`Performer`], all of this runs in virtual time (`sim`).

mod apply;
mod control;
mod drive;
mod hands;
mod ledger;
mod performer;
#[cfg(test)]
mod sim;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_core::{Clock, DeploymentId, Environment, IdSource};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use hands::Hands;
pub use ledger::Ledger;
pub use performer::{Limits, Performer, PlaceError, Placement};

/// How often the store is looked at when nothing was notified.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A lease is renewed this many times in its life, so that one slow commit does not lose it.
const RENEWALS_PER_LEASE: u32 = 5;

pub struct Controller {
    ledger: Arc<dyn Ledger>,
    hands: Arc<dyn Hands>,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    settings: ControllerSettings,
    /// Something was committed: drivers look again.
    changed: Notify,
    /// Deployments that a task of this process drives.
    driven: Mutex<HashSet<DeploymentId>>,
}

pub struct ControllerSettings {
    /// Names this process in leases.
    pub holder: String,
    /// More deployments than this at once stay Pending.
    pub max_concurrent: usize,
    /// How long a lease lasts without renewal: the longest time for which a killed driver's deployment stands still.
    pub lease: Duration,
    /// Where a deployment needs the approval of somebody other than its initiator.
    pub require_approval: Vec<Environment>,
    /// Who may override a failed validation.
    pub admins: Vec<String>,
}

impl Controller {
    pub fn new(
        ledger: Arc<dyn Ledger>,
        hands: Arc<dyn Hands>,
        clock: Arc<dyn Clock>,
        ids: Arc<IdSource>,
        settings: ControllerSettings,
    ) -> Self {
        Self { ledger, hands, clock, ids, settings, changed: Notify::new(), driven: Mutex::default() }
    }

    /// Drives every unsettled deployment that no other process holds, until told to stop; then lets go of its leases.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let drivers = TaskTracker::new();
        while !stop.is_cancelled() {
            // Registered before looking, so that a deployment created meanwhile is not missed until the next poll.
            let changed = self.changed.notified();
            match self.ledger.unsettled().await {
                Ok(records) => {
                    for record in records {
                        self.spawn_driver(&drivers, record.id, &stop);
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to list unsettled deployments; trying again"),
            }
            // In this order, so that a simulation repeats itself.
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = changed => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        drivers.close();
        drivers.wait().await;
    }

    /// Something may have changed that was not committed here: drivers look again.
    pub fn wake(&self) {
        self.changed.notify_waiters();
    }

    fn spawn_driver(self: &Arc<Self>, drivers: &TaskTracker, id: DeploymentId, stop: &CancellationToken) {
        let is_new = self.driven.lock().expect("never held across a panic").insert(id.clone());
        if !is_new {
            return;
        }
        let (controller, stop) = (Arc::clone(self), stop.clone());
        drivers.spawn(async move {
            if let Err(error) = drive::drive(&controller, &id, &stop).await {
                tracing::warn!(deployment = %id, %error, "stopped driving the deployment; it is taken up again");
            }
            controller.driven.lock().expect("never held across a panic").remove(&id);
        });
    }
}
