//! Canary: growth on evidence.

use super::*;

#[test]
fn a_canary_grows_on_evidence_step_by_step() {
    let mut world = World::of(canary_plan(&[10, 50])).tested();
    assert_eq!((world.share(), world.rollout.status()), (10, DeploymentStatus::Deploying));
    world.compared(summary(20_000, 0), summary(2_000, 0));
    assert_eq!(world.share(), 10, "a pass does not shorten the step");
    world.wait(SignedDuration::from_mins(5));
    world.compared(summary(20_000, 0), summary(2_000, 0));
    assert_eq!(world.share(), 50);
    world.wait(SignedDuration::from_mins(5));
    world.compared(summary(5_000, 0), summary(5_000, 0));
    assert_eq!((world.share(), world.warm()), (100, vec!["old"]));
    world.wait(SignedDuration::from_mins(5));
    assert_eq!(world.rollout.status(), DeploymentStatus::Active);
    assert!(world.log.iter().any(|(_, message)| message.contains("50 % of the traffic")), "{:?}", world.log);
}

#[test]
fn a_canary_that_fails_is_rolled_back_in_the_middle_of_a_step() {
    let mut world = World::of(canary_plan(&[10])).tested();
    world.compared(summary(900, 1), summary(100, 60));
    assert_eq!((world.rollout.status(), world.share()), (DeploymentStatus::RolledBack, 0));
    assert_eq!(world.serving(), Some("old"));
    assert!(world.rollout.phase.cause().unwrap().contains("worse"), "{:?}", world.rollout.phase);
}

#[test]
fn no_traffic_is_not_success_and_ends_at_the_deadline() {
    let mut world = World::of(canary_plan(&[10])).tested();
    for _ in 0..11 {
        world.wait(SignedDuration::from_mins(5));
        world.compared(summary(0, 0), summary(0, 0));
    }
    assert_eq!(world.share(), 10, "held");
    let held = world.log.iter().filter(|(kind, _)| *kind == "held").count();
    assert_eq!(held, 1, "told once: {:?}", world.log);
    world.wait(SignedDuration::from_mins(5));
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::RolledBack, Some("old")));
}

#[test]
fn a_paused_canary_stays_where_it_is_but_a_failing_one_is_still_rolled_back() {
    let mut world = World::of(canary_plan(&[10])).tested();
    world.command(Command::Pause { by: "ada".to_owned() });
    for _ in 0..20 {
        world.wait(SignedDuration::from_mins(10));
        world.compared(summary(20_000, 0), summary(2_000, 0));
    }
    assert_eq!(world.share(), 10, "neither promoted nor overdue");
    let epoch = world.rollout.epoch;
    world.command(Command::Resume { by: "ada".to_owned() });
    assert_eq!(world.rollout.epoch, epoch, "the evidence is kept");
    world.compared(summary(20_000, 0), summary(2_000, 0));
    assert_eq!(world.share(), 100);

    let mut world = World::of(canary_plan(&[10])).tested();
    world.command(Command::Pause { by: "ada".to_owned() });
    world.compared(summary(900, 1), summary(100, 60));
    assert_eq!(world.rollout.status(), DeploymentStatus::RolledBack);
}

#[test]
fn a_person_may_promote_step_by_step() {
    let mut world = World::of(canary_plan(&[10, 50])).tested();
    for share in [50, 100] {
        world.command(Command::Promote { by: "ada".to_owned() });
        assert_eq!(world.share(), share);
    }
    world.command(Command::Promote { by: "ada".to_owned() });
    assert_eq!(world.rollout.status(), DeploymentStatus::Active);
}

#[test]
fn the_first_version_by_canary_switches_at_once() {
    let first = Plan { previous: None, ..canary_plan(&[10]) };
    let world = World::of(first).tested();
    assert_eq!((world.rollout.phase.clone(), world.share()), (Phase::Done, 100));
}
