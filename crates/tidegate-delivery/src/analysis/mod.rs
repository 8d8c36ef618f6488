//! Is the candidate version good enough? A verdict with its evidence, safe to ask for every half second.
//!
//! Pure and without memory: [`analyse`] sees the counts of both versions over the same minutes and nothing else. It must
//! not know where counts come from, what time it is, or what is done with a verdict.
//!
//! # What is claimed
//!
//! Every comparison is a confidence sequence: an interval for how much worse the candidate is that holds at all looks at
//! once (see [`evidence`] for the reason). A metric fails when even the near end of its interval is beyond the
//! threshold, passes when even the far end is within it, and is inconclusive otherwise.
//!
//! - *False rollback*: over the whole rollout, a candidate within every threshold is ever failed with probability at most
//!   [`Thresholds::alpha`]. One failing metric is enough to roll back, so this error is split: evenly over the metrics
//!   that are judged (latency's share again over its two quantiles) and over [`Thresholds::windows`].
//! - *False promotion*: a candidate at or beyond some threshold is ever passed with probability at most `alpha`. Every
//!   metric must pass, the bad one among them, so this error needs no splitting (an intersection-union test).
//!
//! Both assume that requests of an arm are independent with a rate that holds still within a window, and that the arm is
//! chosen without regard to what the request will do. A degradation near its threshold is rightly never decided; the
//! rollout's progress deadline is for that.
//!
//! Start reading at [`analyse`], then [`rates`], [`quantiles`] and [`means`]; [`ab`] is the same machinery for two equals,
//! [`compare_shadow`] for two that answered the same requests.

pub mod ab;
mod arms;
mod custom;
mod drift;
mod evidence;
mod fixed_horizon;
mod means;
mod metric;
mod quantiles;
mod rates;
mod shadow;

pub use ab::compare_ab;
pub use custom::{CustomThreshold, Worse};
pub use drift::MOST as MOST_DRIFT;
pub use fixed_horizon::FixedHorizon;
pub use metric::MetricVerdict;
pub use shadow::{ShadowConfig, compare_shadow};
pub use tidegate_core::{ArmSummary, LatencyHistogram};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How much worse than the running version a candidate may be, and how sure a verdict must be.
///
/// A threshold that nothing can exceed (a drop or an error increase of 1, an infinite latency, a drift of 8) takes its
/// metric out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Thresholds {
    /// Relative: 0.05 allows 0.95 of the running version's accuracy.
    pub accuracy_drop: f64,
    /// Factor on the median and on the 95th percentile.
    pub latency_increase: f64,
    /// Absolute: 0.01 allows one failure more in a hundred requests.
    pub error_rate_increase: f64,
    /// For the metrics that users measure themselves, by name. One that is named here and never posted holds the rollout.
    pub custom: BTreeMap<String, CustomThreshold>,
    /// Distance of the predictions' distributions, on the scale of the population stability index; 8 is the most there is.
    pub drift_score: f64,
    /// Requests that the candidate must have answered before it may pass. It may fail earlier.
    pub minimum_samples: u64,
    /// The probability of a false rollback, and of a false promotion; above 0, below 1.
    pub alpha: f64,
    /// How many times a rollout starts counting afresh (canary steps); at least 1.
    pub windows: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            accuracy_drop: 0.05,
            latency_increase: 1.5,
            error_rate_increase: 0.01,
            custom: BTreeMap::new(),
            drift_score: 0.3,
            minimum_samples: 1000,
            alpha: 0.05,
            windows: 1,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Fail,
    /// Hold: the evidence supports neither.
    Inconclusive,
}

/// A verdict and all that it rests on, ready for the event log.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    pub verdict: Verdict,
    /// Those that are judged and of which at least one version has data.
    pub metrics: Vec<MetricVerdict>,
    /// One line for somebody who was at lunch.
    pub summary: String,
}

/// Compares what two versions did over the same minutes; `baseline` is the version that runs.
pub fn analyse(baseline: &ArmSummary, candidate: &ArmSummary, thresholds: &Thresholds) -> Analysis {
    let metrics = arms::judge_all(baseline, candidate, thresholds);
    conclude(metrics, missing(baseline, candidate, thresholds))
}

/// The verdict on all metrics together, where `missing` says in words what must still arrive before a candidate may pass.
fn conclude(metrics: Vec<MetricVerdict>, missing: Vec<String>) -> Analysis {
    let with = |verdict| metrics.iter().filter(|metric| metric.verdict == verdict).collect::<Vec<_>>();
    let (failed, undecided) = (with(Verdict::Fail), with(Verdict::Inconclusive));
    let (verdict, reasons) = if !failed.is_empty() {
        (Verdict::Fail, failed.iter().map(|metric| metric.message.clone()).collect())
    } else if missing.is_empty() && !metrics.is_empty() && undecided.is_empty() {
        (Verdict::Pass, in_brief(&with(Verdict::Pass), "shown to be within their limits"))
    } else {
        let undecided = in_brief(&undecided, "not known well enough yet");
        (Verdict::Inconclusive, missing.into_iter().chain(undecided).collect())
    };
    let summary = match reasons.is_empty() {
        true => "no metric is judged: every threshold allows anything".to_owned(),
        false => reasons.join("; "),
    };
    Analysis { verdict, metrics, summary }
}

/// One or two metrics in full; more by name, with what they have in common.
fn in_brief(metrics: &[&MetricVerdict], finding: &str) -> Vec<String> {
    if metrics.len() <= 2 {
        return metrics.iter().map(|metric| metric.message.clone()).collect();
    }
    let subjects: Vec<_> = metrics.iter().map(|metric| metric.subject.as_str()).collect();
    let most = metrics.iter().map(|metric| metric.samples).max().unwrap_or(0);
    vec![format!("{}: {finding} ({most} samples)", subjects.join(", "))]
}

fn missing(baseline: &ArmSummary, candidate: &ArmSummary, thresholds: &Thresholds) -> Vec<String> {
    let mut missing = Vec::new();
    if candidate.requests == 0 {
        missing.push("no request has reached the candidate".to_owned());
    }
    if baseline.requests == 0 {
        missing.push(
            "no request has reached the running version, so there is nothing to compare with".to_owned(),
        );
    }
    if candidate.requests > 0 && candidate.requests < thresholds.minimum_samples {
        missing.push(format!("{} of {} samples", candidate.requests, thresholds.minimum_samples));
    }
    missing
}
