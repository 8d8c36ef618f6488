//! The promise of the module, by simulation: however often one looks, a false verdict is as rare as `alpha` says.
//!
//! Most cases are the least favourable one, the candidate exactly as bad as its threshold allows: there both verdicts are
//! false, and each must stay below alpha over 2,000 seeded rollouts, looked at again and again and never stopped early.
//! With a threshold of zero that is "no difference at all". What is found stands in docs/analysis.md, line by line.

use rand::{RngExt, SeedableRng};
use tidegate_core::ShadowSummary;
use tidegate_core::prediction::Difference;
use tidegate_delivery::analysis::ab::{AbConfig, AbMetric, AbResult, Variant};
use tidegate_delivery::{
    ArmSummary, CustomThreshold, ShadowConfig, Thresholds, Verdict, analyse, compare_ab, compare_shadow,
};

use super::bounds::drifted;
use super::world::{Behaviour, Looks, METRIC, Predicts, Rng, USUAL, Values, World, normal, only, watch};

const N_RUNS: u64 = 2000;

const LOOKS: Looks = Looks { first: 10, growth: 1.4, horizon: 1500 };

/// Nobody times the requests where rates are judged.
const UNTIMED: Behaviour = Behaviour { median_us: 0.0, ..USUAL };

/// Shares of runs in which any look ever gave each of two verdicts.
fn ever(run: impl Fn(u64) -> (bool, bool)) -> (f64, f64) {
    let (mut n_first, mut n_second) = (0u32, 0u32);
    for seed in 0..N_RUNS {
        let (first, second) = run(seed);
        n_first += u32::from(first);
        n_second += u32::from(second);
    }
    (f64::from(n_first) / N_RUNS as f64, f64::from(n_second) / N_RUNS as f64)
}

/// Shares of runs in which the candidate was ever failed and ever passed.
fn ever_judged(world: &World, judge: impl Fn(&ArmSummary, &ArmSummary) -> Verdict) -> (f64, f64) {
    ever(|seed| {
        let mut seen = (false, false);
        watch(world, seed, LOOKS, |baseline, candidate| {
            note(&mut seen, judge(baseline, candidate));
            Some(())
        });
        seen
    })
}

fn note(seen: &mut (bool, bool), verdict: Verdict) {
    match verdict {
        Verdict::Fail => seen.0 = true,
        Verdict::Pass => seen.1 = true,
        Verdict::Inconclusive => {}
    }
}

/// Both verdicts are false here.
#[track_caller]
fn check(name: &str, (baseline, candidate): (Behaviour, Behaviour), thresholds: Thresholds) {
    let world = World { baseline, candidate, share: 0.3, labels: thresholds.accuracy_drop < 1.0 };
    let rates = ever_judged(&world, |baseline, candidate| analyse(baseline, candidate, &thresholds).verdict);
    check_rates(name, rates, thresholds.alpha);
}

