//! `POST /api/v1/jobs/raster`: a scene by its address, or uploaded in a form or as the body.

use std::convert::identity;
use std::io;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Multipart, Request, State};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use http::{StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tidegate_core::{Environment, JobId, Model, SemVer};
use tidegate_store::{NewEvent, NewJob, PutError};
use tracing::Instrument;
use utoipa::ToSchema;

use super::find;
use super::scene_query::{self, SceneQuery};
use super::view::JobView;
use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::{ApiJson, ApiQuery, Principal, is_json, lend_body, media_type};
use crate::native::deployments::view::Names;
use crate::native::models;
use crate::native::registration::form::{json_part, read_text};
use crate::operations::fault::Fault;
use crate::operations::raster::source::FIELD;
use crate::operations::raster::{
    ChooseError, RASTER, RasterJob, RasterOptions, SceneSource, choose_version, job_prefix,
};
use crate::operations::register::{file_name, parse_number};

pub(super) const PATH: &str = "/api/v1/jobs/raster";

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RasterRequest {
    /// Id or name.
    #[schema(example = "refugee-camp-detector")]
    pub(super) model_id: String,
    /// A version that the model's route names, instead of the one with most of the traffic.
    #[schema(example = "1.0.0")]
    pub(super) version: Option<String>,
    #[schema(value_type = Option<String>, example = "Production")]
    pub(super) environment: Option<Environment>,
    /// `https://...`, `s3://...` or `file:///...`, at a place that this server may read; in a form, the part `scene` instead.
    #[schema(example = "https://maps.example.org/scene.tif")]
    pub(super) source: Option<String>,
    #[serde(default)]
    pub(super) options: RasterOptions,
}

/// The same as a form: `job` first, then the file.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form to OpenAPI; it is read part by part")]
pub(crate) struct RasterForm {
    job: RasterRequest,
    /// A (Geo)TIFF.
    #[schema(content_media_type = "image/tiff")]
    scene: String,
}

/// Has a scene of any size predicted by a deployed version. Answers at once; GET the job to watch it. The scene is at an address
/// (JSON), in a form, or the body itself; then the parameters say what is wanted of it.
#[utoipa::path(post, path = "/api/v1/jobs/raster", operation_id = "createRasterJob", tag = "jobs",
    params(SceneQuery),
    request_body(content((RasterRequest = "application/json"), (RasterForm = "multipart/form-data"),
        (Vec<u8> = "image/tiff"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 202, body = JobView, headers(("Location" = String))),
        (status = 400, body = ErrorBody), (status = 404, body = ErrorBody),
        (status = 409, description = "The version is not deployed there", body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
        (status = 422, description = "The version takes no images", body = ErrorBody),
        (status = 503, description = "Nothing is deployed, or too many jobs wait", body = ErrorBody),
        (status = 507, body = ErrorBody)))]
pub(crate) async fn create(
    State(context): State<Context>,
    principal: Principal,
    request: Request,
) -> Result<(StatusCode, [(header::HeaderName, String); 1], Json<JobView>), ApiError> {
    let creating = async move {
        let id = match media_type(request.headers()).as_str() {
            _ if scene_query::is_scene(&request) => {
                let (request, rest) = lend_body(request);
                let id = create_from_body(&context, &principal, request).await;
                if id.is_err() {
                    rest.drain().await;
                }
                id
            }
            "multipart/form-data" => {
                scene_query::refuse_query(&request)?;
                let (request, rest) = lend_body(request);
                let form = Multipart::from_request(request, &context).await?;
                let id = create_from_form(&context, &principal, form).await;
                if id.is_err() {
                    rest.drain().await;
                }
                id
            }
            media_type if is_json(media_type) => {
                scene_query::refuse_query(&request)?;
                let ApiJson(body) = ApiJson::from_request(request, &context).await?;
                create_from_address(&context, &principal, body).await
            }
            _ => Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "send application/json with a `source`, multipart/form-data with the parts `job` and `scene`, or the scene \
                 itself as image/tiff with ?modelId=NAME",
            )),
        }?;
        let record = find(&context, &id).await?;
        JobView::of(&context, record, &mut Names::default()).await.map(|view| (id, view))
    };
    // To the end, also when the caller goes away in the middle of an upload: what was stored is then deleted in order.
    let task = tokio::spawn(creating.in_current_span());
    let (id, view) = task.await.unwrap_or_else(|error| Err(ApiError::internal(&error)))?;
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, format!("/api/v1/jobs/{id}"))], Json(view)))
}

