//! ABTesting: callers stay with the version that they were given, until one version has won or the time is up.

use serde_json::{Value, json};

use super::{Stepper, evidence_of};
use crate::analysis::ab::{AbResult, Variant};
use crate::analysis::{ArmSummary, Verdict, analyse, compare_ab};
use crate::config::{AbTesting, StrategyConfig};
use crate::rollout::{Phase, RouteChange};

impl Stepper {
    pub(super) fn begin_test(&mut self, why: &str, evidence: Value) {
        let Some(config) = self.ab_testing() else { return };
        let (weight, sticky_by, duration) = (config.weight, config.sticky_by.clone(), config.duration);
        let plan = &self.rollout.plan;
        let Some(previous) = plan.previous.clone() else { return };
        self.publish(RouteChange::Split { previous, candidate: plan.candidate.clone(), weight, sticky_by });
        let message = format!(
            "{why}; {} % of the callers go to the new version, for at most {duration}",
            f64::from(weight) / 100.0
        );
        self.record("testing", &message, evidence);
        self.rollout.phase = Phase::Testing { since: self.at, deadline: self.at + duration };
    }

    /// A version that is beyond a limit is rolled back at once, whatever the contest says; then the winner takes it all.
    pub(super) fn tested(&mut self, baseline: &ArmSummary, candidate: &ArmSummary) {
        let Some(config) = self.ab_testing() else { return };
        let limits = analyse(baseline, candidate, &config.stages.thresholds);
        let contest = compare_ab(baseline, candidate, &config.comparison);
        if limits.verdict == Verdict::Fail {
            let cause = format!("the new version is worse: {}", limits.summary);
            self.roll_back(cause, evidence_of(&limits));
            return;
        }
        let evidence = json!({"comparison": contest});
        match contest.result {
            AbResult::Winner(Variant::A) => {
                self.roll_back(format!("the running version won: {}", contest.message), evidence);
            }
            AbResult::Winner(Variant::B) if self.rollout.paused_at.is_none() => {
                self.switch(&format!("the new version won: {}", contest.message), evidence);
            }
            AbResult::Winner(Variant::B) => {}
            AbResult::None | AbResult::Undecided => {
                self.hold(&format!("no winner yet: {}", contest.message), evidence);
            }
        }
    }

    pub(super) fn no_winner(&mut self) {
        let Some(config) = self.ab_testing() else { return };
        self.roll_back(format!("no version won within {}", config.duration), Value::Null);
    }

    fn ab_testing(&self) -> Option<&AbTesting> {
        match &self.rollout.plan.strategy {
            StrategyConfig::ABTesting(config) => Some(config),
            _ => None,
        }
    }
}
