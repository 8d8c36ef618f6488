//! What the API may ask of the controller.

use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::json;
use tidegate_api::{
    ANONYMOUS, CommandError, CreateDeploymentError, DeploymentCommand, DeploymentControl, NewDeployment,
};
use tidegate_core::{DeploymentId, DeploymentStatus, Environment, ModelId, Route, Timestamp, VersionId};
use tidegate_delivery::{Command, EventKind, Override, Phase, Plan, Rollout};
use tidegate_store::{CreateError, DeploymentRecord, NewEvent, StoreError};

use super::Controller;
use super::apply::{ApplyError, rollback_event, rollout_of};

/// How long a rollback waits to answer with the end of what it started, before it answers with how far that has come.
const COMMAND_WAIT: Duration = Duration::from_secs(30);

#[async_trait]
impl DeploymentControl for Controller {
    async fn create(&self, new: NewDeployment) -> Result<DeploymentRecord, CreateDeploymentError> {
        let NewDeployment { model, version, environment, strategy, initiated_by, override_reason } = new;
        let override_validation = override_reason.map(|reason| self.overriding(&initiated_by, reason));
        let override_validation = override_validation.transpose()?;
        let route = self.ledger.route(environment, &model.id).await?;
        let previous = route.as_ref().and_then(serving);
        if previous.as_ref() == Some(&version.id) {
            return Err(CreateDeploymentError::AlreadyServing { version: version.version });
        }
        if previous.is_none() && strategy.needs_previous() {
            return Err(CreateDeploymentError::NothingToCompare { strategy: strategy.kind() });
        }
        let now = self.next_start(&model.id, environment).await?;
        let plan = Plan {
            deployment_id: self.ids.next(now),
            model_id: model.id,
            environment,
            candidate: version.id,
            previous,
            strategy,
            initiated_by: initiated_by.clone(),
            needs_approval: self.settings.require_approval.contains(&environment),
            override_validation,
        };
        let rollout = Rollout::new(plan.clone());
        let record = DeploymentRecord {
            id: plan.deployment_id,
            model_id: plan.model_id,
            version_id: plan.candidate,
            previous_version_id: plan.previous,
            environment,
            strategy: plan.strategy.kind(),
            strategy_config: plan.strategy.to_json(),
            status: rollout.status(),
            progress_percentage: 0,
            traffic_percentage: 0,
            initiated_by: plan.initiated_by,
            started_at: now,
            completed_at: None,
            rolled_back_at: None,
            error_message: None,
            validation_result: None,
            state: serde_json::to_value(&rollout).expect("a rollout is plain data with string keys"),
            revision: 0,
            is_settled: false,
        };
        let created = NewEvent {
            at: now,
            kind: "created".to_owned(),
            message: format!(
                "{initiated_by} asked for {} {} in {environment} by {}",
                model.name,
                version.version,
                plan.strategy.kind()
            ),
            evidence: json!({"by": initiated_by}),
        };
        match self.ledger.create(&record, &[created]).await {
            Ok(()) => {}
            Err(CreateError::InProgress { deployment_id }) => {
                return Err(CreateDeploymentError::InProgress { deployment_id });
            }
            Err(CreateError::Store(error)) => return Err(error.into()),
        }
        self.changed.notify_waiters();
        Ok(record)
    }

    async fn rollback(
        &self,
        id: &DeploymentId,
        by: &str,
        reason: &str,
        force: bool,
    ) -> Result<DeploymentRecord, CommandError> {
        let record = self.record(id).await.map_err(command_error)?;
        self.refuse_if_past(&record, "roll back").await?;
        if record.traffic_percentage > 0 && record.previous_version_id.is_none() && !force {
            let reason = "there is no version before it to go back to; deploy another one, or force the rollback: then \
                          nothing serves";
            return Err(CommandError::Refused { reason: reason.to_owned() });
        }
        let event = |rollout: &Rollout, route: Option<&Route>| {
            still_serving(rollout, route).then(|| rollback_event(by, reason, rollout, route))
        };
        let record = self.apply(id, None, event).await.map_err(command_error)?;
        let record = self.wait_for_end(record).await?;
        if record.status != DeploymentStatus::RolledBack && record.is_settled {
            let reason = "the rollback did not take effect: see the deployment's events".to_owned();
            return Err(CommandError::Refused { reason });
        }
        Ok(record)
    }

    async fn command(
        &self,
        id: &DeploymentId,
        by: &str,
        command: DeploymentCommand,
    ) -> Result<DeploymentRecord, CommandError> {
        let record = self.record(id).await.map_err(command_error)?;
        let rollout = rollout_of(&record).map_err(command_error)?;
        if let Some(reason) = why_not(&rollout, by, &command) {
            return Err(CommandError::Refused { reason });
        }
        let kind = EventKind::Command(command_of(command, by));
        self.apply(id, None, |_, _| Some(kind.clone())).await.map_err(command_error)
    }
}

