//! The phases of a rollout: each carries only its own data.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use tidegate_core::route::BUCKETS;
use tidegate_core::{DeploymentStatus, ReplicaId, Timestamp, VersionId};

use super::Plan;
use crate::config::StrategyConfig;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase")]
pub enum Phase {
    /// Waits for its turn.
    Pending,
    /// Artifact, signature and probe prediction are checked; no traffic.
    Validating,
    /// Waits until somebody other than the initiator approves.
    AwaitingApproval,
    /// The candidate loads and warms up beside what runs; no traffic.
    Loading { deadline: Timestamp },
    /// The candidate answers samples; no traffic.
    SmokeTesting,
    /// The candidate has the share of a step and is compared with the previous version over the same minutes.
    Shifting {
        /// The step, counted from 0.
        step: usize,
        since: Timestamp,
        /// Without a verdict by then, the rollout is rolled back.
        deadline: Timestamp,
    },
    /// Callers are split between both versions until one has won.
    Testing {
        since: Timestamp,
        /// After which there is no winner.
        deadline: Timestamp,
    },
    /// The candidate runs copies of requests; no traffic.
    Shadowing {
        since: Timestamp,
        /// Without a verdict by then, the version is let go of.
        deadline: Timestamp,
    },
    /// The copies were answered well; a person decides whether the candidate takes the traffic.
    AwaitingPromotion { until: Timestamp },
    /// The replicas move to the candidate in batches.
    Rolling {
        /// Those that were told to move, in that order.
        moved: Vec<ReplicaId>,
        /// Live replicas when it was last looked.
        n_replicas: u32,
        /// Looks that found a moved replica unhealthy.
        failures: u32,
        /// Since when both versions are compared.
        began: Timestamp,
        /// When the present batch moved, or was last looked at.
        since: Timestamp,
        /// Without a healthy batch by then, the rollout is rolled back.
        deadline: Timestamp,
    },
    /// The candidate has all traffic; the previous version is warm.
    Watching { until: Timestamp },
    /// Done well; the previous version stays warm for a while.
    KeepingPrevious { until: Timestamp },
    /// Done well; only the candidate is loaded.
    Done,
    /// A rollback was asked for after the previous version was let go: it loads again, the candidate still serves.
    Restoring { deadline: Timestamp, cause: String },
    /// Ended before it had traffic.
    Failed { cause: String },
    /// Ended on the previous version.
    RolledBack { cause: String },
    /// Ended by a person's wish, on the previous version.
    Cancelled { cause: String },
}

/// What a phase needs done. Idempotent: doing it again is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    Validate {
        version: VersionId,
    },
    /// Report when the version, which the route names, is loaded everywhere.
    AwaitLoaded {
        version: VersionId,
    },
    SmokeTest {
        version: VersionId,
        samples: u32,
    },
    /// Report now and then what the version answers, and what the one before had answered.
    Observe {
        version: VersionId,
        previous: Option<VersionId>,
    },
    /// Report now and then what both versions answered since the step began.
    Compare {
        baseline: VersionId,
        candidate: VersionId,
        since: Timestamp,
    },
    /// Report now and then how the candidate's answers to copies compare since then.
    Mirror {
        candidate: VersionId,
        since: Timestamp,
    },
    /// Report now and then how the replicas are, and what both versions answered since then.
    Inspect {
        baseline: VersionId,
        candidate: VersionId,
        since: Timestamp,
    },
}

