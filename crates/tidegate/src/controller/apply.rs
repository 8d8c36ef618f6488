//! Committing one event: read, step, write against what was read, and only then act on it.

use jiff::Timestamp;
use tidegate_core::{DeploymentId, DeploymentStatus, Route};
use tidegate_delivery::{Command, Effect, Event, EventKind, Rollout, step};
use tidegate_store::{CommitError, DeploymentRecord, Fence, NewEvent, StoreError, Transition};

use super::Controller;

/// How often a commit is tried again when somebody else committed first. Each loser's rival made progress.
const MAX_ATTEMPTS: usize = 20;

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("deployment `{0}` does not exist")]
    NotFound(DeploymentId),
    /// Another process holds the lease now: stop acting.
    #[error("the lease of the deployment has passed to another process")]
    Fenced,
    #[error("others kept changing the deployment; try again")]
    Contended,
    #[error("failed to read the state of deployment `{id}`; was it written by a newer release?")]
    Unreadable { id: DeploymentId, source: serde_json::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a rollout out of its record.
pub(super) fn rollout_of(record: &DeploymentRecord) -> Result<Rollout, ApplyError> {
    serde_json::from_value(record.state.clone())
        .map_err(|source| ApplyError::Unreadable { id: record.id.clone(), source })
}

impl Controller {
    /// Steps the deployment by what `make_event` makes of the rollout and the route as they are when it is committed.
    /// `None` or an event that changes nothing leaves everything as it is.
    pub(super) async fn apply(
        &self,
        id: &DeploymentId,
        fence: Option<&Fence>,
        make_event: impl Fn(&Rollout, Option<&Route>) -> Option<EventKind> + Send,
    ) -> Result<DeploymentRecord, ApplyError> {
        for _ in 0..MAX_ATTEMPTS {
            let record = self.record(id).await?;
            let rollout = rollout_of(&record)?;
            let route = self.ledger.route(rollout.plan.environment, &rollout.plan.model_id).await?;
            let Some(kind) = make_event(&rollout, route.as_ref()) else { return Ok(record) };
            let at = self.clock.now();
            let (stepped, effects) = step(rollout.clone(), Event { at, kind });
            if stepped == rollout && effects.is_empty() {
                return Ok(record);
            }
            let transition = transition(record, &stepped, &effects, route.as_ref(), fence, at);
            match self.ledger.commit(&transition).await {
                Ok(()) => {
                    self.committed(&transition).await;
                    return self.record(id).await;
                }
                Err(CommitError::Conflict) => {}
                Err(CommitError::Fenced) => return Err(ApplyError::Fenced),
                Err(CommitError::Store(error)) => return Err(error.into()),
            }
        }
        Err(ApplyError::Contended)
    }

    pub(super) async fn record(&self, id: &DeploymentId) -> Result<DeploymentRecord, ApplyError> {
        self.ledger.deployment(id).await?.ok_or_else(|| ApplyError::NotFound(id.clone()))
    }

    /// Brings this process in line with what was committed, before anybody is told.
    async fn committed(&self, transition: &Transition) {
        for event in &transition.events {
            tracing::info!(deployment = %transition.record.id, kind = event.kind, "{}", event.message);
        }
        if let Some(route) = &transition.route {
            self.hands.follow(route.environment, &route.model_id).await;
        }
        self.changed.notify_waiters();
    }
}

/// The commands that people give, as events.
pub fn rollback_event(by: &str, reason: &str, rollout: &Rollout, route: Option<&Route>) -> EventKind {
    let previous = rollout.plan.previous.as_ref();
    let previous_is_warm =
        route.is_some_and(|route| route.versions().any(|version| Some(version) == previous));
    let (by, reason) = (by.to_owned(), reason.to_owned());
    EventKind::Command(Command::Rollback { by, reason, previous_is_warm })
}

fn transition(
    record: DeploymentRecord,
    rollout: &Rollout,
    effects: &[Effect],
    route: Option<&Route>,
    fence: Option<&Fence>,
    at: Timestamp,
) -> Transition {
    let mut next_route = None;
    let mut events = Vec::new();
    let mut validation_result = record.validation_result.clone();
    for effect in effects {
        match effect {
            Effect::Publish(change) => {
                next_route = Some(change.apply(&rollout.plan, next_route.as_ref().or(route)));
            }
            Effect::Record { kind, message, evidence } => {
                if evidence.get("checks").is_some() {
                    validation_result = Some(evidence.clone());
                }
                let (kind, message) = ((*kind).to_owned(), message.clone());
                events.push(NewEvent { at, kind, message, evidence: evidence.clone() });
            }
            Effect::Perform(_) => {}
        }
    }
    let status = rollout.status();
    let ended = rollout.is_settled() || status == DeploymentStatus::Active;
    let record = DeploymentRecord {
        status,
        progress_percentage: rollout.phase.progress_percentage(&rollout.plan),
        traffic_percentage: rollout.phase.traffic_percentage(&rollout.plan),
        completed_at: if ended { record.completed_at.or(Some(at)) } else { None },
        rolled_back_at: match status {
            DeploymentStatus::RolledBack => record.rolled_back_at.or(Some(at)),
            _ => None,
        },
        error_message: rollout.phase.cause().map(str::to_owned),
        validation_result,
        state: serde_json::to_value(rollout).expect("a rollout is plain data with string keys"),
        is_settled: rollout.is_settled(),
        ..record
    };
    Transition { record, events, route: next_route, fence: fence.cloned() }
}
