//! The controller: drives deployments through their state machine and performs what it asks for.
//!
//! One process drives a deployment at a time: it holds the lease of the deployment, and every transition is committed only
//! while that lease still has the generation under which it was taken. People's commands (rollback, cancel) are committed
//! by whichever process receives them, against the revision that it read: a rollback does not wait for the driver.
//!
//! [`Controller::run`] finds deployments that nobody drives, [`drive`] takes one through, [`apply`] commits one event,
//! [`work`] performs, [`Placement`] keeps the loaded models equal to the routes.

mod apply;
mod control;
mod drive;
mod placement;
mod validation;
mod work;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_core::{Clock, DeploymentId, Environment, IdSource};
use tidegate_serve::Server;
use tidegate_store::{ArtifactStore, DeploymentFilter, DeploymentRecord, Page, Store, StoreError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use placement::Placement;

/// How often the store is looked at when nothing was notified.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A lease is renewed this many times in its life, so that one slow commit does not lose it.
const RENEWALS_PER_LEASE: u32 = 5;

pub struct Controller {
    store: Arc<Store>,
    artifacts: Arc<ArtifactStore>,
    server: Arc<Server>,
    placement: Arc<Placement>,
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
    /// The largest runnable artifact that validation lets pass, in bytes.
    pub max_artifact_bytes: u64,
}

/// What the controller works with; all of it is shared with the API.
pub struct ControllerParts {
    pub store: Arc<Store>,
    pub artifacts: Arc<ArtifactStore>,
    pub server: Arc<Server>,
    pub placement: Arc<Placement>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<IdSource>,
}

impl Controller {
    pub fn new(parts: ControllerParts, settings: ControllerSettings) -> Self {
        let ControllerParts { store, artifacts, server, placement, clock, ids } = parts;
        let (changed, driven) = (Notify::new(), Mutex::default());
        Self { store, artifacts, server, placement, clock, ids, settings, changed, driven }
    }

    /// Drives every unsettled deployment that no other process holds, until told to stop; then lets go of its leases.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let drivers = TaskTracker::new();
        while !stop.is_cancelled() {
            // Registered before looking, so that a deployment created meanwhile is not missed until the next poll.
            let changed = self.changed.notified();
            match self.store.deployments.unsettled().await {
                Ok(records) => {
                    for record in records {
                        self.spawn_driver(&drivers, record.id, &stop);
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to list unsettled deployments; trying again"),
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(POLL_INTERVAL) => {}
                () = stop.cancelled() => {}
            }
        }
        drivers.close();
        drivers.wait().await;
    }

    /// The newest deployment of the same (model, environment), this one or a later.
    async fn newest_of_pair(
        &self,
        record: &DeploymentRecord,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        let filter = DeploymentFilter {
            model_id: Some(record.model_id.clone()),
            environment: Some(record.environment),
            ..DeploymentFilter::default()
        };
        let page = Page { limit: 1, offset: 0 };
        Ok(self.store.deployments.list(&filter, page).await?.items.into_iter().next())
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
