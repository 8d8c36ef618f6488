//! Answering later: a JSON request with the header `Prefer: respond-async` (RFC 7240, section 4.1) or the key `async` is
//! written to the database, answered with 202 and run when there is time ([`runner`]); its status is asked for until the
//! result expires.

mod runner;

pub use runner::AsyncRunner;

use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_core::{Environment, RequestId, Timestamp};
use tidegate_store::{
    AsyncOutcome, AsyncRequest, AsyncResult, AsyncState, HandedIn, JsonText, NewAsyncRequest,
};
use utoipa::ToSchema;

use super::{Asked, PredictRequest, query, target};
use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode, ErrorContent};
use crate::extract::ApiPath;
use crate::operations::predict::{Answer, account, choose, inputs};
use crate::trace::TraceId;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const RESPOND_ASYNC: &str = "respond-async";

/// When to ask for the result: most are there by then.
const STATUS_RETRY_S: u32 = 1;

/// When to come back while too many wait: in ten seconds some of them have gone.
const FULL_RETRY_S: u32 = 10;

/// The request is taken in, and outlives this process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TakenResponse {
    request_id: String,
    #[schema(example = "Queued")]
    status: &'static str,
    /// The same as the header `Location`.
    status_url: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusResponse {
    request_id: String,
    /// Name or id, as it was asked.
    model_name: String,
    #[schema(value_type = String, example = "Production")]
    environment: Environment,
    /// `Queued`, `Running`, `Completed` or `Failed`.
    #[schema(example = "Completed")]
    status: &'static str,
    /// Who answered.
    version: Option<String>,
    /// As in the answer of a request that is waited for.
    #[schema(value_type = Option<Object>)]
    prediction: Option<Box<RawValue>>,
    confidence: Option<f64>,
    /// Of the run, without the waiting.
    latency_ms: Option<f64>,
    requested_at: Timestamp,
    completed_at: Option<Timestamp>,
    /// Until then the result is kept.
    expires_at: Option<Timestamp>,
    /// Why it failed.
    #[schema(value_type = Option<ErrorContent>)]
    error: Option<Box<RawValue>>,
}

/// Whether the caller prefers not to wait. Other preferences mean nothing here, and what is not understood is passed over.
pub(super) fn is_preferred(headers: &HeaderMap) -> bool {
    let values = headers.get_all(PREFER).into_iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(','));
    preferences.any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(RESPOND_ASYNC)
    })
}

/// Takes the request in, once it is known that it could be answered now. Who answers is decided when it is run.
pub(super) async fn hand_in(
    context: &Context,
    model: String,
    headers: &HeaderMap,
    trace_id: TraceId,
    body: PredictRequest,
    text: &Bytes,
) -> Result<Response, ApiError> {
    let settings = &context.settings.async_requests;
    if text.len() > settings.max_request_bytes {
        let message = format!(
            "a request that is answered later may have {} bytes, this one has {}; send it without \
             `Prefer: respond-async`, or in smaller parts",
            settings.max_request_bytes,
            text.len()
        );
        return Err(ApiError::new(ErrorCode::PayloadTooLarge, message));
    }
    let PredictRequest { features, inputs: tensors, version, request_id, environment, is_async: _ } = body;
    let asked = Asked { version, request_id, environment, started: Instant::now() };
    let target = target(context, model, headers, asked)?;
    let query = query(features, tensors)?;
    let chosen = choose(context, &target).await?;
    if let (_, Err(misfit)) = inputs(&chosen, query) {
        account(context, &target, Some(&chosen), Answer::failed(context, &misfit));
        return Err(misfit.into());
    }
    let request = NewAsyncRequest {
        request_id: target.request_id,
        model: target.model,
        environment: target.environment,
        sticky_key: target.sticky_key,
        principal: target.principal,
        sticky_header: target.header,
        trace_id: trace_id.as_str().to_owned(),
        // JSON is UTF-8, or it would not have been read.
        body: String::from_utf8_lossy(text).into_owned(),
        requested_at: target.requested_at,
    };
    match context.store.async_requests.hand_in(&request, settings.max_waiting).await? {
        HandedIn::Taken => {
            context.inner().async_request_came.notify_one();
            Ok(taken(&request.request_id))
        }
        HandedIn::Full => {
            let message =
                format!("{} requests wait to be answered, and more may not; try again", settings.max_waiting);
            Err(ApiError::new(ErrorCode::ServiceUnavailable, message).with_retry_after(FULL_RETRY_S))
        }
        HandedIn::Known => {
            let message = format!(
                "request `{}` was taken in already; {} says how it stands",
                request.request_id,
                status_url(&request.request_id)
            );
            Err(ApiError::new(ErrorCode::Conflict, message).with_detail("requestId", "already taken in"))
        }
    }
}

fn taken(request_id: &RequestId) -> Response {
    let status_url = status_url(request_id);
    let headers = [
        (header::LOCATION, HeaderValue::from_str(&status_url)),
        (header::RETRY_AFTER, Ok(STATUS_RETRY_S.into())),
        (PREFERENCE_APPLIED, Ok(HeaderValue::from_static(RESPOND_ASYNC))),
    ];
    let body = TakenResponse { request_id: request_id.to_string(), status: "Queued", status_url };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    let headers = headers.into_iter().filter_map(|(name, value)| Some((name, value.ok()?)));
    response.headers_mut().extend(headers);
    response
}

