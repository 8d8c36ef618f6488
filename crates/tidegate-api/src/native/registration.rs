//! `POST /api/v1/models`: a version from uploaded files or from a path that the server can read.

pub(crate) mod form;

use std::io;

use axum::Json;
use axum::extract::{FromRequest, Multipart, Request, State};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::{Baseline, Framework, ModelType, Precision, Timestamp, VersionStatus};
use tidegate_store::ArtifactError;
use tokio_util::io::ReaderStream;
use tracing::Instrument;
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::{ApiJson, Principal, is_json, lend_body, media_type};
use crate::native::versions::ArtifactInfo;
use crate::operations::fault::Fault;
use crate::operations::register::{
    Declaration, Draft, ImportPlace, ImportSource, RegisterError, Registered, Registrar, Source, Upload,
    import_source,
};

/// A registration as JSON; in a form, the part `metadata` (without `artifactPath`).
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RegisterRequest {
    /// Lowercase letters, digits, `-`, `_` and `.`. From the STAC item where it is missing.
    #[schema(example = "fraud-detection")]
    name: Option<String>,
    description: Option<String>,
    #[schema(value_type = Option<String>, example = "ONNX")]
    framework: Option<Framework>,
    #[schema(value_type = Option<String>, example = "Classification")]
    r#type: Option<ModelType>,
    /// Semantic version.
    #[schema(example = "2.0.0")]
    version: Option<String>,
    /// `file:///...` or `s3://...`, below one of the places that the server may import from.
    artifact_path: Option<String>,
    /// SHA-256 of the primary artifact: hexadecimal, or `sha256:<hex>`.
    checksum: Option<String>,
    /// JSON Schema of the features, as an object or a string that holds one; derived from the model where missing.
    #[schema(value_type = Option<Object>)]
    input_schema: Option<Value>,
    #[schema(value_type = Option<Object>)]
    output_schema: Option<Value>,
    #[schema(value_type = Option<Object>)]
    training_metadata: Option<Value>,
    /// `f32`, `bf16` or `int8`. As the file says where missing: `int8` for a quantised one, else `f32`.
    #[schema(value_type = Option<String>, example = "bf16")]
    precision: Option<Precision>,
    /// The version that a quantised one is compared with before it gets traffic, by number; where missing, the one that
    /// serves.
    #[schema(example = "1.0.0")]
    reference: Option<String>,
    /// The number of the version whose files, schemas, baseline and validation sample this one has, to run in another
    /// `precision`. Instead of `artifactPath` and of files.
    #[schema(example = "1.0.0")]
    from: Option<String>,
    /// What it is said to achieve: the standard of validation where no version serves yet.
    baseline: Option<DeclaredBaseline>,
    owner: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct DeclaredBaseline {
    /// Of the validation sample: the share of right answers, R² for numbers, IoU for masks.
    #[schema(example = 0.92)]
    accuracy: Option<f64>,
    /// Of one prediction, in milliseconds.
    #[schema(example = 3.1)]
    latency_ms: Option<f64>,
}

/// The same as a form: `metadata` and `stac` first, then the files.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form to OpenAPI; `form` reads it part by part")]
pub(crate) struct RegisterForm {
    metadata: Option<RegisterRequest>,
    /// The STAC-MLM item, as text or as a file.
    #[schema(value_type = Option<Object>)]
    stac: Option<Value>,
    /// One or more files; the extension says the format.
    #[schema(content_media_type = "application/octet-stream")]
    artifact: Vec<String>,
    /// Rows of JSON, or images with masks, that every deployment is tested on.
    #[schema(content_media_type = "application/octet-stream")]
    #[serde(rename = "validationSample")]
    validation_sample: Option<Vec<String>>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RegisterResponse {
    model_id: String,
    version_id: String,
    name: String,
    version: String,
    #[schema(value_type = String, example = "Registered")]
    status: VersionStatus,
    #[schema(value_type = String, example = "f32")]
    precision: Precision,
    /// SHA-256 of the primary artifact.
    checksum: String,
    artifact_size_bytes: u64,
    artifacts: Vec<ArtifactInfo>,
    /// What to know about how it was registered: what was converted, or could not be and why.
    notes: Vec<String>,
    created_at: Timestamp,
}

/// Registers a version of a model, and the model with it when its name is new.
#[utoipa::path(post, path = "/api/v1/models", operation_id = "registerVersion", tag = "models",
    request_body(content((RegisterRequest = "application/json"), (RegisterForm = "multipart/form-data"))),
    responses((status = 201, body = RegisterResponse, headers(("Location" = String))),
        (status = 400, body = ErrorBody), (status = 409, description = "The number is taken", body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
        (status = 422, description = "A file is not what it is said to be", body = ErrorBody),
        (status = 507, body = ErrorBody)))]
pub(crate) async fn register(
    State(context): State<Context>,
    principal: Principal,
    request: Request,
) -> Result<(StatusCode, [(header::HeaderName, String); 1], Json<RegisterResponse>), ApiError> {
    let registering = async move {
        match media_type(request.headers()).as_str() {
            "multipart/form-data" => {
                let (request, rest) = lend_body(request);
                let form = Multipart::from_request(request, &context).await?;
                let registered = form::register(&context, &principal, form).await;
                if registered.is_err() {
                    rest.drain().await;
                }
                registered
            }
            media_type if is_json(media_type) => {
                let ApiJson(body) = ApiJson::from_request(request, &context).await?;
                register_path(&context, &principal, body).await
            }
            _ => Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "send multipart/form-data with the files, or application/json with an `artifactPath` or `from`",
            )),
        }
    };
    let registered = to_the_end(registering).await?;
    let location = format!("/api/v1/models/{}/versions/{}", registered.model.id, registered.version.version);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(registered.into())))
}

