//! What every strategy shares, seen with BlueGreen.

use super::*;

#[test]
fn the_good_path_switches_watches_keeps_blue_and_retires_it() {
    let mut world = World::new(Some("old"));
    world.send(EventKind::Start);
    assert_eq!(world.rollout.status(), DeploymentStatus::Validating);
    world.outcome(Outcome::Validated(good_report()));
    assert_eq!((world.serving(), world.warm()), (Some("old"), vec!["new"]), "loads beside what runs");
    world.outcome(Outcome::Loaded { detail: "in 0.1 s".to_owned() });
    assert_eq!(world.serving(), Some("old"), "no traffic before the smoke test");
    world.outcome(Outcome::SmokeTested { samples: 100, fault: None });
    assert_eq!((world.serving(), world.warm()), (Some("new"), vec!["old"]));
    assert_eq!(world.rollout.status(), DeploymentStatus::Deploying);
    world.wait(SignedDuration::from_mins(5));
    assert_eq!((world.rollout.status(), world.warm()), (DeploymentStatus::Active, vec!["old"]));
    world.wait(SignedDuration::from_mins(30));
    assert_eq!((world.rollout.phase.clone(), world.warm()), (Phase::Done, vec![]));
    let kinds: Vec<_> = world.log.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, ["validating", "validated", "loaded", "switched", "active", "retired"]);
}

#[test]
fn the_first_version_has_nothing_to_watch_against() {
    let world = World::switched(None);
    assert_eq!((world.rollout.phase.clone(), world.serving()), (Phase::Done, Some("new")));
}

#[test]
fn a_fault_before_the_switch_leaves_traffic_where_it_was() {
    type Fault = fn(&mut World);
    let failures: [(&str, Fault); 5] = [
        ("validation", |world| world.outcome(Outcome::Validated(ValidationReport::default()))),
        ("load", |world| {
            world.outcome(Outcome::Validated(good_report()));
            world.outcome(Outcome::LoadFailed { reason: "truncated".to_owned() });
        }),
        ("load timeout", |world| {
            world.outcome(Outcome::Validated(good_report()));
            world.wait(SignedDuration::from_mins(2));
        }),
        ("smoke test", |world| {
            world.outcome(Outcome::Validated(good_report()));
            world.outcome(Outcome::Loaded { detail: String::new() });
            world.outcome(Outcome::SmokeTested { samples: 3, fault: Some("NaN".to_owned()) });
        }),
        ("rollback", |world| {
            world.outcome(Outcome::Validated(good_report()));
            world.rollback();
        }),
    ];
    for (name, fail) in failures {
        let mut world = World::new(Some("old"));
        world.send(EventKind::Start);
        fail(&mut world);
        assert!(world.rollout.is_settled(), "{name}");
        assert_ne!(world.rollout.status(), DeploymentStatus::Active, "{name}");
        assert!(world.rollout.phase.cause().is_some_and(|cause| !cause.is_empty()), "{name}");
        assert_eq!((world.serving(), world.warm()), (Some("old"), vec![]), "{name}");
    }
}

#[test]
fn rollback_is_one_switch_while_the_previous_version_is_warm() {
    let mut world = World::switched(Some("old"));
    world.rollback();
    assert_eq!(world.rollout.status(), DeploymentStatus::RolledBack);
    assert_eq!((world.serving(), world.warm()), (Some("old"), vec![]));
    assert!(world.log.last().unwrap().1.contains("ada asked for a rollback: it looks wrong"));
}

#[test]
fn rollback_after_retirement_loads_the_previous_version_first() {
    let mut world = World::switched(Some("old"));
    world.wait(SignedDuration::from_mins(5));
    world.wait(SignedDuration::from_mins(30));
    world.rollback();
    assert_eq!((world.serving(), world.warm()), (Some("new"), vec!["old"]));
    world.outcome(Outcome::Loaded { detail: String::new() });
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::RolledBack, Some("old")));

    let mut world = World::switched(Some("old"));
    world.wait(SignedDuration::from_mins(5));
    world.wait(SignedDuration::from_mins(30));
    world.rollback();
    world.outcome(Outcome::LoadFailed { reason: "the file is gone".to_owned() });
    assert_eq!((world.rollout.phase.clone(), world.serving()), (Phase::Done, Some("new")));
}

#[test]
fn rolling_back_the_first_version_leaves_nothing_serving_and_says_so() {
    let mut world = World::switched(None);
    world.rollback();
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::RolledBack, None));
    assert!(world.log.last().unwrap().1.contains("nothing serves now"));
}

#[test]
fn a_failing_version_is_rolled_back_by_itself_but_not_on_thin_evidence() {
    let cases = [
        ((0, 0), false),
        ((1, 1), false),
        ((3, 3), true),
        ((100, 1), false),
        ((100, 10), true),
        ((100_000, 900), false),
    ];
    for ((requests, failures), expected) in cases {
        let mut world = World::switched(Some("old"));
        let (candidate, previous) = (summary(requests, failures), summary(100_000, 0));
        world.outcome(Outcome::Observed { candidate, previous });
        let is_back = world.rollout.status() == DeploymentStatus::RolledBack;
        assert_eq!(is_back, expected, "{failures} of {requests}: {:?}", world.log.last());
    }
}

/// Found by use: a canary had been shown no worse at 3 % failures on both sides, and the watch then rolled it back.
#[test]
fn a_version_that_fails_no_more_than_the_one_before_is_kept() {
    for (previous, expected) in [((2_000, 62), false), ((2_000, 2), true), ((0, 0), true)] {
        let mut world = World::switched(Some("old"));
        let (candidate, previous) = (summary(1_842, 55), summary(previous.0, previous.1));
        world.outcome(Outcome::Observed { candidate, previous });
        assert_eq!(
            world.rollout.status() == DeploymentStatus::RolledBack,
            expected,
            "{:?}",
            world.log.last()
        );
    }
}

