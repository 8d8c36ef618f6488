//! A phase in words and in time, for people who watch: what is going on, and until when.

use serde::Serialize;
use tidegate_core::Timestamp;

use super::{Phase, Rollout};
use crate::config::StrategyConfig;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    /// What is going on, in words.
    pub description: String,
    /// Since when both versions are compared, where they are.
    pub since: Option<Timestamp>,
    /// Before which the phase does not end well by itself.
    pub not_before: Option<Timestamp>,
    /// At which it ends in any case.
    pub deadline: Option<Timestamp>,
}

impl Rollout {
    pub fn outlook(&self) -> Outlook {
        let (since, not_before) = self.span();
        // A time before which nothing ends and at which everything does is one time.
        let deadline = self.phase.next_wake().filter(|wake| Some(*wake) != not_before);
        Outlook { description: self.description(), since, not_before, deadline }
    }

    fn span(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let watch = self.plan.strategy.stages().monitoring_duration;
        match (&self.phase, &self.plan.strategy) {
            (Phase::Shifting { since, .. } | Phase::Shadowing { since, .. }, _) => {
                (Some(*since), Some(*since + watch))
            }
            (Phase::Testing { since, .. }, _) => (Some(*since), None),
            (Phase::Rolling { began, since, .. }, StrategyConfig::Rolling(rolling)) => {
                (Some(*began), Some(*since + rolling.wait_duration))
            }
            (Phase::Watching { until } | Phase::KeepingPrevious { until }, _) => (None, Some(*until)),
            _ => (None, None),
        }
    }

    fn description(&self) -> String {
        let plan = &self.plan;
        match (&self.phase, &plan.strategy) {
            (Phase::Pending, _) => "waiting for its turn".to_owned(),
            (Phase::Validating, _) => "being checked before it meets anybody".to_owned(),
            (Phase::AwaitingApproval, _) => {
                format!("waiting for the approval of somebody other than {}", plan.initiated_by)
            }
            (Phase::Loading { .. }, _) => "loading and warming up beside what runs".to_owned(),
            (Phase::SmokeTesting, strategy) => {
                format!("answering {} test samples", strategy.stages().smoke_test_samples)
            }
            (Phase::Shifting { step, .. }, StrategyConfig::Canary(canary)) => format!(
                "step {} of {}: compared at {} % of the traffic",
                step + 1,
                canary.steps.len(),
                canary.share_of_step(*step)
            ),
            (Phase::Testing { .. }, _) => {
                let share = self.phase.traffic_percentage(plan);
                format!("tested with {share} % of the callers until one version has won")
            }
            (Phase::Shadowing { .. }, StrategyConfig::Shadow(shadow)) => {
                format!(
                    "answering copies of {} % of the requests; nobody is sent its answers",
                    shadow.percentage
                )
            }
            (Phase::AwaitingPromotion { .. }, _) => {
                "the copies were answered well: waiting for somebody to promote it".to_owned()
            }
            (Phase::Rolling { moved, n_replicas, .. }, _) => {
                format!("{} of {n_replicas} servers have moved to it", moved.len())
            }
            (Phase::Watching { .. }, _) => {
                "all traffic, being watched; the previous version is warm".to_owned()
            }
            (Phase::KeepingPrevious { .. }, _) => "active; the previous version stays warm".to_owned(),
            (Phase::Done, _) => "active".to_owned(),
            (Phase::Restoring { .. }, _) => "loading the previous version again, to go back to it".to_owned(),
            (Phase::Failed { .. }, _) => "failed before it had traffic".to_owned(),
            (Phase::RolledBack { .. }, _) => "rolled back".to_owned(),
            (Phase::Cancelled { .. }, _) => "cancelled".to_owned(),
            (Phase::Shifting { .. } | Phase::Shadowing { .. }, _) => self.phase.name().to_owned(),
        }
    }
}
