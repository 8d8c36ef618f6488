//! Rolling: replica by replica.

use super::*;

fn rolling(config: &Value) -> World {
    World::of(plan_of(StrategyKind::Rolling, config)).tested()
}

const WAIT: SignedDuration = SignedDuration::from_mins(1);

#[test]
fn replicas_move_one_by_one_each_after_a_healthy_wait() {
    let mut world = rolling(&json!({}));
    world.inspected(&["a", "b", "c"]);
    assert_eq!((world.moved(), world.serving()), (vec!["a"], Some("old")));
    world.inspected(&["a+", "b", "c"]);
    assert_eq!(world.moved(), ["a"], "health does not shorten the wait");
    for moved in [vec!["a", "b"], vec!["a", "b", "c"]] {
        world.wait(WAIT);
        world.inspected(&["a+", "b+", "c+"]);
        assert_eq!(world.moved(), moved);
    }
    assert_eq!(world.rollout.phase.traffic_percentage(&world.rollout.plan), 100);
    world.wait(WAIT);
    world.inspected(&["a+", "b+", "c+"]);
    assert_eq!((world.serving(), world.warm(), world.moved()), (Some("new"), vec!["old"], vec![]));
    world.wait(SignedDuration::from_mins(5));
    assert_eq!(world.rollout.status(), DeploymentStatus::Active);
}

#[test]
fn a_replica_that_joins_late_moves_too_and_batches_have_their_size() {
    let mut world = rolling(&json!({"batchSize": 2, "waitDuration": "PT0S"}));
    world.inspected(&["a", "b", "c"]);
    world.inspected(&["a+", "b+", "c", "d"]);
    assert_eq!(world.moved(), ["a", "b", "c", "d"]);
    world.inspected(&["a+", "b+", "c+", "d+"]);
    assert_eq!(world.serving(), Some("new"));
}

#[test]
fn more_failed_looks_than_allowed_roll_back_and_the_log_names_the_replica() {
    let mut world = rolling(&json!({"maxFailures": 1}));
    world.inspected(&["a", "b"]);
    world.wait(WAIT);
    world.inspected(&["a!", "b"]);
    assert_eq!((world.moved(), world.log.last().unwrap().0), (vec!["a"], "unhealthy"));
    world.inspected(&["a!", "b"]);
    assert_eq!(world.rollout.status(), DeploymentStatus::Deploying, "looked at again only after the wait");
    world.wait(WAIT);
    world.inspected(&["a!", "b"]);
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::RolledBack, Some("old")));
    assert!(
        world.rollout.phase.cause().unwrap().contains("a: it does not load"),
        "{:?}",
        world.rollout.phase
    );
}

/// A version that kills its process leaves no report of a failure, only a replica that is gone.
#[test]
fn replicas_that_die_of_the_new_version_count_as_failures() {
    let mut world = rolling(&json!({"maxFailures": 1, "waitDuration": "PT0S"}));
    world.inspected(&["a", "b"]);
    world.inspected(&["b", "a2"]);
    assert_eq!(world.log.last().unwrap().0, "unhealthy");
    world.inspected(&["b", "a2"]);
    assert_eq!(world.moved(), ["b"], "the others are tried");
    world.inspected(&["a2", "b2"]);
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::RolledBack, Some("old")));
}

#[test]
fn a_worse_version_is_rolled_back_in_the_middle_of_the_replicas() {
    let mut world = rolling(&json!({}));
    world.inspected(&["a", "b"]);
    let replicas = vec![];
    let (baseline, candidate) = (summary(500, 1), summary(200, 150));
    world.outcome(Outcome::Inspected { replicas, baseline, candidate });
    assert_eq!((world.rollout.status(), world.moved()), (DeploymentStatus::RolledBack, vec![]));
}

#[test]
fn nobody_moves_while_it_is_paused_or_no_replica_reports() {
    let mut world = rolling(&json!({"progressDeadline": "PT10M"}));
    world.inspected(&[]);
    world.command(Command::Pause { by: "ada".to_owned() });
    world.inspected(&["a"]);
    assert_eq!(world.moved(), Vec::<&str>::new());
    world.command(Command::Resume { by: "ada".to_owned() });
    world.wait(SignedDuration::from_mins(10));
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::RolledBack, Some("old")));
}

#[test]
fn a_person_may_move_the_rest_at_once() {
    let mut world = rolling(&json!({}));
    world.inspected(&["a", "b", "c"]);
    world.command(Command::Promote { by: "ada".to_owned() });
    assert_eq!((world.serving(), world.moved()), (Some("new"), vec![]));
}
