//! One metric of two versions: interval, verdict, and the sentence that explains it.

use serde::Serialize;

use super::evidence::Counts;
use super::fixed_horizon::{FixedHorizon, chi_square, welch};
use super::rates::TwoRates;
use super::{ArmSummary, Thresholds, Verdict, quantiles};

/// A metric's verdict and the evidence for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricVerdict {
    /// `errorRate`, `latencyP50`, `latencyP95`, `accuracy`.
    pub metric: &'static str,
    pub verdict: Verdict,
    /// The running version's value: a share from 0 to 1, or milliseconds. `None` without data.
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

/// The quantiles that latency is judged by.
const LATENCY_QUANTILES: [(&str, &str, f64); 2] =
    [("latencyP50", "median latency", 0.50), ("latencyP95", "95th percentile latency", 0.95)];

/// Levels of the two ends of an interval.
#[derive(Clone, Copy)]
struct Levels {
    /// Of the near end, beyond which a metric fails.
    fail: f64,
    /// Of the far end, within which it passes.
    pass: f64,
}

/// Every metric that a threshold limits and that has data.
pub(super) fn judge_all(
    baseline: &ArmSummary,
    candidate: &ArmSummary,
    limits: &Thresholds,
) -> Vec<MetricVerdict> {
    let judges_errors = limits.error_rate_increase < 1.0;
    let judges_latency = limits.latency_increase < f64::INFINITY;
    let judges_accuracy = limits.accuracy_drop < 1.0;
    let n_judged = [judges_errors, judges_latency, judges_accuracy].iter().filter(|judged| **judged).count();
    let fail = limits.alpha / (n_judged.max(1) as f64 * f64::from(limits.windows.max(1)));
    let levels = Levels { fail, pass: limits.alpha };

    let mut metrics = Vec::new();
    if judges_errors {
        metrics.extend(error_rate(baseline.errors(), candidate.errors(), limits.error_rate_increase, levels));
    }
    if judges_latency {
        let levels = Levels { fail: fail / LATENCY_QUANTILES.len() as f64, ..levels };
        metrics.extend(latencies(baseline, candidate, limits.latency_increase, levels));
    }
    if judges_accuracy {
        metrics.extend(accuracy(baseline.accuracy(), candidate.accuracy(), limits.accuracy_drop, levels));
    }
    metrics
}

fn error_rate(baseline: Counts, candidate: Counts, threshold: f64, levels: Levels) -> Option<MetricVerdict> {
    let rates = TwoRates::new(baseline, candidate);
    let comparison = Comparison {
        metric: "errorRate",
        subject: "error rate",
        observations: "requests",
        values: (baseline.rate(), candidate.rate()),
        samples: (baseline.trials(), candidate.trials()),
        interval: (rates.difference_at_least(levels.fail), rates.difference_at_most(levels.pass)),
        threshold,
        no_worse: 0.0,
        show_value: percent,
        show_change: |increase| format!("{:+.2} points", increase * 100.0),
    };
    comparison.judge(|| chi_square(baseline, candidate))
}

fn latencies(
    baseline: &ArmSummary,
    candidate: &ArmSummary,
    threshold: f64,
    levels: Levels,
) -> impl Iterator<Item = MetricVerdict> {
    let (from, to) = (&baseline.latency, &candidate.latency);
    let cumulative = (from.cumulative(), to.cumulative());
    LATENCY_QUANTILES.into_iter().filter_map(move |(metric, subject, q)| {
        let milliseconds = |us: f64| us / 1000.0;
        let comparison = Comparison {
            metric,
            subject,
            observations: "answers",
            values: (from.quantile(q).map(milliseconds), to.quantile(q).map(milliseconds)),
            samples: (from.count(), to.count()),
            interval: (
                quantiles::ratio_at_least(&cumulative.0, &cumulative.1, q, levels.fail),
                quantiles::ratio_at_most(&cumulative.0, &cumulative.1, q, levels.pass),
            ),
            threshold,
            no_worse: 1.0,
            show_value: |ms| format!("{ms:.2} ms"),
            show_change: |factor| format!("x{factor:.2}"),
        };
        comparison.judge(|| welch(from, to))
    })
}

fn accuracy(baseline: Counts, candidate: Counts, threshold: f64, levels: Levels) -> Option<MetricVerdict> {
    let rates = TwoRates::new(baseline, candidate);
    let comparison = Comparison {
        metric: "accuracy",
        subject: "accuracy",
        observations: "labelled predictions",
        values: (baseline.rate(), candidate.rate()),
        samples: (baseline.trials(), candidate.trials()),
        interval: (1.0 - rates.ratio_at_most(levels.fail), 1.0 - rates.ratio_at_least(levels.pass)),
        threshold,
        no_worse: 0.0,
        show_value: percent,
        show_change: |drop| format!("{:+.1} %", -drop * 100.0),
    };
    comparison.judge(|| chi_square(baseline, candidate))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

/// What is to be judged and how it is put into words. Pairs are (baseline, candidate).
struct Comparison {
    metric: &'static str,
    subject: &'static str,
    observations: &'static str,
    values: (Option<f64>, Option<f64>),
    samples: (u64, u64),
    interval: (f64, f64),
    threshold: f64,
    /// The measure of two versions that are alike.
    no_worse: f64,
    show_value: fn(f64) -> String,
    show_change: fn(f64) -> String,
}

impl Comparison {
    fn judge(self, fixed_horizon: impl FnOnce() -> Option<FixedHorizon>) -> Option<MetricVerdict> {
        let (verdict, interval, message) = match self.values {
            (None, None) => return None,
            (Some(_), None) => (Verdict::Inconclusive, None, self.one_sided("candidate")),
            (None, Some(_)) => (Verdict::Inconclusive, None, self.one_sided("running version")),
            (Some(baseline), Some(candidate)) => {
                let verdict = self.verdict();
                (verdict, Some(self.interval), self.sentence(verdict, baseline, candidate))
            }
        };
        Some(MetricVerdict {
            metric: self.metric,
            verdict,
            baseline: self.values.0,
            candidate: self.values.1,
            interval,
            threshold: self.threshold,
            samples: self.samples.1,
            message,
            fixed_horizon: interval.and_then(|_| fixed_horizon()),
        })
    }

    fn verdict(&self) -> Verdict {
        let (near, far) = self.interval;
        if near > self.threshold {
            Verdict::Fail
        } else if far < self.threshold {
            Verdict::Pass
        } else {
            Verdict::Inconclusive
        }
    }

    fn one_sided(&self, silent: &str) -> String {
        format!("{}: no {} of the {silent} yet", self.subject, self.observations)
    }

    fn sentence(&self, verdict: Verdict, baseline: f64, candidate: f64) -> String {
        let show = |end: f64| match end.is_finite() {
            true => (self.show_change)(end),
            false => "unknown".to_owned(),
        };
        let (near, far) = (show(self.interval.0), show(self.interval.1));
        let finding = match verdict {
            Verdict::Fail => format!("shown to be {near} or worse"),
            Verdict::Pass => format!("shown to be {far} or better"),
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
