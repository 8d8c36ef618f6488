//! What others fell into, a case each.

use tidegate_core::summary::WARM_UP_ANSWERS;
use tidegate_core::values::Observed;
use tidegate_delivery::analysis::ab::{AbConfig, AbMetric, AbResult, Variant};
use tidegate_delivery::{ArmSummary, Thresholds, Verdict, analyse, compare_ab};

use super::said;

/// `n` requests, of which some failed and the others all took as long.
fn arm(n: u64, failures: u64, duration_us: u64) -> ArmSummary {
    let mut arm = ArmSummary { requests: n, failures, ..ArmSummary::default() };
    (0..n - failures).for_each(|_| arm.latency.record(duration_us));
    arm
}

fn labelled(n: u64, correct: u64) -> ArmSummary {
    ArmSummary { labelled: n, correct, ..arm(n, 0, 20_000) }
}

#[track_caller]
fn check(baseline: &ArmSummary, candidate: &ArmSummary, verdict: Verdict, says: &str) {
    let analysis = analyse(baseline, candidate, &Thresholds::default());
    assert_eq!(analysis.verdict, verdict, "{}", analysis.summary);
    assert!(said(&analysis).contains(says), "{}", said(&analysis));
}

#[test]
fn no_traffic_is_not_success() {
    let nothing = ArmSummary::default();
    check(&nothing, &nothing, Verdict::Inconclusive, "no request has reached the candidate");
    check(&arm(100_000, 0, 20_000), &nothing, Verdict::Inconclusive, "no request has reached the candidate");
}

#[test]
fn without_a_baseline_nothing_is_compared() {
    let nothing = ArmSummary::default();
    check(&nothing, &arm(100_000, 0, 20_000), Verdict::Inconclusive, "nothing to compare with");
    check(&nothing, &arm(100_000, 100_000, 20_000), Verdict::Inconclusive, "nothing to compare with");
}

#[test]
fn one_slow_request_does_not_decide() {
    let mut candidate = arm(2, 0, 20_000);
    candidate.merge(&arm(1, 0, 600_000_000));
    check(&arm(100_000, 1000, 20_000), &candidate, Verdict::Inconclusive, "3 of 1000 samples");
    let failed = arm(3, 1, 20_000);
    check(&arm(100_000, 1000, 20_000), &failed, Verdict::Inconclusive, "3 of 1000 samples");
}

/// Four times as slow until the caches are full, then as fast as the running version.
#[test]
fn minutes_of_warming_up_are_not_counted() {
    let mut candidate = ArmSummary::default();
    (0..WARM_UP_ANSWERS).for_each(|_| candidate.answered(80_000, &[]));
    assert_eq!((candidate.requests, candidate.latency.count()), (WARM_UP_ANSWERS, 0));
    (0..68).for_each(|_| candidate.answered(20_000, &[]));
    let says = "not known well enough yet";
    check(&arm(1000, 0, 20_000), &candidate, Verdict::Inconclusive, says);
    let mut counted = arm(WARM_UP_ANSWERS, 0, 80_000);
    counted.merge(&arm(68, 0, 20_000));
    check(&arm(1000, 0, 20_000), &counted, Verdict::Fail, "95th percentile latency");
}

/// A failure while warming up is a failure.
#[test]
fn failing_while_warming_up_is_counted() {
    let mut candidate = ArmSummary::default();
    (0..20).for_each(|_| candidate.failed());
    check(&arm(200, 0, 20_000), &candidate, Verdict::Fail, "error rate 100.00 %");
}

/// All that the running version has ever answered says that 30 ms are slow. In these minutes it takes as long itself.
#[test]
fn a_baseline_of_last_week_does_not_count() {
    let last_week = arm(100_000, 0, 10_000);
    let mut until_now = last_week.clone();
    until_now.merge(&arm(20_000, 0, 30_000));
    let candidate = arm(2000, 0, 30_000);
    check(&until_now, &candidate, Verdict::Fail, "median latency 29.72 ms against 10.06 ms");
    check(
        &until_now.since(&last_week),
        &candidate,
        Verdict::Pass,
        "median latency 29.72 ms against 29.72 ms",
    );
}

/// Predictions of one version only are nothing to compare, and the same predictions are no drift.
#[test]
fn drift_needs_both_versions() {
    let predicting = |n: u64, class: usize| {
        let mut arm = arm(n, 0, 20_000);
        let histogram = arm.predictions.outputs.entry("label".to_owned()).or_default();
        (0..n).for_each(|i| histogram.record(Observed::Class(if i % 2 == 0 { class } else { 0 })));
        arm
    };
    let (baseline, candidate) = (predicting(20_000, 1), predicting(2000, 1));
    let says = "drift of `label`: no predictions of the candidate yet";
    check(&baseline, &arm(2000, 0, 20_000), Verdict::Inconclusive, says);
    check(&arm(20_000, 0, 20_000), &candidate, Verdict::Inconclusive, "of the running version yet");
    check(&baseline, &candidate, Verdict::Pass, "drift of `label` 0.000 (PSI 0.00");
    check(&baseline, &predicting(2000, 2), Verdict::Fail, "drift of `label` 3.9");
    check(&baseline, &predicting(12, 2), Verdict::Inconclusive, "12 of 1000 samples");
    let anything = Thresholds { drift_score: 8.0, ..Thresholds::default() };
    assert_eq!(analyse(&baseline, &predicting(2000, 2), &anything).verdict, Verdict::Pass);
}

