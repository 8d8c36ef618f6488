//! Whatever happens, in whatever order.

use proptest::prelude::*;

use super::*;
use crate::rollout::Work;

fn any_plan() -> impl Strategy<Value = Plan> {
    let strategy = prop_oneof![
        Just(plan(None)),
        Just(canary_plan(&[10, 50])),
        Just(plan_of(StrategyKind::ABTesting, &json!({"minimumSamples": 200, "primaryMetric": "latency"}))),
        Just(plan_of(StrategyKind::Shadow, &json!({"comparisonSamples": 50}))),
        Just(plan_of(StrategyKind::Shadow, &json!({"comparisonSamples": 50, "autoPromote": true}))),
        Just(plan_of(StrategyKind::Rolling, &json!({"batchSize": 2, "maxFailures": 1}))),
    ];
    (strategy, any::<bool>(), any::<bool>()).prop_map(|(chosen, with_previous, needs_approval)| Plan {
        previous: with_previous.then(|| version("old")),
        needs_approval,
        ..chosen
    })
}

fn any_replica() -> impl Strategy<Value = ReplicaHealth> {
    (0u8..4, any::<bool>(), any::<bool>()).prop_map(|(id, serves_candidate, is_faulty)| ReplicaHealth {
        id: ReplicaId::new(format!("replica-{id}")),
        serves_candidate,
        fault: is_faulty.then(|| "it does not load".to_owned()),
    })
}

fn any_event() -> impl Strategy<Value = EventKind> {
    let text = || "why".to_owned();
    let current = |outcome| EventKind::Outcome { epoch: u64::MAX, outcome };
    prop_oneof![
        Just(EventKind::Start),
        Just(EventKind::Tick),
        Just(EventKind::TakenUp),
        Just(EventKind::Superseded { by: DeploymentId::new("deploy-3") }),
        Just(current(Outcome::Validated(good_report()))),
        Just(current(Outcome::Validated(ValidationReport::default()))),
        Just(current(Outcome::Loaded { detail: text() })),
        Just(current(Outcome::LoadFailed { reason: text() })),
        Just(current(Outcome::SmokeTested { samples: 1, fault: None })),
        Just(current(Outcome::SmokeTested { samples: 1, fault: Some(text()) })),
        (0u64..50, 0u64..50).prop_map(move |(n, f)| current(Outcome::Observed {
            candidate: summary(n.max(f), f),
            previous: summary(0, 0),
        })),
        (0u64..500, 0u64..80).prop_map(move |(compared_n, differing)| {
            current(Outcome::Mirrored(compared(compared_n, differing.min(compared_n))))
        }),
        prop::collection::vec(any_replica(), 0..4).prop_map(move |replicas| {
            current(Outcome::Inspected { replicas, baseline: summary(0, 0), candidate: summary(0, 0) })
        }),
        (0u64..20).prop_map(|epoch| EventKind::Outcome {
            epoch,
            outcome: Outcome::Loaded { detail: String::new() }
        }),
        any::<bool>().prop_map(move |previous_is_warm| {
            EventKind::Command(Command::Rollback { by: text(), reason: text(), previous_is_warm })
        }),
        Just(EventKind::Command(Command::Cancel { by: text(), reason: text() })),
        Just(EventKind::Command(Command::Approve { by: "grace".to_owned() })),
        Just(EventKind::Command(Command::Promote { by: text() })),
        Just(EventKind::Command(Command::Pause { by: text() })),
        Just(EventKind::Command(Command::Resume { by: text() })),
        (0u64..2_000, 0u64..2_000).prop_map(move |(baseline, candidate)| {
            current(Outcome::Compared {
                baseline: summary(baseline, baseline / 100),
                candidate: summary(candidate, if candidate % 2 == 0 { 0 } else { candidate / 2 }),
            })
        }),
    ]
}

proptest! {
    /// Whatever happens, in whatever order: the invariants hold after every event.
    #[test]
    fn invariants_hold_after_every_event(
        plan in any_plan(),
        events in prop::collection::vec((any_event(), 0i64..4_000), 0..60),
    ) {
        let (with_previous, needs_approval) = (plan.previous.is_some(), plan.needs_approval);
        let mut world = World::of(plan);
        let mut is_approved = !needs_approval;
        let mut loaded: Vec<String> = world.serving().iter().map(|name| (*name).to_owned()).collect();
        for (kind, seconds) in events {
            world.at += SignedDuration::from_secs(seconds);
            let kind = match kind {
                EventKind::Outcome { epoch: u64::MAX, outcome } => {
                    EventKind::Outcome { epoch: world.rollout.epoch, outcome }
                }
                other => other,
            };
            let awaited = match (&kind, world.rollout.work()) {
                (EventKind::Outcome { epoch, outcome: Outcome::Loaded { .. } }, Some(Work::AwaitLoaded { version }))
                    if *epoch == world.rollout.epoch => Some(version),
                _ => None,
            };
            loaded.extend(awaited.map(|version| version.as_str().to_owned()));
            is_approved |= matches!(&kind, EventKind::Command(Command::Approve { .. }))
                && world.rollout.phase == Phase::AwaitingApproval;
            let was_settled = world.rollout.is_settled();
            let before = world.rollout.clone();
            world.send(kind);
            let rollout = &world.rollout;

            // The durable state survives being written and read.
            let written = serde_json::to_string(rollout).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Rollout>(&written).unwrap(), rollout);
            // Traffic is whole, and only on a version that was loaded.
            if let Some(route) = &world.route {
                let total: u32 = route.arms.iter().map(|arm| arm.weight).sum();
                prop_assert!(route.arms.is_empty() || total == BUCKETS);
                let versions: std::collections::BTreeSet<_> = route.versions().collect();
                prop_assert!(versions.len() <= 2, "never more than two in memory");
                // Who runs copies or moves ahead is loaded.
                let ahead = route.shadow.iter().map(|shadow| &shadow.version_id);
                let ahead = ahead.chain(route.moved.iter().map(|moved| &moved.version_id));
                for version in ahead {
                    prop_assert!(route.warm.contains(version), "{} is not warm", version);
                    prop_assert!(is_approved && loaded.iter().any(|loaded| loaded == version.as_str()));
                }
            }
            for arm in world.route.iter().flat_map(|route| &route.arms) {
                let name = arm.version_id.as_str();
                prop_assert!(loaded.iter().any(|loaded| loaded == name), "{} serves without being loaded", name);
                prop_assert!(name == "old" || is_approved, "traffic without approval");
            }
            // An end is explained and leaves the previous version serving; only Done may still be rolled back.
            match rollout.status() {
                DeploymentStatus::Failed | DeploymentStatus::RolledBack | DeploymentStatus::Cancelled => {
                    prop_assert!(rollout.phase.cause().is_some());
                    prop_assert_eq!(world.serving(), with_previous.then_some("old"));
                    let route = world.route.as_ref();
                    prop_assert!(route.is_none_or(|route| route.shadow.is_none() && route.moved.is_none()));
                    prop_assert!(!was_settled || before.phase == Phase::Done || before == *rollout);
                }
                DeploymentStatus::Active => prop_assert_eq!(world.serving(), Some("new")),
                _ => {}
            }
            // Something will move it on, unless it is over or waits for its turn.
            let moves = rollout.work().is_some() || rollout.next_wake().is_some();
            let waits = matches!(rollout.phase, Phase::Pending | Phase::AwaitingApproval);
            prop_assert!(moves || waits || rollout.is_settled() || rollout.paused_at.is_some());
            prop_assert!(!rollout.is_settled() || rollout.work().is_none());
        }
    }
}
