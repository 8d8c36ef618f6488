//! What one version did during a stretch of time, in numbers that add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latency::LatencyHistogram;
use crate::moments::Moments;
use crate::prediction::Predictions;
use crate::tensor::NamedTensor;

/// Answers of a freshly loaded version whose latency is not counted: caches fill and memory is first touched, which says
/// nothing about the minutes after. What is kept of the others is not in order, so it is now or never.
pub const WARM_UP_ANSWERS: u64 = 32;

/// Counts of one arm. Replicas report one each; the whole is their [`ArmSummary::merge`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ArmSummary {
    /// Requests answered, failed ones included.
    pub requests: u64,
    /// Those that the version failed (a caller's bad input is not its failure).
    pub failures: u64,
    /// Of the requests that it answered without failing (a fast error must not make a version look fast), but for the first
    /// [`WARM_UP_ANSWERS`].
    pub latency: LatencyHistogram,
    /// Predictions whose ground truth has arrived.
    pub labelled: u64,
    /// Those of them that were right.
    pub correct: u64,
    /// Numbers that users measured, one for each prediction that they told us about (`iou`, `revenue`).
    pub metrics: BTreeMap<String, Moments>,
    /// What it predicted, for drift.
    pub predictions: Predictions,
}

impl ArmSummary {
    /// Counts an answer of a version that is counted since it was loaded.
    pub fn answered(&mut self, duration_us: u64, outputs: &[NamedTensor]) {
        let is_warm = self.requests >= WARM_UP_ANSWERS;
        self.requests = self.requests.saturating_add(1);
        if is_warm {
            self.latency.record(duration_us);
        }
        self.predictions.record(outputs);
    }

    /// Counts a request that the version failed.
    pub fn failed(&mut self) {
        self.requests = self.requests.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
    }

    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.latency.merge(&other.latency);
        self.labelled = self.labelled.saturating_add(other.labelled);
        self.correct = self.correct.saturating_add(other.correct);
        for (name, moments) in &other.metrics {
            self.metrics.entry(name.clone()).or_default().merge(moments);
        }
        self.predictions.merge(&other.predictions);
    }

    /// What happened after `earlier`, an older state of the same arm.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |name: &String| earlier.metrics.get(name).copied().unwrap_or_default();
        let metrics = self.metrics.iter().map(|(name, moments)| (name.clone(), moments.since(&before(name))));
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
            latency: self.latency.since(&earlier.latency),
            labelled: self.labelled.saturating_sub(earlier.labelled),
            correct: self.correct.saturating_sub(earlier.correct),
            metrics: metrics.collect(),
            predictions: self.predictions.since(&earlier.predictions),
        }
    }
}
