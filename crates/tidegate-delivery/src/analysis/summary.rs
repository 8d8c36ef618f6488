//! What one version did during a stretch of time, in numbers that add up.

use serde::{Deserialize, Serialize};

use super::evidence::Counts;
use tidegate_core::LatencyHistogram;

/// Counts of one arm. Replicas report one each; the whole is their [`ArmSummary::merge`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArmSummary {
    /// Requests answered, failed ones included.
    pub requests: u64,
    /// Those that the version failed (a caller's bad input is not its failure).
    pub failures: u64,
    /// Of the requests that it answered without failing: a fast error must not make a version look fast.
    pub latency: LatencyHistogram,
    /// Predictions whose ground truth has arrived.
    pub labelled: u64,
    /// Those of them that were right.
    pub correct: u64,
}

impl ArmSummary {
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.latency.merge(&other.latency);
        self.labelled = self.labelled.saturating_add(other.labelled);
        self.correct = self.correct.saturating_add(other.correct);
    }

    /// What happened after `earlier`, an older state of the same arm.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
            latency: self.latency.since(&earlier.latency),
            labelled: self.labelled.saturating_sub(earlier.labelled),
            correct: self.correct.saturating_sub(earlier.correct),
        }
    }

    /// Failures as hits.
    pub(crate) fn errors(&self) -> Counts {
        Counts::of(self.failures, self.requests)
    }

    /// Right predictions as hits.
    pub(crate) fn accuracy(&self) -> Counts {
        Counts::of(self.correct, self.labelled)
    }
}
