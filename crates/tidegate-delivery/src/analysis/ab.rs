//! Which of two versions is better, when neither is the old one. The same intervals as [`super::analyse`], both ends read.

use serde::{Deserialize, Serialize};

use super::ArmSummary;
use super::evidence::Counts;
use super::fixed_horizon::{FixedHorizon, chi_square, welch};
use super::quantiles::{self, Dependence};
use super::rates::TwoRates;

/// What the arms compete in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbMetric {
    /// Share of labelled predictions that were right; more is better.
    Accuracy,
    /// The median; less is better.
    Latency,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AbConfig {
    pub metric: AbMetric,
    /// The probability that the worse arm, or either of two equal ones, is ever called the winner.
    pub significance_level: f64,
    /// Observations that each arm needs before anything is decided.
    pub minimum_samples: u64,
    /// Arms whose ratio is shown to be within 1 - this and 1 + this are equals.
    pub equivalence: f64,
}

impl Default for AbConfig {
    fn default() -> Self {
        Self {
            metric: AbMetric::Accuracy,
            significance_level: 0.05,
            minimum_samples: 1000,
            equivalence: 0.05,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variant {
    A,
    B,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AbResult {
    Winner(Variant),
    /// Shown to be alike.
    None,
    /// More samples may tell. When the time is up, it means that there is no winner.
    Undecided,
}

/// A result and its evidence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AbComparison {
    pub result: AbResult,
    /// Accuracy from 0 to 1, or milliseconds; `None` without data.
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// Of the ratio b / a, valid at all looks; an end that is not known yet is 0 or infinite (`null` in JSON).
    pub interval: (f64, f64),
    /// Of the arm that has fewer.
    pub samples: u64,
    pub message: String,
    pub fixed_horizon: Option<FixedHorizon>,
}

/// May be asked at any time and as often as one likes.
pub fn compare_ab(a: &ArmSummary, b: &ArmSummary, config: &AbConfig) -> AbComparison {
    let measured = match config.metric {
        AbMetric::Accuracy => accuracy(a, b, config.significance_level),
        AbMetric::Latency => latency(a, b, config.significance_level),
    };
    let result = match measured.samples < config.minimum_samples {
        true => AbResult::Undecided,
        false => decide(measured.interval, config),
    };
    AbComparison {
        result,
        message: sentence(&measured, result, config),
        a: measured.a,
        b: measured.b,
        interval: measured.interval,
        samples: measured.samples,
        fixed_horizon: measured.fixed_horizon,
    }
}

struct Measured {
    a: Option<f64>,
    b: Option<f64>,
    interval: (f64, f64),
    samples: u64,
    fixed_horizon: Option<FixedHorizon>,
}

fn accuracy(a: &ArmSummary, b: &ArmSummary, alpha: f64) -> Measured {
    let n_labelled = a.labelled.min(b.labelled);
    let (a, b) = (Counts::of_accuracy(a), Counts::of_accuracy(b));
    let rates = TwoRates::new(a, b);
    Measured {
        a: a.rate(),
        b: b.rate(),
        // Both ends are edges of one confidence set, which misses the truth with probability alpha.
        interval: (rates.ratio_at_least(alpha), rates.ratio_at_most(alpha)),
        samples: n_labelled,
        fixed_horizon: chi_square(a, b),
    }
}

fn latency(a: &ArmSummary, b: &ArmSummary, alpha: f64) -> Measured {
    const MEDIAN: f64 = 0.5;
    let (a, b) = (&a.latency, &b.latency);
    let milliseconds = |us: f64| us / 1000.0;
    let cumulative = (a.cumulative(), b.cumulative());
    // Each end errs on its own.
    let each = alpha / 2.0;
    Measured {
        a: a.quantile(MEDIAN).map(milliseconds),
        b: b.quantile(MEDIAN).map(milliseconds),
        interval: (
            quantiles::ratio_at_least(&cumulative.0, &cumulative.1, MEDIAN, each, Dependence::None),
            quantiles::ratio_at_most(&cumulative.0, &cumulative.1, MEDIAN, each, Dependence::None),
        ),
        samples: a.count().min(b.count()),
        fixed_horizon: welch(&a.moments(), &b.moments()),
    }
}

fn decide((low, high): (f64, f64), config: &AbConfig) -> AbResult {
    let (larger, smaller) = match config.metric {
        AbMetric::Accuracy => (Variant::B, Variant::A),
        AbMetric::Latency => (Variant::A, Variant::B),
    };
    if low > 1.0 {
        AbResult::Winner(larger)
    } else if high < 1.0 {
        AbResult::Winner(smaller)
    } else if low > 1.0 - config.equivalence && high < 1.0 + config.equivalence {
        AbResult::None
    } else {
        AbResult::Undecided
    }
}

fn sentence(measured: &Measured, result: AbResult, config: &AbConfig) -> String {
    let show = |value: Option<f64>| match (value, config.metric) {
        (None, _) => "nothing".to_owned(),
        (Some(share), AbMetric::Accuracy) => format!("{:.2} %", share * 100.0),
        (Some(ms), AbMetric::Latency) => format!("{ms:.2} ms"),
    };
    let subject = match config.metric {
        AbMetric::Accuracy => "accuracy",
        AbMetric::Latency => "median latency",
    };
    let finding = match result {
        AbResult::Winner(Variant::A) => "A is shown to be better".to_owned(),
        AbResult::Winner(Variant::B) => "B is shown to be better".to_owned(),
        AbResult::None => "shown to be alike".to_owned(),
        AbResult::Undecided if measured.samples < config.minimum_samples => {
            format!("{} of {} samples in the smaller arm", measured.samples, config.minimum_samples)
        }
        AbResult::Undecided => "not decided yet".to_owned(),
    };
    let (low, high) = measured.interval;
    format!(
        "{subject} {} (A), {} (B), ratio {low:.3} to {high:.3}: {finding}",
        show(measured.a),
        show(measured.b)
    )
}
