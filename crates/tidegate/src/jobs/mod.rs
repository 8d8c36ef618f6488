//! Doing the jobs that are queued in the store.
//!
//! Any process may take a job; the one that has it renews its lease while it works, and whoever finds the lease over takes
//! the job up: from its checkpoint where the work folder is the same, else from the beginning. What comes out is the same
//! to the byte. A job is cancelled in the store, by whichever process is asked; the one at work finds that it has lost it.
//!
//! [`Runner::run`] takes jobs, `drive` sees one through while `keeper` keeps it, `raster` and `prediction` do the work, `work` is its place on the disk.

mod drive;
mod fault;
mod keeper;
mod prediction;
mod raster;
mod upkeep;
mod work;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tidegate_api::SceneSources;
use tidegate_core::Clock;
use tidegate_geo::ImageLimits;
use tidegate_serve::Server;
use tidegate_store::{ArtifactStore, Change, Store};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::controller::Placement;

pub use upkeep::Upkeep;

/// How often the store is looked at when nothing was told: leases run out silently.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

pub struct Runner {
    pub store: Arc<Store>,
    pub artifacts: Arc<ArtifactStore>,
    pub server: Arc<Server>,
    pub placement: Arc<Placement>,
    pub clock: Arc<dyn Clock>,
    pub settings: JobSettings,
}

#[derive(Clone, Debug)]
pub struct JobSettings {
    /// Names this process as a holder of jobs.
    pub holder: String,
    /// How long a job stands still whose process was killed.
    pub lease: Duration,
    /// Jobs at once in this process; none: it leaves them to others.
    pub max_running: usize,
    /// Tiles that a job has in the queue at once.
    pub threads: usize,
    pub max_memory_bytes: u64,
    /// Of a plain image with a world file, which is decoded whole.
    pub limits: ImageLimits,
    pub sources: SceneSources,
    /// Where each job has a folder of its own while it is at work.
    pub folder: PathBuf,
}

impl Runner {
    /// Does jobs until told to stop; those at work then stop at their next tile and are given back.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let room = Arc::new(Semaphore::new(self.settings.max_running));
        let drivers = TaskTracker::new();
        let mut changes = self.store.changes.subscribe();
        while !stop.is_cancelled() {
            while let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
                let Some((job, hold)) = self.take().await else { break };
                let (runner, stop) = (Arc::clone(&self), stop.clone());
                drivers.spawn(async move {
                    drive::drive(&runner, job, hold, stop).await;
                    drop(permit);
                });
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = job_changes(&mut changes) => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
            }
        }
        drivers.close();
        drivers.wait().await;
    }

    async fn take(&self) -> Option<(tidegate_store::JobRecord, tidegate_store::Hold)> {
        let lease = SignedDuration::try_from(self.settings.lease).unwrap_or(SignedDuration::MAX);
        match self.store.jobs.take(&self.settings.holder, self.clock.now(), lease).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, "failed to look for jobs; trying again");
                None
            }
        }
    }
}

/// Until there may be a job to take.
async fn job_changes(changes: &mut tidegate_store::ChangeStream) {
    loop {
        match changes.next().await {
            Some(Change::Job { .. } | Change::Everything) => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}
