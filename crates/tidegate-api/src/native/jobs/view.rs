//! Jobs as the API shows them.

use serde::Serialize;
use tidegate_core::{Environment, JobStatus, Timestamp};
use tidegate_store::JobRecord;
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::ApiError;
use crate::native::deployments::view::Names;
use crate::operations::raster::{RasterJob, RasterOptions, RasterProgress, RasterResult};

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JobView {
    job_id: String,
    #[schema(example = "raster")]
    kind: String,
    #[schema(value_type = String, example = "Running")]
    status: JobStatus,
    model_id: String,
    model_name: Option<String>,
    #[schema(value_type = String, example = "Production")]
    environment: Environment,
    /// What does it, once it has begun.
    version_id: Option<String>,
    version: Option<String>,
    /// The scene, without the query of its address.
    source: Option<String>,
    options: Option<RasterOptions>,
    progress: Option<RasterProgress>,
    /// Once it has succeeded.
    result: Option<RasterResult>,
    error_message: Option<String>,
    /// How often it was given back in vain since it last came forward: a source that does not answer, say.
    attempts: u32,
    next_attempt_at: Option<Timestamp>,
    requested_by: String,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    completed_at: Option<Timestamp>,
}

impl JobView {
    pub(super) async fn of(
        context: &Context,
        record: JobRecord,
        names: &mut Names,
    ) -> Result<Self, ApiError> {
        let version = match &record.version_id {
            Some(id) => names.number(context, id).await?,
            None => None,
        };
        // What another release wrote may be unreadable; the rest is shown all the same.
        let job: Option<RasterJob> = serde_json::from_value(record.request).ok();
        Ok(Self {
            model_name: names.model(context, &record.model_id).await?,
            version,
            source: job.as_ref().map(|job| job.scene.shown().to_owned()),
            options: job.map(|job| job.options),
            progress: record.progress.and_then(|progress| serde_json::from_value(progress).ok()),
            result: record.result.and_then(|result| serde_json::from_value(result).ok()),
            job_id: record.id.to_string(),
            kind: record.kind,
            status: record.status,
            model_id: record.model_id.to_string(),
            environment: record.environment,
            version_id: record.version_id.map(|id| id.to_string()),
            error_message: record.error_message,
            attempts: record.attempts,
            next_attempt_at: record.next_attempt_at,
            requested_by: record.requested_by,
            created_at: record.created_at,
            started_at: record.started_at,
            completed_at: record.completed_at,
        })
    }
}
