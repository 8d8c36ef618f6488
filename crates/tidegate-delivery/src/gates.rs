//! The gates that need a comparison: accuracy and latency on a version's validation sample, and what another precision
//! changes.
//!
//! Pure: whoever measures hands in numbers. What a number is compared with is a [`Standard`], best first: the running
//! version, measured on the same sample in the same minutes; what was declared at registration; nothing, and then the
//! number is reported, not judged.

use tidegate_core::Precision;
use tidegate_core::prediction::Deviation;

use crate::report::{Check, Measured};

/// How much worse than its standard a version may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateLimits {
    /// Factor on the latency.
    pub max_latency_ratio: f64,
    /// Factor on the accuracy.
    pub min_accuracy_ratio: f64,
    /// Share of the decisions that another precision may change.
    pub max_changed_decisions: f64,
    /// How far another precision may move numbers: the root mean square of the errors, by that of the numbers.
    pub max_relative_rms: f64,
}

impl Default for GateLimits {
    fn default() -> Self {
        Self {
            max_latency_ratio: 1.2,
            min_accuracy_ratio: 0.95,
            max_changed_decisions: 0.01,
            max_relative_rms: 0.05,
        }
    }
}

/// What a version is measured against, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standard {
    /// The version that serves, by its number.
    Running {
        version: String,
    },
    Declared,
}

impl Standard {
    fn of(&self) -> String {
        match self {
            Self::Running { version } => format!("of {version}, which serves, on the same sample"),
            Self::Declared => "declared at registration".to_owned(),
        }
    }
}

/// A version's score on a sample: the higher, the better; at most 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub value: f64,
    /// What it is: `accuracy`, `R²`, `IoU`.
    pub metric: &'static str,
    /// Of what: `30 rows`, `1 image`.
    pub of: String,
}

/// The gate on accuracy. `found` says what is to be known about the standard, where it is not the one hoped for.
pub fn judge_accuracy(
    score: &Score,
    standard: Option<(&Standard, f64)>,
    limits: GateLimits,
    found: Option<&str>,
) -> Check {
    let Score { value, metric, of } = score;
    let mut measured = Measured { value: *value, unit: (*metric).to_owned(), limit: None, baseline: None };
    let note = found.map(|found| format!("; {found}")).unwrap_or_default();
    let Some((standard, baseline)) = standard else {
        let detail =
            format!("{metric} {value:.4} on {of}; nothing to compare with, so it is not judged{note}");
        return Check::new(CHECK_ACCURACY, Ok(detail)).with_measured(measured);
    };
    // A share of a score that is not positive would ask for more than the standard itself has.
    let limit = if baseline > 0.0 { baseline * limits.min_accuracy_ratio } else { baseline };
    measured.limit = Some(limit);
    measured.baseline = Some(baseline);
    let comparison = format!(
        "{metric} {value:.4} on {of}, against {baseline:.4} {}: at least {limit:.4} is asked for{note}",
        standard.of()
    );
    // Equal numbers may differ in the last digit of a product.
    let passes = *value >= limit - 1e-12;
    Check::new(CHECK_ACCURACY, if passes { Ok(comparison) } else { Err(comparison) }).with_measured(measured)
}

/// What a version in another precision is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    /// The same file in 32-bit floats.
    SameFile,
    /// A version that its registration names, or the one that serves, by its number.
    Version { number: String },
}

/// What came of a version in another precision and its original on the same inputs.
#[derive(Clone, Debug)]
pub struct SideBySide {
    pub original: Original,
    pub deviation: Deviation,
    /// How long each run took, in runs of the original.
    pub time_ratios: Vec<f64>,
    /// What both ran on.
    pub on: String,
}