/// An id is any visible ASCII; what means something in a path is escaped (RFC 3986, section 2.3).
fn status_url(request_id: &RequestId) -> String {
    let escaped = request_id.as_str().bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    });
    format!("/api/v1/inference/{}/status", escaped.collect::<String>())
}

/// How a request that is answered later stands, and its result once there is one.
#[utoipa::path(get, path = "/api/v1/inference/{model}/status", operation_id = "getInferenceStatus", tag = "inference",
    params(("model" = String, Path, description = "The requestId")),
    responses((status = 200, body = StatusResponse,
            headers(("Retry-After" = Option<u32>, description = "While it is not answered"))),
        (status = 404, description = "There was no such request", body = ErrorBody),
        (status = 410, description = "Its result is not kept any more", body = ErrorBody)))]
pub(crate) async fn status(
    State(context): State<Context>,
    ApiPath(request_id): ApiPath<String>,
) -> Result<Response, ApiError> {
    let request_id = RequestId::new(request_id);
    let request = match context.store.async_requests.get(&request_id).await? {
        Some(request) if !is_expired(&request, context.clock.now()) => request,
        Some(_) => return Err(expired(&request_id)),
        None if context.store.inferences.get(&request_id).await?.is_some() => {
            return Err(expired(&request_id));
        }
        None => return Err(unknown(&request_id)),
    };
    let mut response = Json(StatusResponse::from(&request)).into_response();
    if !matches!(request.state, AsyncState::Done(_)) {
        response.headers_mut().insert(header::RETRY_AFTER, STATUS_RETRY_S.into());
    }
    Ok(response)
}

fn is_expired(request: &AsyncRequest, now: Timestamp) -> bool {
    matches!(&request.state, AsyncState::Done(result) if result.expires_at <= now)
}

fn expired(request_id: &RequestId) -> ApiError {
    let message = format!(
        "request `{request_id}` was answered, and no result of it is kept: those of requests with \
         `Prefer: respond-async` are kept for a time, those of others go to their caller only; ask again"
    );
    ApiError::new(ErrorCode::ResultExpired, message)
}

fn unknown(request_id: &RequestId) -> ApiError {
    let message = format!(
        "there is no request `{}`; give the requestId of one that was answered with 202",
        request_id.as_str().chars().take(255).collect::<String>()
    );
    ApiError::new(ErrorCode::RequestNotFound, message)
}

impl From<&AsyncRequest> for StatusResponse {
    fn from(request: &AsyncRequest) -> Self {
        let (status, result) = match &request.state {
            AsyncState::Queued => ("Queued", None),
            AsyncState::Running => ("Running", None),
            AsyncState::Done(result) => match result.outcome {
                AsyncOutcome::Completed { .. } => ("Completed", Some(result)),
                AsyncOutcome::Failed { .. } => ("Failed", Some(result)),
            },
        };
        let waiting = Self {
            request_id: request.request_id.to_string(),
            model_name: request.model.clone(),
            environment: request.environment,
            status,
            version: None,
            prediction: None,
            confidence: None,
            latency_ms: None,
            requested_at: request.requested_at,
            completed_at: None,
            expires_at: None,
            error: None,
        };
        match result {
            Some(result) => waiting.with(result),
            None => waiting,
        }
    }
}

impl StatusResponse {
    fn with(self, result: &AsyncResult) -> Self {
        let (prediction, confidence, error) = match &result.outcome {
            AsyncOutcome::Completed { prediction, confidence } => (Some(prediction), *confidence, None),
            AsyncOutcome::Failed { error } => (None, None, Some(error)),
        };
        // What was damaged in the database is left out.
        let raw = |json: &JsonText| RawValue::from_string(json.as_str().to_owned()).ok();
        Self {
            version: result.version.as_ref().map(ToString::to_string),
            prediction: prediction.and_then(raw),
            confidence,
            latency_ms: Some(result.latency_ms),
            completed_at: Some(result.completed_at),
            expires_at: Some(result.expires_at),
            error: error.and_then(raw),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_found_among_others() {
        for (values, expected) in [
            (&["respond-async"][..], true),
            (&["wait=5, Respond-Async"], true),
            (&["return=minimal", "respond-async; x=1 , wait=10"], true),
            (&["respond-asynchronously"], false),
            (&["return=respond-async"], false),
            (&[], false),
        ] {
            let headers = values.iter().map(|value| (PREFER, HeaderValue::from_static(value))).collect();
            assert_eq!(is_preferred(&headers), expected, "{values:?}");
        }
    }

    #[test]
    fn an_id_is_escaped_where_a_path_could_not_hold_it() {
        let url = status_url(&RequestId::new("a/b?c#d%e~1"));
        assert_eq!(url, "/api/v1/inference/a%2Fb%3Fc%23d%25e~1/status");
    }
}
