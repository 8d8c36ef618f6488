//! What a shadow answered beside the version that answers the callers, in numbers that add up.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latency::LatencyHistogram;
use crate::moments::Moments;
use crate::prediction::Difference;
use crate::summary::WARM_UP_ANSWERS;

/// Of requests that the running version answered: what it fails itself is not mirrored. Replicas report one each; the whole
/// is their [`ShadowSummary::merge`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShadowSummary {
    /// Given to the candidate too, and either failed or compared by now.
    pub mirrored: u64,
    /// Those of them that the candidate failed.
    pub failures: u64,
    /// Compared and not the same.
    pub differing: u64,
    /// Of each compared request, 0 to 1.
    pub difference: Moments,
    /// Of any so far; it is not taken back by [`ShadowSummary::since`].
    pub largest_difference: f64,
    pub outputs: BTreeMap<String, OutputSummary>,
    /// How long the running version took for the compared requests, where that is known of each by itself, but for the first
    /// [`WARM_UP_ANSWERS`].
    pub running_latency: LatencyHistogram,
    /// And the candidate for the same ones.
    pub candidate_latency: LatencyHistogram,
    /// Not mirrored, because that would have been in the way of those who wait for an answer.
    pub shed: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutputSummary {
    pub differing: u64,
    pub difference: Moments,
}

impl ShadowSummary {
    /// Both answered. `latencies_us`: what the running version and the candidate took; `None` where the one ran together with
    /// other requests and the other did not.
    pub fn compared(&mut self, difference: &Difference, latencies_us: Option<(u64, u64)>) {
        let is_warm = self.mirrored >= WARM_UP_ANSWERS;
        self.mirrored += 1;
        self.differing += u64::from(difference.difference > 0.0);
        self.difference.record(difference.difference);
        self.largest_difference = self.largest_difference.max(difference.difference);
        if let Some((running_us, candidate_us)) = latencies_us.filter(|_| is_warm) {
            self.running_latency.record(running_us);
            self.candidate_latency.record(candidate_us);
        }
        for output in &difference.outputs {
            let summary = self.outputs.entry(output.name.clone()).or_default();
            summary.differing += u64::from(output.difference > 0.0);
            summary.difference.record(output.difference);
        }
    }

    /// The candidate failed what the running version answered.
    pub fn failed(&mut self) {
        self.mirrored += 1;
        self.failures += 1;
    }

    pub fn shed(&mut self) {
        self.shed += 1;
    }

    pub fn n_compared(&self) -> u64 {
        self.difference.count()
    }

    pub fn merge(&mut self, other: &Self) {
        self.mirrored = self.mirrored.saturating_add(other.mirrored);
        self.failures = self.failures.saturating_add(other.failures);
        self.differing = self.differing.saturating_add(other.differing);
        self.difference.merge(&other.difference);
        self.largest_difference = self.largest_difference.max(other.largest_difference);
        for (name, output) in &other.outputs {
            let summary = self.outputs.entry(name.clone()).or_default();
            summary.differing = summary.differing.saturating_add(output.differing);
            summary.difference.merge(&output.difference);
        }
        self.running_latency.merge(&other.running_latency);
        self.candidate_latency.merge(&other.candidate_latency);
        self.shed = self.shed.saturating_add(other.shed);
    }

    /// What happened after `earlier`, an older state of the same shadow.
    pub fn since(&self, earlier: &Self) -> Self {
        let output = |(name, output): (&String, &OutputSummary)| {
            let before = earlier.outputs.get(name).cloned().unwrap_or_default();
            let differing = output.differing.saturating_sub(before.differing);
            let difference = output.difference.since(&before.difference);
            (name.clone(), OutputSummary { differing, difference })
        };
        Self {
            mirrored: self.mirrored.saturating_sub(earlier.mirrored),
            failures: self.failures.saturating_sub(earlier.failures),
            differing: self.differing.saturating_sub(earlier.differing),
            difference: self.difference.since(&earlier.difference),
            largest_difference: self.largest_difference,
            outputs: self.outputs.iter().map(output).collect(),
            running_latency: self.running_latency.since(&earlier.running_latency),
            candidate_latency: self.candidate_latency.since(&earlier.candidate_latency),
            shed: self.shed.saturating_sub(earlier.shed),
        }
    }
}