#[track_caller]
fn check_rates(name: &str, (failed, passed): (f64, f64), alpha: f64) {
    assert!(failed <= alpha, "{name}: false rollbacks {failed}");
    assert!(passed <= alpha, "{name}: false promotions {passed}");
    documented(&format!("| {name} | {} | {} |", percent(failed), percent(passed)));
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "to be copied into the documentation")]
fn documented(line: &str) {
    println!("{line}");
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

/// A user's metric alone, with its threshold as it is written.
#[track_caller]
fn check_metric(name: &str, (baseline, candidate): (Values, Values), threshold: &str) {
    let threshold: CustomThreshold = serde_json::from_str(threshold).expect("a threshold");
    let thresholds = only(|limits| limits.custom = [(METRIC.to_owned(), threshold)].into());
    let with = |metric| Behaviour { metric, error_rate: 0.0, ..UNTIMED };
    check(name, (with(baseline), with(candidate)), thresholds);
}

#[test]
fn a_metric_without_a_difference() {
    let (normal, orders) = (Values::Normal(1.0), Values::Orders(1.0));
    check_metric("a metric, normal, no difference, no drop allowed", (normal, normal), r#"{"drop": 0}"#);
    check_metric("the same, no increase allowed", (normal, normal), r#"{"increase": 0}"#);
    let orders = (orders, orders);
    check_metric(
        "a metric like orders, 95 % zeros, no difference, no drop allowed",
        orders,
        r#"{"drop": 0}"#,
    );
    check_metric("the same, no increase allowed, absolute", orders, r#"{"increase": 0, "absolute": true}"#);
}

#[test]
fn a_metric_exactly_at_the_threshold() {
    let normal = (Values::Normal(1.0), Values::Normal(1.1));
    check_metric("a metric, normal, + 10 %, 10 % allowed", normal, r#"{"increase": 0.1}"#);
    let iou = (Values::Share(0.777), Values::Share(0.777 * 0.95));
    check_metric("IoU 0.777 -> 0.738, 5 % allowed", iou, r#"{"drop": 0.05}"#);
    check_metric("the same, known to be at most 1", iou, r#"{"drop": 0.05, "maximum": 1}"#);
    let orders = (Values::Orders(1.0), Values::Orders(0.8));
    check_metric("a metric like orders, - 20 %, 20 % allowed", orders, r#"{"drop": 0.2}"#);
}

/// Predictions alone.
#[track_caller]
fn check_drift(name: &str, (baseline, candidate): (Predicts, Predicts), limit: f64) {
    let with = |predicts| Behaviour { predicts, error_rate: 0.0, ..UNTIMED };
    check(name, (with(baseline), with(candidate)), only(|limits| limits.drift_score = limit));
}

#[test]
fn drift_without_a_difference() {
    let (classes, numbers) = (Predicts::Class1(0.3), Predicts::LowerHalf(0.5));
    check_drift("drift of two classes, no difference, none allowed", (classes, classes), 0.0);
    check_drift("drift of numbers, no difference, none allowed", (numbers, numbers), 0.0);
}

#[test]
fn drift_exactly_at_the_threshold() {
    let classes = (Predicts::Class1(0.3), Predicts::Class1(drifted(0.3, 0.3)));
    check_drift("drift of two classes by 0.3, 0.3 allowed", classes, 0.3);
    let rare = (Predicts::Class1(0.01), Predicts::Class1(drifted(0.01, 0.3)));
    check_drift("drift of a class of 1 % by 0.3, 0.3 allowed", rare, 0.3);
    let numbers = (Predicts::LowerHalf(0.5), Predicts::LowerHalf(drifted(0.5, 0.3)));
    check_drift("drift of numbers by 0.3, 0.3 allowed", numbers, 0.3);
}

#[test]
fn a_version_like_the_running_one_is_not_rolled_back() {
    let behaviour = Behaviour { metric: Values::Share(0.777), predicts: Predicts::Class1(0.3), ..USUAL };
    let world = World { baseline: behaviour, candidate: behaviour, share: 0.3, labels: true };
    let threshold: CustomThreshold = serde_json::from_str(r#"{"drop": 0.05}"#).expect("a threshold");
    let thresholds = Thresholds { custom: [(METRIC.to_owned(), threshold)].into(), ..Thresholds::default() };
    let (failed, _) =
        ever_judged(&world, |baseline, candidate| analyse(baseline, candidate, &thresholds).verdict);
    assert!(failed <= thresholds.alpha, "false rollbacks: {failed}");
    documented(&format!("| all metrics, no difference, default thresholds | {} | - |", percent(failed)));
}

/// What one mirrored request does: how the answers differ, whether the candidate fails, and how long both take.
fn mirror(summary: &mut ShadowSummary, rng: &mut Rng, difference: f64, error_rate: f64, slower: f64) {
    if rng.random::<f64>() < error_rate {
        return summary.failed();
    }
    // A large request is large for both versions: their latencies rise and fall together.
    let size_us = 20_000.0 * (0.5 * normal(rng)).exp();
    let mut took = |factor: f64| (size_us * factor * (0.1 * normal(rng)).exp()) as u64;
    let (running, candidate) = (took(1.0), took(slower));
    summary.compared(&Difference { difference, reason: None, outputs: vec![] }, Some((running, candidate)));
}

#[track_caller]
fn check_shadow(name: &str, config: ShadowConfig, send: impl Fn(&mut ShadowSummary, &mut Rng)) {
    let config = ShadowConfig { comparison_samples: 1, ..config };
    let rates = ever(|seed| {
        let mut rng = Rng::seed_from_u64(seed);
        let mut seen = (false, false);
        LOOKS.at(
            &mut ShadowSummary::default(),
            |summary| send(summary, &mut rng),
            |summary| {
                note(&mut seen, compare_shadow(summary, &config).verdict);
                Some(())
            },
        );
        seen
    });
    check_rates(name, rates, config.alpha);
}

const NOTHING_JUDGED: ShadowConfig = ShadowConfig {
    prediction_difference_threshold: 1.0,
    comparison_samples: 1,
    latency_increase: f64::INFINITY,
    error_rate_increase: 1.0,
    alpha: 0.05,
};

#[test]
fn a_shadow_exactly_at_the_threshold() {
    let differences = ShadowConfig { prediction_difference_threshold: 0.1, ..NOTHING_JUDGED };
    check_shadow("shadow: another class for 10 %, 10 % allowed", differences, |summary, rng| {
        let changed = f64::from(u8::from(rng.random::<f64>() < 0.1));
        mirror(summary, rng, changed, 0.0, 1.0);
    });
    check_shadow("shadow: masks with a mean IoU of 0.9, 0.9 allowed", differences, |summary, rng| {
        let difference = 1.0 - Values::share(0.9, rng.random());
        mirror(summary, rng, difference, 0.0, 1.0);
    });
    let errors = ShadowConfig { error_rate_increase: 0.01, ..NOTHING_JUDGED };
    check_shadow("shadow: it fails 1 %, 1 % allowed", errors, |summary, rng| {
        mirror(summary, rng, 0.0, 0.01, 1.0);
    });
    let latency = ShadowConfig { latency_increase: 1.5, ..NOTHING_JUDGED };
    check_shadow("shadow: latency x 1.5 on the same requests, 1.5 allowed", latency, |summary, rng| {
        mirror(summary, rng, 0.0, 0.0, 1.5);
    });
}

/// Shares of runs in which an arm that is not the better one was ever called the winner, and arms ever alike.
fn ever_compared(world: &World, config: &AbConfig, better: Option<Variant>) -> (f64, f64) {
    ever(|seed| {
        let mut seen = (false, false);
        watch(world, seed, LOOKS, |a, b| {
            match compare_ab(a, b, config).result {
                AbResult::Winner(winner) => seen.0 |= Some(winner) != better,
                AbResult::None => seen.1 = true,
                AbResult::Undecided => {}
            }
            Some(())
        });
        seen
    })
}

#[test]
fn two_arms_of_an_ab_test() {
    let slower = |factor: f64| Behaviour { median_us: USUAL.median_us * factor, ..USUAL };
    let accurate = |factor: f64| Behaviour { accuracy: UNTIMED.accuracy * factor, ..UNTIMED };
    use AbMetric::{Accuracy, Latency};
    let cases = [
        ("A/B: accuracy, equal arms", Accuracy, (UNTIMED, UNTIMED), None),
        ("A/B: accuracy, B worse by 5 %", Accuracy, (UNTIMED, accurate(0.95)), Some(Variant::A)),
        ("A/B: accuracy, B better by 5 %", Accuracy, (UNTIMED, accurate(1.05)), Some(Variant::B)),
        ("A/B: latency, equal arms", Latency, (USUAL, USUAL), None),
        ("A/B: latency, B slower by 5 %", Latency, (USUAL, slower(1.05)), Some(Variant::A)),
        ("A/B: latency, B faster by 5 %", Latency, (USUAL, slower(0.95)), Some(Variant::B)),
    ];
    for (name, metric, (baseline, candidate), better) in cases {
        let world = World { baseline, candidate, share: 0.5, labels: metric == Accuracy };
        let config = AbConfig { metric, minimum_samples: 1, ..AbConfig::default() };
        let (crowned, alike) = ever_compared(&world, &config, better);
        assert!(crowned <= config.significance_level, "{name}: false winners {crowned}");
        // That equal arms are called alike is right.
        let alike = better.map(|_| alike);
        assert!(
            alike.is_none_or(|alike| alike <= config.significance_level),
            "{name}: falsely alike {alike:?}"
        );
        let alike = alike.map_or("-".to_owned(), percent);
        documented(&format!("| {name} | {} | {alike} |", percent(crowned)));
    }
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
    let (naive, _) = ever_judged(&world, naive);
    let (ours, _) =
        ever_judged(&world, |baseline, candidate| analyse(baseline, candidate, &thresholds).verdict);
    assert!(naive > 0.15, "{naive}");
    assert!(ours <= thresholds.alpha, "{ours}");
    documented(&format!("| error rate 20 %, no difference, none allowed | {} | - |", percent(ours)));
    documented(&format!("| the same requests, a z-test at each look | {} | - |", percent(naive)));
}
