//! Shadow: the candidate runs copies of requests, and its answers are compared with those that callers were sent.

use serde_json::{Value, json};
use tidegate_core::ShadowSummary;

use super::{Stepper, evidence_of};
use crate::analysis::{Verdict, compare_shadow};
use crate::config::{Shadowing, StrategyConfig};
use crate::rollout::{Phase, RouteChange};

impl Stepper {
    pub(super) fn begin_shadow(&mut self, why: &str, evidence: Value) {
        let Some(config) = self.shadowing() else { return };
        let (share, percentage) = (config.weight(), config.percentage);
        let deadline = self.at + config.progress_deadline;
        self.publish(RouteChange::Mirror { candidate: self.rollout.plan.candidate.clone(), share });
        let message = format!(
            "{why}; copies of {percentage} % of the requests go to the new version, whose answers nobody is sent"
        );
        self.record("shadowing", &message, evidence);
        self.rollout.phase = Phase::Shadowing { since: self.at, deadline };
    }

    pub(super) fn mirrored(&mut self, summary: &ShadowSummary) {
        let Phase::Shadowing { since, .. } = self.rollout.phase else { return };
        let Some(config) = self.shadowing() else { return };
        let analysis = compare_shadow(summary, &config.limits());
        let is_due = self.at >= since + config.stages.monitoring_duration;
        let auto_promote = config.auto_promote;
        let evidence = evidence_of(&analysis);
        match analysis.verdict {
            Verdict::Fail => {
                self.fail(
                    format!("the new version answers otherwise or worse: {}", analysis.summary),
                    evidence,
                );
            }
            Verdict::Pass if self.rollout.paused_at.is_some() => {}
            Verdict::Pass if auto_promote => {
                self.switch(&format!("the copies were answered well: {}", analysis.summary), evidence);
            }
            Verdict::Pass => self.await_promotion(&analysis.summary, evidence),
            Verdict::Inconclusive if is_due => {
                self.hold(&format!("no verdict on the copies yet: {}", analysis.summary), evidence);
            }
            Verdict::Inconclusive => {}
        }
    }

    fn await_promotion(&mut self, summary: &str, evidence: Value) {
        let Some(config) = self.shadowing() else { return };
        let patience = config.progress_deadline;
        self.publish(RouteChange::Warm(self.rollout.plan.candidate.clone()));
        let message = format!(
            "the copies were answered well: {summary}; promote it within {patience}, or it is let go of"
        );
        self.record("awaitingPromotion", &message, evidence);
        self.rollout.phase = Phase::AwaitingPromotion { until: self.at + patience };
    }

    pub(super) fn shadow_overdue(&mut self) {
        let Some(config) = self.shadowing() else { return };
        let cause = format!(
            "there was no verdict within {}: too few requests could be compared",
            config.progress_deadline
        );
        self.fail(cause, Value::Null);
    }

    pub(super) fn not_promoted(&mut self) {
        let Some(config) = self.shadowing() else { return };
        let cause =
            format!("nobody promoted it within {}; what it answered is in the log", config.progress_deadline);
        self.release_candidate();
        self.record("cancelled", &cause, json!({}));
        self.rollout.phase = Phase::Cancelled { cause };
    }

    fn shadowing(&self) -> Option<&Shadowing> {
        match &self.rollout.plan.strategy {
            StrategyConfig::Shadow(config) => Some(config),
            _ => None,
        }
    }
}
