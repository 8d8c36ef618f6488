//! The user's own metrics: read in the direction that the user gives, held where they are missing.

use tidegate_core::Moments;
use tidegate_delivery::{Analysis, ArmSummary, CustomThreshold, Thresholds, Verdict, analyse};

use super::said;

/// `n` values around a mean, with a standard deviation of `spread`.
fn values(n: u64, mean: f64, spread: f64) -> Moments {
    Moments::of(n, mean, spread * spread * n.saturating_sub(1) as f64).expect("moments of some values")
}

fn arm(metric: Moments) -> ArmSummary {
    let mut arm = ArmSummary { requests: 2000, ..ArmSummary::default() };
    (0..2000).for_each(|_| arm.latency.record(20_000));
    arm.metrics.insert("m".to_owned(), metric);
    arm
}

fn judged(baseline: Moments, candidate: Moments, threshold: &str) -> Analysis {
    let threshold: CustomThreshold = serde_json::from_str(threshold).expect("a threshold");
    let limits = Thresholds { custom: [("m".to_owned(), threshold)].into(), ..Thresholds::default() };
    analyse(&arm(baseline), &arm(candidate), &limits)
}

#[track_caller]
fn check(baseline: Moments, candidate: Moments, threshold: &str, verdict: Verdict, says: &str) {
    let analysis = judged(baseline, candidate, threshold);
    assert_eq!(analysis.verdict, verdict, "{}", analysis.summary);
    assert!(said(&analysis).contains(says), "{}", said(&analysis));
}

#[test]
fn a_metric_gets_worse_in_the_direction_that_the_user_gives() {
    let at = |mean| values(2000, mean, 0.1);
    check(at(0.777), at(0.777), r#"{"drop": 0.05}"#, Verdict::Pass, "m 0.7770 against 0.7770: shown to be -");
    check(at(0.777), at(0.001), r#"{"drop": 0.05}"#, Verdict::Fail, "m 0.0010 against 0.7770: shown to be -");
    check(at(0.5), at(0.777), r#"{"drop": 0.05}"#, Verdict::Pass, "shown to be +");
    check(at(10.0), at(12.0), r#"{"increase": 0.1}"#, Verdict::Fail, "shown to be +19");
    check(at(10.0), at(8.0), r#"{"increase": 0.1}"#, Verdict::Pass, "where +10.0 % is allowed (2000 values)");
    check(at(-3.0), at(-9.0), r#"{"drop": 5, "absolute": true}"#, Verdict::Fail, "where -5.000 is allowed");
    check(at(-3.0), at(-9.0), r#"{"increase": 5, "absolute": true}"#, Verdict::Pass, "");
}

#[test]
fn a_share_of_what_is_not_above_zero_is_not_known() {
    let (negative, zero) = (values(2000, -3.0, 0.1), values(2000, 0.0, 0.1));
    for baseline in [negative, zero] {
        check(
            baseline,
            values(2000, -9.0, 0.1),
            r#"{"drop": 0.05}"#,
            Verdict::Inconclusive,
            "unknown to unknown",
        );
    }
}

#[test]
fn few_values_decide_nothing_unless_they_are_bounded() {
    let (many, few) = (values(2000, 0.777, 0.1), values(49, 0.001, 0.001));
    check(
        many,
        few,
        r#"{"drop": 0.05}"#,
        Verdict::Inconclusive,
        "49 of the 50 values that each version needs",
    );
    check(many, few, r#"{"drop": 0.05, "maximum": 1}"#, Verdict::Fail, "shown to be -");
    check(many, values(3, 0.001, 0.001), r#"{"drop": 0.05, "maximum": 1}"#, Verdict::Inconclusive, "");
}

/// The user asked for it by name: its silence is not consent.
#[test]
fn a_metric_that_nobody_posts_holds_the_rollout() {
    let (some, nothing) = (values(2000, 1.0, 0.1), Moments::default());
    let threshold = r#"{"drop": 0.05}"#;
    check(nothing, nothing, threshold, Verdict::Inconclusive, "m: no values of either version yet");
    check(some, nothing, threshold, Verdict::Inconclusive, "m: no values of the candidate yet");
    check(nothing, some, threshold, Verdict::Inconclusive, "m: no values of the running version yet");
}

#[test]
fn replicas_and_windows_of_a_metric_add_up() {
    let mut whole = arm(values(100, 1.0, 0.5));
    let early = whole.clone();
    whole.merge(&arm(values(300, 2.0, 0.5)));
    let late = whole.since(&early).metrics["m"];
    assert_eq!(late.count(), 300);
    assert!((late.mean().unwrap() - 2.0).abs() < 1e-9, "{late:?}");
    let json = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<ArmSummary>(&json).unwrap(), whole);
}

#[test]
fn the_customary_test_stands_beside() {
    let analysis = judged(values(100, 1.0, 0.5), values(100, 1.2, 0.5), r#"{"increase": 0.3}"#);
    let metric = analysis.metrics.iter().find(|metric| metric.metric == "m").unwrap();
    assert_eq!(metric.fixed_horizon.unwrap().test, "welch-t");
}
