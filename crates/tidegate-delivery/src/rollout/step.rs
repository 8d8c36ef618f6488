//! One step: a state and an event give the next state and what it asks for.
//!
//! Here: the stages that every strategy shares. What people ask for is in `command`; how traffic moves, in a file a
//! strategy; the watch after the switch in `watch`.

mod command;
mod rolling;
mod shadow;
mod shift;
mod test;
mod watch;

pub(super) use watch::since_switch;

use serde_json::{Value, json};
use tidegate_core::{DeploymentId, Timestamp};

use super::{EVENT_KINDS, Effect, Event, EventKind, Outcome, Phase, Rollout, RouteChange};
use crate::analysis::Analysis;
use crate::config::{Stages, StrategyConfig};
use crate::report::{Override, ValidationReport};

/// Decides what `event` means for `rollout`. Pure; every pair is decided; what comes too late changes nothing.
pub fn step(rollout: Rollout, event: Event) -> (Rollout, Vec<Effect>) {
    let before = (rollout.phase.name(), rollout.work());
    let mut stepper = Stepper { rollout, at: event.at, effects: Vec::new() };
    match event.kind {
        EventKind::Start => stepper.start(),
        EventKind::Tick => stepper.tick(),
        EventKind::TakenUp => stepper.taken_up(),
        EventKind::Superseded { by } => stepper.superseded(&by),
        EventKind::Outcome { epoch, outcome } if epoch == stepper.rollout.epoch => stepper.outcome(outcome),
        EventKind::Outcome { .. } => {}
        EventKind::Command(command) => stepper.command(command),
    }
    let Stepper { mut rollout, mut effects, .. } = stepper;
    // A time that was moved is no new phase: what is being done goes on.
    if (rollout.phase.name(), rollout.work()) != before {
        rollout.epoch += 1;
        rollout.is_held = false;
        if rollout.is_settled() {
            rollout.paused_at = None;
        }
        effects.extend(rollout.work().map(Effect::Perform));
    }
    (rollout, effects)
}

/// A step in the making.
struct Stepper {
    rollout: Rollout,
    at: Timestamp,
    effects: Vec<Effect>,
}

impl Stepper {
    fn start(&mut self) {
        if self.rollout.phase == Phase::Pending && self.rollout.paused_at.is_none() {
            self.rollout.phase = Phase::Validating;
            self.record(
                "validating",
                "checking the artifact, its signature and a probe prediction",
                Value::Null,
            );
        }
    }

    fn tick(&mut self) {
        if self.rollout.paused_at.is_some() {
            return;
        }
        match self.rollout.phase.clone() {
            Phase::Loading { deadline } if self.at >= deadline => {
                let limit = self.stages().warmup_duration;
                self.fail(format!("the version was not loaded and warm within {limit}"), Value::Null);
            }
            Phase::Restoring { deadline, .. } if self.at >= deadline => {
                let limit = self.stages().warmup_duration;
                self.give_up_restoring(&format!("it was not loaded and warm within {limit}"));
            }
            Phase::Shifting { deadline, .. } if self.at >= deadline => self.step_overdue(),
            Phase::Testing { deadline, .. } if self.at >= deadline => self.no_winner(),
            Phase::Shadowing { deadline, .. } if self.at >= deadline => self.shadow_overdue(),
            Phase::AwaitingPromotion { until } if self.at >= until => self.not_promoted(),
            Phase::Rolling { deadline, .. } if self.at >= deadline => self.batch_overdue(),
            Phase::Watching { until } if self.at >= until => self.keep_previous(),
            Phase::KeepingPrevious { until } if self.at >= until => self.retire_previous(),
            _ => {}
        }
    }

    fn superseded(&mut self, by: &DeploymentId) {
        if matches!(self.rollout.phase, Phase::KeepingPrevious { .. }) {
            self.rollout.phase = Phase::Done;
            self.record(
                "superseded",
                &format!("{by} is the newer deployment and decides from here"),
                Value::Null,
            );
        }
    }