/// The gate on precision: `precision` is that of the version. Both limits must hold, for every output. What it gains is said, and
/// decides nothing: there are other reasons to deploy a version.
pub fn judge_precision(precision: Precision, pair: &SideBySide, limits: GateLimits) -> Check {
    let SideBySide { original, deviation, time_ratios, on } = pair;
    let original = match original {
        Original::SameFile => "the same file in f32".to_owned(),
        Original::Version { number } => number.clone(),
    };
    let mut said = Vec::new();
    let mut rated = Vec::new();
    if let Some((name, output, share)) = deviation.most_changed() {
        let (limit, n) = (limits.max_changed_decisions, output.n_decisions);
        let decisions = if n == 1 { "decision" } else { "decisions" };
        said.push(format!(
            "{} of {n} {decisions} of `{name}` changed ({:.2} % of at most {:.2} %)",
            output.n_changed,
            share * 100.0,
            limit * 100.0
        ));
        rated.push((share, limit, "changed decisions"));
    }
    if let Some((name, _, error)) = deviation.farthest() {
        let limit = limits.max_relative_rms;
        said.push(format!("relative RMS error of `{name}` {error:.4} of at most {limit:.4}"));
        rated.push((error, limit, "relative RMS error"));
    }
    said.extend(deviation.fault.clone());
    if said.is_empty() {
        said.push("it gives nothing that could be compared".to_owned());
    }
    if !time_ratios.is_empty() {
        // One slow run, such as the first, says nothing.
        said.push(match median(time_ratios.iter().copied()) {
            ratio @ ..1.0 => format!("its runs take {:.0} % of the time", ratio * 100.0),
            ratio => {
                format!("its runs take {ratio:.1} times as long, so that {precision} gains nothing here")
            }
        });
    }
    let detail = format!("{precision} against {original}, on {on}: {}", said.join("; "));
    // The sums of squares may err in the last digit.
    let is_within = |(value, limit, _): &(f64, f64, _)| *value <= limit + 1e-12;
    let passes = deviation.fault.is_none() && !rated.is_empty() && rated.iter().all(is_within);
    let check = Check::new(CHECK_PRECISION, if passes { Ok(detail) } else { Err(detail) });
    // The number that is nearest to its limit, or farthest beyond.
    let use_of = |(value, limit, _): &(f64, f64, _)| value / f64::max(*limit, 1e-12);
    match rated.iter().max_by(|a, b| use_of(a).total_cmp(&use_of(b))) {
        Some((value, limit, unit)) => check.with_measured(Measured {
            value: *value,
            unit: (*unit).to_owned(),
            limit: Some(*limit),
            baseline: None,
        }),
        None => check,
    }
}

pub const CHECK_PRECISION: &str = "precision";
const CHECK_ACCURACY: &str = "accuracy";
const CHECK_LATENCY: &str = "latency";

/// Latencies of a version and of its standard on the same inputs, one right after the other.
///
/// Each pair says whether the version took too long; what is decided is whether most pairs say so. A pair shares the
/// minute and the input, so a busy machine or a large input counts against both, and one slow run never decides. The
/// decision is a sign test: with no difference at the limit it errs with probability 0.0005 at each look, and it is
/// looked at a few times only (see [`LatencyRace::standing`]).
#[derive(Clone, Debug, Default)]
pub struct LatencyRace {
    /// Milliseconds, baseline and candidate.
    pairs: Vec<(f64, f64)>,
}

/// How a race stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Within,
    Beyond,
    /// Not shown yet.
    Open,
}

impl LatencyRace {
    /// Fewer pairs than this show nothing.
    pub const MIN_PAIRS: usize = 16;

    /// A difference smaller than this is not worth a verdict, whatever its ratio: it is below what a request costs in the
    /// network, and models of microseconds differ by it for no reason.
    pub const SLACK_MS: f64 = 0.1;

    pub fn push(&mut self, baseline_ms: f64, candidate_ms: f64) {
        self.pairs.push((baseline_ms, candidate_ms));
    }

    pub fn n_pairs(&self) -> usize {
        self.pairs.len()
    }

    /// Whether most pairs are shown to be within or beyond the limit. Ask when the number of pairs has doubled.
    pub fn standing(&self, limits: GateLimits) -> Standing {
        /// 1 - 0.0005 of the normal distribution.
        const Z: f64 = 3.29;
        if self.pairs.len() < Self::MIN_PAIRS {
            return Standing::Open;
        }
        #[expect(clippy::cast_precision_loss, reason = "thousands of pairs at most")]
        let (n, beyond) = (self.pairs.len() as f64, self.n_beyond(limits) as f64);
        let z = (2.0 * beyond - n) / n.sqrt();
        if z >= Z {
            Standing::Beyond
        } else if z <= -Z {
            Standing::Within
        } else {
            Standing::Open
        }
    }