impl Phase {
    pub fn status(&self) -> DeploymentStatus {
        match self {
            Self::Pending => DeploymentStatus::Pending,
            Self::Validating => DeploymentStatus::Validating,
            Self::AwaitingApproval | Self::AwaitingPromotion { .. } => DeploymentStatus::AwaitingApproval,
            Self::Loading { .. }
            | Self::SmokeTesting
            | Self::Shifting { .. }
            | Self::Testing { .. }
            | Self::Shadowing { .. }
            | Self::Rolling { .. }
            | Self::Watching { .. }
            | Self::Restoring { .. } => DeploymentStatus::Deploying,
            Self::KeepingPrevious { .. } | Self::Done => DeploymentStatus::Active,
            Self::Failed { .. } => DeploymentStatus::Failed,
            Self::RolledBack { .. } => DeploymentStatus::RolledBack,
            Self::Cancelled { .. } => DeploymentStatus::Cancelled,
        }
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Validating => "Validating",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Loading { .. } => "Loading",
            Self::SmokeTesting => "SmokeTesting",
            Self::Shifting { .. } => "Shifting",
            Self::Testing { .. } => "Testing",
            Self::Shadowing { .. } => "Shadowing",
            Self::AwaitingPromotion { .. } => "AwaitingPromotion",
            Self::Rolling { .. } => "Rolling",
            Self::Watching { .. } => "Watching",
            Self::KeepingPrevious { .. } => "KeepingPrevious",
            Self::Done => "Done",
            Self::Restoring { .. } => "Restoring",
            Self::Failed { .. } => "Failed",
            Self::RolledBack { .. } => "RolledBack",
            Self::Cancelled { .. } => "Cancelled",
        }
    }

    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Done | Self::Failed { .. } | Self::RolledBack { .. } | Self::Cancelled { .. })
    }

    /// How far along, in percent; for a progress bar, not for decisions.
    pub fn progress_percentage(&self, plan: &Plan) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Validating | Self::AwaitingApproval => 10,
            Self::Loading { .. } => 20,
            Self::SmokeTesting => 30,
            // Half of the bar is the shift of traffic.
            Self::Shifting { .. } | Self::Rolling { .. } => 30 + self.traffic_percentage(plan) / 2,
            Self::Testing { .. } | Self::Shadowing { .. } => 50,
            Self::AwaitingPromotion { .. } => 70,
            Self::Watching { .. } => 80,
            Self::Restoring { .. } => 90,
            _ => 100,
        }
    }

    /// The candidate's share of the traffic, in percent.
    pub fn traffic_percentage(&self, plan: &Plan) -> u8 {
        match self {
            Self::Shifting { step, .. } => match &plan.strategy {
                StrategyConfig::Canary(canary) => percent(canary.share_of_step(*step)),
                _ => 0,
            },
            Self::Testing { .. } => match &plan.strategy {
                StrategyConfig::ABTesting(test) => percent(test.weight / (BUCKETS / 100)),
                _ => 0,
            },
            Self::Rolling { moved, n_replicas, .. } => {
                let n_moved = u32::try_from(moved.len()).unwrap_or(u32::MAX);
                percent(n_moved.saturating_mul(100) / (*n_replicas).max(1))
            }
            Self::Watching { .. } | Self::KeepingPrevious { .. } | Self::Done | Self::Restoring { .. } => 100,
            _ => 0,
        }
    }

    /// Why it ended otherwise than hoped.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Failed { cause } | Self::RolledBack { cause } | Self::Cancelled { cause } => Some(cause),
            Self::Restoring { cause, .. } => Some(cause),
            _ => None,
        }
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        match self {
            Self::Loading { deadline }
            | Self::Restoring { deadline, .. }
            | Self::Shifting { deadline, .. }
            | Self::Testing { deadline, .. }
            | Self::Shadowing { deadline, .. }
            | Self::Rolling { deadline, .. } => Some(*deadline),
            Self::Watching { until }
            | Self::KeepingPrevious { until }
            | Self::AwaitingPromotion { until } => Some(*until),
            _ => None,
        }
    }

    /// Moves what is due in the phase by as long as it was paused. Evidence goes on counting.
    pub(super) fn postpone(&mut self, by: SignedDuration) {
        match self {
            Self::Loading { deadline }
            | Self::Restoring { deadline, .. }
            | Self::Shifting { deadline, .. }
            | Self::Testing { deadline, .. }
            | Self::Shadowing { deadline, .. }
            | Self::Rolling { deadline, .. } => *deadline += by,
            Self::Watching { until }
            | Self::KeepingPrevious { until }
            | Self::AwaitingPromotion { until } => {
                *until += by;
            }
            _ => {}
        }
    }

    pub(super) fn work(&self, plan: &Plan) -> Option<Work> {
        let version = plan.candidate.clone();
        match self {
            Self::Validating => Some(Work::Validate { version }),
            Self::Loading { .. } => Some(Work::AwaitLoaded { version }),
            Self::SmokeTesting => {
                Some(Work::SmokeTest { version, samples: plan.strategy.stages().smoke_test_samples })
            }
            Self::Shifting { since, .. } | Self::Testing { since, .. } => {
                let baseline = plan.previous.clone()?;
                Some(Work::Compare { baseline, candidate: version, since: *since })
            }
            Self::Shadowing { since, .. } => Some(Work::Mirror { candidate: version, since: *since }),
            Self::Rolling { began, .. } => {
                let baseline = plan.previous.clone()?;
                Some(Work::Inspect { baseline, candidate: version, since: *began })
            }
            Self::Watching { .. } => Some(Work::Observe { version, previous: plan.previous.clone() }),
            Self::Restoring { .. } => {
                plan.previous.clone().map(|previous| Work::AwaitLoaded { version: previous })
            }
            _ => None,
        }
    }
}

fn percent(share: u32) -> u8 {
    u8::try_from(share.min(100)).unwrap_or(100)
}
