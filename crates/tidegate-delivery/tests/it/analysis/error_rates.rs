//! The promise of the module, by simulation: however often one looks, a false verdict is as rare as `alpha` says.
//!
//! Most cases are the least favourable one, the candidate exactly as bad as its threshold allows: there both verdicts are
//! false, and each must stay below alpha over 2,000 seeded rollouts, looked at again and again and never stopped early.
//! With a threshold of zero that is "no difference at all". What is found stands in docs/analysis.md, line by line.

use tidegate_delivery::analysis::ab::{AbConfig, AbMetric, AbResult};
use tidegate_delivery::{ArmSummary, Thresholds, Verdict, analyse, compare_ab};

use super::world::{Behaviour, USUAL, World, only, watch};

const N_RUNS: u64 = 2000;

/// After 10 requests, then whenever there are 1.4 times as many.
const LOOKS: (u64, f64, u64) = (10, 1.4, 1500);

/// Nobody times the requests where rates are judged.
const UNTIMED: Behaviour = Behaviour { median_us: 0.0, ..USUAL };

/// Shares of runs in which a look ever failed and ever passed the candidate.
fn ever(world: &World, judge: impl Fn(&ArmSummary, &ArmSummary) -> Verdict) -> (f64, f64) {
    let (mut n_failed, mut n_passed) = (0u32, 0u32);
    for seed in 0..N_RUNS {
        let (mut failed, mut passed) = (false, false);
        watch(world, seed, LOOKS, |baseline, candidate| {
            match judge(baseline, candidate) {
                Verdict::Fail => failed = true,
                Verdict::Pass => passed = true,
                Verdict::Inconclusive => {}
            }
            Some(())
        });
        n_failed += u32::from(failed);
        n_passed += u32::from(passed);
    }
    (f64::from(n_failed) / N_RUNS as f64, f64::from(n_passed) / N_RUNS as f64)
}

/// Both verdicts are false here.
#[track_caller]
fn check(name: &str, (baseline, candidate): (Behaviour, Behaviour), thresholds: Thresholds) {
    let world = World { baseline, candidate, share: 0.3, labels: thresholds.accuracy_drop < 1.0 };
    let (failed, passed) =
        ever(&world, |baseline, candidate| analyse(baseline, candidate, &thresholds).verdict);
    assert!(failed <= thresholds.alpha, "false rollbacks: {failed}");
    assert!(passed <= thresholds.alpha, "false promotions: {passed}");
    documented(&format!("| {name} | {} | {} |", percent(failed), percent(passed)));
}

#[track_caller]
fn documented(line: &str) {
    let documentation = include_str!("../../../../../docs/analysis.md");
    assert!(documentation.contains(line), "docs/analysis.md should say {line}");
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[test]
fn errors_without_a_difference() {
    let thresholds = only(|limits| limits.error_rate_increase = 0.0);
    check("error rate 1 %, no difference, none allowed", (UNTIMED, UNTIMED), thresholds);
}

#[test]
fn errors_exactly_at_the_threshold() {
    let candidate = Behaviour { error_rate: UNTIMED.error_rate + 0.01, ..UNTIMED };
    let thresholds = only(|limits| limits.error_rate_increase = 0.01);
    check("error rate 1 % -> 2 %, one point allowed", (UNTIMED, candidate), thresholds);
}

#[test]
fn accuracy_without_a_difference() {
    let thresholds = only(|limits| limits.accuracy_drop = 0.0);
    check("accuracy 0.777, no difference, none allowed", (UNTIMED, UNTIMED), thresholds);
}

#[test]
fn accuracy_exactly_at_the_threshold() {
    let candidate = Behaviour { accuracy: UNTIMED.accuracy * 0.95, ..UNTIMED };
    let thresholds = only(|limits| limits.accuracy_drop = 0.05);
    check("accuracy 0.777 -> 0.738, 5 % allowed", (UNTIMED, candidate), thresholds);
}

#[test]
fn latency_without_a_difference() {
    let thresholds = only(|limits| limits.latency_increase = 1.0);
    check("latency, no difference, none allowed", (USUAL, USUAL), thresholds);
}

#[test]
fn latency_exactly_at_the_threshold() {
    let candidate = Behaviour { median_us: USUAL.median_us * 1.5, ..USUAL };
    let thresholds = only(|limits| limits.latency_increase = 1.5);
    check("latency x 1.5, 1.5 allowed", (USUAL, candidate), thresholds);
}

#[test]
fn a_version_like_the_running_one_is_not_rolled_back() {
    let world = World { baseline: USUAL, candidate: USUAL, share: 0.3, labels: true };
    let thresholds = Thresholds::default();
    let (failed, _) = ever(&world, |baseline, candidate| analyse(baseline, candidate, &thresholds).verdict);
    assert!(failed <= thresholds.alpha, "false rollbacks: {failed}");
    documented(&format!("| all metrics, no difference, default thresholds | {} | - |", percent(failed)));
}

#[test]
fn two_equal_arms_have_no_winner() {
    let world = World { baseline: UNTIMED, candidate: UNTIMED, share: 0.5, labels: true };
    let config = AbConfig { metric: AbMetric::Accuracy, minimum_samples: 1, ..AbConfig::default() };
    let (crowned, _) = ever(&world, |a, b| match compare_ab(a, b, &config).result {
        AbResult::Winner(_) => Verdict::Fail,
        AbResult::None | AbResult::Undecided => Verdict::Inconclusive,
    });
    assert!(crowned <= config.significance_level, "false winners: {crowned}");
}

/// The contrast, on the very same requests: a z-test of two rates at each look, one-sided at the same alpha.
#[test]
fn a_repeated_z_test_breaks_the_promise() {
    const Z_AT_5_PERCENT: f64 = 1.645;
    let behaviour = Behaviour { error_rate: 0.2, ..UNTIMED };
    let world = World { baseline: behaviour, candidate: behaviour, share: 0.3, labels: false };
    let naive = |baseline: &ArmSummary, candidate: &ArmSummary| {
        let (n0, n1) = (baseline.requests as f64, candidate.requests as f64);
        let pooled = (baseline.failures + candidate.failures) as f64 / (n0 + n1);
        let difference = candidate.failures as f64 / n1 - baseline.failures as f64 / n0;
        let z = difference / (pooled * (1.0 - pooled) * (1.0 / n0 + 1.0 / n1)).sqrt();
        if z > Z_AT_5_PERCENT { Verdict::Fail } else { Verdict::Inconclusive }
    };
    let thresholds = only(|limits| limits.error_rate_increase = 0.0);
    let (naive, _) = ever(&world, naive);
    let (ours, _) = ever(&world, |baseline, candidate| analyse(baseline, candidate, &thresholds).verdict);
    assert!(naive > 0.15, "{naive}");
    assert!(ours <= thresholds.alpha, "{ours}");
    documented(&format!("| error rate 20 %, no difference, none allowed | {} | - |", percent(ours)));
    documented(&format!("| the same requests, a z-test at each look | {} | - |", percent(naive)));
}