    /// The gate on latency. A race that is still open is decided by the majority of its pairs.
    pub fn judge(&self, standard: Option<&Standard>, limits: GateLimits, found: Option<&str>) -> Check {
        let candidate = median(self.pairs.iter().map(|pair| pair.1));
        let mut measured = Measured { value: candidate, unit: "ms".to_owned(), limit: None, baseline: None };
        let n = self.pairs.len();
        let note = found.map(|found| format!("; {found}")).unwrap_or_default();
        let Some(standard) = standard else {
            let detail = format!(
                "median {} of {n} runs; nothing to compare with, so it is not judged{note}",
                milliseconds(candidate)
            );
            return Check::new(CHECK_LATENCY, Ok(detail)).with_measured(measured);
        };
        let baseline = median(self.pairs.iter().map(|pair| pair.0));
        let limit = limit_ms(baseline, limits);
        measured.limit = Some(limit);
        measured.baseline = Some(baseline);
        let n_beyond = self.n_beyond(limits);
        let is_beyond = match self.standing(limits) {
            Standing::Beyond => true,
            Standing::Within => false,
            Standing::Open => 2 * n_beyond > n,
        };
        let comparison = format!(
            "median {}, against {} {}: at most {} is allowed, {n_beyond} of {n} runs took longer{note}",
            milliseconds(candidate),
            milliseconds(baseline),
            standard.of(),
            milliseconds(limit)
        );
        Check::new(CHECK_LATENCY, if is_beyond { Err(comparison) } else { Ok(comparison) })
            .with_measured(measured)
    }

    fn n_beyond(&self, limits: GateLimits) -> usize {
        self.pairs.iter().filter(|(baseline, candidate)| *candidate > limit_ms(*baseline, limits)).count()
    }
}

fn limit_ms(baseline_ms: f64, limits: GateLimits) -> f64 {
    (baseline_ms * limits.max_latency_ratio).max(baseline_ms + LatencyRace::SLACK_MS)
}

