//! A rollout in a small world: the route that it has published, the log that it has written.

mod canary;
mod invariants;
mod looks;
mod rolling;
mod shadow;
mod stages;
mod test;

use jiff::SignedDuration;
use serde_json::Value;
use tidegate_core::prediction::Difference;
use tidegate_core::route::BUCKETS;
use tidegate_core::{
    DeploymentStatus, Environment, ModelId, ReplicaId, Route, ShadowSummary, StrategyKind, VersionId,
};

use super::*;
use crate::analysis::ArmSummary;
use crate::config::{BlueGreen, StrategyConfig};
use crate::rollout::{Command, Plan, ReplicaHealth};

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

fn plan_of(kind: StrategyKind, config: &Value) -> Plan {
    let strategy = StrategyConfig::parse(kind, config.as_object().unwrap()).unwrap();
    Plan { strategy, ..plan(Some("old")) }
}

fn canary_plan(steps: &[u32]) -> Plan {
    plan_of(StrategyKind::Canary, &json!({"steps": steps, "minimumSamples": 100}))
}

/// `requests` of 10 ms, of which `failures` failed.
fn summary(requests: u64, failures: u64) -> ArmSummary {
    let mut summary = ArmSummary { requests, failures, ..ArmSummary::default() };
    (failures..requests).for_each(|_| summary.latency.record(10_000));
    summary
}

/// Of whose predictions `correct` of `labelled` turned out to be right.
fn labelled(summary: ArmSummary, labelled: u64, correct: u64) -> ArmSummary {
    ArmSummary { labelled, correct, ..summary }
}

/// Copies that were answered in the same time, `differing` of them otherwise.
fn compared(n_compared: u64, differing: u64) -> ShadowSummary {
    let mut summary = ShadowSummary::default();
    for i in 0..n_compared {
        let difference = f64::from(u8::from(i < differing));
        summary
            .compared(&Difference { difference, reason: None, outputs: Vec::new() }, Some((10_000, 10_000)));
    }
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

    /// Replicas by name; those marked `+` answer with the candidate, those marked `!` say that they cannot.
    fn inspected(&mut self, replicas: &[&str]) {
        let health = |text: &&str| ReplicaHealth {
            id: ReplicaId::new(text.trim_end_matches(['+', '!'])),
            serves_candidate: text.ends_with('+'),
            fault: text.ends_with('!').then(|| "it does not load".to_owned()),
        };
        let replicas = replicas.iter().map(health).collect();
        let (baseline, candidate) = (summary(0, 0), summary(0, 0));
        self.outcome(Outcome::Inspected { replicas, baseline, candidate });
    }

    /// The replicas that were told to answer with the candidate.
    fn moved(&self) -> Vec<&str> {
        let moved = self.route.as_ref().and_then(|route| route.moved.as_ref());
        moved.map_or_else(Vec::new, |moved| moved.replicas.iter().map(ReplicaId::as_str).collect())
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