/// A job that may be queued as soon as its scene is known.
struct Draft {
    model: Model,
    environment: Environment,
    version: Option<SemVer>,
    options: RasterOptions,
}

async fn create_from_address(
    context: &Context,
    principal: &Principal,
    mut body: RasterRequest,
) -> Result<JobId, ApiError> {
    let missing =
        || Fault::new(FIELD, "missing; give an address, or upload the scene as multipart/form-data");
    let address = body.source.take().ok_or_else(missing)?;
    let sources = context.settings.scene_sources.clone();
    let checked = address.clone();
    // Looks at the disk.
    let resolved = tokio::task::spawn_blocking(move || sources.resolve(&checked).map(drop)).await;
    let resolved = resolved.map_err(|error| ApiError::internal(&error))?;
    resolved.map_err(|refused| ApiError::invalid(FIELD, refused.to_string()))?;
    let draft = draft(context, body, of_options).await?;
    let id = context.ids.next(context.clock.now());
    queue(context, principal, &id, draft, SceneSource::Address { address }).await?;
    Ok(id)
}

async fn create_from_form(
    context: &Context,
    principal: &Principal,
    mut form: Multipart,
) -> Result<JobId, ApiError> {
    let mut draft_of_form = None;
    while let Some(field) = form.next_field().await? {
        match field.name().unwrap_or_default() {
            "job" if draft_of_form.is_none() => {
                let body: RasterRequest = json_part("job", &read_text("job", field).await?)?;
                if body.source.is_some() {
                    return Err(
                        Fault::new(FIELD, "not beside an uploaded scene; send one or the other").into()
                    );
                }
                refuse_if_full(context).await?;
                draft_of_form = Some(draft(context, body, of_options).await?);
            }
            "scene" => {
                let before = "must come after the part `job`, so that a mistake shows before the upload";
                let draft = draft_of_form.take().ok_or_else(|| Fault::new("scene", before))?;
                let name = field.file_name().unwrap_or_default().to_owned();
                let upload = Upload { name, field: "scene", bytes: field.map_err(io::Error::other) };
                return create_from_upload(context, principal, draft, upload).await;
            }
            name => {
                let name: String = name.chars().take(80).collect();
                return Err(Fault::new(name, "unexpected part; a job has `job` and then `scene`").into());
            }
        }
    }
    Err(Fault::new("scene", "missing; add the scene's file as a part named `scene`").into())
}

/// The body is the scene; everything else is in the query.
async fn create_from_body(
    context: &Context,
    principal: &Principal,
    request: Request,
) -> Result<JobId, ApiError> {
    scene_query::refuse_encoded(&request)?;
    let (mut parts, body) = request.into_parts();
    let ApiQuery(query) = ApiQuery::<SceneQuery>::from_request_parts(&mut parts, context).await?;
    let (request, name) = query.into_request()?;
    refuse_if_full(context).await?;
    let draft = draft(context, request, identity).await?;
    let upload = Upload { name, field: "name", bytes: body.into_data_stream().map_err(io::Error::other) };
    create_from_upload(context, principal, draft, upload).await
}

/// A scene on its way.
struct Upload<S> {
    name: String,
    /// What a fault of the name is a fault of.
    field: &'static str,
    bytes: S,
}

async fn create_from_upload(
    context: &Context,
    principal: &Principal,
    draft: Draft,
    upload: Upload<impl Stream<Item = Result<Bytes, io::Error>> + Send + Unpin>,
) -> Result<JobId, ApiError> {
    let Upload { name, field, bytes } = upload;
    file_name::check(&name).map_err(|fault| Fault::new(field, fault.message))?;
    let id: JobId = context.ids.next(context.clock.now());
    let key = format!("{}/scene/{name}", job_prefix(&id));
    let limit_bytes = context.settings.max_scene_bytes;
    let stored = context.artifacts.put(&key, bytes, limit_bytes).await;
    let stored = stored.map_err(of_put)?;
    let queued = match stored.size_bytes {
        0 => Err(Fault::new("scene", "is empty; send the file's bytes").into()),
        size_bytes => {
            let scene = SceneSource::Upload { name, key, sha256: stored.sha256, size_bytes };
            queue(context, principal, &id, draft, scene).await
        }
    };
    if queued.is_err()
        && let Err(error) = context.artifacts.delete_prefix(&job_prefix(&id)).await
    {
        tracing::warn!(job = %id, %error, "left an uploaded scene to the sweep");
    }
    queued.map(|()| id)
}

