//! The phases of a rollout: each carries only its own data.

use serde::{Deserialize, Serialize};
use tidegate_core::{DeploymentStatus, Timestamp, VersionId};

use super::Plan;
use crate::config::StrategyConfig;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase")]
pub enum Phase {
    /// Waits for its turn.
    Pending,
    /// Artifact, signature and probe prediction are checked; no traffic.
    Validating,
    /// The candidate loads and warms up beside what runs; no traffic.
    Loading { deadline: Timestamp },
    /// The candidate answers samples; no traffic.
    SmokeTesting,
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
    /// Report now and then what the version answers.
    Observe {
        version: VersionId,
    },
}

impl Phase {
    pub fn status(&self) -> DeploymentStatus {
        match self {
            Self::Pending => DeploymentStatus::Pending,
            Self::Validating => DeploymentStatus::Validating,
            Self::Loading { .. } | Self::SmokeTesting | Self::Watching { .. } | Self::Restoring { .. } => {
                DeploymentStatus::Deploying
            }
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
            Self::Loading { .. } => "Loading",
            Self::SmokeTesting => "SmokeTesting",
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
    pub fn progress_percentage(&self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Validating => 10,
            Self::Loading { .. } => 30,
            Self::SmokeTesting => 60,
            Self::Watching { .. } => 80,
            Self::Restoring { .. } => 90,
            _ => 100,
        }
    }

    /// The candidate's share of the traffic, in percent.
    pub fn traffic_percentage(&self) -> u8 {
        match self {
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
            Self::Loading { deadline } | Self::Restoring { deadline, .. } => Some(*deadline),
            Self::Watching { until } | Self::KeepingPrevious { until } => Some(*until),
            _ => None,
        }
    }

    pub(super) fn work(&self, plan: &Plan) -> Option<Work> {
        let StrategyConfig::BlueGreen(config) = &plan.strategy;
        let version = plan.candidate.clone();
        match self {
            Self::Validating => Some(Work::Validate { version }),
            Self::Loading { .. } => Some(Work::AwaitLoaded { version }),
            Self::SmokeTesting => Some(Work::SmokeTest { version, samples: config.smoke_test_samples }),
            Self::Watching { .. } => Some(Work::Observe { version }),
            Self::Restoring { .. } => {
                plan.previous.clone().map(|previous| Work::AwaitLoaded { version: previous })
            }
            _ => None,
        }
    }
}
