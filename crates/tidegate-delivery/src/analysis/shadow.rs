//! Is a shadow, which answers the same requests without anybody waiting for it, as good as the version that runs?

use serde::{Deserialize, Serialize};
use tidegate_core::ShadowSummary;

use super::arms::latencies;
use super::evidence::Counts;
use super::metric::{Levels, MetricVerdict, percent, verdict_on};
use super::quantiles::Dependence;
use super::rates::rate_within;
use super::{Analysis, Verdict, conclude};

/// How far a shadow may be from the running version, and how sure a verdict must be. A limit that nothing can exceed (1, or
/// an infinite latency) takes its metric out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShadowConfig {
    /// Mean difference of a prediction, 0 to 1; where predictions are classes, the share of requests that get another.
    pub prediction_difference_threshold: f64,
    /// Requests that must have been compared before the candidate may pass. It may fail earlier.
    pub comparison_samples: u64,
    /// Factor on the median and on the 95th percentile.
    pub latency_increase: f64,
    /// Share of the requests that the running version answered and the candidate failed.
    pub error_rate_increase: f64,
    /// The probability of a false failure, and of a false pass; above 0, below 1.
    pub alpha: f64,
}

impl Default for ShadowConfig {
    fn default() -> Self {
        Self {
            prediction_difference_threshold: 0.1,
            comparison_samples: 10_000,
            latency_increase: 1.5,
            error_rate_increase: 0.01,
            alpha: 0.05,
        }
    }
}

/// May be asked at any time and as often as one likes.
pub fn compare_shadow(summary: &ShadowSummary, config: &ShadowConfig) -> Analysis {
    let judges_difference = config.prediction_difference_threshold < 1.0;
    let judges_errors = config.error_rate_increase < 1.0;
    let judges_latency = config.latency_increase < f64::INFINITY;
    let n_judged =
        [judges_difference, judges_errors, judges_latency].iter().filter(|judged| **judged).count();
    let levels = Levels { fail: config.alpha, pass: config.alpha }.split(n_judged);

    let mut metrics = Vec::new();
    if judges_difference && summary.n_compared() > 0 {
        metrics.push(difference(summary, config.prediction_difference_threshold, levels));
    }
    if judges_errors && summary.mirrored > 0 {
        metrics.push(errors(summary, config.error_rate_increase, levels));
    }
    if judges_latency {
        let pair = (&summary.running_latency, &summary.candidate_latency);
        metrics.extend(latencies(pair, config.latency_increase, levels, Dependence::Paired));
    }
    conclude(metrics, missing(summary, config))
}

fn missing(summary: &ShadowSummary, config: &ShadowConfig) -> Vec<String> {
    let n_compared = summary.n_compared();
    let mut missing = Vec::new();
    if summary.mirrored == 0 {
        missing.push("no request has been mirrored to the candidate".to_owned());
    }
    if n_compared < config.comparison_samples {
        missing.push(format!("{n_compared} of {} comparisons", config.comparison_samples));
    }
    if !missing.is_empty() && summary.shed > 0 {
        missing.push(format!("{} requests were not mirrored for want of room", summary.shed));
    }
    missing
}

fn difference(summary: &ShadowSummary, threshold: f64, levels: Levels) -> MetricVerdict {
    let counts = Counts::of_mean(&summary.difference, 1.0);
    let (n_compared, n_differing) = (summary.n_compared(), summary.differing);
    let share = OneShare {
        metric: "predictionDifference",
        subject: "difference of predictions",
        observations: format!("comparisons, {n_differing} of them not the same"),
        samples: n_compared,
    };
    share.judge(counts, threshold, levels)
}

fn errors(summary: &ShadowSummary, threshold: f64, levels: Levels) -> MetricVerdict {
    let share = OneShare {
        metric: "errorRate",
        subject: "error rate where the running version answered",
        observations: "mirrored requests".to_owned(),
        samples: summary.mirrored,
    };
    share.judge(Counts::of(summary.failures, summary.mirrored), threshold, levels)
}

/// A share that is compared with its threshold alone.
struct OneShare {
    metric: &'static str,
    subject: &'static str,
    observations: String,
    samples: u64,
}

impl OneShare {
    fn judge(self, counts: Counts, threshold: f64, levels: Levels) -> MetricVerdict {
        let (low, high) = (rate_within(counts, levels.fail).0, rate_within(counts, levels.pass).1);
        let verdict = verdict_on((low, high), threshold);
        let finding = match verdict {
            Verdict::Fail => format!("shown to be {} or more", percent(low)),
            Verdict::Pass => format!("shown to be {} or less", percent(high)),
            Verdict::Inconclusive => {
                format!("not known well enough yet: {} to {}", percent(low), percent(high))
            }
        };
        let seen = counts.rate();
        let message = format!(
            "{} {}: {finding}, where {} is allowed ({} {})",
            self.subject,
            percent(seen.unwrap_or(0.0)),
            percent(threshold),
            self.samples,
            self.observations
        );
        MetricVerdict {
            metric: self.metric.to_owned(),
            subject: self.subject.to_owned(),
            verdict,
            baseline: None,
            candidate: seen,
            interval: Some((low, high)),
            threshold,
            samples: self.samples,
            message,
            fixed_horizon: None,
        }
    }
}
