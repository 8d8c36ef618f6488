//! ABTesting: a winner, or none.

use super::*;

fn test(config: &Value) -> World {
    World::of(plan_of(StrategyKind::ABTesting, config)).tested()
}

#[test]
fn callers_are_split_and_stay_where_they_are() {
    let world = test(&json!({"splitRatio": 0.2, "stickyBy": "principal"}));
    assert_eq!((world.share(), world.serving()), (20, Some("old")));
    assert_eq!(world.route.as_ref().unwrap().sticky_by, tidegate_core::StickyBy::Principal);
    assert_eq!(world.rollout.phase.traffic_percentage(&world.rollout.plan), 20);
}

#[test]
fn the_winner_takes_it_all() {
    // Right answers of the running version and of the new one, of 3,000 each.
    for ((old, new), expected) in
        [((2_100, 2_700), Some("new")), ((2_700, 2_650), None), ((2_700, 2_100), Some("old"))]
    {
        let mut world = test(&json!({}));
        world.compared(labelled(summary(3_000, 0), 3_000, old), labelled(summary(3_000, 0), 3_000, new));
        match expected {
            Some("new") => {
                assert_eq!((world.serving(), world.share()), (Some("new"), 100));
                world.wait(SignedDuration::from_mins(5));
                assert_eq!(world.rollout.status(), DeploymentStatus::Active);
            }
            Some(_) => {
                assert_eq!(
                    (world.rollout.status(), world.serving()),
                    (DeploymentStatus::RolledBack, Some("old"))
                );
            }
            None => assert_eq!(world.share(), 50, "{:?}", world.log.last()),
        }
    }
}

#[test]
fn without_a_winner_the_running_version_stays() {
    let mut world = test(&json!({"duration": "P1D"}));
    world.compared(summary(0, 0), summary(0, 0));
    world.wait(SignedDuration::from_hours(24));
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::RolledBack, Some("old")));
    assert!(world.rollout.phase.cause().unwrap().contains("no version won"), "{:?}", world.rollout.phase);
}

#[test]
fn a_version_that_fails_its_callers_does_not_wait_for_the_contest() {
    let mut world = test(&json!({}));
    world.compared(summary(100, 0), summary(100, 60));
    assert_eq!(world.rollout.status(), DeploymentStatus::RolledBack);
}

#[test]
fn nothing_is_decided_below_the_minimum() {
    let mut world = test(&json!({"minimumSamples": 5_000}));
    world.compared(labelled(summary(3_000, 0), 3_000, 2_100), labelled(summary(3_000, 0), 3_000, 2_700));
    assert_eq!(world.share(), 50);
}

#[test]
fn without_a_running_version_there_is_no_contest() {
    let first = Plan { previous: None, ..plan_of(StrategyKind::ABTesting, &json!({})) };
    let world = World::of(first).tested();
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::Failed, None));
}
