//! Versions of a model, their STAC item and their artifacts.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use tidegate_core::{
    Artifact, ArtifactFormat, Baseline, Precision, SemVer, Timestamp, ValidationSample, Version, VersionId,
    VersionStatus,
};
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::ApiPath;
use crate::native::models::find as find_model;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtifactInfo {
    #[schema(example = "model.onnx")]
    pub name: String,
    #[schema(value_type = String, example = "Onnx")]
    pub format: ArtifactFormat,
    pub sha256: String,
    pub size_bytes: u64,
}

impl From<&Artifact> for ArtifactInfo {
    fn from(artifact: &Artifact) -> Self {
        Self {
            name: artifact.name.clone(),
            format: artifact.format,
            sha256: artifact.sha256.to_string(),
            size_bytes: artifact.size_bytes,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionSummary {
    version_id: String,
    #[schema(example = "1.0.0")]
    version: String,
    #[schema(value_type = String, example = "Registered")]
    status: VersionStatus,
    /// In which numbers it computes.
    #[schema(value_type = String, example = "f32")]
    precision: Precision,
    /// SHA-256 of the primary artifact.
    checksum: String,
    artifact_size_bytes: u64,
    /// Of the primary artifact.
    #[schema(value_type = String)]
    format: ArtifactFormat,
    created_at: Timestamp,
}

impl From<&Version> for VersionSummary {
    fn from(version: &Version) -> Self {
        Self {
            version_id: version.id.to_string(),
            version: version.version.to_string(),
            status: version.status,
            precision: version.precision,
            checksum: version.primary.sha256.to_string(),
            artifact_size_bytes: version.primary.size_bytes,
            format: version.primary.format,
            created_at: version.created_at,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionList {
    /// Highest number first.
    versions: Vec<VersionSummary>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionDetail {
    #[serde(flatten)]
    summary: VersionSummary,
    model_id: String,
    name: String,
    artifacts: Vec<ArtifactInfo>,
    /// The version that a quantised one is compared with before it gets traffic.
    #[schema(example = "1.0.0")]
    reference: Option<String>,
    /// Input and output tensors, read from the artifact; null where it cannot run yet.
    #[schema(value_type = Option<Object>)]
    signature: Option<Value>,
    #[schema(value_type = Object)]
    input_schema: Value,
    #[schema(value_type = Object)]
    output_schema: Value,
    /// Whether there is a STAC-MLM item at `.../stac`.
    has_stac_item: bool,
    #[schema(value_type = Option<Object>)]
    training_metadata: Option<Value>,
    /// What it was declared to achieve: `accuracy`, `latencyMs`.
    #[schema(value_type = Option<Object>)]
    baseline: Option<Baseline>,
    /// Which artifacts a deployment is tested on: `files`, and what they hold.
    #[schema(value_type = Option<Object>)]
    validation_sample: Option<ValidationSample>,
}

/// The versions of a model.
#[utoipa::path(get, path = "/api/v1/models/{model}/versions", operation_id = "listVersions", tag = "versions",
    params(("model" = String, Path, description = "Id or name")),
    responses((status = 200, body = VersionList), (status = 404, body = ErrorBody)))]
pub(crate) async fn list(
    State(context): State<Context>,
    ApiPath(model): ApiPath<String>,
) -> Result<Json<VersionList>, ApiError> {
    let model = find_model(&context, &model).await?;
    let versions = context.store.versions.list(&model.id).await?;
    Ok(Json(VersionList { versions: versions.iter().map(VersionSummary::from).collect() }))
}

/// One version, whole.
#[utoipa::path(get, path = "/api/v1/models/{model}/versions/{version}",
    operation_id = "getVersion", tag = "versions",
    params(("model" = String, Path, description = "Id or name"),
        ("version" = String, Path, description = "Number or version id")),
    responses((status = 200, body = VersionDetail), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(context): State<Context>,
    ApiPath((model, version)): ApiPath<(String, String)>,
) -> Result<Json<VersionDetail>, ApiError> {
    let model = find_model(&context, &model).await?;
    let version = find(&context, &model, &version).await?;
    Ok(Json(VersionDetail {
        summary: VersionSummary::from(&version),
        model_id: model.id.to_string(),
        name: model.name.to_string(),
        artifacts: version.artifacts.iter().map(ArtifactInfo::from).collect(),
        reference: version.reference.map(|reference| reference.to_string()),
        signature: version.signature.and_then(|signature| serde_json::to_value(signature).ok()),
        input_schema: version.input_schema,
        output_schema: version.output_schema,
        has_stac_item: version.stac_item.is_some(),
        training_metadata: version.training_metadata,
        baseline: version.baseline,
        validation_sample: version.validation_sample,
    }))
}

/// The STAC-MLM item that the version was registered from.
#[utoipa::path(get, path = "/api/v1/models/{model}/versions/{version}/stac",
    operation_id = "getStacItem", tag = "versions",
    params(("model" = String, Path, description = "Id or name"),
        ("version" = String, Path, description = "Number or version id")),
    responses((status = 200, content_type = "application/geo+json", body = Object), (status = 404, body = ErrorBody)))]
pub(crate) async fn stac(
    State(context): State<Context>,
    ApiPath((model, version)): ApiPath<(String, String)>,
) -> Result<Response, ApiError> {
    let model = find_model(&context, &model).await?;
    let version = find(&context, &model, &version).await?;
    let item = version.stac_item.ok_or_else(|| {
        let message = format!("version {} was registered without a STAC item", version.version);
        ApiError::new(ErrorCode::NotFound, message)
    })?;
    Ok(([(header::CONTENT_TYPE, "application/geo+json")], Json(item)).into_response())
}

/// Downloads an artifact. Its ETag is its SHA-256.
#[utoipa::path(get, path = "/api/v1/models/{model}/versions/{version}/artifacts/{name}",
    operation_id = "downloadArtifact", tag = "versions",
    params(("model" = String, Path, description = "Id or name"),
        ("version" = String, Path, description = "Number or version id"),
        ("name" = String, Path, description = "The artifact's file name")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "As named by If-None-Match"), (status = 404, body = ErrorBody)))]
pub(crate) async fn artifact(
    State(context): State<Context>,
    ApiPath((model, version, name)): ApiPath<(String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let model = find_model(&context, &model).await?;
    let version = find(&context, &model, &version).await?;
    let artifact = version.artifacts.iter().find(|artifact| artifact.name == name).ok_or_else(|| {
        let names: Vec<_> = version.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
        let message =
            format!("version {} has no such artifact; it has {}", version.version, names.join(", "));
        ApiError::new(ErrorCode::NotFound, message)
    })?;
    let etag = format!("\"{}\"", artifact.sha256);
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or("");
    if known.split(',').any(|tag| tag.trim() == etag || tag.trim() == "*") {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let stream = context.artifacts.get(&artifact.path).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, artifact.size_bytes.to_string()),
        // Names of artifacts have neither quotes nor control characters.
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{}\"", artifact.name)),
        (header::ETAG, etag),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// By number or id, of this model.
pub(crate) async fn find(
    context: &Context,
    model: &tidegate_core::Model,
    version: &str,
) -> Result<Version, ApiError> {
    let found = match version.parse::<SemVer>() {
        Ok(number) => context.store.versions.by_number(&model.id, &number).await?,
        Err(_) => context.store.versions.get(&VersionId::new(version)).await?,
    };
    found
        .filter(|found| found.model_id == model.id)
        .ok_or_else(|| ApiError::version_not_found(model.name.as_str(), version))
}
