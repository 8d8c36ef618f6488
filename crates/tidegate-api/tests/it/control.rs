//! A stand-in for the controller: a deployment is done as soon as it is created.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use tidegate_api::{
    CommandError, CreateDeploymentError, DeploymentCommand, DeploymentControl, NewDeployment,
};
use tidegate_core::{
    Arm, Clock, DeploymentId, DeploymentStatus, Environment, IdSource, ModelId, Precision, Route, StickyBy,
    VersionId,
};
use tidegate_delivery::{Phase, Plan, Rollout};
use tidegate_serve::{Server, SlotSpec};
use tidegate_store::{
    ArtifactStore, CommitError, CreateError, DeploymentRecord, NewEvent, Store, StoreError, Transition,
};

pub struct FakeControl {
    pub store: Arc<Store>,
    pub artifacts: Arc<ArtifactStore>,
    pub server: Arc<Server>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<IdSource>,
}

/// Created by this principal, a deployment stays in progress.
pub const SLOW_PERSON: &str = "slow";

/// Created by this principal, a deployment hits a bug of ours.
pub const UNLUCKY_PERSON: &str = "unlucky";

#[async_trait]
impl DeploymentControl for FakeControl {
    async fn create(&self, new: NewDeployment) -> Result<DeploymentRecord, CreateDeploymentError> {
        assert!(new.initiated_by != UNLUCKY_PERSON, "a bug, with secrets in its words");
        let now = self.clock.now();
        let route = self.store.routes.get(new.environment, &new.model.id).await?;
        let previous = route.and_then(|route| route.arms.first().map(|arm| arm.version_id.clone()));
        if previous.as_ref() == Some(&new.version.id) {
            return Err(CreateDeploymentError::AlreadyServing { version: new.version.version });
        }
        let id: DeploymentId = self.ids.next(now);
        let plan = Plan {
            initiated_by: new.initiated_by.clone(),
            needs_approval: false,
            override_validation: None,
            deployment_id: id.clone(),
            model_id: new.model.id.clone(),
            environment: new.environment,
            candidate: new.version.id.clone(),
            previous: previous.clone(),
            strategy: new.strategy.clone(),
        };
        let mut record = DeploymentRecord {
            id,
            model_id: new.model.id.clone(),
            version_id: new.version.id.clone(),
            previous_version_id: previous,
            environment: new.environment,
            strategy: new.strategy.kind(),
            strategy_config: new.strategy.to_json(),
            status: DeploymentStatus::Pending,
            progress_percentage: 0,
            traffic_percentage: 0,
            initiated_by: new.initiated_by.clone(),
            started_at: now,
            completed_at: None,
            rolled_back_at: None,
            error_message: None,
            validation_result: None,
            state: json!(Rollout { phase: Phase::Done, ..Rollout::new(plan) }),
            revision: 0,
            is_settled: false,
        };
        self.store.deployments.create(&record, &[]).await.map_err(|error| match error {
            CreateError::InProgress { deployment_id } => CreateDeploymentError::InProgress { deployment_id },
            CreateError::Store(error) => CreateDeploymentError::Store(error),
        })?;
        if new.initiated_by != SLOW_PERSON {
            record.status = DeploymentStatus::Active;
            record.progress_percentage = 100;
            record.traffic_percentage = 100;
            record.is_settled = true;
            record.completed_at = Some(now);
            self.publish(&mut record, Some(new.version.id), "switched").await?;
        }
        Ok(DeploymentRecord { status: DeploymentStatus::Pending, ..record })
    }

    async fn rollback(
        &self,
        id: &DeploymentId,
        by: &str,
        reason: &str,
        _force: bool,
    ) -> Result<DeploymentRecord, CommandError> {
        let mut record = self.store.deployments.get(id).await?.ok_or(CommandError::NotFound)?;
        if record.status == DeploymentStatus::RolledBack {
            return Err(CommandError::Refused { reason: "it is rolled back already".to_owned() });
        }
        record.status = DeploymentStatus::RolledBack;
        record.rolled_back_at = Some(self.clock.now());
        let previous = record.previous_version_id.clone();
        self.publish(&mut record, previous, &format!("rolled back by {by}: {reason}")).await?;
        Ok(record)
    }

    async fn command(
        &self,
        id: &DeploymentId,
        by: &str,
        command: DeploymentCommand,
    ) -> Result<DeploymentRecord, CommandError> {
        let mut record = self.store.deployments.get(id).await?.ok_or(CommandError::NotFound)?;
        let DeploymentCommand::Cancel { reason } = command else { return Ok(record) };
        if !record.status.in_progress() {
            return Err(CommandError::Refused { reason: "it is over already".to_owned() });
        }
        record.status = DeploymentStatus::Cancelled;
        record.is_settled = true;
        let previous = record.previous_version_id.clone();
        self.publish(&mut record, previous, &format!("cancelled by {by}: {reason}")).await?;
        Ok(record)
    }
}

impl FakeControl {
    async fn publish(
        &self,
        record: &mut DeploymentRecord,
        to: Option<VersionId>,
        message: &str,
    ) -> Result<(), StoreError> {
        let current = self.store.routes.get(record.environment, &record.model_id).await?;
        let route = Route {
            environment: record.environment,
            model_id: record.model_id.clone(),
            generation: current.map_or(1, |route| route.generation + 1),
            deployment_id: record.id.clone(),
            arms: to.iter().cloned().map(Arm::all).collect(),
            warm: vec![],
            shadow: None,
            moved: None,
            sticky_by: StickyBy::default(),
        };
        let event = NewEvent {
            at: self.clock.now(),
            kind: "Switched".to_owned(),
            message: message.to_owned(),
            evidence: json!({"samples": 100}),
        };
        let transition =
            Transition { record: record.clone(), events: vec![event], route: Some(route), fence: None };
        record.revision = match self.store.deployments.commit(&transition).await {
            Ok(revision) => revision,
            Err(CommitError::Store(error)) => return Err(error),
            Err(other) => panic!("{other}"),
        };
        self.follow(record.environment, &record.model_id).await
    }

    async fn follow(&self, environment: Environment, model_id: &ModelId) -> Result<(), StoreError> {
        let route = self.store.routes.get(environment, model_id).await?.unwrap();
        let model = self.store.models.get(model_id).await?.unwrap();
        let mut slots = Vec::new();
        for arm in &route.arms {
            let version = self.store.versions.get(&arm.version_id).await?.unwrap();
            let primary = version.primary;
            let path = self.artifacts.local_path(&primary.path, &primary.sha256, &std::env::temp_dir()).await;
            let spec = SlotSpec {
                version_id: version.id,
                model_name: model.name.clone(),
                number: version.version,
                path: path.unwrap(),
                precision: Precision::F32,
            };
            slots.push(self.server.load(spec).await.unwrap());
        }
        self.server.apply(route, model.name, slots);
        Ok(())
    }
}
