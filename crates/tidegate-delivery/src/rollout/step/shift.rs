//! Growing the candidate's share step by step, each on a verdict.

use serde_json::{Value, json};

use super::Stepper;
use crate::analysis::{Analysis, ArmSummary, Verdict, analyse};
use crate::config::StrategyConfig;
use crate::rollout::{Phase, RouteChange};

impl Stepper {
    /// Gives the candidate the share of `step`; the last step is the switch. The first version of all has nothing to be
    /// compared with, so it switches at once.
    pub(super) fn take_step(&mut self, step: usize, why: &str, evidence: Value) {
        let share = self.rollout.plan.strategy.share_of_step(step);
        let Some(previous) = self.rollout.plan.previous.clone().filter(|_| share < 100) else {
            self.switch(why, evidence);
            return;
        };
        let deadline = match &self.rollout.plan.strategy {
            StrategyConfig::Canary(config) => self.at + config.progress_deadline,
            StrategyConfig::BlueGreen(_) => self.at,
        };
        let candidate = self.rollout.plan.candidate.clone();
        self.publish(RouteChange::Split { previous, candidate, share });
        self.record("shifted", &format!("{why}; {share} % of the traffic goes to the new version"), evidence);
        self.rollout.phase = Phase::Shifting { step, since: self.at, deadline };
    }

    /// A fail rolls back at once; a pass takes the next step when the step has lasted long enough; otherwise it is held.
    pub(super) fn compared(&mut self, baseline: &ArmSummary, candidate: &ArmSummary) {
        let StrategyConfig::Canary(config) = &self.rollout.plan.strategy else { return };
        let Phase::Shifting { step, since, .. } = self.rollout.phase else { return };
        let analysis = analyse(baseline, candidate, &config.thresholds);
        let is_due = self.at >= since + config.stages.monitoring_duration;
        let is_paused = self.rollout.paused_at.is_some();
        match analysis.verdict {
            Verdict::Fail => {
                self.roll_back(
                    format!("the new version is worse: {}", analysis.summary),
                    evidence(&analysis),
                );
            }
            Verdict::Pass if is_due && !is_paused => {
                self.take_step(step + 1, &format!("step passed: {}", analysis.summary), evidence(&analysis));
            }
            Verdict::Inconclusive if is_due && !is_paused && !self.rollout.is_held => {
                let share = self.rollout.plan.strategy.share_of_step(step);
                self.record("held", &format!("held at {share} %: {}", analysis.summary), evidence(&analysis));
                self.rollout.is_held = true;
            }
            Verdict::Pass | Verdict::Inconclusive => {}
        }
    }

    pub(super) fn step_overdue(&mut self) {
        let StrategyConfig::Canary(config) = &self.rollout.plan.strategy else { return };
        let cause = format!(
            "there was no verdict within {}: too little evidence to go on, so it does not",
            config.progress_deadline
        );
        self.roll_back(cause, Value::Null);
    }
}

fn evidence(analysis: &Analysis) -> Value {
    json!({"analysis": analysis})
}