fn of_put(error: PutError) -> ApiError {
    match error {
        PutError::TooLarge { limit_bytes } => {
            let message = format!(
                "the scene is larger than the {limit_bytes} bytes allowed (`jobs.max_upload_mib`); put it where the \
                 server may read it and give its address as `source`"
            );
            ApiError::new(ErrorCode::PayloadTooLarge, message.clone()).with_detail("scene", message)
        }
        PutError::NoSpace { .. } => ApiError::new(
            ErrorCode::InsufficientStorage,
            "the artifact store is full and nothing was kept; ask whoever runs the server to free some space",
        ),
        PutError::Stream { source } => ApiError::of_body(&source),
        PutError::Artifact(error) => error.into(),
    }
}

/// Where JSON has the options.
fn of_options(fault: Fault) -> Fault {
    fault.within("options")
}

/// Everything that can be checked before the scene is there. `place` says where an option with a fault stands.
async fn draft(
    context: &Context,
    body: RasterRequest,
    place: impl Fn(Fault) -> Fault,
) -> Result<Draft, ApiError> {
    let faults: Vec<_> = body.options.faults().into_iter().map(place).collect();
    if !faults.is_empty() {
        return Err(ApiError::validation("the options do not fit", faults));
    }
    let version = body.version.as_deref().map(|text| parse_number("version", text)).transpose()?;
    let model = models::find(context, &body.model_id).await?;
    let environment = body.environment.unwrap_or(context.settings.default_environment);
    // Chosen again when it begins; here, so that a mistake shows now.
    choose_version(&context.store, &model, environment, version.as_ref()).await?;
    Ok(Draft { model, environment, version, options: body.options })
}

async fn queue(
    context: &Context,
    principal: &Principal,
    id: &JobId,
    draft: Draft,
    scene: SceneSource,
) -> Result<(), ApiError> {
    let now = context.clock.now();
    let message = format!("{} asked for {}", principal.0, scene.shown());
    let job = RasterJob { scene, version: draft.version, options: draft.options };
    let job = NewJob {
        id: id.clone(),
        kind: RASTER,
        model_id: draft.model.id,
        environment: draft.environment,
        request: serde_json::to_value(&job).map_err(|error| ApiError::internal(&error))?,
        requested_by: principal.0.clone(),
        created_at: now,
    };
    let event = NewEvent { at: now, kind: "queued".to_owned(), message, evidence: Value::Null };
    match context.store.jobs.create(&job, &event, context.settings.max_queued_jobs).await? {
        true => Ok(()),
        false => Err(full(context)),
    }
}

/// A large upload should not be in vain.
async fn refuse_if_full(context: &Context) -> Result<(), ApiError> {
    match context.store.jobs.queued().await? >= u64::from(context.settings.max_queued_jobs) {
        true => Err(full(context)),
        false => Ok(()),
    }
}

fn full(context: &Context) -> ApiError {
    /// Scenes take minutes.
    const RETRY_AFTER_S: u32 = 60;
    let message = format!(
        "{} jobs wait already (`jobs.queue_limit`); try again when some are done, or cancel some",
        context.settings.max_queued_jobs
    );
    ApiError::new(ErrorCode::ServiceUnavailable, message).with_retry_after(RETRY_AFTER_S)
}

impl From<ChooseError> for ApiError {
    fn from(error: ChooseError) -> Self {
        match error {
            ChooseError::NoSuchVersion { model, version } => {
                Self::version_not_found(&model, &version.to_string())
            }
            ChooseError::NotDeployed { .. } => Self::new(ErrorCode::ServiceUnavailable, error.to_string())
                .with_detail("modelId", error.to_string()),
            ChooseError::NotThere { .. } => {
                Self::new(ErrorCode::Conflict, error.to_string()).with_detail("version", "not deployed there")
            }
            ChooseError::NoItem { .. } => Self::new(ErrorCode::UnprocessableArtifact, error.to_string())
                .with_detail("version", "registered without a STAC item"),
            ChooseError::Store(error) => error.into(),
        }
    }
}