/// Runs as a task of its own, so that a caller who goes away mid-upload cannot drop it: the body then ends with an
/// error, and what was stored is deleted in order.
async fn to_the_end(
    registering: impl Future<Output = Result<Registered, ApiError>> + Send + 'static,
) -> Result<Registered, ApiError> {
    let task = tokio::spawn(registering.in_current_span());
    task.await.unwrap_or_else(|error| Err(ApiError::internal(&error)))
}

async fn register_path(
    context: &Context,
    principal: &Principal,
    mut body: RegisterRequest,
) -> Result<Registered, ApiError> {
    if let Some(from) = body.from.take() {
        if body.artifact_path.is_some() {
            return Err(Fault::new("from", "not beside `artifactPath`; give one or the other").into());
        }
        return register_from(context, principal, body, &from).await;
    }
    let path = body.artifact_path.take().ok_or_else(|| {
        let message = "missing; give `file:///...`, the number of a version as `from`, or upload the file as \
                       multipart/form-data";
        Fault::new("artifactPath", message)
    })?;
    let draft = draft(body, None, principal)?;
    let ImportSource { place, name } = import_source("artifactPath", &path, &context.settings.import_roots)?;
    let stream = read(place).await?;
    let mut upload = Upload::begin(registrar(context), draft).await?;
    match upload.add(&name, stream).await {
        Ok(()) => Ok(upload.finish().await?),
        Err(error) => {
            upload.abandon().await;
            Err(error.into())
        }
    }
}

/// The files of another version, in another precision.
async fn register_from(
    context: &Context,
    principal: &Principal,
    body: RegisterRequest,
    from: &str,
) -> Result<Registered, ApiError> {
    let declaration = declaration(body);
    let source = Source::find(&context.store, &declaration, from).await?;
    let draft = Draft::new(source.complete(declaration), source.stac()?, &principal.0);
    let draft = draft.map_err(RegisterError::Invalid)?;
    let mut upload = Upload::begin(registrar(context), draft).await?;
    upload.carry_over(&source);
    Ok(upload.finish().await?)
}

async fn read(place: ImportPlace) -> Result<BoxStream<'static, io::Result<Bytes>>, ApiError> {
    match place {
        ImportPlace::File(path) => {
            let file = tokio::fs::File::open(&path).await.map_err(|error| ApiError::internal(&error))?;
            Ok(ReaderStream::with_capacity(file, READ_BYTES).boxed())
        }
        ImportPlace::Object { store, key } => {
            let stream = store.get(&key).await.map_err(|error| match error {
                ArtifactError::Missing { .. } => Fault::new("artifactPath", "there is no such object").into(),
                error => ApiError::from(error),
            })?;
            Ok(stream.map_err(io::Error::other).boxed())
        }
    }
}

/// Large enough that hashing, not system calls, sets the pace.
const READ_BYTES: usize = 256 << 10;

fn draft(
    body: RegisterRequest,
    stac: Option<crate::operations::register::StacItem>,
    principal: &Principal,
) -> Result<Draft, RegisterError> {
    Draft::new(declaration(body), stac, &principal.0).map_err(RegisterError::Invalid)
}

fn declaration(body: RegisterRequest) -> Declaration {
    Declaration {
        name: body.name,
        description: body.description,
        framework: body.framework,
        model_type: body.r#type,
        version: body.version,
        checksum: body.checksum,
        input_schema: body.input_schema,
        output_schema: body.output_schema,
        training_metadata: body.training_metadata,
        baseline: body
            .baseline
            .map(|baseline| Baseline { accuracy: baseline.accuracy, latency_ms: baseline.latency_ms }),
        precision: body.precision,
        reference: body.reference,
        owner: body.owner,
        tags: body.tags,
    }
}

fn registrar(context: &Context) -> Registrar<'_> {
    Registrar {
        store: &context.store,
        artifacts: &context.artifacts,
        server: &context.server,
        clock: context.clock.as_ref(),
        ids: &context.ids,
        max_upload_bytes: context.settings.max_upload_bytes,
        max_image_pixels: context.settings.max_image_pixels,
        cache_dir: &context.settings.cache_dir,
    }
}

impl From<Registered> for RegisterResponse {
    fn from(Registered { model, version, notes }: Registered) -> Self {
        Self {
            model_id: model.id.to_string(),
            version_id: version.id.to_string(),
            name: model.name.to_string(),
            version: version.version.to_string(),
            status: version.status,
            precision: version.precision,
            checksum: version.primary.sha256.to_string(),
            artifact_size_bytes: version.primary.size_bytes,
            artifacts: version.artifacts.iter().map(ArtifactInfo::from).collect(),
            notes,
            created_at: version.created_at,
        }
    }
}
