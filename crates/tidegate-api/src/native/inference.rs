//! `POST /api/v1/inference/{model}`: features, tensors or an image in, a prediction out.

mod batch;
mod image;

pub(crate) use batch::__path_batch;
pub(crate) use batch::batch;

use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::{DType, Environment, RequestId, SemVer, Timestamp};
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::{ApiJson, ApiPath, ApiQuery, Principal, is_json, media_type};
use crate::operations::features::{Features, TensorInput};
use crate::operations::nested::Nested;
use crate::operations::predict::{
    Answer, Chosen, PredictError, Query, Target, account, choose, milliseconds, run, tensors,
};
use crate::operations::prediction::Prediction;
use crate::operations::register::parse_number;
use image::ImageParameters;

/// The version that answered, also where the body is an image.
pub(crate) const VERSION_HEADER: &str = "x-tidegate-version";

/// Requests with the same key meet the same version while traffic is split.
const KEY_HEADER: &str = "x-tidegate-key";

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
    data: Nested,
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
#[utoipa::path(post, path = "/api/v1/inference/{model}", operation_id = "predict", tag = "inference",
    params(("model" = String, Path, description = "Id or name"), ImageParameters,
        ("X-Tidegate-Key" = Option<String>, Header, description = "Requests with one key meet one version")),
    request_body(content((PredictRequest = "application/json"), (image::ImageForm = "multipart/form-data"),
        (Vec<u8> = "image/png"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/tiff"), (Vec<u8> = "image/webp"))),
    responses((status = 200, content((PredictResponse = "application/json"), (Vec<u8> = "image/png"),
            (Vec<u8> = "application/zip")), headers(("X-Tidegate-Version" = String))),
        (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 413, body = ErrorBody),
        (status = 415, body = ErrorBody), (status = 422, description = "The version takes no images", body = ErrorBody),
        (status = 500, description = "The model failed", body = ErrorBody),
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
            let ApiJson(body) = ApiJson::from_request(request, &context).await?;
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
    let (query, field) = match (body.features, body.inputs) {
        (Some(features), None) => (Query::Features(features), "features"),
        (None, Some(inputs)) => {
            (Query::Inputs(inputs.into_iter().map(TensorInput::from).collect()), "inputs")
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("inputs", "give `features` or `inputs`, not both"));
        }
        (None, None) => return Err(ApiError::invalid("features", "missing; give `features` or `inputs`")),
    };
    let chosen = choose(context, &target).await?;
    let result = predict_one(context, &chosen, &query, field).await;
    account(context, &target, Some(&chosen), answer(context, &query, &result));
    let prediction = result?;
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
    Ok(with_version(Json(response).into_response(), &version))
}

async fn predict_one(
    context: &Context,
    chosen: &Chosen,
    query: &Query,
    field: &str,
) -> Result<Prediction, PredictError> {
    let inputs = tensors(chosen, query, field)?;
    run(context, chosen, inputs).await
}

/// What the log keeps: payloads only while they are small and the operator wants them.
fn answer(context: &Context, query: &Query, result: &Result<Prediction, PredictError>) -> Answer {
    let wanted = context.settings.log_payloads;
    let features = match query {
        Query::Features(features) if wanted && features.n_leaves() <= MAX_LOGGED_ELEMENTS => {
            small_json(features)
        }
        _ => None,
    };
    let prediction = result.as_ref().ok();
    let small = prediction.filter(|prediction| wanted && prediction.n_elements() <= MAX_LOGGED_ELEMENTS);
    Answer {
        features,
        prediction: small.and_then(small_json),
        confidence: prediction.and_then(Prediction::confidence),
        error: result.as_ref().err().map(ToString::to_string),
    }
}

/// Rows of a table, not images: the log is a database.
const MAX_LOGGED_ELEMENTS: usize = 256;

/// Of JSON text, far above any row of numbers: one element may be a text, and names have any length.
const MAX_LOGGED_BYTES: usize = 64 << 10;

/// The value, unless its text is longer than [`MAX_LOGGED_BYTES`].
fn small_json(value: &impl Serialize) -> Option<Value> {
    let value = serde_json::to_value(value).ok()?;
    (value.to_string().len() <= MAX_LOGGED_BYTES).then_some(value)
}

/// What a request may say of who shall answer.
#[derive(Debug)]
struct Asked {
    version: Option<String>,
    request_id: Option<String>,
    environment: Option<Environment>,
    started: Instant,
}

const MAX_KEY: usize = 255;

fn target(context: &Context, model: String, headers: &HeaderMap, asked: Asked) -> Result<Target, ApiError> {
    let is_key =
        |text: &str| (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let fault =
        |field: &str| ApiError::invalid(field, format!("give 1 to {MAX_KEY} visible ASCII characters"));
    let requested_at = context.clock.now();
    let request_id = match asked.request_id {
        Some(text) if is_key(&text) => RequestId::new(text),
        Some(_) => return Err(fault("requestId")),
        None => context.ids.next(requested_at),
    };
    let sticky_key = match headers.get(KEY_HEADER).map(HeaderValue::to_str) {
        None => None,
        Some(Ok(key)) if is_key(key) => Some(key.to_owned()),
        Some(_) => return Err(fault("X-Tidegate-Key")),
    };
    let pin: Option<SemVer> = asked.version.map(|text| parse_number("version", &text)).transpose()?;
    let environment = asked.environment.unwrap_or(context.settings.default_environment);
    let principal = Principal::named(headers)?.map(|principal| principal.0);
    Ok(Target {
        model,
        environment,
        pin,
        request_id,
        sticky_key,
        principal,
        requested_at,
        started: asked.started,
    })
}

fn with_version(mut response: Response, version: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(version) {
        response.headers_mut().insert(VERSION_HEADER, value);
    }
    response
}

impl From<InputTensor> for TensorInput {
    fn from(input: InputTensor) -> Self {
        Self { name: input.name, shape: input.shape, datatype: input.datatype, data: input.data }
    }
}
