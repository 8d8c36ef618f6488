//! A shadow's verdict, from what was compared.

use tidegate_core::ShadowSummary;
use tidegate_core::prediction::{Difference, OutputDifference};
use tidegate_delivery::{ShadowConfig, Verdict, compare_shadow};

use super::said;

/// `n` comparisons, of which a share differs altogether; the running version takes 20 ms.
fn compared(n: u64, n_differing: u64, candidate_us: u64) -> ShadowSummary {
    let mut summary = ShadowSummary::default();
    for i in 0..n {
        let difference = if i < n_differing { 1.0 } else { 0.0 };
        let outputs = vec![OutputDifference { name: "label".to_owned(), difference }];
        summary.compared(&Difference { difference, reason: None, outputs }, Some((20_000, candidate_us)));
    }
    summary
}

#[track_caller]
fn check(summary: &ShadowSummary, verdict: Verdict, says: &str) {
    let analysis = compare_shadow(summary, &ShadowConfig::default());
    assert_eq!(analysis.verdict, verdict, "{}", analysis.summary);
    assert!(said(&analysis).contains(says), "{}", said(&analysis));
}

#[test]
fn a_shadow_that_agrees_and_keeps_up_passes() {
    let says = "difference of predictions 5.00 %: shown to be 5.";
    check(&compared(10_000, 500, 22_000), Verdict::Pass, says);
    check(&compared(10_000, 0, 10_000), Verdict::Pass, "10000 comparisons, 0 of them not the same");
}

#[test]
fn no_or_little_traffic_is_not_success() {
    check(&ShadowSummary::default(), Verdict::Inconclusive, "no request has been mirrored");
    check(&compared(9_999, 0, 20_000), Verdict::Inconclusive, "9999 of 10000 comparisons");
    let mut shed = compared(10, 0, 20_000);
    (0..7).for_each(|_| shed.shed());
    check(&shed, Verdict::Inconclusive, "7 requests were not mirrored");
}

#[test]
fn a_bad_shadow_fails_before_the_samples_are_there() {
    check(&compared(40, 40, 20_000), Verdict::Fail, "difference of predictions 100.00 %: shown to be");
    check(&compared(2000, 400, 20_000), Verdict::Fail, "where 10.00 % is allowed");
    check(&compared(500, 0, 60_000), Verdict::Fail, "median latency 59.45 ms against 20.13 ms");
    let mut failing = compared(20, 0, 20_000);
    (0..20).for_each(|_| failing.failed());
    check(&failing, Verdict::Fail, "error rate where the running version answered 50.00 %");
}

#[test]
fn at_the_limit_nothing_is_decided() {
    check(&compared(20_000, 2000, 20_000), Verdict::Inconclusive, "not known well enough yet: 9.");
}

/// Not the share of what differs at all, but how much: masks are never quite the same.
#[test]
fn small_differences_everywhere_are_within_the_limit() {
    let mut summary = ShadowSummary::default();
    for _ in 0..10_000 {
        summary.compared(
            &Difference { difference: 0.03, reason: None, outputs: vec![] },
            Some((20_000, 20_000)),
        );
    }
    check(&summary, Verdict::Pass, "difference of predictions 3.00 %");
    assert_eq!(summary.differing, 10_000);
}

#[test]
fn what_is_not_limited_is_not_judged() {
    let config = ShadowConfig {
        prediction_difference_threshold: 1.0,
        error_rate_increase: 1.0,
        comparison_samples: 100,
        ..ShadowConfig::default()
    };
    let names = |config| {
        let analysis = compare_shadow(&compared(2000, 2000, 20_000), config);
        (analysis.verdict, analysis.metrics.into_iter().map(|metric| metric.metric).collect::<Vec<_>>())
    };
    assert_eq!(names(&config), (Verdict::Pass, vec!["latencyP50".to_owned(), "latencyP95".to_owned()]));
    let nothing = ShadowConfig { latency_increase: f64::INFINITY, ..config };
    assert_eq!(names(&nothing), (Verdict::Inconclusive, vec![]));
}

#[test]
fn replicas_and_windows_add_up() {
    let (early, late) = (compared(100, 10, 20_000), compared(50, 1, 30_000));
    let mut whole = ShadowSummary::default();
    whole.merge(&early);
    whole.merge(&late);
    whole.failed();
    let since = whole.since(&early);
    assert_eq!((since.mirrored, since.failures, since.n_compared(), since.differing), (51, 1, 50, 1));
    assert_eq!(since.candidate_latency, late.candidate_latency);
    assert!((since.outputs["label"].difference.mean().unwrap() - 0.02).abs() < 1e-9);
    let json = serde_json::to_string(&whole).unwrap();
    assert_eq!(serde_json::from_str::<ShadowSummary>(&json).unwrap(), whole);
}
