//! `POST /api/v1/inference/{model}`: features, tensors or an image in, a prediction out.

mod batch;
mod image;
pub(crate) mod ndjson;
mod respond_async;

pub(crate) use batch::{__path_batch, batch};
pub use respond_async::AsyncRunner;
pub(crate) use respond_async::{__path_status, status};

use std::time::Instant;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_core::{DType, Environment, NamedTensor, RequestId, SemVer, Timestamp};
use tidegate_serve::Priority;
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::{
    ApiPath, ApiQuery, Asker, is_json, is_key, json_from_slice, media_type, not_a_key, read_body,
    sticky_header,
};
use crate::operations::fault::Fault;
use crate::operations::features::Features;
use crate::operations::predict::{self, CacheUse, Predicted, Query, Target, milliseconds};
use crate::operations::prediction::Prediction;
use crate::operations::register::parse_number;
use crate::operations::tensor_json::tensor_from_json;
use crate::trace::TraceId;
use image::ImageParameters;

/// The version that answered, also where the body is an image.
pub(crate) const VERSION_HEADER: &str = "x-tidegate-version";

/// Whether the answer was given before, of models that have a cache: `hit` or `miss`.
const CACHE_HEADER: &str = "x-tidegate-cache";

/// Give `features` or `inputs`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// By input name, nested arrays whose batch axis may be left out; or, for a model that takes one row of numbers, by
    /// the property names of its input schema.
    #[schema(value_type = Option<Object>)]
    features: Option<Features>,
    inputs: Option<Vec<InputTensor>>,
    /// This version and no other; it must be loaded.
    #[schema(example = "1.0.0")]
    version: Option<String>,
    /// Made up where it is missing.
    request_id: Option<String>,
    #[schema(value_type = Option<String>, example = "Production")]
    environment: Option<Environment>,
    /// Answered later, as with the header `Prefer: respond-async`.
    #[serde(default, rename = "async")]
    is_async: bool,
}

/// A tensor as the Open Inference Protocol (version 2) writes it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputTensor {
    name: String,
    shape: Vec<usize>,
    #[schema(value_type = String, example = "FP32")]
    datatype: DType,
    /// Row-major: flat, or nested as the shape says.
    #[schema(value_type = Vec<Object>)]
    data: Box<RawValue>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PredictResponse {
    request_id: String,
    model_name: String,
    version: String,
    /// Output name -> value. For an image: width, height, classes, the mask as a PNG in base64, and notes.
    #[schema(value_type = Object)]
    prediction: Prediction,
    /// The largest class probability; null where it cannot be known.
    confidence: Option<f64>,
    latency_ms: f64,
    timestamp: Timestamp,
}

