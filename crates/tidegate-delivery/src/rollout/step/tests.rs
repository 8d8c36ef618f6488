use jiff::SignedDuration;
use proptest::prelude::*;
use tidegate_core::route::BUCKETS;
use tidegate_core::{DeploymentStatus, Environment, ModelId, Route, StrategyKind, VersionId};

use super::*;
use crate::analysis::ArmSummary;
use crate::config::{BlueGreen, StrategyConfig};
use crate::rollout::{Command, Plan, Work};

fn version(name: &str) -> VersionId {
    VersionId::new(name)
}

fn plan(previous: Option<&str>) -> Plan {
    Plan {
        deployment_id: DeploymentId::new("deploy-2"),
        model_id: ModelId::new("model-1"),
        environment: Environment::Production,
        candidate: version("new"),
        previous: previous.map(version),
        strategy: StrategyConfig::BlueGreen(BlueGreen::default()),
        initiated_by: "ada".to_owned(),
        needs_approval: false,
        override_validation: None,
    }
}

fn canary_plan(steps: &[u32]) -> Plan {
    let config = serde_json::json!({"steps": steps, "minimumSamples": 100});
    let strategy = StrategyConfig::parse(StrategyKind::Canary, config.as_object().unwrap()).unwrap();
    Plan { strategy, ..plan(Some("old")) }
}

/// `requests` of 10 ms, of which `failures` failed.
fn summary(requests: u64, failures: u64) -> ArmSummary {
    let mut summary = ArmSummary { requests, failures, ..ArmSummary::default() };
    (failures..requests).for_each(|_| summary.latency.record(10_000));
    summary
}

/// The deployment, the route it has published and the log it has written.
struct World {
    rollout: Rollout,
    route: Option<Route>,
    log: Vec<(&'static str, String)>,
    at: Timestamp,
}

impl World {
    /// Before the deployment, `previous` has all traffic.
    fn new(previous: Option<&str>) -> Self {
        Self::of(plan(previous))
    }

    fn of(plan: Plan) -> Self {
        let serve_previous = RouteChange::Switch { to: plan.previous.clone(), keep_warm: None };
        let route = plan.previous.is_some().then(|| serve_previous.apply(&plan, None));
        Self { rollout: Rollout::new(plan), route, log: Vec::new(), at: Timestamp::UNIX_EPOCH }
    }

    fn send(&mut self, kind: EventKind) -> Vec<Effect> {
        let (rollout, effects) = step(self.rollout.clone(), Event { at: self.at, kind });
        for effect in &effects {
            match effect {
                Effect::Publish(change) => {
                    self.route = Some(change.apply(&rollout.plan, self.route.as_ref()));
                }
                Effect::Record { kind, message, .. } => self.log.push((kind, message.clone())),
                Effect::Perform(_) => {}
            }
        }
        self.rollout = rollout;
        effects
    }

    fn outcome(&mut self, outcome: Outcome) {
        self.send(EventKind::Outcome { epoch: self.rollout.epoch, outcome });
    }

    fn wait(&mut self, duration: SignedDuration) {
        self.at += duration;
        self.send(EventKind::Tick);
    }

    fn rollback(&mut self) {
        let previous_is_warm = match (&self.route, &self.rollout.plan.previous) {
            (Some(route), Some(previous)) => route.versions().any(|loaded| loaded == previous),
            _ => false,
        };
        let (by, reason) = ("ada".to_owned(), "it looks wrong".to_owned());
        self.send(EventKind::Command(Command::Rollback { by, reason, previous_is_warm }));
    }

    fn command(&mut self, command: Command) {
        self.send(EventKind::Command(command));
    }

    fn compared(&mut self, baseline: ArmSummary, candidate: ArmSummary) {
        self.outcome(Outcome::Compared { baseline, candidate });
    }

