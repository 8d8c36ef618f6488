//! Deployments: asking for one and looking at them.

pub(crate) mod commands;
pub(crate) mod progress;
pub(crate) mod view;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_core::{
    DeploymentId, DeploymentStatus, Environment, Model, StrategyKind, Timestamp, Version, VersionId,
};
use tidegate_delivery::StrategyConfig;
use tidegate_store::{DeploymentFilter, DeploymentRecord};
use utoipa::ToSchema;

use crate::context::Context;
use crate::control::NewDeployment;
use crate::error::{ApiError, ErrorBody, ErrorCode, ErrorDetail};
use crate::extract::{ApiJson, ApiPath, ApiQuery, Pagination, Principal};
use crate::native::events::{self, EventList, EventQuery};
use crate::native::follow::Log;
use crate::native::{models, versions};
use crate::operations::register::parse_number;
use view::{DeploymentView, Names};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateRequest {
    /// Id or name.
    #[schema(example = "refugee-camp-detector")]
    model_id: String,
    /// This or `version`; the highest number where both are missing.
    version_id: Option<String>,
    #[schema(example = "1.0.0")]
    version: Option<String>,
    #[schema(value_type = Option<String>, example = "BlueGreen")]
    strategy: Option<StrategyKind>,
    #[schema(value_type = Option<String>, example = "Production")]
    environment: Option<Environment>,
    /// What is missing has defaults; durations are ISO 8601 (`PT5M`) or short (`5m`).
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    strategy_config: Map<String, Value>,
    /// Goes on where validation fails; for those that the server lists as admins.
    r#override: Option<OverrideRequest>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OverrideRequest {
    /// For the event log.
    #[schema(example = "the sample is from before the flood")]
    reason: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateResponse {
    deployment_id: String,
    #[schema(value_type = String, example = "Pending")]
    status: DeploymentStatus,
    #[schema(value_type = String, example = "BlueGreen")]
    strategy: StrategyKind,
    #[schema(value_type = String, example = "Production")]
    environment: Environment,
    model_id: String,
    version_id: String,
    version: String,
    started_at: Timestamp,
}

/// Brings a version into an environment. Answers at once; GET the deployment to watch it.
#[utoipa::path(post, path = "/api/v1/deployments",
    operation_id = "createDeployment", tag = "deployments",
    request_body = CreateRequest, responses(
    (status = 202, body = CreateResponse, headers(("Location" = String))), (status = 400, body = ErrorBody),
    (status = 403, description = "Not an admin", body = ErrorBody), (status = 404, body = ErrorBody),
    (status = 409, description = "Another is in progress", body = ErrorBody),
    (status = 422, description = "The format cannot run yet", body = ErrorBody)))]
pub(crate) async fn create(
    State(context): State<Context>,
    principal: Principal,
    ApiJson(body): ApiJson<CreateRequest>,
) -> Result<(StatusCode, [(header::HeaderName, String); 1], Json<CreateResponse>), ApiError> {
    let strategy = strategy(&context, &body)?;
    let override_reason = override_reason(&body)?;
    let model = models::find(&context, &body.model_id).await?;
    let version = wanted_version(&context, &model, &body).await?;
    refuse_unrunnable(&version)?;
    let number = version.version.to_string();
    let environment = body.environment.unwrap_or(context.settings.default_environment);
    let initiated_by = principal.0;
    let new = NewDeployment { model, version, environment, strategy, initiated_by, override_reason };
    let record = context.control.create(new).await?;
    let location = format!("/api/v1/deployments/{}", record.id);
    let response = CreateResponse {
        deployment_id: record.id.to_string(),
        status: record.status,
        strategy: record.strategy,
        environment: record.environment,
        model_id: record.model_id.to_string(),
        version_id: record.version_id.to_string(),
        version: number,
        started_at: record.started_at,
    };
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(response)))
}

/// An override without a word of why helps nobody who reads the log.
fn override_reason(body: &CreateRequest) -> Result<Option<String>, ApiError> {
    let Some(OverrideRequest { reason }) = &body.r#override else { return Ok(None) };
    if reason.trim().is_empty() || reason.chars().count() > commands::MAX_REASON {
        let message =
            format!("say why, in at most {} characters: the event log keeps it", commands::MAX_REASON);
        return Err(ApiError::invalid("override.reason", message));
    }
    Ok(Some(reason.clone()))
}

