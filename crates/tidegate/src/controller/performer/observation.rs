//! What is reported while a deployment moves traffic: how both versions answer, over the same minutes and on every replica.
//!
//! Counting begins when the work begins, and anew after a restart: that costs time, never a wrong verdict.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tidegate_core::{ArmSummary, DeploymentId, SemVer, Timestamp, VersionId};
use tidegate_delivery::{Outcome, ReplicaHealth};
use tidegate_serve::Tally;
use tidegate_store::{DeploymentFilter, FeedbackSummary, Page, StoreError};

use super::{Performer, replicas};
use crate::controller::hands::Reports;
use crate::fleet::{Counted, Fleet, Window, total};

/// How often what is seen is reported.
const INTERVAL: Duration = Duration::from_millis(500);

/// Of the time, what looking may take: a database that is slow, or full of feedback, is asked less often.
const LOOKING_SHARE: u32 = 10;

/// How far back right answers of the previous version count, once it answers nobody any more.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(24);

/// How many deployments of a model are looked through for the one that brought its previous version.
const DEPLOYMENTS_LOOKED_AT: u32 = 50;

/// The running version and the new one.
type Pair<'a> = (&'a VersionId, &'a VersionId);

/// What is known of predictions afterwards, by the version that made them.
type Feedbacks = HashMap<SemVer, FeedbackSummary>;

/// A version whose answers are counted from some moment on.
struct Counting {
    version: VersionId,
    number: SemVer,
    window: Window,
}

impl Performer {
    /// What both versions have answered since now, until nobody listens.
    pub(super) async fn compare(
        &self,
        deployment: &DeploymentId,
        versions: Pair<'_>,
        since: Timestamp,
        reports: &Reports,
    ) {
        let (mut counting, mut pace) = (self.count_both(versions).await, Pace::new(reports));
        loop {
            pace.rest().await;
            let compared = self.compared(deployment, &mut counting, since).await;
            let outcome = compared.map(|(baseline, candidate)| Outcome::Compared { baseline, candidate });
            if !pace.report(outcome).await {
                return;
            }
        }
    }

    /// The same, with how the replicas are.
    pub(super) async fn inspect(
        &self,
        deployment: &DeploymentId,
        versions: Pair<'_>,
        since: Timestamp,
        reports: &Reports,
    ) {
        let (mut counting, mut pace) = (self.count_both(versions).await, Pace::new(reports));
        loop {
            pace.rest().await;
            let compared = self.compared(deployment, &mut counting, since).await;
            let replicas = self.health(deployment, versions.1).await;
            let outcome = compared.and_then(|(baseline, candidate)| {
                Ok(Outcome::Inspected { replicas: replicas?, baseline, candidate })
            });
            if !pace.report(outcome).await {
                return;
            }
        }
    }

    /// What the candidate has answered since now; the previous one has had its traffic before.
    pub(super) async fn observe(
        &self,
        deployment: &DeploymentId,
        candidate_id: &VersionId,
        previous_id: Option<&VersionId>,
        reports: &Reports,
    ) {
        let mut pace = Pace::new(reports);
        let mut candidate = self.count(candidate_id).await;
        let answered_before = match previous_id {
            Some(previous) => Some(self.counted(previous).await),
            None => None,
        };
        let answered_before = answered_before.map(|(number, counted)| (number, total(&counted)));
        loop {
            pace.rest().await;
            let outcome =
                self.observed(deployment, &mut candidate, previous_id, answered_before.as_ref()).await;
            if !pace.report(outcome).await {
                return;
            }
        }
    }

    /// How the candidate's answers to copies compare with those that callers were sent.
    pub(super) async fn mirror(&self, candidate: &VersionId, reports: &Reports) {
        let (mut candidate, mut pace) = (self.count(candidate).await, Pace::new(reports));
        loop {
            pace.rest().await;
            let tally = candidate.tally(&self.fleet).await;
            if !pace.report(tally.map(|tally| Outcome::Mirrored(tally.shadow))).await {
                return;
            }
        }
    }

    async fn observed(
        &self,
        deployment: &DeploymentId,
        candidate: &mut Counting,
        previous_id: Option<&VersionId>,
        answered_before: Option<&(SemVer, Tally)>,
    ) -> Result<Outcome, StoreError> {
        let (feedbacks_before, feedbacks) = self.feedbacks_around_switch(deployment, previous_id).await?;
        let candidate = candidate.summary(&self.fleet, &feedbacks).await?;
        let previous = answered_before
            .map(|(number, tally)| summary(tally.clone(), feedbacks_before.get(number)))
            .unwrap_or_default();
        Ok(Outcome::Observed { candidate, previous })
    }

    async fn compared(
        &self,
        deployment: &DeploymentId,
        (baseline, candidate): &mut (Counting, Counting),
        since: Timestamp,
    ) -> Result<(ArmSummary, ArmSummary), StoreError> {
        // Feedback comes late and to any replica, so it is counted in the store.
        let feedbacks = self.store.feedback.summaries(deployment, since).await?;
        let baseline = baseline.summary(&self.fleet, &feedbacks).await?;
        Ok((baseline, candidate.summary(&self.fleet, &feedbacks).await?))
    }