    fn outcome(&mut self, outcome: Outcome) {
        match (self.rollout.phase.clone(), outcome) {
            (Phase::Validating, Outcome::Validated(report)) => self.validated(&report),
            (Phase::Loading { .. }, Outcome::Loaded { detail }) => {
                self.rollout.phase = Phase::SmokeTesting;
                self.record("loaded", &format!("loaded and warm: {detail}"), Value::Null);
            }
            (Phase::Loading { .. }, Outcome::LoadFailed { reason }) => {
                self.fail(format!("the version did not load: {reason}"), Value::Null);
            }
            (Phase::SmokeTesting, Outcome::SmokeTested { samples, fault: None }) => {
                let tested = format!("smoke test passed on {samples} samples");
                self.move_traffic(&tested, json!({"smokeTestSamples": samples}));
            }
            (Phase::SmokeTesting, Outcome::SmokeTested { fault: Some(fault), .. }) => {
                self.fail(format!("the smoke test failed: {fault}"), Value::Null);
            }
            (Phase::Watching { .. }, Outcome::Observed { candidate, previous }) => {
                self.observed(&candidate, &previous);
            }
            (Phase::Shifting { .. }, Outcome::Compared { baseline, candidate }) => {
                self.compared(&baseline, &candidate);
            }
            (Phase::Testing { .. }, Outcome::Compared { baseline, candidate }) => {
                self.tested(&baseline, &candidate);
            }
            (Phase::Shadowing { .. }, Outcome::Mirrored(summary)) => self.mirrored(&summary),
            (Phase::Rolling { .. }, Outcome::Inspected { replicas, baseline, candidate }) => {
                self.inspected(&replicas, &baseline, &candidate);
            }
            (Phase::Restoring { cause, .. }, Outcome::Loaded { .. }) => self.roll_back(cause, json!({})),
            (Phase::Restoring { .. }, Outcome::LoadFailed { reason }) => self.give_up_restoring(&reason),
            _ => {}
        }
    }

    fn validated(&mut self, report: &ValidationReport) {
        let mut evidence = json!({"passed": report.passed(), "checks": report.checks});
        let outcome = match self.overriding(report) {
            _ if report.passed() => "validation passed".to_owned(),
            Some(Override { by, reason }) => {
                evidence["override"] = json!({"by": by, "reason": reason});
                let message = format!("overridden by {by}: {reason}; failed: {}", report.faults());
                self.record("overridden", &message, evidence.clone());
                format!("validation was overridden by {by}")
            }
            None => {
                self.rollout.phase =
                    Phase::Failed { cause: format!("validation failed: {}", report.faults()) };
                self.record("failed", &format!("validation failed: {}", report.faults()), evidence);
                return;
            }
        };
        if self.rollout.plan.needs_approval {
            let by = &self.rollout.plan.initiated_by;
            let message = format!("{outcome}; waiting for the approval of somebody other than {by}");
            self.record("awaitingApproval", &message, evidence);
            self.rollout.phase = Phase::AwaitingApproval;
            return;
        }
        self.record("validated", &format!("{outcome}; loading beside what runs"), evidence);
        self.load();
    }

    fn overriding(&self, report: &ValidationReport) -> Option<Override> {
        self.rollout.plan.override_validation.clone().filter(|_| report.can_be_overridden())
    }

    fn load(&mut self) {
        let deadline = self.at + self.stages().warmup_duration;
        self.rollout.phase = Phase::Loading { deadline };
        self.publish(RouteChange::Warm(self.rollout.plan.candidate.clone()));
    }

    /// Begins to move traffic in the strategy's way. The first version of all has nothing to be compared with, so it takes
    /// everything at once.
    fn move_traffic(&mut self, why: &str, evidence: Value) {
        let plan = &self.rollout.plan;
        match (&plan.strategy, &plan.previous) {
            (strategy, None) if strategy.needs_previous() => {
                let kind = strategy.kind();
                self.fail(format!("there is no running version, which {kind} compares with"), evidence);
            }
            (StrategyConfig::BlueGreen(_), _) | (_, None) => self.switch(why, evidence),
            (StrategyConfig::Canary(_), Some(_)) => self.take_step(0, why, evidence),
            (StrategyConfig::ABTesting(_), Some(_)) => self.begin_test(why, evidence),
            (StrategyConfig::Shadow(_), Some(_)) => self.begin_shadow(why, evidence),
            (StrategyConfig::Rolling(_), Some(_)) => self.begin_rolling(why, evidence),
        }
    }

