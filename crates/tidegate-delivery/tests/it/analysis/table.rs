//! How soon a decision comes, and how that compares with the fewest samples that any method could need: the table of
//! docs/analysis.md, which must be the one that is computed here.

use rand::{RngExt, SeedableRng};
use tidegate_core::ShadowSummary;
use tidegate_core::prediction::Difference;
use tidegate_delivery::analysis::ab::{AbConfig, AbMetric, AbResult, Variant};
use tidegate_delivery::{
    CustomThreshold, ShadowConfig, Thresholds, Verdict, analyse, compare_ab, compare_shadow,
};

use super::bounds::{self, fewest};
use super::world::{Behaviour, Looks, METRIC, Predicts, Rng, USUAL, Values, World, latency_us, watch};

/// Odd, so that the median is one of them.
const N_RUNS: usize = 41;

/// Looks at each tenth more; what is undecided after this many requests is held.
const LOOKS: Looks = Looks { first: 10, growth: 1.1, horizon: 60_000 };

/// The running version's requests for each of the candidate's, at 10 % of the traffic.
const RATIO: f64 = 9.0;

struct Row {
    name: &'static str,
    /// What must be decided, if anything; nothing else may.
    expected: Option<&'static str>,
    /// Of any method, where that is known.
    fewest: Option<f64>,
    run: Box<Run>,
}

/// From the seed: the candidate's samples at the decision, and what it was; at the last look where there was none.
type Run = dyn Fn(u64, Looks) -> (u64, Option<&'static str>);

fn canary(
    name: &'static str,
    world: World,
    limits: Thresholds,
    expected: Verdict,
    fewest: Option<f64>,
) -> Row {
    let run = move |seed, looks| {
        let mut decision = (0, None);
        watch(&world, seed, looks, |baseline, candidate| {
            decision = (candidate.requests, word(analyse(baseline, candidate, &limits).verdict));
            decision.1.is_none().then_some(())
        });
        decision
    };
    Row { name, expected: word(expected), fewest, run: Box::new(run) }
}

fn word(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Pass => Some("pass"),
        Verdict::Fail => Some("fail"),
        Verdict::Inconclusive => None,
    }
}

