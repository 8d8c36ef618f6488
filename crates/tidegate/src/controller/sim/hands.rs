//! What a process does for its controller, by the script of the version: outcomes come, come twice, or come late.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::{DeploymentId, Environment, ModelId, VersionId};
use tidegate_delivery::{Outcome, ReplicaHealth, ValidationReport, Work};

use super::world::{Process, World};
use crate::controller::hands::{Hands, Job, Reports};

const P_TWICE: f64 = 0.05;
const P_LATE: f64 = 0.05;
const LATE_BY: Duration = Duration::from_secs(20);

/// The real ones report twice a second; a look costs a simulation more than it tells.
const INTERVAL: Duration = Duration::from_secs(2);

pub struct SimHands {
    pub world: Arc<World>,
    pub process: Arc<Process>,
}

#[async_trait]
impl Hands for SimHands {
    async fn perform(&self, job: Job, reports: Reports) {
        self.process.live_on().await;
        match job.work {
            Work::Validate { version } => {
                let mut report = ValidationReport::default();
                report.check("probe", self.scripted(&version, |quality| quality.validates));
                self.after_a_while(&reports, Outcome::Validated(report)).await;
            }
            Work::AwaitLoaded { version } => self.await_loaded(&version, &reports).await,
            Work::SmokeTest { version, samples } => {
                let fault = self.scripted(&version, |quality| quality.answers_probes).err();
                self.after_a_while(&reports, Outcome::SmokeTested { samples, fault }).await;
            }
            Work::Observe { version, previous } => {
                let before = previous.map(|previous| self.world.answered(&previous)).unwrap_or_default();
                let start = self.world.answered(&version);
                self.report_on(&reports, || Outcome::Observed {
                    candidate: self.world.answered(&version).since(&start),
                    previous: before.clone(),
                })
                .await;
            }
            Work::Compare { baseline, candidate, .. } => {
                let start = (self.world.answered(&baseline), self.world.answered(&candidate));
                self.report_on(&reports, || Outcome::Compared {
                    baseline: self.world.answered(&baseline).since(&start.0),
                    candidate: self.world.answered(&candidate).since(&start.1),
                })
                .await;
            }
            Work::Mirror { candidate, .. } => {
                let start = self.world.mirrored(&candidate);
                self.report_on(&reports, || Outcome::Mirrored(self.world.mirrored(&candidate).since(&start)))
                    .await;
            }
            Work::Inspect { baseline, candidate, .. } => {
                let start = (self.world.answered(&baseline), self.world.answered(&candidate));
                self.report_on(&reports, || Outcome::Inspected {
                    replicas: self.replicas(),
                    baseline: self.world.answered(&baseline).since(&start.0),
                    candidate: self.world.answered(&candidate).since(&start.1),
                })
                .await;
            }
        }
    }

    async fn follow(&self, _: Environment, _: &ModelId) {
        self.process.live_on().await;
        self.world.follow(&self.process.replica);
    }

    fn let_go(&self, _: &DeploymentId) {}
}

impl SimHands {
    fn scripted(
        &self,
        version: &VersionId,
        is_good: fn(&super::story::Quality) -> bool,
    ) -> Result<String, String> {
        match is_good(&self.world.story.version(version)) {
            true => Ok("as scripted".to_owned()),
            false => Err("as scripted".to_owned()),
        }
    }

    async fn await_loaded(&self, version: &VersionId, reports: &Reports) {
        if !self.world.story.version(version).loads {
            let reason = "as scripted".to_owned();
            return self.after_a_while(reports, Outcome::LoadFailed { reason }).await;
        }
        while !self.world.is_loaded_everywhere(version) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.process.live_on().await;
        }
        self.after_a_while(reports, Outcome::Loaded { detail: "as scripted".to_owned() }).await;
    }

    async fn after_a_while(&self, reports: &Reports, outcome: Outcome) {
        tokio::time::sleep(self.world.draw_ms(5..500)).await;
        self.send(reports, outcome).await;
    }

    async fn report_on(&self, reports: &Reports, look: impl Fn() -> Outcome + Send) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            if !self.send(reports, look()).await {
                return;
            }
        }
    }

    async fn send(&self, reports: &Reports, outcome: Outcome) -> bool {
        self.process.live_on().await;
        if self.world.strikes(P_TWICE) {
            reports.send(outcome.clone()).await;
        }
        if self.world.strikes(P_LATE) {
            let (reports, outcome) = (reports.clone(), outcome.clone());
            tokio::spawn(async move {
                tokio::time::sleep(LATE_BY).await;
                reports.send(outcome).await;
            });
        }
        reports.send(outcome).await
    }

    fn replicas(&self) -> Vec<ReplicaHealth> {
        let health = |(id, serves_candidate)| ReplicaHealth { id, serves_candidate, fault: None };
        self.world.live_replicas().into_iter().map(health).collect()
    }
}
