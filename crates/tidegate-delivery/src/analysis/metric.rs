//! One metric of two versions: interval, verdict, and the sentence that explains it.

use serde::Serialize;

use super::Verdict;
use super::fixed_horizon::FixedHorizon;

/// A metric's verdict and the evidence for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricVerdict {
    /// `errorRate`, `latencyP50`, `latencyP95`, `accuracy`, `drift:<output>`, `predictionDifference`, or the name of a user's
    /// metric.
    pub metric: String,
    /// What people call it: `error rate`, `median latency`.
    pub subject: String,
    pub verdict: Verdict,
    /// The running version's value: a share from 0 to 1, milliseconds, or in the unit of a user's metric. `None` without
    /// data.
    pub baseline: Option<f64>,
    pub candidate: Option<f64>,
    /// How much worse the candidate is, in the threshold's own measure (difference of error rates, factor on latency,
    /// relative drop of accuracy). An end that is not known yet is infinite (`null` in JSON).
    pub interval: Option<(f64, f64)>,
    pub threshold: f64,
    /// The candidate's observations behind it.
    pub samples: u64,
    /// One sentence for somebody who was at lunch.
    pub message: String,
    /// The customary test, as if this were the only look: for comparison, it never decides.
    pub fixed_horizon: Option<FixedHorizon>,
}

/// Levels of the two ends of an interval.
#[derive(Clone, Copy)]
pub(super) struct Levels {
    /// Of the near end, beyond which a metric fails.
    pub fail: f64,
    /// Of the far end, within which it passes.
    pub pass: f64,
}

impl Levels {
    /// The near end of one of several intervals of a metric, any of which may fail it.
    pub fn split(self, n_intervals: usize) -> Self {
        Self { fail: self.fail / n_intervals.max(1) as f64, ..self }
    }
}

/// By the interval of how much worse something is.
pub(super) fn verdict_on((near, far): (f64, f64), threshold: f64) -> Verdict {
    if near > threshold {
        Verdict::Fail
    } else if far < threshold {
        Verdict::Pass
    } else {
        Verdict::Inconclusive
    }
}

/// What is to be judged and how it is put into words. Pairs are (baseline, candidate).
pub(super) struct Comparison<'a> {
    pub metric: &'a str,
    pub subject: &'a str,
    pub observations: &'a str,
    pub values: (Option<f64>, Option<f64>),
    pub samples: (u64, u64),
    /// Observations of each without which the interval means nothing.
    pub needed: u64,
    pub interval: (f64, f64),
    pub threshold: f64,
    /// The measure of two versions that are alike.
    pub no_worse: f64,
    pub show_value: fn(f64) -> String,
    pub show_change: fn(f64) -> String,
}

impl Comparison<'_> {
    pub fn judge(self, fixed_horizon: impl FnOnce() -> Option<FixedHorizon>) -> MetricVerdict {
        let (verdict, interval, message) = match self.values {
            (None, None) => (Verdict::Inconclusive, None, self.silent("either version")),
            (Some(_), None) => (Verdict::Inconclusive, None, self.silent("the candidate")),
            (None, Some(_)) => (Verdict::Inconclusive, None, self.silent("the running version")),
            (Some(baseline), Some(candidate)) => {
                let verdict = verdict_on(self.interval, self.threshold);
                (verdict, Some(self.interval), self.sentence(verdict, baseline, candidate))
            }
        };
        MetricVerdict {
            metric: self.metric.to_owned(),
            subject: self.subject.to_owned(),
            verdict,
            baseline: self.values.0,
            candidate: self.values.1,
            interval,
            threshold: self.threshold,
            samples: self.samples.1,
            message,
            fixed_horizon: interval.and_then(|_| fixed_horizon()),
        }
    }

    fn silent(&self, who: &str) -> String {
        format!("{}: no {} of {who} yet", self.subject, self.observations)
    }

    fn sentence(&self, verdict: Verdict, baseline: f64, candidate: f64) -> String {
        let show = |end: f64| match end.is_finite() {
            true => (self.show_change)(end),
            false => "unknown".to_owned(),
        };
        let (near, far) = (show(self.interval.0), show(self.interval.1));
        let fewest = self.samples.0.min(self.samples.1);
        let finding = match verdict {
            Verdict::Fail => format!("shown to be {near} or worse"),
            Verdict::Pass => format!("shown to be {far} or better"),
            Verdict::Inconclusive if fewest < self.needed => {
                format!("{fewest} of the {} {} that each version needs", self.needed, self.observations)
            }
            Verdict::Inconclusive if self.interval.0 > self.no_worse => {
                format!("worse, but not yet shown to be beyond the limit: {near} to {far}")
            }
            Verdict::Inconclusive => format!("not known well enough yet: {near} to {far}"),
        };
        format!(
            "{} {} against {}: {finding}, where {} is allowed ({} {})",
            self.subject,
            (self.show_value)(candidate),
            (self.show_value)(baseline),
            (self.show_change)(self.threshold),
            self.samples.1,
            self.observations,
        )
    }
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// With as many decimals as tell something.
pub(super) fn plain(value: f64) -> String {
    let decimals = match value.abs() {
        large if large >= 100.0 => 1,
        medium if medium >= 1.0 => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}
