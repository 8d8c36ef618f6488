//! What people ask of a running deployment. What makes no sense in a phase changes nothing.

use jiff::SignedDuration;
use serde_json::json;

use super::Stepper;
use crate::rollout::{Command, Phase, RouteChange};

impl Stepper {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Rollback { by, reason, previous_is_warm } => {
                self.rollback_asked(format!("{by} asked for a rollback: {reason}"), &by, previous_is_warm);
            }
            Command::Cancel { by, reason } => self.cancel(format!("{by} cancelled: {reason}"), &by),
            Command::Approve { by } => self.approve(&by),
            Command::Promote { by } => self.promote(&by),
            Command::Pause { by } => self.pause(&by),
            Command::Resume { by } => self.resume(&by),
        }
    }

    fn approve(&mut self, by: &str) {
        // The initiator's own approval is refused at the door; that it changes nothing here is the second lock.
        if self.rollout.phase == Phase::AwaitingApproval && by != self.rollout.plan.initiated_by {
            self.record("approved", &format!("{by} approved; loading beside what runs"), json!({"by": by}));
            self.load();
        }
    }

    fn promote(&mut self, by: &str) {
        let was_paused = if self.rollout.paused_at.is_some() { ", which ends the pause" } else { "" };
        let why = format!("{by} promoted without waiting for evidence{was_paused}");
        let evidence = json!({"by": by});
        match self.rollout.phase {
            Phase::Shifting { step, .. } => self.take_step(step + 1, &why, evidence),
            // What is left of the strategy is skipped; the watch is not.
            Phase::Testing { .. }
            | Phase::Shadowing { .. }
            | Phase::AwaitingPromotion { .. }
            | Phase::Rolling { .. } => self.switch(&why, evidence),
            Phase::Watching { .. } => {
                self.record("promoted", &why, evidence);
                self.keep_previous();
            }
            _ => return,
        }
        self.rollout.paused_at = None;
    }

    fn pause(&mut self, by: &str) {
        if self.rollout.paused_at.is_none() && !self.rollout.is_settled() {
            self.rollout.paused_at = Some(self.at);
            let message =
                format!("{by} paused: nothing moves forward, a failing version is still rolled back");
            self.record("paused", &message, json!({"by": by}));
        }
    }

    fn resume(&mut self, by: &str) {
        let Some(paused_at) = self.rollout.paused_at.take() else { return };
        let paused_for: SignedDuration = self.at.duration_since(paused_at);
        self.rollout.phase.postpone(paused_for);
        let seconds = paused_for.as_secs();
        self.record("resumed", &format!("{by} resumed after {seconds} s"), json!({"by": by}));
    }

    fn rollback_asked(&mut self, cause: String, by: &str, previous_is_warm: bool) {
        let evidence = json!({"by": by});
        match &self.rollout.phase {
            Phase::Pending
            | Phase::Validating
            | Phase::AwaitingApproval
            | Phase::Loading { .. }
            | Phase::SmokeTesting
            | Phase::Shadowing { .. }
            | Phase::AwaitingPromotion { .. } => {
                self.release_candidate();
                self.record("rolledBack", &format!("{cause}; the new version never had traffic"), evidence);
                self.rollout.phase = Phase::RolledBack { cause };
            }
            // Both versions are loaded while traffic is split.
            Phase::Shifting { .. } | Phase::Testing { .. } | Phase::Rolling { .. } => {
                self.roll_back(cause, evidence);
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
                        let deadline = self.at + self.stages().warmup_duration;
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
            Phase::Pending
            | Phase::Validating
            | Phase::AwaitingApproval
            | Phase::Loading { .. }
            | Phase::SmokeTesting
            | Phase::Shadowing { .. }
            | Phase::AwaitingPromotion { .. } => self.release_candidate(),
            Phase::Shifting { .. }
            | Phase::Testing { .. }
            | Phase::Rolling { .. }
            | Phase::Watching { .. } => {
                let to = self.rollout.plan.previous.clone();
                self.publish(RouteChange::Switch { to, keep_warm: None });
            }
            _ => return,
        }
        self.record("cancelled", &cause, json!({"by": by}));
        self.rollout.phase = Phase::Cancelled { cause };
    }
}