    /// The candidate's share of the traffic, in percent.
    fn share(&self) -> u32 {
        let arms = self.route.iter().flat_map(|route| &route.arms);
        arms.filter(|arm| arm.version_id == self.rollout.plan.candidate)
            .map(|arm| arm.weight * 100 / BUCKETS)
            .sum()
    }

    fn serving(&self) -> Option<&str> {
        let route = self.route.as_ref()?;
        route.arms.first().map(|arm| arm.version_id.as_str())
    }

    fn warm(&self) -> Vec<&str> {
        self.route.iter().flat_map(|route| route.warm.iter().map(VersionId::as_str)).collect()
    }

    /// Brings the deployment to where the candidate has all traffic.
    fn switched(previous: Option<&str>) -> Self {
        Self::new(previous).tested()
    }

    /// Brings the deployment past its smoke test.
    fn tested(self) -> Self {
        let mut world = self;
        world.send(EventKind::Start);
        world.outcome(Outcome::Validated(good_report()));
        world.outcome(Outcome::Loaded { detail: "in 0.1 s".to_owned() });
        world.outcome(Outcome::SmokeTested { samples: 100, fault: None });
        world
    }
}

fn good_report() -> ValidationReport {
    let mut report = ValidationReport::default();
    report.check("artifact", Ok("it is there".to_owned()));
    report
}

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
        (Observation { requests: 0, failures: 0 }, false),
        (Observation { requests: 1, failures: 1 }, false),
        (Observation { requests: 3, failures: 3 }, true),
        (Observation { requests: 100, failures: 1 }, false),
        (Observation { requests: 100, failures: 10 }, true),
        (Observation { requests: 100_000, failures: 900 }, false),
    ];
    let previous = Observation { requests: 100_000, failures: 0 };
    for (candidate, expected) in cases {
        let mut world = World::switched(Some("old"));
        world.outcome(Outcome::Observed { candidate, previous });
        assert_eq!(world.rollout.status() == DeploymentStatus::RolledBack, expected, "{candidate:?}");
    }
}

/// Found by use: a canary had been shown no worse at 3 % failures on both sides, and the watch then rolled it back.
#[test]
fn a_version_that_fails_no_more_than_the_one_before_is_kept() {
    let candidate = Observation { requests: 1_842, failures: 55 };
    for (previous, expected) in [((2_000, 62), false), ((2_000, 2), true), ((0, 0), true)] {
        let previous = Observation { requests: previous.0, failures: previous.1 };
        let mut world = World::switched(Some("old"));
        world.outcome(Outcome::Observed { candidate, previous });
        assert_eq!(world.rollout.status() == DeploymentStatus::RolledBack, expected, "{previous:?}");
    }
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

fn any_plan() -> impl Strategy<Value = Plan> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(with_previous, by_canary, needs_approval)| {
        let chosen = if by_canary { canary_plan(&[10, 50]) } else { plan(None) };
        Plan { previous: with_previous.then(|| version("old")), needs_approval, ..chosen }
    })
}

fn any_event() -> impl Strategy<Value = EventKind> {
    let text = || "why".to_owned();
    let current = |outcome| EventKind::Outcome { epoch: u64::MAX, outcome };
    prop_oneof![
        Just(EventKind::Start),
        Just(EventKind::Tick),
        Just(EventKind::Superseded { by: DeploymentId::new("deploy-3") }),
        Just(current(Outcome::Validated(good_report()))),
        Just(current(Outcome::Validated(ValidationReport::default()))),
        Just(current(Outcome::Loaded { detail: text() })),
        Just(current(Outcome::LoadFailed { reason: text() })),
        Just(current(Outcome::SmokeTested { samples: 1, fault: None })),
        Just(current(Outcome::SmokeTested { samples: 1, fault: Some(text()) })),
        (0u64..50, 0u64..50).prop_map(move |(n, f)| current(Outcome::Observed {
            candidate: Observation { requests: n.max(f), failures: f },
            previous: Observation::default(),
        })),
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
                prop_assert!(route.versions().count() <= 2, "never more than two in memory");
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