/// Why a command makes no sense now, in words for the one who gave it.
fn why_not(rollout: &Rollout, by: &str, command: &DeploymentCommand) -> Option<String> {
    let status = rollout.status();
    let phase = rollout.phase.name();
    match command {
        DeploymentCommand::Cancel { .. } if !status.in_progress() => {
            Some(format!("the deployment is {status}; only one in progress can be cancelled"))
        }
        DeploymentCommand::Approve if rollout.phase != Phase::AwaitingApproval => {
            Some(format!("the deployment is {phase}; it waits for no approval"))
        }
        DeploymentCommand::Approve if by == ANONYMOUS => {
            Some("say who approves: send the header X-Tidegate-User".to_owned())
        }
        DeploymentCommand::Approve if by == rollout.plan.initiated_by => {
            Some(format!("`{by}` asked for this deployment; somebody else must approve it"))
        }
        DeploymentCommand::Promote
            if !matches!(
                rollout.phase,
                Phase::Shifting { .. }
                    | Phase::Testing { .. }
                    | Phase::Shadowing { .. }
                    | Phase::AwaitingPromotion { .. }
                    | Phase::Rolling { .. }
                    | Phase::Watching { .. }
            ) =>
        {
            Some(format!(
                "the deployment is {phase}; it can be promoted while versions are compared or watched"
            ))
        }
        DeploymentCommand::Pause if rollout.is_settled() => {
            Some(format!("the deployment is {status}: it is over"))
        }
        DeploymentCommand::Pause if rollout.paused_at.is_some() => Some("it is paused already".to_owned()),
        DeploymentCommand::Resume if rollout.paused_at.is_none() => Some("it is not paused".to_owned()),
        _ => None,
    }
}

fn command_of(command: DeploymentCommand, by: &str) -> Command {
    let by = by.to_owned();
    match command {
        DeploymentCommand::Cancel { reason } => Command::Cancel { by, reason },
        DeploymentCommand::Approve => Command::Approve { by },
        DeploymentCommand::Promote => Command::Promote { by },
        DeploymentCommand::Pause => Command::Pause { by },
        DeploymentCommand::Resume => Command::Resume { by },
    }
}

impl Controller {
    /// Now, or just after the newest deployment of the pair, where that was made by a process whose clock is ahead: the
    /// order of deployments is that of their start.
    async fn next_start(&self, model: &ModelId, environment: Environment) -> Result<Timestamp, StoreError> {
        let newest = self.ledger.newest(model, environment).await?;
        let after = newest.map(|newest| newest.started_at + SignedDuration::from_millis(1));
        Ok(after.map_or_else(|| self.clock.now(), |after| after.max(self.clock.now())))
    }

    /// Only by name: who did not say who they are cannot answer for it.
    fn overriding(&self, by: &str, reason: String) -> Result<Override, CreateDeploymentError> {
        let by = by.to_owned();
        if by == ANONYMOUS || !self.settings.admins.contains(&by) {
            return Err(CreateDeploymentError::MayNotOverride { by });
        }
        Ok(Override { by, reason })
    }

    async fn refuse_if_past(&self, record: &DeploymentRecord, what: &str) -> Result<(), CommandError> {
        let refused = |reason| Err(CommandError::Refused { reason });
        if record.status.in_progress() {
            return Ok(());
        }
        if record.status != DeploymentStatus::Active {
            return refused(format!(
                "the deployment is already {}; there is nothing to {what}",
                record.status
            ));
        }
        let newest = self.ledger.newest(&record.model_id, record.environment).await?;
        if let Some(newer) = newest.filter(|newest| newest.id != record.id && newest.status.in_progress()) {
            return refused(format!(
                "deployment `{}` is in progress here; {what} or cancel that one",
                newer.id
            ));
        }
        let rollout = rollout_of(record).map_err(command_error)?;
        let route = self.ledger.route(record.environment, &record.model_id).await?;
        if still_serving(&rollout, route.as_ref()) {
            return Ok(());
        }
        let decided_by =
            route.map_or_else(String::new, |route| format!(": `{}` decided last", route.deployment_id));
        refused(format!("another deployment has replaced what this one served{decided_by}"))
    }

    /// Waits while a rollback that must first load the previous version is under way.
    async fn wait_for_end(&self, mut record: DeploymentRecord) -> Result<DeploymentRecord, CommandError> {
        let deadline = tokio::time::Instant::now() + COMMAND_WAIT;
        loop {
            let changed = self.changed.notified();
            let rollout = rollout_of(&record).map_err(command_error)?;
            if !matches!(rollout.phase, Phase::Restoring { .. }) || tokio::time::Instant::now() >= deadline {
                return Ok(record);
            }
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep(super::POLL_INTERVAL) => {}
            }
            record = self.record(&record.id).await.map_err(command_error)?;
        }
    }
}

/// Whether a finished deployment's version is still what the route names; one in progress always counts.
fn still_serving(rollout: &Rollout, route: Option<&Route>) -> bool {
    rollout.status() != DeploymentStatus::Active
        || route.and_then(serving).as_ref() == Some(&rollout.plan.candidate)
}

/// The version with the most traffic.
fn serving(route: &Route) -> Option<VersionId> {
    route.leader().map(|arm| arm.version_id.clone())
}

fn command_error(error: ApplyError) -> CommandError {
    match error {
        ApplyError::NotFound(_) => CommandError::NotFound,
        ApplyError::Store(error) => CommandError::Store(error),
        error => CommandError::Refused { reason: error.to_string() },
    }
}