    /// The feedback on what was answered before the switch, and on what was answered after it.
    async fn feedbacks_around_switch(
        &self,
        deployment: &DeploymentId,
        previous: Option<&VersionId>,
    ) -> Result<(Feedbacks, Feedbacks), StoreError> {
        let Some(record) = self.store.deployments.get(deployment).await? else {
            return Ok(Default::default());
        };
        let feedbacks = self.store.feedback.summaries(deployment, record.started_at).await?;
        let filter = DeploymentFilter {
            model_id: Some(record.model_id.clone()),
            environment: Some(record.environment),
            ..DeploymentFilter::default()
        };
        let page = Page { limit: DEPLOYMENTS_LOOKED_AT, offset: 0 };
        let earlier = self.store.deployments.list(&filter, page).await?.items;
        let brought_by =
            earlier.iter().find(|other| other.id < record.id && Some(&other.version_id) == previous);
        let since = record.started_at.saturating_sub(LOOK_BACK).unwrap_or(record.started_at);
        let mut before = match brought_by {
            Some(brought_by) => self.store.feedback.summaries(&brought_by.id, since).await?,
            None => HashMap::new(),
        };
        // While traffic was split, both versions answered under this deployment.
        for (version, feedback) in &feedbacks {
            before.entry(version.clone()).or_default().merge(feedback);
        }
        Ok((before, feedbacks))
    }

    /// The live replicas, and whether they answer with the candidate.
    async fn health(
        &self,
        deployment: &DeploymentId,
        candidate: &VersionId,
    ) -> Result<Vec<ReplicaHealth>, StoreError> {
        let Some(record) = self.store.deployments.get(deployment).await? else { return Ok(Vec::new()) };
        let Some(route) = self.store.routes.get(record.environment, &record.model_id).await? else {
            return Ok(Vec::new());
        };
        let replicas = self.fleet.replicas().await?;
        Ok(replicas.iter().map(|replica| replicas::health(replica, &route, candidate)).collect())
    }

    async fn count_both(&self, (baseline, candidate): Pair<'_>) -> (Counting, Counting) {
        (self.count(baseline).await, self.count(candidate).await)
    }

    /// Begins to count.
    async fn count(&self, version: &VersionId) -> Counting {
        let (number, counted) = self.counted(version).await;
        Counting { version: version.clone(), number, window: Window::open(&counted) }
    }

    /// What the version has answered so far, as soon as that can be read.
    async fn counted(&self, version: &VersionId) -> (SemVer, Vec<Counted>) {
        loop {
            let number = self.number(version).await;
            match (number, self.fleet.counted(version).await) {
                (Ok(number), Ok(counted)) => return (number, counted),
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(%error, "failed to begin counting; trying again in a moment");
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn number(&self, version: &VersionId) -> Result<SemVer, StoreError> {
        if let Some(slot) = self.server.slot(version) {
            return Ok(slot.number().clone());
        }
        // Versions are never deleted; a number that nobody has finds no feedback.
        let version = self.store.versions.get(version).await?;
        Ok(version.map_or_else(|| SemVer::new(0, 0, 0), |version| version.version))
    }
}

impl Counting {
    async fn tally(&mut self, fleet: &Fleet) -> Result<Tally, StoreError> {
        Ok(self.window.count(&fleet.counted(&self.version).await?))
    }

    async fn summary(&mut self, fleet: &Fleet, feedbacks: &Feedbacks) -> Result<ArmSummary, StoreError> {
        Ok(summary(self.tally(fleet).await?, feedbacks.get(&self.number)))
    }
}

fn summary(tally: Tally, feedback: Option<&FeedbackSummary>) -> ArmSummary {
    let FeedbackSummary { labelled, correct, metrics } = feedback.cloned().unwrap_or_default();
    ArmSummary { labelled, correct, metrics, ..tally.arm }
}

/// Reports again and again. Where the database cannot be read, the next look is soon.
struct Pace<'a> {
    reports: &'a Reports,
    pause: Duration,
    rested_at: Instant,
}

impl<'a> Pace<'a> {
    fn new(reports: &'a Reports) -> Self {
        Self { reports, pause: INTERVAL, rested_at: Instant::now() }
    }

    async fn rest(&mut self) {
        tokio::time::sleep(self.pause).await;
        self.rested_at = Instant::now();
    }

    /// False once nobody listens.
    async fn report(&mut self, outcome: Result<Outcome, StoreError>) -> bool {
        self.pause = INTERVAL.max(self.rested_at.elapsed() * LOOKING_SHARE);
        match outcome {
            Ok(outcome) => self.reports.send(outcome).await,
            Err(error) => {
                tracing::warn!(%error, "failed to count; judging again in a moment");
                true
            }
        }
    }
}
