//! What is judged of two arms: errors, latency, accuracy, drift and the user's own metrics.

use std::collections::BTreeSet;

use tidegate_core::{LatencyHistogram, Predictions, ValueHistogram};

use super::drift::{self, Drift};
use super::evidence::Counts;
use super::fixed_horizon::{chi_square, welch};
use super::means::BURN_IN;
use super::metric::{Comparison, Levels, MetricVerdict, percent, verdict_on};
use super::quantiles::{self, Dependence};
use super::rates::TwoRates;
use super::{ArmSummary, Thresholds, Verdict, custom};

/// The quantiles that latency is judged by.
const LATENCY_QUANTILES: [(&str, &str, f64); 2] =
    [("latencyP50", "median latency", 0.50), ("latencyP95", "95th percentile latency", 0.95)];

/// Every metric that a threshold limits; those that every rollout has by default only where there is data.
pub(super) fn judge_all(
    baseline: &ArmSummary,
    candidate: &ArmSummary,
    limits: &Thresholds,
) -> Vec<MetricVerdict> {
    let judges_errors = limits.error_rate_increase < 1.0;
    let judges_latency = limits.latency_increase < f64::INFINITY;
    let judges_accuracy = limits.accuracy_drop < 1.0;
    let judges_drift = limits.drift_score < drift::MOST;
    let judged = [judges_errors, judges_latency, judges_accuracy, judges_drift];
    let n_judged = judged.iter().filter(|judged| **judged).count() + limits.custom.len();
    let fail = limits.alpha / f64::from(limits.windows.max(1));
    let levels = Levels { fail, pass: limits.alpha }.split(n_judged);

    let mut metrics = Vec::new();
    if judges_errors && baseline.requests + candidate.requests > 0 {
        metrics.push(error_rate(baseline, candidate, limits.error_rate_increase, levels));
    }
    if judges_latency {
        let pair = (&baseline.latency, &candidate.latency);
        metrics.extend(latencies(pair, limits.latency_increase, levels, Dependence::None));
    }
    if judges_accuracy && baseline.labelled + candidate.labelled > 0 {
        metrics.push(accuracy(baseline, candidate, limits.accuracy_drop, levels));
    }
    if judges_drift {
        metrics.extend(drifts(&baseline.predictions, &candidate.predictions, limits.drift_score, levels));
    }
    for (name, threshold) in &limits.custom {
        let of = |arm: &ArmSummary| arm.metrics.get(name).copied().unwrap_or_default();
        metrics.push(custom::judge(name, (of(baseline), of(candidate)), threshold, levels));
    }
    metrics
}

fn error_rate(
    baseline: &ArmSummary,
    candidate: &ArmSummary,
    threshold: f64,
    levels: Levels,
) -> MetricVerdict {
    let (from, to) = (Counts::of_errors(baseline), Counts::of_errors(candidate));
    let rates = TwoRates::new(from, to);
    let comparison = Comparison {
        metric: "errorRate",
        subject: "error rate",
        observations: "requests",
        values: (from.rate(), to.rate()),
        samples: (baseline.requests, candidate.requests),
        needed: 0,
        interval: (rates.difference_at_least(levels.fail), rates.difference_at_most(levels.pass)),
        threshold,
        no_worse: 0.0,
        show_value: percent,
        show_change: |increase| format!("{:+.2} points", increase * 100.0),
    };
    comparison.judge(|| chi_square(from, to))
}

