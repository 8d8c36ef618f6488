//! Performing what a phase asks for. Everything here may be done twice, and is, after a crash.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_core::{DeploymentId, SemVer, Timestamp, VersionId};
use tidegate_delivery::{ArmSummary, Observation, Outcome, Work};
use tidegate_serve::{Slot, Tally, probe};
use tidegate_store::Labels;
use tokio::sync::mpsc;

use super::Controller;

/// How often what the candidate answers is reported.
const OBSERVE_INTERVAL: Duration = Duration::from_millis(500);

/// How long to wait before asking an overloaded server for a smoke-test prediction again.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(20);

/// Two versions over the same minutes of one deployment.
struct Step<'a> {
    deployment: &'a DeploymentId,
    baseline: VersionId,
    candidate: VersionId,
    since: Timestamp,
}

/// The driver's grip on a slot between phases.
pub(super) type Held = Mutex<Option<Arc<Slot>>>;

impl Controller {
    /// Performs `work` and reports its outcome under `epoch`. The driver aborts it when the phase changes.
    pub(super) async fn perform(
        &self,
        deployment: &DeploymentId,
        work: Work,
        epoch: u64,
        held: &Held,
        outcomes: &mpsc::Sender<(u64, Outcome)>,
    ) {
        let outcome = match work {
            Work::Validate { version } => Outcome::Validated(self.validate(&version, held).await),
            Work::AwaitLoaded { version } => self.await_loaded(&version, held).await,
            Work::SmokeTest { version, samples } => {
                let fault = self.smoke_test(&version, samples).await.err();
                Outcome::SmokeTested { samples, fault }
            }
            Work::Observe { version, previous } => {
                return self.observe(&version, previous.as_ref(), epoch, outcomes).await;
            }
            Work::Compare { baseline, candidate, since } => {
                let step = Step { deployment, baseline, candidate, since };
                return self.compare(&step, epoch, outcomes).await;
            }
        };
        // The driver may be gone already; then another one does the work again.
        let _ = outcomes.send((epoch, outcome)).await;
    }

    async fn await_loaded(&self, version_id: &VersionId, held: &Held) -> Outcome {
        let slot = match self.placement.load(version_id).await {
            Ok(slot) => slot,
            Err(error) => return Outcome::LoadFailed { reason: error.to_string() },
        };
        *held.lock().expect("never held across a panic") = Some(Arc::clone(&slot));
        if let Err(error) = self.placement.follow_all().await {
            return Outcome::LoadFailed { reason: error.to_string() };
        }
        let memory = slot
            .resident_bytes()
            .map_or_else(String::new, |bytes| format!(", about {} MB resident", bytes / 1_000_000));
        let detail = format!(
            "in {:.2} s, {:.1} ms a probe prediction{memory}",
            slot.loaded_in().as_secs_f64(),
            slot.warm_latency().as_secs_f64() * 1e3
        );
        Outcome::Loaded { detail }
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
    pub(super) async fn predict_probe(&self, slot: &Arc<Slot>, seed: u64) -> Result<(), String> {
        loop {
            let inputs = probe::probe_inputs(slot.signature(), seed);
            match self.server.infer(slot, inputs).await {
                Ok(inference) => return probe::check_outputs(slot.signature(), &inference.outputs),
                Err(tidegate_serve::InferError::Overloaded { .. }) => {
                    tokio::time::sleep(OVERLOAD_PAUSE).await
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Reports what both versions have answered since now, until aborted. After a restart counting begins again: that
    /// costs time, never a wrong verdict.
    async fn compare(&self, step: &Step<'_>, epoch: u64, outcomes: &mpsc::Sender<(u64, Outcome)>) {
        let start = (self.answered(&step.baseline), self.answered(&step.candidate));
        loop {
            tokio::time::sleep(OBSERVE_INTERVAL).await;
            // Labels come late and from anywhere, so they are counted in the store.
            let labels = match self.store.feedback.labels(step.deployment, step.since).await {
                Ok(labels) => labels,
                Err(error) => {
                    tracing::warn!(%error, "failed to count labels; judging again in a moment");
                    continue;
                }
            };
            let baseline =
                self.labelled(&step.baseline, self.answered(&step.baseline).since(&start.0), &labels);
            let candidate =
                self.labelled(&step.candidate, self.answered(&step.candidate).since(&start.1), &labels);
            if outcomes.send((epoch, Outcome::Compared { baseline, candidate })).await.is_err() {
                return;
            }
        }
    }

    /// Reports what the version has answered since now, until aborted; the previous one has had its traffic before.
    async fn observe(
        &self,
        version_id: &VersionId,
        previous: Option<&VersionId>,
        epoch: u64,
        outcomes: &mpsc::Sender<(u64, Outcome)>,
    ) {
        let observation =
            |ArmSummary { requests, failures, .. }: ArmSummary| Observation { requests, failures };
        let previous = previous.map(|previous| observation(self.answered(previous))).unwrap_or_default();
        let start = self.answered(version_id);
        loop {
            tokio::time::sleep(OBSERVE_INTERVAL).await;
            let candidate = observation(self.answered(version_id).since(&start));
            if outcomes.send((epoch, Outcome::Observed { candidate, previous })).await.is_err() {
                return;
            }
        }
    }

    /// The same summary with the labels of the version's requests.
    fn labelled(
        &self,
        version_id: &VersionId,
        summary: ArmSummary,
        labels: &HashMap<SemVer, Labels>,
    ) -> ArmSummary {
        let slot = self.server.slot(version_id);
        let labels = slot.and_then(|slot| labels.get(slot.number()).copied()).unwrap_or_default();
        ArmSummary { labelled: labels.labelled, correct: labels.correct, ..summary }
    }

    /// What this process's slot of the version has answered since it was loaded.
    fn answered(&self, version_id: &VersionId) -> ArmSummary {
        let tally = self.server.slot(version_id).map(|slot| slot.tally()).unwrap_or_default();
        let Tally { requests, failures, latency } = tally;
        ArmSummary { requests, failures, latency, ..ArmSummary::default() }
    }
}