fn strategy(context: &Context, body: &CreateRequest) -> Result<StrategyConfig, ApiError> {
    let kind = body.strategy.unwrap_or(context.settings.default_strategy);
    StrategyConfig::parse(kind, &body.strategy_config).map_err(|faults| {
        let detail = |fault: tidegate_delivery::ConfigFault| ErrorDetail::new(fault.field, fault.message);
        let details = faults.into_iter().map(detail).collect();
        ApiError::faults(ErrorCode::ValidationError, "the strategy does not fit", details)
    })
}

async fn wanted_version(context: &Context, model: &Model, body: &CreateRequest) -> Result<Version, ApiError> {
    let name = model.name.as_str();
    match (&body.version_id, &body.version) {
        (Some(_), Some(_)) => Err(ApiError::invalid("version", "give `version` or `versionId`, not both")),
        (Some(id), None) => {
            let found = context.store.versions.get(&VersionId::new(id)).await?;
            let found = found.filter(|version| version.model_id == model.id);
            found.ok_or_else(|| ApiError::version_not_found(name, id))
        }
        (None, Some(number)) => {
            let number = parse_number("version", number)?;
            versions::find(context, model, &number.to_string()).await
        }
        (None, None) => {
            let latest = context.store.versions.latest(&model.id).await?;
            latest.ok_or_else(|| ApiError::version_not_found(name, "(latest)"))
        }
    }
}

fn refuse_unrunnable(version: &Version) -> Result<(), ApiError> {
    if version.artifacts.iter().any(|artifact| artifact.format.is_runnable()) {
        return Ok(());
    }
    let message = format!(
        "version {} cannot run yet: its artifact `{}` is {}, and this server runs ONNX; export the model to ONNX and \
         register it as a new version",
        version.version, version.primary.name, version.primary.format
    );
    Err(ApiError::new(ErrorCode::UnprocessableArtifact, message)
        .with_detail("version", "no artifact that can run"))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeploymentQuery {
    /// Id or name.
    model_id: Option<String>,
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
    #[param(value_type = Option<String>)]
    status: Option<DeploymentStatus>,
    /// 1 to 100, default 20.
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeploymentList {
    deployments: Vec<DeploymentView>,
    /// Over all pages.
    total: u64,
    limit: u32,
    offset: u32,
}

/// The deployments, newest first.
#[utoipa::path(get, path = "/api/v1/deployments",
    operation_id = "listDeployments", tag = "deployments",
    params(DeploymentQuery), responses(
    (status = 200, body = DeploymentList), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<DeploymentQuery>,
) -> Result<Json<DeploymentList>, ApiError> {
    let page = Pagination { limit: query.limit, offset: query.offset }.page()?;
    let model_id = match &query.model_id {
        Some(id_or_name) => Some(models::find(&context, id_or_name).await?.id),
        None => None,
    };
    let filter = DeploymentFilter { model_id, environment: query.environment, status: query.status };
    let listing = context.store.deployments.list(&filter, page).await?;
    let mut names = Names::default();
    let mut deployments = Vec::with_capacity(listing.items.len());
    for record in listing.items {
        deployments.push(DeploymentView::of(&context, record, &mut names).await?);
    }
    Ok(Json(DeploymentList { deployments, total: listing.total, limit: page.limit, offset: page.offset }))
}

/// One deployment: where it stands and why.
#[utoipa::path(get, path = "/api/v1/deployments/{id}",
    operation_id = "getDeployment", tag = "deployments",
    params(("id" = String, Path)),
    responses((status = 200, body = DeploymentView), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(context): State<Context>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<DeploymentView>, ApiError> {
    let record = find(&context, &DeploymentId::new(id)).await?;
    Ok(Json(DeploymentView::of(&context, record, &mut Names::default()).await?))
}

/// What happened in a deployment and on what evidence, in order: a page of it, or, with `Accept: text/event-stream`, each
/// event as it happens until the deployment is settled.
#[utoipa::path(get, path = "/api/v1/deployments/{id}/events",
    operation_id = "listDeploymentEvents", tag = "deployments",
    params(("id" = String, Path), EventQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Of a stream that was cut off: goes on after this event")),
    responses(
        (status = 200, content((EventList = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "The deployment is settled and nothing is left to stream"),
        (status = 404, body = ErrorBody), (status = 503, description = "Too many streams", body = ErrorBody)))]
pub(crate) async fn events(
    State(context): State<Context>,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let record = find(&context, &DeploymentId::new(id)).await?;
    events::answer(context, Log::Deployment(record.id), &query, &headers).await
}

async fn find(context: &Context, id: &DeploymentId) -> Result<DeploymentRecord, ApiError> {
    context.store.deployments.get(id).await?.ok_or_else(ApiError::deployment_not_found)
}
