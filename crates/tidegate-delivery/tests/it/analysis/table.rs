//! How soon a decision comes: the table of docs/analysis.md, which must be the one that is computed here.

use tidegate_delivery::{Thresholds, Verdict, analyse};

use super::world::{Behaviour, USUAL, World, watch};

/// Odd, so that the median is one of them.
const N_RUNS: usize = 41;

/// Looks at each tenth more; a rollout that is undecided after this many requests is held.
const LOOKS: (u64, f64, u64) = (10, 1.1, 60_000);

struct Row {
    name: &'static str,
    world: World,
    thresholds: Thresholds,
    expected: Verdict,
}

fn rows() -> Vec<Row> {
    let canary = World { baseline: USUAL, candidate: USUAL, share: 0.1, labels: false };
    let labelled = World { labels: true, ..canary };
    let half = World { share: 0.5, ..canary };
    let no_errors = Behaviour { error_rate: 0.0, ..USUAL };
    let slower = |factor: f64| Behaviour { median_us: USUAL.median_us * factor, ..USUAL };
    let wrong = Behaviour { accuracy: 0.001, ..USUAL };
    let usual = Thresholds::default;
    let strict = Thresholds { latency_increase: 1.2, ..usual() };
    let row = |name, world, thresholds, expected| Row { name, world, thresholds, expected };
    use Verdict::{Fail, Inconclusive, Pass};
    vec![
        row("alike, no errors", World { baseline: no_errors, candidate: no_errors, ..canary }, usual(), Pass),
        row("alike, 1 % errors", canary, usual(), Pass),
        row("alike, 1 % errors, half of the traffic", half, usual(), Pass),
        row("alike, 1 % errors, accuracy 0.777 known", labelled, usual(), Pass),
        row(
            "errors 1 % -> 10 %",
            World { candidate: Behaviour { error_rate: 0.1, ..USUAL }, ..canary },
            usual(),
            Fail,
        ),
        row(
            "every request fails",
            World { candidate: Behaviour { error_rate: 1.0, ..USUAL }, ..canary },
            usual(),
            Fail,
        ),
        row(
            "accuracy 0.777 -> 0.001 (banepa 1.2.0-bad)",
            World { candidate: wrong, ..labelled },
            usual(),
            Fail,
        ),
        row(
            "accuracy 0.777 -> 0.6",
            World { candidate: Behaviour { accuracy: 0.6, ..USUAL }, ..labelled },
            usual(),
            Fail,
        ),
        row("latency x 2", World { candidate: slower(2.0), ..canary }, usual(), Fail),
        row("latency x 1.5, 1.2 allowed", World { candidate: slower(1.5), ..canary }, strict, Fail),
        row("latency x 1.5, 1.5 allowed", World { candidate: slower(1.5), ..canary }, usual(), Inconclusive),
    ]
}

/// Candidate's requests at the decision, and the decision; the run's last look where there was none.
fn decide(row: &Row, seed: u64) -> (u64, Verdict) {
    let mut decision = (0, Verdict::Inconclusive);
    // At the threshold nothing is ever decided, and the looks at many samples are the dear ones.
    let horizon = if row.expected == Verdict::Inconclusive { LOOKS.2 / 8 } else { LOOKS.2 };
    watch(&row.world, seed, (LOOKS.0, LOOKS.1, horizon), |baseline, candidate| {
        decision = (candidate.requests, analyse(baseline, candidate, &row.thresholds).verdict);
        (decision.1 == Verdict::Inconclusive).then_some(())
    });
    decision
}

#[test]
fn decisions_come_as_soon_as_the_documentation_says() {
    let documented = include_str!("../../../../../docs/analysis.md");
    let mut lines = vec![
        "| candidate against the running version | pass | fail | held | samples, median | nine in ten within |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    for row in rows() {
        let mut decisions: Vec<_> = (0..N_RUNS as u64).map(|seed| decide(&row, seed)).collect();
        decisions.sort_unstable_by_key(|(samples, _)| *samples);
        let share = |verdict| {
            let n = decisions.iter().filter(|(_, decision)| *decision == verdict).count();
            format!("{:.0} %", n as f64 * 100.0 / N_RUNS as f64)
        };
        let (median, most) = (decisions[N_RUNS / 2], decisions[N_RUNS * 9 / 10]);
        assert_eq!(median.1, row.expected, "{}", row.name);
        let samples = match row.expected {
            Verdict::Inconclusive => ["-".to_owned(), "-".to_owned()],
            _ => [median.0.to_string(), most.0.to_string()],
        };
        lines.push(format!(
            "| {} | {} | {} | {} | {} | {} |",
            row.name,
            share(Verdict::Pass),
            share(Verdict::Fail),
            share(Verdict::Inconclusive),
            samples[0],
            samples[1]
        ));
    }
    let table = lines.join("\n");
    println!("{table}");
    assert!(documented.contains(&table), "the table of docs/analysis.md is not the one above: copy it there");
}
