//! Jobs: work that takes longer than a caller waits. Asking for one, looking at it, ending it.

pub(crate) mod outputs;
pub(crate) mod raster;
pub(crate) mod scene_query;
mod view;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::{JobId, JobStatus};
use tidegate_store::{JobFilter, JobRecord, NewEvent};
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::{ApiPath, ApiQuery, MaybeJson, Pagination, Principal};
use crate::native::deployments::commands::{CommandRequest, reason};
use crate::native::deployments::view::Names;
use crate::native::events::{self, EventList, EventQuery};
use crate::native::follow::Log;
use crate::native::models;
use crate::operations::raster::job_prefix;
use view::JobView;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobQuery {
    /// Id or name.
    model_id: Option<String>,
    #[param(value_type = Option<String>)]
    status: Option<JobStatus>,
    /// 1 to 100, default 20.
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobList {
    jobs: Vec<JobView>,
    /// Over all pages.
    total: u64,
    limit: u32,
    offset: u32,
}

/// The jobs, newest first.
#[utoipa::path(get, path = "/api/v1/jobs", operation_id = "listJobs", tag = "jobs", params(JobQuery), responses(
    (status = 200, body = JobList), (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<JobQuery>,
) -> Result<Json<JobList>, ApiError> {
    let page = Pagination { limit: query.limit, offset: query.offset }.page()?;
    let model_id = match &query.model_id {
        Some(id_or_name) => Some(models::find(&context, id_or_name).await?.id),
        None => None,
    };
    let listing = context.store.jobs.list(&JobFilter { model_id, status: query.status }, page).await?;
    let mut names = Names::default();
    let mut jobs = Vec::with_capacity(listing.items.len());
    for record in listing.items {
        jobs.push(JobView::of(&context, record, &mut names).await?);
    }
    Ok(Json(JobList { jobs, total: listing.total, limit: page.limit, offset: page.offset }))
}

/// One job: how far it is, and what came of it.
#[utoipa::path(get, path = "/api/v1/jobs/{id}", operation_id = "getJob", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(context): State<Context>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<JobView>, ApiError> {
    let record = find(&context, &JobId::new(id)).await?;
    Ok(Json(JobView::of(&context, record, &mut Names::default()).await?))
}

/// Deletes a job that is over, with its files.
#[utoipa::path(delete, path = "/api/v1/jobs/{id}", operation_id = "deleteJob", tag = "jobs",
    params(("id" = String, Path)),
    responses((status = 204), (status = 404, body = ErrorBody),
        (status = 409, description = "It is not over", body = ErrorBody)))]
pub(crate) async fn delete(
    State(context): State<Context>,
    ApiPath(id): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let record = find(&context, &JobId::new(id)).await?;
    if !context.store.jobs.delete(&record.id).await? {
        let message =
            format!("job {} is {}; POST /api/v1/jobs/{}/cancel first", record.id, record.status, record.id);
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    // Without its row it is gone for everybody; what a failure leaves, the sweep finds.
    if let Err(error) = context.artifacts.delete_prefix(&job_prefix(&record.id)).await {
        tracing::warn!(job = %record.id, %error, "left the files of a deleted job to the sweep");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a job that is not over; what it has made so far is thrown away.
#[utoipa::path(post, path = "/api/v1/jobs/{id}/cancel", operation_id = "cancelJob", tag = "jobs",
    params(("id" = String, Path)),
    request_body(content = Option<CommandRequest>), responses((status = 200, body = JobView),
    (status = 404, body = ErrorBody), (status = 409, description = "It is over already", body = ErrorBody)))]
pub(crate) async fn cancel(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(id): ApiPath<String>,
    MaybeJson(body): MaybeJson<CommandRequest>,
) -> Result<Json<JobView>, ApiError> {
    let reason = reason(body.reason, "asked for through the API")?;
    let id = JobId::new(id);
    find(&context, &id).await?;
    let at = context.clock.now();
    let message = format!("cancelled by {}: {reason}", principal.0);
    let event = NewEvent { at, kind: "cancelled".to_owned(), message, evidence: Value::Null };
    let is_cancelled = context.store.jobs.cancel(&id, at, &event).await?;
    let record = find(&context, &id).await?;
    if !is_cancelled {
        let message = format!("job {id} is {} already", record.status);
        return Err(ApiError::new(ErrorCode::Conflict, message));
    }
    // Whoever is at it throws away what it makes from now on.
    if let Err(error) = context.artifacts.delete_prefix(&job_prefix(&id)).await {
        tracing::warn!(job = %id, %error, "left the files of a cancelled job to the sweep");
    }
    Ok(Json(JobView::of(&context, record, &mut Names::default()).await?))
}

/// What happened in a job, in order: a page of it, or, with `Accept: text/event-stream`, each event as it happens until the
/// job is over.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/events", operation_id = "listJobEvents", tag = "jobs",
    params(("id" = String, Path), EventQuery,
        ("Last-Event-ID" = Option<u64>, Header, description = "Of a stream that was cut off: goes on after this event")),
    responses(
        (status = 200, content((EventList = "application/json"), (String = "text/event-stream"))),
        (status = 204, description = "The job is over and nothing is left to stream"),
        (status = 404, body = ErrorBody), (status = 503, description = "Too many streams", body = ErrorBody)))]
pub(crate) async fn events(
    State(context): State<Context>,
    ApiPath(id): ApiPath<String>,
    ApiQuery(query): ApiQuery<EventQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let record = find(&context, &JobId::new(id)).await?;
    events::answer(context, Log::Job(record.id), &query, &headers).await
}

pub(crate) async fn find(context: &Context, id: &JobId) -> Result<JobRecord, ApiError> {
    context.store.jobs.get(id).await?.ok_or_else(|| {
        ApiError::new(ErrorCode::JobNotFound, "there is no such job; GET /api/v1/jobs lists them")
    })
}