fn canaries() -> Vec<Row> {
    let usual = Thresholds::default;
    let strict = Thresholds { latency_increase: 1.2, ..usual() };
    let metric = |threshold: &str| {
        let threshold: CustomThreshold = serde_json::from_str(threshold).expect("a threshold");
        Thresholds { custom: [(METRIC.to_owned(), threshold)].into(), ..usual() }
    };
    let alike = World { baseline: USUAL, candidate: USUAL, share: 0.1, labels: false };
    let both = |behaviour: Behaviour| World { baseline: behaviour, candidate: behaviour, ..alike };
    let from_to = |baseline, candidate| World { baseline, candidate, ..alike };
    let failing = |error_rate| from_to(USUAL, Behaviour { error_rate, ..USUAL });
    let labelled = |accuracy| World { labels: true, ..from_to(USUAL, Behaviour { accuracy, ..USUAL }) };
    let slower = |factor: f64| from_to(USUAL, Behaviour { median_us: USUAL.median_us * factor, ..USUAL });
    let measured = |metric| Behaviour { metric, ..USUAL };
    let predicts = |predicts| Behaviour { predicts, ..USUAL };
    let (iou, ruined) = (Values::Share(0.777), Values::Share(0.001));
    let (classes, halves) = (Predicts::Class1(0.3), Predicts::LowerHalf(0.5));

    let more_errors = |from, to, ratio| fewest(bounds::two_rates(from, to, ratio, 0.99, |p| p + 0.01));
    let less_accurate = |to| fewest(bounds::two_rates(USUAL.accuracy, to, RATIO, 1.0, |p| 0.95 * p));
    let drift = |from, to| Some(fewest(bounds::two_classes(from, to, 0.3, RATIO)));
    // A pass is asked to wait for so many.
    let asked = |samples: f64| Some(samples.max(usual().minimum_samples as f64));
    use Verdict::{Fail, Inconclusive, Pass};
    vec![
        canary(
            "alike, no errors",
            both(Behaviour { error_rate: 0.0, ..USUAL }),
            usual(),
            Pass,
            asked(more_errors(0.0, 0.0, RATIO)),
        ),
        canary("alike, 1 % errors", alike, usual(), Pass, asked(more_errors(0.01, 0.01, RATIO))),
        canary(
            "alike, 1 % errors, half of the traffic",
            World { share: 0.5, ..alike },
            usual(),
            Pass,
            asked(more_errors(0.01, 0.01, 1.0)),
        ),
        canary(
            "alike, 1 % errors, accuracy 0.777 known",
            labelled(USUAL.accuracy),
            usual(),
            Pass,
            asked(more_errors(0.01, 0.01, RATIO)),
        ),
        canary(
            "alike, no errors, an IoU of 0.777 measured, 5 % allowed",
            both(Behaviour { error_rate: 0.0, ..measured(iou) }),
            metric(r#"{"drop": 0.05}"#),
            Pass,
            asked(more_errors(0.0, 0.0, RATIO)),
        ),
        canary(
            "the same, known to be at most 1",
            both(Behaviour { error_rate: 0.0, ..measured(iou) }),
            metric(r#"{"drop": 0.05, "maximum": 1}"#),
            Pass,
            asked(more_errors(0.0, 0.0, RATIO)),
        ),
        canary(
            "alike, no errors, two classes predicted",
            both(Behaviour { error_rate: 0.0, ..predicts(classes) }),
            usual(),
            Pass,
            asked(fewest(bounds::no_drift(0.3))),
        ),
        canary(
            "alike, no errors, numbers predicted",
            both(Behaviour { error_rate: 0.0, ..predicts(halves) }),
            usual(),
            Pass,
            asked(fewest(bounds::no_drift(0.3))),
        ),
        canary("errors 1 % -> 10 %", failing(0.1), usual(), Fail, Some(more_errors(0.01, 0.1, RATIO))),
        canary("every request fails", failing(1.0), usual(), Fail, Some(more_errors(0.01, 1.0, RATIO))),
        canary(
            "accuracy 0.777 -> 0.001 (banepa 1.2.0-bad)",
            labelled(0.001),
            usual(),
            Fail,
            Some(less_accurate(0.001)),
        ),
        canary("accuracy 0.777 -> 0.6", labelled(0.6), usual(), Fail, Some(less_accurate(0.6))),
        canary(
            "IoU 0.777 -> 0.001, known to be at most 1",
            from_to(measured(iou), measured(ruined)),
            metric(r#"{"drop": 0.05, "maximum": 1}"#),
            Fail,
            Some(fewest(bounds::shares(0.777, 0.001, 0.95, RATIO))),
        ),
        canary(
            "IoU 0.777 -> 0.001, nothing known about it",
            from_to(measured(iou), measured(ruined)),
            metric(r#"{"drop": 0.05}"#),
            Fail,
            None,
        ),
        canary(
            "IoU 0.777 -> 0.6, nothing known about it",
            from_to(measured(iou), measured(Values::Share(0.6))),
            metric(r#"{"drop": 0.05}"#),
            Fail,
            None,
        ),
        canary(
            "IoU 0.777 -> 0.6, known to be at most 1",
            from_to(measured(iou), measured(Values::Share(0.6))),
            metric(r#"{"drop": 0.05, "maximum": 1}"#),
            Fail,
            Some(fewest(bounds::shares(0.777, 0.6, 0.95, RATIO))),
        ),
        canary(
            "a cost of 1.0 -> 1.2, deviation 0.2, 5 % allowed",
            from_to(measured(Values::Normal(1.0)), measured(Values::Normal(1.2))),
            metric(r#"{"increase": 0.05}"#),
            Fail,
            Some(fewest(bounds::normal_means(1.0, 1.2, 1.05, RATIO))),
        ),
        canary(
            "class 1 for 30 % -> for all",
            from_to(predicts(classes), predicts(Predicts::Class1(1.0))),
            usual(),
            Fail,
            drift(0.3, 1.0),
        ),
        canary(
            "class 1 for 30 % -> for 70 %",
            from_to(predicts(classes), predicts(Predicts::Class1(0.7))),
            usual(),
            Fail,
            drift(0.3, 0.7),
        ),
        canary(
            "numbers: only the lower half of their range",
            from_to(predicts(halves), predicts(Predicts::LowerHalf(1.0))),
            usual(),
            Fail,
            drift(0.5, 1.0),
        ),
        canary("latency x 2", slower(2.0), usual(), Fail, Some(fewest(bounds::latencies(2.0, 1.5, RATIO)))),
        canary(
            "latency x 1.5, 1.2 allowed",
            slower(1.5),
            strict,
            Fail,
            Some(fewest(bounds::latencies(1.5, 1.2, RATIO))),
        ),
        canary("latency x 1.5, 1.5 allowed", slower(1.5), usual(), Inconclusive, None),
    ]
}

fn ab(
    name: &'static str,
    metric: AbMetric,
    (a, b): (Behaviour, Behaviour),
    expected: AbResult,
    fewest: Option<f64>,
) -> Row {
    let config = AbConfig { metric, minimum_samples: 1, ..AbConfig::default() };
    let world = World { baseline: a, candidate: b, share: 0.5, labels: metric == AbMetric::Accuracy };
    let run = move |seed, looks| {
        let mut decision = (0, None);
        watch(&world, seed, looks, |a, b| {
            decision = (b.requests, crowned(compare_ab(a, b, &config).result));
            decision.1.is_none().then_some(())
        });
        decision
    };
    Row { name, expected: crowned(expected), fewest, run: Box::new(run) }
}

fn crowned(result: AbResult) -> Option<&'static str> {
    match result {
        AbResult::Winner(Variant::A) => Some("A"),
        AbResult::Winner(Variant::B) => Some("B"),
        AbResult::None => Some("alike"),
        AbResult::Undecided => None,
    }
}

fn ab_tests() -> Vec<Row> {
    let untimed = Behaviour { median_us: 0.0, error_rate: 0.0, ..USUAL };
    let accurate = |accuracy| Behaviour { accuracy, ..untimed };
    let timed = |median_us| Behaviour { median_us, error_rate: 0.0, ..USUAL };
    let same_rate = |from, to| Some(fewest(bounds::two_rates(from, to, 1.0, 1.0, |p| p)));
    let median = |slower: f64| Some(fewest(bounds::latencies(slower, 1.0, 1.0)));
    use AbMetric::{Accuracy, Latency};
    let better = AbResult::Winner(Variant::B);
    vec![
        ab("A/B: accuracy 0.777, 0.85", Accuracy, (untimed, accurate(0.85)), better, same_rate(0.777, 0.85)),
        ab("A/B: accuracy alike to 5 %", Accuracy, (untimed, untimed), AbResult::None, None),
        ab("A/B: latency 20 ms, 16 ms", Latency, (timed(20_000.0), timed(16_000.0)), better, median(1.25)),
        ab("A/B: latency alike to 5 %", Latency, (timed(20_000.0), timed(20_000.0)), AbResult::None, None),
    ]
}

/// A request that differs with probability `differing`, and takes so many times as long.
fn shadow(
    name: &'static str,
    (differing, slower): (f64, f64),
    config: ShadowConfig,
    expected: Verdict,
    fewest: Option<f64>,
) -> Row {
    let run = move |seed, looks: Looks| {
        let mut rng = Rng::seed_from_u64(seed);
        let mut decision = (0, None);
        let send = |summary: &mut ShadowSummary| {
            let running_us = latency_us(20_000.0, &mut rng);
            let difference = f64::from(u8::from(rng.random::<f64>() < differing));
            let compared = Difference { difference, reason: None, outputs: vec![] };
            summary.compared(&compared, Some((running_us, (running_us as f64 * slower) as u64)));
        };
        looks.at(&mut ShadowSummary::default(), send, |summary| {
            decision = (summary.mirrored, word(compare_shadow(summary, &config).verdict));
            decision.1.is_none().then_some(())
        });
        decision
    };
    Row { name, expected: word(expected), fewest, run: Box::new(run) }
}

fn shadows() -> Vec<Row> {
    let usual = ShadowConfig::default();
    let any_number = ShadowConfig { comparison_samples: 1, ..usual };
    let differing = |share| Some(fewest(bounds::one_rate(share, 0.1)));
    use Verdict::{Fail, Pass};
    vec![
        shadow("shadow: another class for 2 %", (0.02, 1.0), usual, Pass, Some(10_000.0)),
        shadow("the same, without a minimum", (0.02, 1.0), any_number, Pass, differing(0.02)),
        shadow("shadow: another class for 20 %", (0.2, 1.0), usual, Fail, differing(0.2)),
        shadow("shadow: nothing in common", (1.0, 1.0), usual, Fail, differing(1.0)),
        shadow("shadow: latency x 2", (0.0, 2.0), usual, Fail, None),
    ]
}

#[test]
fn decisions_come_as_soon_as_the_documentation_says() {
    let mut lines = vec![
        "| case | decided | in | samples, median | 95 % within | fewest of any method |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend([canaries(), ab_tests(), shadows()].into_iter().flatten().map(|row| line(&row)));
    let table = lines.join("\n");
    println!("{table}");
    let documented = include_str!("../../../../../docs/analysis.md");
    assert!(documented.contains(&table), "the table of docs/analysis.md is not the one above: copy it there");
}

fn line(row: &Row) -> String {
    // At a threshold nothing is ever decided, and the looks at many samples are the dear ones.
    let horizon = if row.expected.is_none() { LOOKS.horizon / 8 } else { LOOKS.horizon };
    let decisions = (0..N_RUNS as u64).map(|seed| (row.run)(seed, Looks { horizon, ..LOOKS }));
    let mut samples: Vec<u64> = decisions
        .filter_map(|(samples, decision)| {
            assert!(decision.is_none() || decision == row.expected, "{}: {decision:?}", row.name);
            decision.map(|_| samples)
        })
        .collect();
    samples.sort_unstable();
    let within = |runs: usize| samples.get(runs).map_or("-".to_owned(), u64::to_string);
    format!(
        "| {} | {} | {:.0} % | {} | {} | {} |",
        row.name,
        row.expected.unwrap_or("nothing"),
        (if row.expected.is_some() { samples.len() } else { N_RUNS }) as f64 * 100.0 / N_RUNS as f64,
        within(N_RUNS / 2),
        within(N_RUNS * 95 / 100),
        row.fewest.map_or("-".to_owned(), |fewest| format!("{:.0}", fewest.ceil())),
    )
}
