//! What a person may ask of a deployment.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tidegate_core::{DeploymentId, DeploymentStatus, Route, Timestamp, VersionId};
use tidegate_store::DeploymentRecord;
use utoipa::ToSchema;

use super::view::{DeploymentView, Names};
use crate::context::Context;
use crate::control::DeploymentCommand;
use crate::error::{ApiError, ErrorBody};
use crate::extract::{ApiPath, MaybeJson, Principal};

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RollbackRequest {
    /// For the event log.
    reason: Option<String>,
    /// Also when there is no version to go back to: nothing serves then.
    #[serde(default)]
    force: bool,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandRequest {
    /// For the event log.
    pub(crate) reason: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RollbackResponse {
    deployment_id: String,
    #[schema(value_type = String, example = "RolledBack")]
    status: DeploymentStatus,
    rolled_back_at: Option<Timestamp>,
    /// The version that was rolled back.
    previous_version: Option<String>,
    /// The version that answers now; null when nothing does.
    current_version: Option<String>,
}

/// Goes back to the version that served before, at once.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/rollback",
    operation_id = "rollbackDeployment", tag = "deployments",
    params(("id" = String, Path)),
    request_body(content = Option<RollbackRequest>), responses((status = 200, body = RollbackResponse),
    (status = 404, body = ErrorBody),
    (status = 409, description = "There is nothing to go back to", body = ErrorBody)))]
pub(crate) async fn rollback(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(id): ApiPath<String>,
    MaybeJson(body): MaybeJson<RollbackRequest>,
) -> Result<Json<RollbackResponse>, ApiError> {
    let reason = reason(body.reason, "asked for through the API")?;
    let id = DeploymentId::new(id);
    let record = context.control.rollback(&id, &principal.0, &reason, body.force).await?;
    let mut names = Names::default();
    let previous_version = names.number(&context, &record.version_id).await?;
    let current_version = match current(&context, &record).await? {
        Some(version_id) => names.number(&context, &version_id).await?,
        None => None,
    };
    Ok(Json(RollbackResponse {
        deployment_id: record.id.to_string(),
        status: record.status,
        rolled_back_at: record.rolled_back_at,
        previous_version,
        current_version,
    }))
}

/// Ends a deployment that is in progress; the version that served before goes on.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/cancel",
    operation_id = "cancelDeployment", tag = "deployments",
    params(("id" = String, Path)),
    request_body(content = Option<CommandRequest>), responses((status = 200, body = DeploymentView),
    (status = 404, body = ErrorBody), (status = 409, description = "It is over already", body = ErrorBody)))]
pub(crate) async fn cancel(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(id): ApiPath<String>,
    MaybeJson(body): MaybeJson<CommandRequest>,
) -> Result<Json<DeploymentView>, ApiError> {
    let reason = reason(body.reason, "asked for through the API")?;
    command(&context, id, &principal, DeploymentCommand::Cancel { reason }).await
}

/// Lets a deployment that waits for it go on; not by the one who asked for it.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/approve",
    operation_id = "approveDeployment", tag = "deployments",
    params(("id" = String, Path)), responses((status = 200, body = DeploymentView),
    (status = 404, body = ErrorBody), (status = 409, description = "It waits for no approval, or not for yours", body = ErrorBody)))]
pub(crate) async fn approve(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<DeploymentView>, ApiError> {
    command(&context, id, &principal, DeploymentCommand::Approve).await
}

/// Takes the next step without waiting for evidence.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/promote",
    operation_id = "promoteDeployment", tag = "deployments",
    params(("id" = String, Path)), responses((status = 200, body = DeploymentView),
    (status = 404, body = ErrorBody), (status = 409, description = "There is no next step now", body = ErrorBody)))]
pub(crate) async fn promote(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<DeploymentView>, ApiError> {
    command(&context, id, &principal, DeploymentCommand::Promote).await
}

/// Holds a deployment where it is; a failing version is still rolled back.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/pause",
    operation_id = "pauseDeployment", tag = "deployments",
    params(("id" = String, Path)), responses((status = 200, body = DeploymentView),
    (status = 404, body = ErrorBody), (status = 409, description = "It is over or paused already", body = ErrorBody)))]
pub(crate) async fn pause(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<DeploymentView>, ApiError> {
    command(&context, id, &principal, DeploymentCommand::Pause).await
}

/// Lets a paused deployment go on.
#[utoipa::path(post, path = "/api/v1/deployments/{id}/resume",
    operation_id = "resumeDeployment", tag = "deployments",
    params(("id" = String, Path)), responses((status = 200, body = DeploymentView),
    (status = 404, body = ErrorBody), (status = 409, description = "It is not paused", body = ErrorBody)))]
pub(crate) async fn resume(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<DeploymentView>, ApiError> {
    command(&context, id, &principal, DeploymentCommand::Resume).await
}

async fn command(
    context: &Context,
    id: String,
    principal: &Principal,
    command: DeploymentCommand,
) -> Result<Json<DeploymentView>, ApiError> {
    let record = context.control.command(&DeploymentId::new(id), &principal.0, command).await?;
    Ok(Json(DeploymentView::of(context, record, &mut Names::default()).await?))
}

pub(super) const MAX_REASON: usize = 1000;

pub(crate) fn reason(given: Option<String>, default: &str) -> Result<String, ApiError> {
    let reason = given.unwrap_or_default();
    if reason.chars().count() > MAX_REASON {
        return Err(ApiError::invalid("reason", format!("must be at most {MAX_REASON} characters")));
    }
    Ok(if reason.trim().is_empty() { default.to_owned() } else { reason })
}

/// The version with most of the traffic of the deployment's route.
async fn current(context: &Context, record: &DeploymentRecord) -> Result<Option<VersionId>, ApiError> {
    let route = context.store.routes.get(record.environment, &record.model_id).await?;
    Ok(route.as_ref().and_then(Route::leader).map(|arm| arm.version_id.clone()))
}