/// 0 of nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Microseconds where milliseconds would be zeros.
fn milliseconds(ms: f64) -> String {
    if ms < 1.0 { format!("{:.1} us", ms * 1e3) } else { format!("{ms:.2} ms") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn running() -> Standard {
        Standard::Running { version: "1.0.0".to_owned() }
    }

    fn score(value: f64) -> Score {
        Score { value, metric: "accuracy", of: "100 rows".to_owned() }
    }

    #[test]
    fn accuracy_is_held_to_a_share_of_its_standard() {
        let cases = [
            (0.777, Some(0.777), true),
            (0.95 * 0.777, Some(0.777), true),
            (0.738, Some(0.777), false),
            (0.001, Some(0.777), false),
            (0.001, None, true),
            (-0.5, Some(-0.5), true),
            (-0.6, Some(-0.5), false),
            (0.0, Some(0.0), true),
        ];
        for (value, baseline, passes) in cases {
            let standard = running();
            let standard = baseline.map(|baseline| (&standard, baseline));
            let check = judge_accuracy(&score(value), standard, GateLimits::default(), None);
            assert_eq!(check.passed, passes, "{value} against {baseline:?}: {}", check.detail);
            assert_eq!(check.measured.unwrap().baseline, baseline);
        }
    }

    #[test]
    fn a_check_says_what_was_compared_with_what() {
        let check = judge_accuracy(&score(0.5), Some((&running(), 0.8)), GateLimits::default(), None);
        assert_eq!(
            check.detail,
            "accuracy 0.5000 on 100 rows, against 0.8000 of 1.0.0, which serves, on the same sample: at least 0.7600 is \
             asked for"
        );
        let check = judge_accuracy(&score(0.5), None, GateLimits::default(), Some("1.0.0 has other inputs"));
        assert_eq!(
            check.detail,
            "accuracy 0.5000 on 100 rows; nothing to compare with, so it is not judged; 1.0.0 has other inputs"
        );
        let check = race(20, |_| (0.05, 2.0)).judge(Some(&Standard::Declared), GateLimits::default(), None);
        assert_eq!(
            check.detail,
            "median 2.00 ms, against 50.0 us declared at registration: at most 150.0 us is allowed, 20 of 20 runs took \
             longer"
        );
    }

    #[test]
    fn another_precision_is_held_to_both_limits() {
        use tidegate_core::prediction::OutputDeviation;
        let of = |n_changed, error_squares: f64| {
            let output = OutputDeviation {
                n_decisions: 1000,
                n_changed,
                n_numbers: 100,
                n_shares: 0,
                squares: 100.0,
                error_squares,
            };
            Deviation { n_answers: 100, outputs: [("y".to_owned(), output)].into(), fault: None }
        };
        let judge_timed = |deviation: &Deviation, time_ratios| {
            let (original, deviation) = (Original::SameFile, deviation.clone());
            let pair = SideBySide { original, deviation, time_ratios, on: "100 probes".to_owned() };
            judge_precision(Precision::Bf16, &pair, GateLimits::default())
        };
        let judge = |deviation: &Deviation| judge_timed(deviation, vec![]);
        let cases = [
            (0, 0.0, true, "relative RMS error"),
            (10, 0.0, true, "changed decisions"),
            (11, 0.0, false, "changed decisions"),
            (0, 0.25, true, "relative RMS error"),
            (9, 0.26, false, "relative RMS error"),
        ];
        for (n_changed, error_squares, passes, unit) in cases {
            let check = judge(&of(n_changed, error_squares));
            assert_eq!((check.passed, check.is_vital), (passes, false), "{}", check.detail);
            assert_eq!(check.measured.unwrap().unit, unit);
        }
        let check = judge(&of(12, 0.04));
        assert_eq!(
            check.detail,
            "bf16 against the same file in f32, on 100 probes: 12 of 1000 decisions of `y` changed (1.20 % of at most \
             1.00 %); relative RMS error of `y` 0.0200 of at most 0.0500"
        );
        let broken = Deviation { fault: Some("output `y`: NaN instead of 1".to_owned()), ..of(0, 0.0) };
        let check = judge(&broken);
        assert!(
            !check.passed && check.detail.ends_with("; output `y`: NaN instead of 1"),
            "{}",
            check.detail
        );
        assert!(!judge(&Deviation::default()).passed, "nothing shown is nothing proved");
        for (ratio, said) in [
            (0.2375, "; its runs take 24 % of the time"),
            (1.53, "; its runs take 1.5 times as long, so that bf16 gains nothing here"),
        ] {
            let check = judge_timed(&of(0, 0.0), vec![9.0, ratio, ratio]);
            assert!(check.passed && check.detail.ends_with(said), "{}", check.detail);
        }
    }

    fn race(n: usize, pair: impl Fn(usize) -> (f64, f64)) -> LatencyRace {
        let mut race = LatencyRace::default();
        (0..n).map(pair).for_each(|(baseline, candidate)| race.push(baseline, candidate));
        race
    }

    #[test]
    fn most_pairs_decide_and_outliers_do_not() {
        let cases: [(&str, LatencyRace, Standing, bool); 7] = [
            ("alike", race(16, |_| (10.0, 10.0)), Standing::Within, true),
            ("slower within the limit", race(16, |_| (10.0, 11.9)), Standing::Within, true),
            ("slower", race(16, |_| (10.0, 12.1)), Standing::Beyond, false),
            ("too few to show it", race(8, |_| (10.0, 30.0)), Standing::Open, false),
            (
                "every fourth run hangs",
                race(64, |i| (10.0, if i % 4 == 0 { 900.0 } else { 10.0 })),
                Standing::Within,
                true,
            ),
            (
                "at the limit",
                race(64, |i| (10.0, if i % 2 == 0 { 11.9 } else { 12.1 })),
                Standing::Open,
                true,
            ),
            ("microseconds", race(16, |_| (0.003, 0.030)), Standing::Within, true),
        ];
        for (what, race, standing, passes) in cases {
            assert_eq!(race.standing(GateLimits::default()), standing, "{what}");
            let check = race.judge(Some(&running()), GateLimits::default(), None);
            assert_eq!(check.passed, passes, "{what}: {}", check.detail);
        }
        assert!(race(3, |_| (0.0, 5.0)).judge(None, GateLimits::default(), None).passed, "not judged");
        assert!(race(0, |_| (0.0, 0.0)).judge(None, GateLimits::default(), None).passed);
    }

    proptest! {
        /// A machine that is now and then ten times slower, for both alike, condemns nobody who is alike.
        #[test]
        fn a_noisy_machine_does_not_decide(seed in any::<u64>()) {
            use rand::rngs::StdRng;
            use rand::{RngExt, SeedableRng};
            let mut rng = StdRng::seed_from_u64(seed);
            let mut race = LatencyRace::default();
            for _ in 0..256 {
                let minute = if rng.random::<f64>() < 0.3 { 10.0 } else { 1.0 };
                let mut noisy = || 5.0 * minute * (1.0 + 0.2 * rng.random::<f64>());
                let (baseline, candidate) = (noisy(), noisy());
                race.push(baseline, candidate);
            }
            prop_assert_eq!(race.standing(GateLimits::default()), Standing::Within);
        }
    }
}