/// Predicts from features or tensors (JSON), or from an image (its bytes, or a form with the part `image`).
///
/// A JSON request is answered later where the header `Prefer: respond-async` or the key `async` asks for it: with 202 and
/// the address of its status in `Location`.
#[utoipa::path(post, path = "/api/v1/inference/{model}", operation_id = "predict", tag = "inference",
    params(("model" = String, Path, description = "Id or name"), ImageParameters,
        ("X-Tidegate-Key" = Option<String>, Header, description = "Requests with one key meet one version"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: answer later")),
    request_body(content((PredictRequest = "application/json"), (image::ImageForm = "multipart/form-data"),
        (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/tiff"), (Vec<u8> = "image/webp"))),
    responses((status = 200, content((PredictResponse = "application/json"), (Vec<u8> = "image/png"),
            (Vec<u8> = "application/zip")),
            headers(("X-Tidegate-Version" = String), ("X-Tidegate-Cache" = Option<String>))),
        (status = 202, description = "Taken in; it will be answered", body = respond_async::TakenResponse,
            headers(("Location" = String), ("Retry-After" = u32))),
        (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody), (status = 422, description = "The version takes no images", body = ErrorBody),
        (status = 500, description = "The model failed", body = ErrorBody),
        (status = 409, description = "The requestId is taken, or the version is not loaded", body = ErrorBody),
        (status = 503, description = "Overloaded, or nothing is deployed", body = ErrorBody)))]
pub(crate) async fn predict(
    State(context): State<Context>,
    ApiPath(model): ApiPath<String>,
    ApiQuery(parameters): ApiQuery<ImageParameters>,
    request: Request,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let started = Instant::now();
    match media_type(&headers).as_str() {
        media_type if is_json(media_type) => {
            parameters.refuse_any()?;
            let trace_id = TraceId::of(&request);
            let text = read_body(&headers, request.into_body(), context.settings.max_request_bytes).await?;
            let body: PredictRequest = json_from_slice(&text)?;
            if body.is_async || respond_async::is_preferred(&headers) {
                return respond_async::hand_in(&context, model, &headers, trace_id, body, &text).await;
            }
            predict_json(&context, model, &headers, body, started).await
        }
        "multipart/form-data" | "image/png" | "image/jpeg" | "image/tiff" | "image/webp" => {
            image::predict(&context, model, parameters, request, started).await
        }
        other => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            format!(
                "`{other}` is not taken; send application/json, multipart/form-data, or a PNG, JPEG, TIFF or WebP"
            ),
        )),
    }
}

async fn predict_json(
    context: &Context,
    model: String,
    headers: &HeaderMap,
    body: PredictRequest,
    started: Instant,
) -> Result<Response, ApiError> {
    let asked =
        Asked { version: body.version, request_id: body.request_id, environment: body.environment, started };
    let target = target(context, model, headers, asked)?;
    let query = query(body.features, body.inputs)?;
    let Predicted { chosen, prediction, copy: _held, cache } =
        predict::predict(context, &target, query).await?;
    let version = chosen.number();
    let response = PredictResponse {
        request_id: target.request_id.to_string(),
        model_name: chosen.model_name(),
        version: version.clone(),
        confidence: prediction.confidence(),
        prediction,
        latency_ms: milliseconds(target.started),
        timestamp: context.clock.now(),
    };
    Ok(with_cache(with_version(Json(response).into_response(), &version), cache))
}

/// The tensors of a body, where it is one that has them.
pub(crate) fn read_tensors(body: &[u8]) -> Option<Vec<NamedTensor>> {
    let body: PredictRequest = json_from_slice(body).ok()?;
    read_inputs(body.inputs?).ok()
}

/// One of the two.
fn query(features: Option<Features>, inputs: Option<Vec<InputTensor>>) -> Result<Query, ApiError> {
    match (features, inputs) {
        (Some(features), None) => Ok(Query::Features(features)),
        (None, Some(inputs)) => Ok(Query::Tensors { inputs: read_inputs(inputs), outputs: Vec::new() }),
        (Some(_), Some(_)) => Err(ApiError::invalid("inputs", "give `features` or `inputs`, not both")),
        (None, None) => Err(ApiError::invalid("features", "missing; give `features` or `inputs`")),
    }
}

/// All faults at once, by place in the list.
fn read_inputs(inputs: Vec<InputTensor>) -> Result<Vec<NamedTensor>, Vec<Fault>> {
    let (mut tensors, mut faults) = (Vec::new(), Vec::new());
    for (index, input) in inputs.into_iter().enumerate() {
        match tensor_from_json(input.datatype, &input.shape, &input.data) {
            Ok(tensor) => tensors.push(NamedTensor { name: input.name, tensor }),
            Err(fault) => faults.push(fault.within(&format!("[{index}]"))),
        }
    }
    if faults.is_empty() { Ok(tensors) } else { Err(faults) }
}

/// What a request may say of who shall answer.
#[derive(Debug)]
struct Asked {
    version: Option<String>,
    request_id: Option<String>,
    environment: Option<Environment>,
    started: Instant,
}

fn target(context: &Context, model: String, headers: &HeaderMap, asked: Asked) -> Result<Target, ApiError> {
    let requested_at = context.clock.now();
    let request_id = match asked.request_id {
        Some(text) if is_key(&text) => RequestId::new(text),
        Some(_) => return Err(not_a_key("requestId")),
        None => context.ids.next(requested_at),
    };
    let asker = Asker::of(headers)?;
    let pin: Option<SemVer> = asked.version.map(|text| parse_number("version", &text)).transpose()?;
    let environment = asked.environment.or(asker.environment);
    let environment = environment.unwrap_or(context.settings.default_environment);
    Ok(Target {
        header: sticky_header(&context.server, environment, &model, headers),
        model,
        environment,
        pin,
        request_id,
        sticky_key: asker.key,
        principal: asker.principal,
        requested_at,
        started: asked.started,
        deadline: None,
        priority: Priority::Request,
    })
}

fn with_version(mut response: Response, version: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(version) {
        response.headers_mut().insert(VERSION_HEADER, value);
    }
    response
}

/// In every protocol; in gRPC it is metadata.
pub(crate) fn with_cache(mut response: Response, cache: Option<CacheUse>) -> Response {
    if let Some(cache) = cache {
        response.headers_mut().insert(CACHE_HEADER, HeaderValue::from_static(cache.as_str()));
    }
    response
}
