//! The state machine of a deployment.
//!
//! ```text
//! Pending -> Validating -> (AwaitingApproval) -> Loading -> SmokeTesting -> [how traffic moves] -> Watching
//!                                                                                                     |
//!                                                               Done <- KeepingPrevious <-------------+
//! how traffic moves:   Canary     Shifting (a step) -> Shifting (the next) -> ...
//!                      ABTesting  Testing
//!                      Shadow     Shadowing -> (AwaitingPromotion)
//!                      Rolling    Rolling (a batch) -> Rolling (the next) -> ...
//!                      BlueGreen  at once
//! ```
//!
//! Before it has traffic a rollout ends as Failed; once it has, as RolledBack; by a person's wish, as Cancelled. A rollback
//! of a finished one whose previous version was let go of passes through Restoring.
//!
//! [`step`] decides every (phase, event) pair and reads nothing but its arguments. The driver commits the new state and
//! the route change in one transaction, then performs the [`Work`] of the new phase and sends its outcome back. Which
//! work is due is a function of the phase alone ([`Rollout::work`]), so that a process that was killed knows what to do
//! again. Outcomes carry the epoch in which their work was asked for; a late one changes nothing.

mod kinds;
mod look;
mod outlook;
mod phase;
mod step;

pub use kinds::EVENT_KINDS;
pub use look::{Counts, Look, ReplicaLook};
pub use outlook::Outlook;
pub use phase::{Phase, Work};
pub use step::step;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::route::BUCKETS;
use tidegate_core::{
    Arm, DeploymentId, DeploymentStatus, Environment, ModelId, Moved, ReplicaId, Route, Shadow,
    ShadowSummary, StickyBy, Timestamp, VersionId,
};

use crate::analysis::ArmSummary;
use crate::config::StrategyConfig;
use crate::report::{Override, ValidationReport};

/// What was asked for; never changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub deployment_id: DeploymentId,
    pub model_id: ModelId,
    pub environment: Environment,
    /// The version that shall serve.
    pub candidate: VersionId,
    /// The version that served when the deployment was created, and to which a rollback returns.
    pub previous: Option<VersionId>,
    pub strategy: StrategyConfig,
    pub initiated_by: String,
    /// Whether somebody other than the initiator must approve before it loads.
    pub needs_approval: bool,
    /// Lets the deployment go on where validation fails for anything but a vital check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub override_validation: Option<Override>,
}

/// A deployment's durable state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    pub plan: Plan,
    pub phase: Phase,
    /// Grows by one with each change of phase.
    pub epoch: u64,
    /// Since when nothing moves forward by itself; a failing candidate is still rolled back.
    pub paused_at: Option<Timestamp>,
    /// Whether the log has been told why the present phase does not move on.
    pub is_held: bool,
}

/// Something that happened, and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// There is room for this deployment: begin.
    Start,
    /// [`Rollout::next_wake`] has come.
    Tick,
    /// Another driver takes it up: what the one before had counted is gone.
    TakenUp,
    /// A newer deployment of the same (environment, model) exists: what is warm is its business now.
    Superseded {
        by: DeploymentId,
    },
    Outcome {
        epoch: u64,
        outcome: Outcome,
    },
    Command(Command),
}

/// How the work of a phase went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Validated(ValidationReport),
    /// The awaited version is loaded and warm. `detail` says how fast and how large.
    Loaded {
        detail: String,
    },
    LoadFailed {
        reason: String,
    },
    SmokeTested {
        samples: u32,
        fault: Option<String>,
    },
    /// What the candidate has answered since the switch, and what the previous version had answered until then.
    Observed {
        candidate: ArmSummary,
        previous: ArmSummary,
    },
    /// What both versions have answered since the step began.
    Compared {
        baseline: ArmSummary,
        candidate: ArmSummary,
    },
    /// How the candidate's answers to copies compare with those that callers were sent.
    Mirrored(ShadowSummary),
    /// How the replicas are, and what both versions have answered since the first of them moved.
    Inspected {
        replicas: Vec<ReplicaHealth>,
        baseline: ArmSummary,
        candidate: ArmSummary,
    },
}

/// A live replica, as it reports itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaHealth {
    pub id: ReplicaId,
    /// Whether it answers with the candidate.
    pub serves_candidate: bool,
    /// Why it cannot, in its own words.
    pub fault: Option<String>,
}