/// None without any latency.
pub(super) fn latencies(
    (from, to): (&LatencyHistogram, &LatencyHistogram),
    threshold: f64,
    levels: Levels,
    dependence: Dependence,
) -> Vec<MetricVerdict> {
    if from.count() + to.count() == 0 {
        return Vec::new();
    }
    let levels = levels.split(LATENCY_QUANTILES.len());
    let cumulative = (from.cumulative(), to.cumulative());
    let ratio_at_least =
        |q| quantiles::ratio_at_least(&cumulative.0, &cumulative.1, q, levels.fail, dependence);
    let ratio_at_most =
        |q| quantiles::ratio_at_most(&cumulative.0, &cumulative.1, q, levels.pass, dependence);
    let judge = |(metric, subject, q)| {
        let milliseconds = |us: f64| us / 1000.0;
        let comparison = Comparison {
            metric,
            subject,
            observations: "answers",
            values: (from.quantile(q).map(milliseconds), to.quantile(q).map(milliseconds)),
            samples: (from.count(), to.count()),
            needed: 0,
            interval: (ratio_at_least(q), ratio_at_most(q)),
            threshold,
            no_worse: 1.0,
            show_value: |ms| format!("{ms:.2} ms"),
            show_change: |factor| format!("x{factor:.2}"),
        };
        comparison.judge(|| welch(&from.moments(), &to.moments()))
    };
    LATENCY_QUANTILES.into_iter().map(judge).collect()
}

fn accuracy(baseline: &ArmSummary, candidate: &ArmSummary, threshold: f64, levels: Levels) -> MetricVerdict {
    let (from, to) = (Counts::of_accuracy(baseline), Counts::of_accuracy(candidate));
    let rates = TwoRates::new(from, to);
    let comparison = Comparison {
        metric: "accuracy",
        subject: "accuracy",
        observations: "labelled predictions",
        values: (from.rate(), to.rate()),
        samples: (baseline.labelled, candidate.labelled),
        needed: 0,
        interval: (1.0 - rates.ratio_at_most(levels.fail), 1.0 - rates.ratio_at_least(levels.pass)),
        threshold,
        no_worse: 0.0,
        show_value: percent,
        show_change: |drop| format!("{:+.1} %", -drop * 100.0),
    };
    comparison.judge(|| chi_square(from, to))
}

/// One for each output that both versions have. Until both have predicted, one for each that is known.
fn drifts(
    baseline: &Predictions,
    candidate: &Predictions,
    threshold: f64,
    levels: Levels,
) -> Vec<MetricVerdict> {
    let (ours, theirs): (BTreeSet<&String>, BTreeSet<&String>) =
        (baseline.outputs.keys().collect(), candidate.outputs.keys().collect());
    let names = if ours.is_empty() || theirs.is_empty() { &ours | &theirs } else { &ours & &theirs };
    let levels = levels.split(names.len());
    let of =
        |predictions: &Predictions, name: &String| predictions.outputs.get(name).cloned().unwrap_or_default();
    let judge = |name: &String| drift_of(name, &of(baseline, name), &of(candidate, name), threshold, levels);
    names.into_iter().map(judge).collect()
}

fn drift_of(
    output: &str,
    from: &ValueHistogram,
    to: &ValueHistogram,
    threshold: f64,
    levels: Levels,
) -> MetricVerdict {
    let drift = Drift::between(from, to, levels.fail, levels.pass);
    let verdict = drift.map_or(Verdict::Inconclusive, |drift| verdict_on(drift.interval, threshold));
    let samples = to.count();
    let fewest = samples.min(from.count());
    let message = match drift {
        None if samples == 0 => format!("drift of `{output}`: no predictions of the candidate yet"),
        None => format!("drift of `{output}`: no predictions of the running version yet"),
        Some(Drift { score, interval: (low, high), psi }) => {
            let finding = match verdict {
                Verdict::Fail => format!("shown to be {low:.3} or more"),
                Verdict::Pass => format!("shown to be {high:.3} or less"),
                Verdict::Inconclusive if fewest < BURN_IN => {
                    format!("{fewest} of the {BURN_IN} predictions that each version needs")
                }
                Verdict::Inconclusive => format!("not known well enough yet: {low:.3} to {high:.3}"),
            };
            format!(
                "drift of `{output}` {score:.3} (PSI {psi:.3}): {finding}, where {threshold:.3} is allowed ({samples} predictions)"
            )
        }
    };
    MetricVerdict {
        metric: format!("drift:{output}"),
        subject: format!("drift of `{output}`"),
        verdict,
        baseline: None,
        candidate: drift.map(|drift| drift.score),
        interval: drift.map(|drift| drift.interval),
        threshold,
        samples,
        message,
        fixed_horizon: None,
    }
}
