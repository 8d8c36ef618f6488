//! Shadow: copies, and a person who decides.

use super::*;

fn shadow(config: &Value) -> World {
    World::of(plan_of(StrategyKind::Shadow, config)).tested()
}

fn mirrored(world: &mut World, n_compared: u64, differing: u64) {
    world.outcome(Outcome::Mirrored(compared(n_compared, differing)));
}

#[test]
fn copies_go_to_the_new_version_and_traffic_stays() {
    let world = shadow(&json!({"shadowPercentage": 30}));
    let route = world.route.as_ref().unwrap();
    assert_eq!((world.serving(), world.warm(), world.share()), (Some("old"), vec!["new"], 0));
    assert_eq!(route.shadow.as_ref().map(|shadow| shadow.share), Some(3_000));
    assert_eq!(world.rollout.phase.traffic_percentage(&world.rollout.plan), 0);
}

#[test]
fn what_passed_waits_for_a_person_and_is_let_go_of_without_one() {
    let mut world = shadow(&json!({"progressDeadline": "PT1H"}));
    mirrored(&mut world, 20_000, 100);
    assert_eq!(world.rollout.status(), DeploymentStatus::AwaitingApproval);
    assert!(world.route.as_ref().unwrap().shadow.is_none(), "no more copies");
    let mut promoted =
        World { rollout: world.rollout.clone(), route: world.route.clone(), log: vec![], at: world.at };
    promoted.command(Command::Promote { by: "ada".to_owned() });
    assert_eq!((promoted.serving(), promoted.warm()), (Some("new"), vec!["old"]));
    world.wait(SignedDuration::from_hours(1));
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::Cancelled, Some("old")));
    assert_eq!(world.warm(), Vec::<&str>::new());
}

#[test]
fn it_takes_the_traffic_by_itself_only_where_that_was_asked_for() {
    let mut world = shadow(&json!({"autoPromote": true}));
    mirrored(&mut world, 20_000, 100);
    assert_eq!((world.serving(), world.rollout.status()), (Some("new"), DeploymentStatus::Deploying));
}

#[test]
fn other_answers_end_it_before_anybody_meets_it() {
    let mut world = shadow(&json!({"autoPromote": true}));
    mirrored(&mut world, 20_000, 15_000);
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::Failed, Some("old")));
    assert_eq!(world.warm(), Vec::<&str>::new());
}

#[test]
fn without_copies_there_is_no_verdict_and_it_ends_at_the_deadline() {
    let mut world = shadow(&json!({"autoPromote": true}));
    mirrored(&mut world, 0, 0);
    world.wait(SignedDuration::from_mins(6));
    mirrored(&mut world, 0, 0);
    mirrored(&mut world, 0, 0);
    assert_eq!(world.log.iter().filter(|(kind, _)| *kind == "held").count(), 1, "told once: {:?}", world.log);
    world.wait(SignedDuration::from_hours(24));
    assert_eq!((world.rollout.status(), world.serving()), (DeploymentStatus::Failed, Some("old")));
}

#[test]
fn people_can_end_it_at_any_point() {
    type End = fn(&mut World);
    let rollback: End = World::rollback;
    let cancel: End = |world| {
        world.command(Command::Cancel { by: "ada".to_owned(), reason: "enough".to_owned() });
    };
    for end in [rollback, cancel] {
        for passed in [false, true] {
            let mut world = shadow(&json!({}));
            if passed {
                mirrored(&mut world, 20_000, 100);
            }
            end(&mut world);
            assert!(world.rollout.is_settled());
            assert_eq!((world.serving(), world.warm()), (Some("old"), vec![]));
        }
    }
}