#[test]
fn few_samples_hold_even_when_everything_is_well() {
    let limits = Thresholds { minimum_samples: 1_000_000, ..Thresholds::default() };
    let analysis = analyse(&arm(500_000, 0, 20_000), &arm(312_000, 0, 20_000), &limits);
    assert_eq!(analysis.verdict, Verdict::Inconclusive);
    assert_eq!(analysis.summary, "312000 of 1000000 samples");
}

#[test]
fn a_bad_version_fails_before_the_minimum() {
    let says = "error rate 100.00 % against 0.00 %: shown to be";
    check(&arm(200, 0, 20_000), &arm(20, 20, 20_000), Verdict::Fail, says);
    check(&labelled(200, 155), &labelled(20, 0), Verdict::Fail, "accuracy 0.00 % against 77.50 %");
    check(&arm(9000, 90, 20_000), &arm(500, 5, 60_000), Verdict::Fail, "median latency");
}

#[test]
fn ground_truth_of_one_version_only_holds() {
    let (mut baseline, mut candidate) = (labelled(60_000, 48_000), arm(6000, 0, 20_000));
    check(
        &baseline,
        &candidate,
        Verdict::Inconclusive,
        "accuracy: no labelled predictions of the candidate yet",
    );
    (candidate.labelled, candidate.correct) = (6000, 4800);
    check(&baseline, &candidate, Verdict::Pass, "accuracy");
    (baseline.labelled, baseline.correct) = (0, 0);
    check(&baseline, &candidate, Verdict::Inconclusive, "of the running version yet");
}

#[test]
fn worse_near_the_threshold_is_said_and_not_decided() {
    let (baseline, candidate) = (arm(90_000, 900, 20_000), arm(10_000, 195, 20_000));
    check(&baseline, &candidate, Verdict::Inconclusive, "worse, but not yet shown to be beyond the limit");
}

#[test]
fn a_threshold_that_allows_anything_takes_its_metric_out() {
    let (baseline, candidate) = (labelled(9000, 7000), labelled(1000, 0));
    let limits = Thresholds { accuracy_drop: 1.0, ..Thresholds::default() };
    assert_eq!(analyse(&baseline, &candidate, &limits).verdict, Verdict::Pass);
    let nothing_judged = Thresholds { error_rate_increase: 1.0, latency_increase: f64::INFINITY, ..limits };
    let analysis = analyse(&baseline, &candidate, &nothing_judged);
    assert_eq!(analysis.verdict, Verdict::Inconclusive);
    assert!(analysis.summary.contains("no metric is judged"), "{}", analysis.summary);
}

#[test]
fn replicas_add_up_to_the_same_verdict() {
    let replica = arm(450, 4, 20_000);
    let mut merged = ArmSummary::default();
    (0..10).for_each(|_| merged.merge(&replica));
    assert_eq!(merged, arm(4500, 40, 20_000));
    let json = serde_json::to_string(&merged).unwrap();
    assert_eq!(serde_json::from_str::<ArmSummary>(&json).unwrap(), merged);
}

#[test]
fn the_customary_test_is_beside_and_the_evidence_is_json() {
    let analysis = analyse(&arm(900, 9, 20_000), &arm(100, 4, 30_000), &Thresholds::default());
    let errors = &analysis.metrics[0];
    assert_eq!(errors.metric, "errorRate");
    assert!(errors.fixed_horizon.unwrap().p_value < 0.05, "{errors:?}");
    assert_eq!(errors.verdict, Verdict::Inconclusive, "and decides nothing");
    let json = serde_json::to_value(&analysis).unwrap();
    assert_eq!(json["metrics"][0]["fixedHorizon"]["test"], "chi-square");
    assert_eq!(json["verdict"], "inconclusive");
}

#[test]
fn impossible_counts_and_thresholds_do_not_panic() {
    let broken = ArmSummary { requests: 3, failures: 9, labelled: 1, correct: u64::MAX, ..arm(3, 0, 1) };
    for alpha in [0.0, 1.0, 2.0, -1.0, f64::NAN] {
        let limits =
            Thresholds { alpha, accuracy_drop: f64::NAN, minimum_samples: 0, ..Thresholds::default() };
        analyse(&broken, &broken, &limits);
        analyse(&broken, &ArmSummary::default(), &limits);
    }
}

#[test]
fn ab_names_the_better_arm_or_none_and_waits_for_samples() {
    let config = |metric| AbConfig { metric, ..AbConfig::default() };
    let accuracy = config(AbMetric::Accuracy);
    let result = |a: &ArmSummary, b: &ArmSummary, config: &AbConfig| compare_ab(a, b, config).result;
    let (good, bad) = (labelled(5000, 4500), labelled(5000, 4000));
    assert_eq!(result(&good, &bad, &accuracy), AbResult::Winner(Variant::A));
    assert_eq!(result(&bad, &good, &accuracy), AbResult::Winner(Variant::B));
    assert_eq!(result(&good, &good, &accuracy), AbResult::None);
    assert_eq!(result(&labelled(900, 900), &labelled(900, 0), &accuracy), AbResult::Undecided);
    let close = compare_ab(&labelled(1500, 1200), &labelled(1500, 1230), &accuracy);
    assert_eq!(close.result, AbResult::Undecided, "{}", close.message);

    let latency = config(AbMetric::Latency);
    let (fast, slow) = (arm(2000, 0, 10_000), arm(2000, 0, 13_000));
    assert_eq!(result(&fast, &slow, &latency), AbResult::Winner(Variant::A));
    assert_eq!(result(&slow, &fast, &latency), AbResult::Winner(Variant::B));
    assert_eq!(result(&fast, &fast, &latency), AbResult::None);
    assert_eq!(result(&ArmSummary::default(), &ArmSummary::default(), &latency), AbResult::Undecided);
}