#[test]
fn the_watch_judges_right_answers_but_not_the_latency_of_other_minutes() {
    let slow = |requests| {
        let mut slow = ArmSummary { requests, ..ArmSummary::default() };
        (0..requests).for_each(|_| slow.latency.record(90_000));
        slow
    };
    let mut world = World::switched(Some("old"));
    let previous = labelled(summary(5_000, 0), 500, 450);
    world.outcome(Outcome::Observed {
        candidate: labelled(slow(5_000), 500, 449),
        previous: previous.clone(),
    });
    assert_eq!(world.rollout.status(), DeploymentStatus::Deploying, "{:?}", world.log.last());
    world.outcome(Outcome::Observed { candidate: labelled(slow(5_000), 500, 20), previous });
    assert_eq!(world.rollout.status(), DeploymentStatus::RolledBack);
    assert!(world.rollout.phase.cause().unwrap().contains("accuracy"), "{:?}", world.rollout.phase);
}

/// Found by the simulation: a process died in the watch, and the one that took it up found the time gone and the watch over.
#[test]
fn a_watch_that_nobody_kept_begins_again() {
    let mut world = World::switched(Some("old"));
    world.at += SignedDuration::from_mins(30);
    world.send(EventKind::TakenUp);
    world.send(EventKind::Tick);
    assert_eq!(world.rollout.status(), DeploymentStatus::Deploying);
    world.wait(SignedDuration::from_mins(5));
    assert_eq!(world.rollout.status(), DeploymentStatus::Active);
}

#[test]
fn a_late_outcome_changes_nothing() {
    let mut world = World::new(Some("old"));
    world.send(EventKind::Start);
    let epoch = world.rollout.epoch;
    world.outcome(Outcome::Validated(good_report()));
    let before = world.rollout.clone();
    let late = EventKind::Outcome { epoch, outcome: Outcome::Validated(ValidationReport::default()) };
    assert_eq!(world.send(late), vec![]);
    assert_eq!(world.rollout, before);
}

#[test]
fn a_newer_deployment_takes_over_what_is_warm() {
    let mut world = World::switched(Some("old"));
    world.wait(SignedDuration::from_mins(5));
    world.send(EventKind::Superseded { by: DeploymentId::new("deploy-3") });
    assert_eq!((world.rollout.phase.clone(), world.warm()), (Phase::Done, vec!["old"]));
}

#[test]
fn approval_comes_from_somebody_else_before_anything_loads() {
    let mut world = World::of(Plan { needs_approval: true, ..plan(Some("old")) });
    world.send(EventKind::Start);
    world.outcome(Outcome::Validated(good_report()));
    assert_eq!((world.rollout.status(), world.warm()), (DeploymentStatus::AwaitingApproval, vec![]));
    world.command(Command::Approve { by: "ada".to_owned() });
    assert_eq!(world.rollout.status(), DeploymentStatus::AwaitingApproval, "not by the initiator");
    world.command(Command::Approve { by: "grace".to_owned() });
    assert_eq!((world.rollout.status(), world.warm()), (DeploymentStatus::Deploying, vec!["new"]));
}

#[test]
fn an_override_lets_a_failed_validation_pass_unless_there_is_nothing_to_serve() {
    let by_root = Override { by: "root".to_owned(), reason: "the sample is stale".to_owned() };
    let overridden = Plan { override_validation: Some(by_root), ..plan(Some("old")) };
    let mut inaccurate = good_report();
    inaccurate.check("accuracy", Err("0.5 of 0.9".to_owned()));
    let mut damaged = inaccurate.clone();
    damaged.require("load", Err("cut off".to_owned()));
    let validated = |plan: &Plan, report: &ValidationReport| {
        let mut world = World::of(plan.clone());
        world.send(EventKind::Start);
        world.outcome(Outcome::Validated(report.clone()));
        world
    };
    let world = validated(&overridden, &inaccurate);
    assert_eq!(world.rollout.status(), DeploymentStatus::Deploying);
    assert_eq!(
        world.log[1],
        ("overridden", "overridden by root: the sample is stale; failed: accuracy: 0.5 of 0.9".to_owned())
    );
    let world = validated(&Plan { needs_approval: true, ..overridden.clone() }, &inaccurate);
    assert_eq!(
        world.rollout.status(),
        DeploymentStatus::AwaitingApproval,
        "still for somebody else to approve"
    );
    let world = validated(&overridden, &good_report());
    assert_eq!(world.log.len(), 2, "nothing was overridden: {:?}", world.log);
    for report in [damaged, ValidationReport::default()] {
        let world = validated(&overridden, &report);
        assert_eq!(world.rollout.status(), DeploymentStatus::Failed, "{report:?}");
    }
    let world = validated(&plan(Some("old")), &inaccurate);
    assert_eq!(world.rollout.status(), DeploymentStatus::Failed);
}

#[test]
fn a_deployment_that_is_paused_before_its_turn_does_not_take_it() {
    let mut world = World::new(None);
    world.command(Command::Pause { by: "ada".to_owned() });
    world.send(EventKind::Start);
    assert_eq!(world.rollout.phase, Phase::Pending);
    world.command(Command::Resume { by: "ada".to_owned() });
    world.send(EventKind::Start);
    assert_eq!(world.rollout.phase, Phase::Validating);
}
