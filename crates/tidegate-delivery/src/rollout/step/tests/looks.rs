//! What people who watch are shown: it says what is so, and decides nothing.

use super::*;
use crate::analysis::Verdict;
use crate::rollout::Look;

fn minutes(minutes: i64) -> Option<Timestamp> {
    Some(Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes))
}

#[test]
fn each_phase_is_told_in_words_and_in_time() {
    let of = |kind, config| World::of(plan_of(kind, &config));
    let mut rolling = of(StrategyKind::Rolling, json!({})).tested();
    rolling.inspected(&["a", "b", "c"]);
    let mut promotable = of(StrategyKind::Shadow, json!({})).tested();
    promotable.outcome(Outcome::Mirrored(compared(20_000, 100)));
    let mut kept = World::switched(Some("old"));
    kept.wait(SignedDuration::from_mins(5));
    // The world, its words, since when, not before, and the end, in minutes.
    let cases = [
        (World::new(Some("old")), "waiting for its turn", None, None, None),
        (
            of(StrategyKind::Canary, json!({"steps": [25, 50]})).tested(),
            "step 1 of 3: compared at 25 %",
            minutes(0),
            minutes(5),
            minutes(60),
        ),
        (
            of(StrategyKind::ABTesting, json!({"splitRatio": 0.2, "duration": "PT2H"})).tested(),
            "tested with 20 % of the callers",
            minutes(0),
            None,
            minutes(120),
        ),
        (
            of(StrategyKind::Shadow, json!({"shadowPercentage": 30})).tested(),
            "answering copies of 30 %",
            minutes(0),
            minutes(5),
            minutes(24 * 60),
        ),
        (promotable, "waiting for somebody to promote it", None, None, minutes(24 * 60)),
        (rolling, "1 of 3 servers have moved", minutes(0), minutes(1), minutes(60)),
        (World::switched(Some("old")), "all traffic, being watched", None, minutes(5), None),
        (kept, "active; the previous version stays warm", None, minutes(35), None),
        (World::switched(None), "active", None, None, None),
    ];
    for (world, words, since, not_before, deadline) in cases {
        let outlook = world.rollout.outlook();
        assert!(outlook.description.contains(words), "{outlook:?}");
        let times = (outlook.since, outlook.not_before, outlook.deadline);
        assert_eq!(times, (since, not_before, deadline), "{words}");
    }
}

#[test]
fn a_look_says_what_the_step_made_of_it() {
    let (good, bad) = (summary(10_000, 0), summary(3_000, 1_000));
    let mut world = World::of(canary_plan(&[25])).tested();
    let outcome = Outcome::Compared { baseline: good.clone(), candidate: bad.clone() };
    let look = Look::of(&world.rollout, &outcome, world.at).unwrap();
    assert_eq!((look.phase, look.baseline.requests, look.candidate.failures), ("Shifting", 10_000, 1_000));
    let analysis = look.analysis.unwrap();
    assert_eq!(analysis.verdict, Verdict::Fail);
    world.outcome(outcome.clone());
    let cause = world.rollout.phase.cause().unwrap();
    assert!(cause.contains(&analysis.summary), "{cause}");
    assert_eq!(Look::of(&world.rollout, &outcome, world.at), None, "it came too late");

    let world = World::of(plan_of(StrategyKind::ABTesting, &json!({}))).tested();
    let look = Look::of(&world.rollout, &outcome, world.at).unwrap();
    assert!(look.comparison.is_some() && look.analysis.is_some(), "{look:?}");
    let mut world = World::switched(Some("old"));
    let observed = Outcome::Observed { candidate: bad, previous: good };
    let look = Look::of(&world.rollout, &observed, world.at).unwrap();
    assert_eq!((look.candidate.requests, look.analysis.unwrap().verdict), (3_000, Verdict::Fail));
    world.outcome(observed);
    assert_eq!(world.rollout.status(), DeploymentStatus::RolledBack);
}

#[test]
fn a_look_at_copies_counts_what_the_running_version_answered() {
    let world = World::of(plan_of(StrategyKind::Shadow, &json!({}))).tested();
    let copies = ShadowSummary { failures: 2, ..compared(100, 3) };
    let n_mirrored = copies.mirrored;
    let look = Look::of(&world.rollout, &Outcome::Mirrored(copies), world.at).unwrap();
    assert_eq!((look.baseline.requests, look.baseline.failures), (n_mirrored, 0));
    assert_eq!((look.candidate.requests, look.candidate.failures), (n_mirrored, 2));
}
