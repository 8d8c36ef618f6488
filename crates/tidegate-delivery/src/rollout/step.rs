//! One step: a state and an event give the next state and what it asks for.

use serde_json::{Value, json};
use tidegate_core::{DeploymentId, Timestamp};

use super::{Command, Effect, Event, EventKind, Observation, Outcome, Phase, Rollout, RouteChange};
use crate::config::{BlueGreen, StrategyConfig};
use crate::report::ValidationReport;

/// A candidate is rolled back when its failure rate is above this with 95 % confidence.
const MAX_FAILURE_RATE: f64 = 0.01;

/// Fewer failures than this decide nothing, however small the number of requests.
const MIN_FAILURES: u64 = 3;

/// Decides what `event` means for `rollout`. Pure; every pair is decided; what comes too late changes nothing.
pub fn step(rollout: Rollout, event: Event) -> (Rollout, Vec<Effect>) {
    let before = rollout.phase.clone();
    let mut stepper = Stepper { rollout, at: event.at, effects: Vec::new() };
    match event.kind {
        EventKind::Start => stepper.start(),
        EventKind::Tick => stepper.tick(),
        EventKind::Superseded { by } => stepper.superseded(&by),
        EventKind::Outcome { epoch, outcome } if epoch == stepper.rollout.epoch => stepper.outcome(outcome),
        EventKind::Outcome { .. } => {}
        EventKind::Command(command) => stepper.command(command),
    }
    let Stepper { mut rollout, mut effects, .. } = stepper;
    if rollout.phase != before {
        rollout.epoch += 1;
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
        if self.rollout.phase == Phase::Pending {
            self.rollout.phase = Phase::Validating;
            self.record(
                "validating",
                "checking the artifact, its signature and a probe prediction",
                Value::Null,
            );
        }
    }

    fn tick(&mut self) {
        match self.rollout.phase.clone() {
            Phase::Loading { deadline } if self.at >= deadline => {
                let limit = self.config().warmup_duration;
                self.fail(format!("the version was not loaded and warm within {limit}"));
            }
            Phase::Restoring { deadline, .. } if self.at >= deadline => {
                let limit = self.config().warmup_duration;
                self.give_up_restoring(&format!("it was not loaded and warm within {limit}"));
            }
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
                self.fail(format!("the version did not load: {reason}"));
            }
            (Phase::SmokeTesting, Outcome::SmokeTested { samples, fault: None }) => self.switch(samples),
            (Phase::SmokeTesting, Outcome::SmokeTested { fault: Some(fault), .. }) => {
                self.fail(format!("the smoke test failed: {fault}"));
            }
            (Phase::Watching { .. }, Outcome::Observed(seen)) => self.observed(seen),
            (Phase::Restoring { cause, .. }, Outcome::Loaded { .. }) => self.roll_back(cause, json!({})),
            (Phase::Restoring { .. }, Outcome::LoadFailed { reason }) => self.give_up_restoring(&reason),
            _ => {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Rollback { by, reason, previous_is_warm } => {
                self.rollback_asked(format!("{by} asked for a rollback: {reason}"), &by, previous_is_warm);
            }
            Command::Cancel { by, reason } => self.cancel(format!("{by} cancelled: {reason}"), &by),
        }
    }

    fn validated(&mut self, report: &ValidationReport) {
        let evidence = json!({"passed": report.passed(), "checks": report.checks});
        if !report.passed() {
            self.rollout.phase = Phase::Failed { cause: format!("validation failed: {}", report.faults()) };
            self.record("failed", &format!("validation failed: {}", report.faults()), evidence);
            return;
        }
        self.record("validated", "validation passed; loading beside what runs", evidence);
        let deadline = self.at + self.config().warmup_duration;
        self.rollout.phase = Phase::Loading { deadline };
        self.publish(RouteChange::Warm(self.rollout.plan.candidate.clone()));
    }

    fn switch(&mut self, samples: u32) {
        let plan = &self.rollout.plan;
        let change =
            RouteChange::Switch { to: Some(plan.candidate.clone()), keep_warm: plan.previous.clone() };
        self.publish(change);
        let passed = format!("smoke test passed on {samples} samples");
        let (config, at) = (self.config(), self.at);
        if self.rollout.plan.previous.is_none() {
            self.rollout.phase = Phase::Done;
            let message = format!("{passed}; all traffic goes to the new version, the first here");
            self.record("active", &message, json!({"smokeTestSamples": samples}));
            return;
        }
        self.rollout.phase = Phase::Watching { until: at + config.monitoring_duration };
        let message = format!(
            "{passed}; all traffic goes to the new version, watched for {}, the previous one is warm",
            config.monitoring_duration
        );
        self.record("switched", &message, json!({"smokeTestSamples": samples}));
    }

    /// Rolls back on evidence: the lower end of the Wilson interval lies above what is tolerated.
    fn observed(&mut self, seen: Observation) {
        let lower = wilson_lower_bound(seen);
        if seen.failures < MIN_FAILURES || lower <= MAX_FAILURE_RATE {
            return;
        }
        let cause = format!(
            "the new version failed {} of {} requests: more than {:.0} % with 95 % confidence",
            seen.failures,
            seen.requests,
            MAX_FAILURE_RATE * 100.0
        );
        let evidence = json!({
            "requests": seen.requests, "failures": seen.failures,
            "failureRateLowerBound": lower, "threshold": MAX_FAILURE_RATE,
        });
        self.roll_back(cause, evidence);
    }

    fn keep_previous(&mut self) {
        let keep = self.config().keep_blue_duration;
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

    fn rollback_asked(&mut self, cause: String, by: &str, previous_is_warm: bool) {
        let evidence = json!({"by": by});
        match &self.rollout.phase {
            Phase::Pending | Phase::Validating | Phase::Loading { .. } | Phase::SmokeTesting => {
                self.release_candidate();
                self.record("rolledBack", &format!("{cause}; the new version never had traffic"), evidence);
                self.rollout.phase = Phase::RolledBack { cause };
            }
            Phase::Watching { .. } | Phase::KeepingPrevious { .. } | Phase::Done => {
                let previous = self.rollout.plan.previous.clone();
                match previous.filter(|_| !previous_is_warm) {
                    None => self.roll_back(cause, evidence),
                    Some(previous) => {
                        self.record(
                            "restoring",
                            &format!("{cause}; loading the previous version again"),
                            evidence,
                        );
                        self.publish(RouteChange::Warm(previous));
                        let deadline = self.at + self.config().warmup_duration;
                        self.rollout.phase = Phase::Restoring { deadline, cause };
                    }
                }
            }
            Phase::Restoring { .. }
            | Phase::Failed { .. }
            | Phase::RolledBack { .. }
            | Phase::Cancelled { .. } => {}
        }
    }

    fn cancel(&mut self, cause: String, by: &str) {
        match self.rollout.phase {
            Phase::Pending | Phase::Validating | Phase::Loading { .. } | Phase::SmokeTesting => {
                self.release_candidate();
            }
            Phase::Watching { .. } => {
                let to = self.rollout.plan.previous.clone();
                self.publish(RouteChange::Switch { to, keep_warm: None });
            }
            _ => return,
        }
        self.record("cancelled", &cause, json!({"by": by}));
        self.rollout.phase = Phase::Cancelled { cause };
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
    fn fail(&mut self, cause: String) {
        self.release_candidate();
        self.record("failed", &cause, Value::Null);
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
        if matches!(self.rollout.phase, Phase::Loading { .. } | Phase::SmokeTesting) {
            self.publish(RouteChange::Cool(self.rollout.plan.candidate.clone()));
        }
    }

    fn publish(&mut self, change: RouteChange) {
        self.effects.push(Effect::Publish(change));
    }

    fn record(&mut self, kind: &'static str, message: &str, evidence: Value) {
        self.effects.push(Effect::Record { kind, message: message.to_owned(), evidence });
    }

    fn config(&self) -> BlueGreen {
        let StrategyConfig::BlueGreen(config) = self.rollout.plan.strategy;
        config
    }
}

/// The lower end of the 95 % score interval of a proportion (Wilson 1927, one-sided z = 1.645).
fn wilson_lower_bound(seen: Observation) -> f64 {
    const Z: f64 = 1.645;
    if seen.requests == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let (n, p) = (seen.requests as f64, seen.failures as f64 / seen.requests as f64);
    let centre = p + Z * Z / (2.0 * n);
    let margin = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    (centre - margin) / (1.0 + Z * Z / n)
}

#[cfg(test)]
mod tests;