/// What a person asks of a running deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `previous_is_warm`: whether the route that this is committed against keeps the previous version loaded.
    Rollback {
        by: String,
        reason: String,
        previous_is_warm: bool,
    },
    Cancel {
        by: String,
        reason: String,
    },
    Approve {
        by: String,
    },
    /// Takes the next step without waiting for evidence.
    Promote {
        by: String,
    },
    Pause {
        by: String,
    },
    Resume {
        by: String,
    },
}

/// What a step asks for. `Record` and `Publish` are committed with the state; `Perform` follows.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A line of the event log: what happened and why, in words, with what it rests on.
    Record {
        kind: &'static str,
        message: String,
        evidence: Value,
    },
    Publish(RouteChange),
    Perform(Work),
}

/// A change to the route of the deployment's (environment, model), made on top of whatever it is then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteChange {
    /// Load beside what runs, in place of whatever else is warm: never more than two versions are in memory.
    Warm(VersionId),
    /// Let go of a version that has no traffic.
    Cool(VersionId),
    /// `weight` of [`BUCKETS`] of the traffic to the candidate, the rest to the previous version.
    Split { previous: VersionId, candidate: VersionId, weight: u32, sticky_by: StickyBy },
    /// Copies of `share` of [`BUCKETS`] of the requests to the candidate, which is warm; traffic stays.
    Mirror { candidate: VersionId, share: u32 },
    /// These replicas answer with the candidate, the others go on as they are.
    Move { candidate: VersionId, replicas: Vec<ReplicaId> },
    /// All traffic to one version (or to none), at once; keep at most one other warm.
    Switch { to: Option<VersionId>, keep_warm: Option<VersionId> },
}

impl RouteChange {
    /// The route after the change.
    pub fn apply(&self, plan: &Plan, current: Option<&Route>) -> Route {
        let mut route = current.cloned().unwrap_or_else(|| Route {
            environment: plan.environment,
            model_id: plan.model_id.clone(),
            generation: 0,
            deployment_id: plan.deployment_id.clone(),
            arms: Vec::new(),
            warm: Vec::new(),
            shadow: None,
            moved: None,
            sticky_by: StickyBy::default(),
        });
        route.generation += 1;
        // Copies and moved replicas are of the change that asked for them, and end with the next one.
        (route.shadow, route.moved) = (None, None);
        match self {
            Self::Warm(version) => {
                route.warm = vec![version.clone()];
                route.warm.retain(|warm| route.arms.iter().all(|arm| arm.version_id != *warm));
            }
            Self::Cool(version) => route.warm.retain(|warm| warm != version),
            Self::Split { previous, candidate, weight, sticky_by } => {
                route.deployment_id = plan.deployment_id.clone();
                // The candidate last: growing it moves callers only towards it.
                route.arms = vec![
                    Arm { version_id: previous.clone(), weight: BUCKETS - weight },
                    Arm { version_id: candidate.clone(), weight: *weight },
                ];
                route.warm.clear();
                route.sticky_by = sticky_by.clone();
            }
            Self::Mirror { candidate, share } => {
                route.deployment_id = plan.deployment_id.clone();
                route.warm = vec![candidate.clone()];
                route.shadow = Some(Shadow { version_id: candidate.clone(), share: *share });
            }
            Self::Move { candidate, replicas } => {
                route.deployment_id = plan.deployment_id.clone();
                route.warm = vec![candidate.clone()];
                route.moved = Some(Moved { version_id: candidate.clone(), replicas: replicas.clone() });
            }
            Self::Switch { to, keep_warm } => {
                route.deployment_id = plan.deployment_id.clone();
                route.arms = to.iter().cloned().map(Arm::all).collect();
                route.warm = keep_warm.iter().filter(|warm| Some(*warm) != to.as_ref()).cloned().collect();
            }
        }
        route
    }
}

impl Rollout {
    pub fn new(plan: Plan) -> Self {
        Self { plan, phase: Phase::Pending, epoch: 0, paused_at: None, is_held: false }
    }

    pub fn status(&self) -> DeploymentStatus {
        self.phase.status()
    }

    /// Whether nothing more happens by itself.
    pub fn is_settled(&self) -> bool {
        self.phase.is_settled()
    }

    /// When a [`EventKind::Tick`] is due.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.phase.next_wake().filter(|_| self.paused_at.is_none())
    }

    /// What must be performed in this phase, also again after a restart.
    pub fn work(&self) -> Option<Work> {
        self.phase.work(&self.plan)
    }
}
