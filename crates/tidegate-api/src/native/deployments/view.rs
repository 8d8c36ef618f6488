//! Deployments and their events as the API shows them.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;
use tidegate_core::{DeploymentStatus, Environment, StrategyKind, Timestamp, VersionId};
use tidegate_delivery::Rollout;
use tidegate_store::DeploymentRecord;
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::ApiError;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeploymentView {
    deployment_id: String,
    model_id: String,
    model_name: Option<String>,
    version_id: String,
    version: Option<String>,
    /// What served when the deployment began, and to which a rollback returns.
    previous_version: Option<String>,
    #[schema(value_type = String, example = "Production")]
    environment: Environment,
    #[schema(value_type = String, example = "BlueGreen")]
    strategy: StrategyKind,
    #[schema(value_type = Object)]
    strategy_config: Value,
    #[schema(value_type = String, example = "Deploying")]
    status: DeploymentStatus,
    /// Finer than the status: `Loading`, `SmokeTesting`, `Watching`, ...
    phase: Option<&'static str>,
    /// Since when nothing moves forward by itself.
    paused_at: Option<Timestamp>,
    progress_percentage: u8,
    traffic_percentage: u8,
    initiated_by: String,
    started_at: Timestamp,
    completed_at: Option<Timestamp>,
    is_rolled_back: bool,
    rolled_back_at: Option<Timestamp>,
    error_message: Option<String>,
    #[schema(value_type = Option<Object>)]
    validation_result: Option<Value>,
}

impl DeploymentView {
    pub(super) async fn of(
        context: &Context,
        record: DeploymentRecord,
        names: &mut Names,
    ) -> Result<Self, ApiError> {
        let previous_version = match &record.previous_version_id {
            Some(id) => names.number(context, id).await?,
            None => None,
        };
        let rollout: Option<Rollout> = serde_json::from_value(record.state).ok();
        Ok(Self {
            model_name: names.model(context, &record.model_id).await?,
            version: names.number(context, &record.version_id).await?,
            previous_version,
            phase: rollout.as_ref().map(|rollout| rollout.phase.name()),
            paused_at: rollout.and_then(|rollout| rollout.paused_at),
            deployment_id: record.id.to_string(),
            model_id: record.model_id.to_string(),
            version_id: record.version_id.to_string(),
            environment: record.environment,
            strategy: record.strategy,
            strategy_config: record.strategy_config,
            status: record.status,
            progress_percentage: record.progress_percentage,
            traffic_percentage: record.traffic_percentage,
            initiated_by: record.initiated_by,
            started_at: record.started_at,
            completed_at: record.completed_at,
            is_rolled_back: record.rolled_back_at.is_some(),
            rolled_back_at: record.rolled_back_at,
            error_message: record.error_message,
            validation_result: record.validation_result,
        })
    }
}

/// Names of models and numbers of versions, each looked up once per request.
#[derive(Default)]
pub(crate) struct Names {
    models: HashMap<tidegate_core::ModelId, Option<String>>,
    numbers: HashMap<VersionId, Option<String>>,
}

impl Names {
    pub(crate) async fn model(
        &mut self,
        context: &Context,
        id: &tidegate_core::ModelId,
    ) -> Result<Option<String>, ApiError> {
        if let Some(name) = self.models.get(id) {
            return Ok(name.clone());
        }
        let name = context.store.models.get(id).await?.map(|model| model.name.to_string());
        self.models.insert(id.clone(), name.clone());
        Ok(name)
    }

    pub(crate) async fn number(
        &mut self,
        context: &Context,
        id: &VersionId,
    ) -> Result<Option<String>, ApiError> {
        if let Some(number) = self.numbers.get(id) {
            return Ok(number.clone());
        }
        let number = context.store.versions.get(id).await?.map(|version| version.version.to_string());
        self.numbers.insert(id.clone(), number.clone());
        Ok(number)
    }
}
