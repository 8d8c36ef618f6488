//! A user's own metric: a number for each prediction (`iou`, `revenue`), judged by its mean.

use serde::{Deserialize, Serialize};
use tidegate_core::Moments;

use super::evidence::Counts;
use super::fixed_horizon::welch;
use super::means::{self, TwoMeans};
use super::metric::{Comparison, Levels, MetricVerdict, plain};
use super::rates::TwoRates;

/// How much worse than the running version's the mean of a metric may be. Written as `{"drop": 0.05}` where more is better
/// and `{"increase": 0.1}` where less is: a share of the running version's mean, or with `"absolute": true` in the metric's
/// own unit. With `"maximum": 1` the values are known to be from 0 to 1, and a verdict need not wait for many of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct CustomThreshold {
    pub worse: Worse,
    /// Not negative.
    pub by: f64,
    pub absolute: bool,
    /// Above zero.
    pub maximum: Option<f64>,
}

/// Which way a metric gets worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worse {
    Lower,
    Higher,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    drop: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    increase: Option<f64>,
    #[serde(default, skip_serializing_if = "is_false")]
    absolute: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    maximum: Option<f64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl TryFrom<Written> for CustomThreshold {
    type Error = &'static str;

    fn try_from(Written { drop, increase, absolute, maximum }: Written) -> Result<Self, Self::Error> {
        let (worse, by) = match (drop, increase) {
            (Some(by), None) => (Worse::Lower, by),
            (None, Some(by)) => (Worse::Higher, by),
            _ => return Err("give `drop` where more is better, or `increase` where less is, and not both"),
        };
        if !by.is_finite() || by < 0.0 {
            return Err("`drop` and `increase` must be 0 or more");
        }
        if worse == Worse::Lower && !absolute && by > 1.0 {
            return Err(
                "`drop` is a share of the running version's mean, 0 to 1; or add `\"absolute\": true`",
            );
        }
        if maximum.is_some_and(|maximum| !maximum.is_finite() || maximum <= 0.0) {
            return Err("`maximum` must be above 0");
        }
        Ok(Self { worse, by, absolute, maximum })
    }
}

impl From<CustomThreshold> for Written {
    fn from(CustomThreshold { worse, by, absolute, maximum }: CustomThreshold) -> Self {
        let (drop, increase) = match worse {
            Worse::Lower => (Some(by), None),
            Worse::Higher => (None, Some(by)),
        };
        Self { drop, increase, absolute, maximum }
    }
}

/// Asked for by name, so its absence holds a rollout.
pub(super) fn judge(
    name: &str,
    (baseline, candidate): (Moments, Moments),
    threshold: &CustomThreshold,
    levels: Levels,
) -> MetricVerdict {
    let comparison = Comparison {
        metric: name,
        subject: name,
        observations: "values",
        values: (baseline.mean(), candidate.mean()),
        samples: (baseline.count(), candidate.count()),
        needed: if threshold.maximum.is_some() { 0 } else { means::BURN_IN },
        interval: interval(&baseline, &candidate, threshold, levels),
        threshold: threshold.by,
        no_worse: 0.0,
        show_value: plain,
        show_change: match (threshold.absolute, threshold.worse) {
            (true, Worse::Lower) => |drop| signed(-drop),
            (true, Worse::Higher) => signed,
            (false, Worse::Lower) => |drop| format!("{:+.1} %", -drop * 100.0),
            (false, Worse::Higher) => |increase| format!("{:+.1} %", increase * 100.0),
        },
    };
    comparison.judge(|| welch(&baseline, &candidate))
}

fn signed(change: f64) -> String {
    let sign = if change < 0.0 { "" } else { "+" };
    format!("{sign}{}", plain(change))
}

/// How much worse the candidate is, at least and at most. Where a maximum is known there are two intervals, the exact one of
/// bounded values, which speaks first, and the asymptotic one, which is sharper later; the error is split between them.
fn interval(from: &Moments, to: &Moments, threshold: &CustomThreshold, levels: Levels) -> (f64, f64) {
    let Levels { fail, pass } = levels;
    let Some(maximum) = threshold.maximum else { return asymptotic(from, to, threshold, levels) };
    let levels = Levels { fail: fail / 2.0, pass: pass / 2.0 };
    let (exact, asymptotic) =
        (exact(from, to, maximum, threshold, levels), asymptotic(from, to, threshold, levels));
    (exact.0.max(asymptotic.0), exact.1.min(asymptotic.1))
}

fn asymptotic(from: &Moments, to: &Moments, threshold: &CustomThreshold, levels: Levels) -> (f64, f64) {
    let Some(means) = TwoMeans::new(from, to) else { return (f64::NEG_INFINITY, f64::INFINITY) };
    threshold.worsening(levels, |least, most| match threshold.absolute {
        true => (means.difference_at_least(least), means.difference_at_most(most)),
        false => (means.ratio_at_least(least) - 1.0, means.ratio_at_most(most) - 1.0),
    })
}

fn exact(
    from: &Moments,
    to: &Moments,
    maximum: f64,
    threshold: &CustomThreshold,
    levels: Levels,
) -> (f64, f64) {
    let rates = TwoRates::new(Counts::of_mean(from, maximum), Counts::of_mean(to, maximum));
    threshold.worsening(levels, |least, most| match threshold.absolute {
        true => (rates.difference_at_least(least) * maximum, rates.difference_at_most(most) * maximum),
        false => (rates.ratio_at_least(least) - 1.0, rates.ratio_at_most(most) - 1.0),
    })
}

impl CustomThreshold {
    /// From an interval of the change, given the levels of its lower and upper end.
    fn worsening(self, levels: Levels, change: impl FnOnce(f64, f64) -> (f64, f64)) -> (f64, f64) {
        match self.worse {
            Worse::Higher => change(levels.fail, levels.pass),
            Worse::Lower => {
                let (low, high) = change(levels.pass, levels.fail);
                (-high, -low)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_written_in_one_word_and_a_number() {
        let read = |json: &str| serde_json::from_str::<CustomThreshold>(json);
        let iou = read(r#"{"drop": 0.05}"#).unwrap();
        assert_eq!(iou, CustomThreshold { worse: Worse::Lower, by: 0.05, absolute: false, maximum: None });
        let cost = read(r#"{"increase": 3, "absolute": true, "maximum": 100}"#).unwrap();
        assert_eq!(
            cost,
            CustomThreshold { worse: Worse::Higher, by: 3.0, absolute: true, maximum: Some(100.0) }
        );
        assert_eq!(serde_json::to_string(&iou).unwrap(), r#"{"drop":0.05}"#);
        assert_eq!(read(&serde_json::to_string(&cost).unwrap()).unwrap(), cost);
        for faulty in [
            "{}",
            r#"{"drop": 0.1, "increase": 0.1}"#,
            r#"{"drop": -0.1}"#,
            r#"{"drop": 5}"#,
            r#"{"fall": 1}"#,
            r#"{"drop": 0.1, "maximum": 0}"#,
        ] {
            assert!(read(faulty).is_err(), "{faulty}");
        }
    }
}