    /// All traffic to the candidate. `why` says what led here.
    fn switch(&mut self, why: &str, evidence: Value) {
        let plan = &self.rollout.plan;
        let change =
            RouteChange::Switch { to: Some(plan.candidate.clone()), keep_warm: plan.previous.clone() };
        self.publish(change);
        let (watch, at) = (self.stages().monitoring_duration, self.at);
        if self.rollout.plan.previous.is_none() {
            self.rollout.phase = Phase::Done;
            let message = format!("{why}; all traffic goes to the new version, the first here");
            self.record("active", &message, evidence);
            return;
        }
        self.rollout.phase = Phase::Watching { until: at + watch };
        let message = format!(
            "{why}; all traffic goes to the new version, watched for {watch}, the previous one is warm"
        );
        self.record("switched", &message, evidence);
    }

    fn keep_previous(&mut self) {
        let keep = self.stages().keep_previous_duration;
        self.rollout.phase = Phase::KeepingPrevious { until: self.at + keep };
        self.record(
            "active",
            &format!("the watch is over; the previous version stays warm for {keep}"),
            Value::Null,
        );
    }

    fn retire_previous(&mut self) {
        if let Some(previous) = self.rollout.plan.previous.clone() {
            self.publish(RouteChange::Cool(previous));
        }
        self.rollout.phase = Phase::Done;
        self.record("retired", "the previous version is unloaded", Value::Null);
    }

    /// All traffic back, at once.
    fn roll_back(&mut self, cause: String, evidence: Value) {
        let to = self.rollout.plan.previous.clone();
        let where_to = match &to {
            Some(_) => "all traffic goes to the previous version again",
            None => "there was no version before it, so nothing serves now",
        };
        self.publish(RouteChange::Switch { to, keep_warm: None });
        self.record("rolledBack", &format!("{cause}; {where_to}"), evidence);
        self.rollout.phase = Phase::RolledBack { cause };
    }

    /// Ends a deployment whose candidate has no traffic yet.
    fn fail(&mut self, cause: String, evidence: Value) {
        self.release_candidate();
        self.record("failed", &cause, evidence);
        self.rollout.phase = Phase::Failed { cause };
    }

    fn give_up_restoring(&mut self, reason: &str) {
        if let Some(previous) = self.rollout.plan.previous.clone() {
            self.publish(RouteChange::Cool(previous));
        }
        let message = format!(
            "the rollback failed, the new version still serves: the previous one did not load: {reason}"
        );
        self.record("rollbackFailed", &message, Value::Null);
        self.rollout.phase = Phase::Done;
    }

    fn release_candidate(&mut self) {
        let is_beside = matches!(
            self.rollout.phase,
            Phase::Loading { .. }
                | Phase::SmokeTesting
                | Phase::Shadowing { .. }
                | Phase::AwaitingPromotion { .. }
        );
        if is_beside {
            self.publish(RouteChange::Cool(self.rollout.plan.candidate.clone()));
        }
    }

    /// Says once why the phase does not move on.
    fn hold(&mut self, message: &str, evidence: Value) {
        if !self.rollout.is_held && self.rollout.paused_at.is_none() {
            self.record("held", message, evidence);
            self.rollout.is_held = true;
        }
    }

    fn publish(&mut self, change: RouteChange) {
        self.effects.push(Effect::Publish(change));
    }

    fn record(&mut self, kind: &'static str, message: &str, evidence: Value) {
        debug_assert!(EVENT_KINDS.contains(&kind), "`{kind}` is not among EVENT_KINDS");
        self.effects.push(Effect::Record { kind, message: message.to_owned(), evidence });
    }

    fn stages(&self) -> &Stages {
        self.rollout.plan.strategy.stages()
    }
}

fn evidence_of(analysis: &Analysis) -> Value {
    json!({"analysis": analysis})
}

#[cfg(test)]
mod tests;
