//! Canary: growing the candidate's share step by step, each on a verdict.

use serde_json::Value;
use tidegate_core::StickyBy;
use tidegate_core::route::BUCKETS;

use super::{Stepper, evidence_of};
use crate::analysis::{ArmSummary, Verdict, analyse};
use crate::config::{Canary, StrategyConfig};
use crate::rollout::{Phase, RouteChange};

impl Stepper {
    /// Gives the candidate the share of `step`; the last step is the switch.
    pub(super) fn take_step(&mut self, step: usize, why: &str, evidence: Value) {
        let Some(config) = self.canary() else { return };
        let share = config.share_of_step(step);
        let deadline = self.at + config.progress_deadline;
        let plan = &self.rollout.plan;
        let Some(previous) = plan.previous.clone().filter(|_| share < 100) else {
            self.switch(why, evidence);
            return;
        };
        let (candidate, weight) = (plan.candidate.clone(), share * (BUCKETS / 100));
        self.publish(RouteChange::Split { previous, candidate, weight, sticky_by: StickyBy::Key });
        self.record("shifted", &format!("{why}; {share} % of the traffic goes to the new version"), evidence);
        self.rollout.phase = Phase::Shifting { step, since: self.at, deadline };
    }

    /// A fail rolls back at once; a pass takes the next step when the step has lasted long enough; otherwise it is held.
    pub(super) fn compared(&mut self, baseline: &ArmSummary, candidate: &ArmSummary) {
        let Phase::Shifting { step, since, .. } = self.rollout.phase else { return };
        let Some(config) = self.canary() else { return };
        let analysis = analyse(baseline, candidate, &config.stages.thresholds);
        let share = config.share_of_step(step);
        let is_due = self.at >= since + config.stages.monitoring_duration;
        let evidence = evidence_of(&analysis);
        match analysis.verdict {
            Verdict::Fail => {
                self.roll_back(format!("the new version is worse: {}", analysis.summary), evidence)
            }
            Verdict::Pass if is_due && self.rollout.paused_at.is_none() => {
                self.take_step(step + 1, &format!("step passed: {}", analysis.summary), evidence);
            }
            Verdict::Inconclusive if is_due => {
                self.hold(&format!("held at {share} %: {}", analysis.summary), evidence);
            }
            Verdict::Pass | Verdict::Inconclusive => {}
        }
    }

    pub(super) fn step_overdue(&mut self) {
        let Some(config) = self.canary() else { return };
        let cause = format!(
            "there was no verdict within {}: too little evidence to go on, so it does not",
            config.progress_deadline
        );
        self.roll_back(cause, Value::Null);
    }

    fn canary(&self) -> Option<&Canary> {
        match &self.rollout.plan.strategy {
            StrategyConfig::Canary(config) => Some(config),
            _ => None,
        }
    }
}
