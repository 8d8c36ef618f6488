//! The controller's hands on real models: loads, probes and counts. Everything here may be done twice, and is, after a
//! crash.
//!
//! [`validation`] has the gates before traffic, [`observation`] what is reported while there is traffic, [`Placement`] keeps
//! the loaded models equal to the routes.

mod observation;
mod placement;
mod replicas;
mod validation;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::{DeploymentId, Environment, ModelId, VersionId};
use tidegate_delivery::{Outcome, Work};
use tidegate_serve::{InferError, InferOptions, Server, Slot, Standing, probe};
use tidegate_store::{ArtifactStore, Store};

use super::hands::{Hands, Job, Reports};
use crate::fleet::Fleet;
pub use placement::{PlaceError, Placement};
pub use validation::Limits;

/// How long the other replicas are not asked whether they have loaded a version, if none of them tells.
const LOADED_POLL: Duration = Duration::from_secs(1);

/// How long to wait before asking an overloaded server for a smoke-test prediction again.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(20);

pub struct Performer {
    store: Arc<Store>,
    artifacts: Arc<ArtifactStore>,
    server: Arc<Server>,
    placement: Arc<Placement>,
    fleet: Arc<Fleet>,
    limits: Limits,
    /// Candidates stay loaded between the phases that need them, until a route names them.
    held: Mutex<HashMap<DeploymentId, Arc<Slot>>>,
}

impl Performer {
    pub fn new(
        store: Arc<Store>,
        artifacts: Arc<ArtifactStore>,
        server: Arc<Server>,
        placement: Arc<Placement>,
        fleet: Arc<Fleet>,
        limits: Limits,
    ) -> Self {
        Self { store, artifacts, server, placement, fleet, limits, held: Mutex::default() }
    }
}

#[async_trait]
impl Hands for Performer {
    async fn perform(&self, job: Job, reports: Reports) {
        let Job { deployment, work } = job;
        let outcome = match work {
            Work::Validate { version } => Outcome::Validated(self.validate(&deployment, &version).await),
            Work::AwaitLoaded { version } => self.await_loaded(&deployment, &version).await,
            Work::SmokeTest { version, samples } => {
                let fault = self.smoke_test(&version, samples).await.err();
                Outcome::SmokeTested { samples, fault }
            }
            Work::Observe { version, previous } => {
                return self.observe(&deployment, &version, previous.as_ref(), &reports).await;
            }
            Work::Compare { baseline, candidate, since } => {
                return self.compare(&deployment, (&baseline, &candidate), since, &reports).await;
            }
            Work::Mirror { candidate, .. } => return self.mirror(&candidate, &reports).await,
            Work::Inspect { baseline, candidate, since } => {
                return self.inspect(&deployment, (&baseline, &candidate), since, &reports).await;
            }
        };
        reports.send(outcome).await;
    }

    async fn follow(&self, environment: Environment, model: &ModelId) {
        self.placement.follow(environment, model).await;
    }

    fn let_go(&self, deployment: &DeploymentId) {
        self.held.lock().expect("never held across a panic").remove(deployment);
    }
}

impl Performer {
    fn hold(&self, deployment: &DeploymentId, slot: &Arc<Slot>) {
        self.held.lock().expect("never held across a panic").insert(deployment.clone(), Arc::clone(slot));
    }

    async fn await_loaded(&self, deployment: &DeploymentId, version_id: &VersionId) -> Outcome {
        let slot = match self.placement.load(version_id).await {
            Ok(slot) => slot,
            Err(error) => return Outcome::LoadFailed { reason: error.to_string() },
        };
        self.hold(deployment, &slot);
        if let Err(error) = self.placement.follow_all().await {
            return Outcome::LoadFailed { reason: error.to_string() };
        }
        let n_replicas = match self.await_loaded_everywhere(version_id).await {
            Ok(n_replicas) => n_replicas,
            Err(reason) => return Outcome::LoadFailed { reason },
        };
        let memory = slot
            .resident_bytes()
            .map_or_else(String::new, |bytes| format!(", about {} MB resident", bytes / 1_000_000));
        let replicas = if n_replicas > 1 { format!(", on all {n_replicas} replicas") } else { String::new() };
        let detail = format!(
            "in {:.2} s, {:.1} ms a probe prediction{memory}{replicas}",
            slot.loaded_in().as_secs_f64(),
            slot.warm_latency().as_secs_f64() * 1e3
        );
        Outcome::Loaded { detail }
    }

    /// Until every live replica reports the version loaded, for as long as the phase lasts. One that dies meanwhile is not
    /// waited for. Gives how many there are, or which one cannot.
    async fn await_loaded_everywhere(&self, version_id: &VersionId) -> Result<usize, String> {
        let mut changes = self.store.changes.subscribe();
        loop {
            match self.fleet.replicas().await {
                Ok(replicas) => {
                    if replicas::all_have_loaded(&replicas, version_id)? {
                        return Ok(replicas.len());
                    }
                }
                Err(error) => tracing::warn!(%error, "failed to look at the replicas; looking again"),
            }
            // Any change may be one of theirs; that nobody tells of one is no reason to wait for ever.
            let _told = tokio::time::timeout(LOADED_POLL, changes.next()).await;
        }
    }

    async fn smoke_test(&self, version_id: &VersionId, samples: u32) -> Result<(), String> {
        let slot = self.placement.load(version_id).await.map_err(|error| error.to_string())?;
        for sample in 0..samples {
            let seed = u64::from(sample) + 1;
            self.predict_probe(&slot, seed)
                .await
                .map_err(|fault| format!("sample {seed} of {samples}: {fault}"))?;
        }
        Ok(())
    }

    /// One synthetic prediction through the queue that users' requests take.
    async fn predict_probe(&self, slot: &Arc<Slot>, seed: u64) -> Result<(), String> {
        loop {
            let inputs = probe::probe_inputs(slot.signature(), seed);
            let options = InferOptions { standing: Standing::Apart, ..InferOptions::default() };
            match self.server.infer_with(slot, inputs, options).await {
                Ok(inference) => return probe::check_outputs(slot.signature(), &inference.outputs),
                Err(InferError::Overloaded { .. }) => tokio::time::sleep(OVERLOAD_PAUSE).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}
