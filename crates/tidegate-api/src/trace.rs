//! One trace id for each request: taken from the caller's `traceparent` (W3C Trace Context, level 1) or made here,
//! written into every response and error, and on the log line of the request.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tidegate_core::RequestId;
use tracing::Instrument;

use crate::context::Context;
use crate::error::{ApiError, ErrorCode};
use crate::oip;

/// The response header that carries the trace id.
pub const TRACE_ID_HEADER: &str = "x-trace-id";

/// Of a request, for what is told of it elsewhere than in its response's error.
#[derive(Clone, Debug)]
pub(crate) struct TraceId(Arc<str>);

impl TraceId {
    /// The layer has given one to every request.
    pub(crate) fn of(request: &Request) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_else(|| Self("".into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The outermost layer: runs the request inside its span, renders errors, logs one line.
pub(crate) async fn trace(State(context): State<Context>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let trace_id = trace_id_of(request.headers()).unwrap_or_else(|| fresh_trace_id(&context));
    let method = request.method().clone();
    // The pattern, not the path: log lines group, and a path may carry what a person typed.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let protocol = Protocol::of(request.uri().path());
    request.extensions_mut().insert(TraceId(trace_id.as_str().into()));

    let span = tracing::info_span!("request", trace_id);
    let mut response = next.run(request).instrument(span.clone()).await;

    let _entered = span.enter();
    let error = response.extensions_mut().remove::<ApiError>().or_else(|| foreign(&response));
    if let Some(error) = &error {
        log_error(error);
        response = render(protocol, error, &response, &trace_id, &context);
    }
    let status = response.status().as_u16();
    let latency_ms = started.elapsed().as_secs_f64() * 1e3;
    let route = route.as_ref().map_or("(no route)", MatchedPath::as_str);
    // In gRPC, errors have the status 200 too.
    if is_frequent(route) && error.is_none() && response.status().is_success() {
        tracing::debug!(%method, route, status, latency_ms, "answered");
    } else {
        tracing::info!(%method, route, status, latency_ms, "answered");
    }
    if let Ok(value) = HeaderValue::from_str(&trace_id) {
        response.headers_mut().insert(TRACE_ID_HEADER, value);
    }
    response
}

/// Asked every few seconds by whoever watches the process; or a prediction, of which there may be thousands a second, and
/// which the inference log has. Where they fail, there is a line.
fn is_frequent(route: &str) -> bool {
    matches!(
        route,
        "/health"
            | "/ready"
            | "/api/v1/inference/{model}"
            | "/api/v1/inference/{model}/batch"
            | "/api/v1/inference/{model}/status"
            | "/v2/health/live"
            | "/v2/health/ready"
            | "/v2/models/{model}/ready"
            | "/v2/models/{model}/infer"
            | "/v2/models/{model}/versions/{version}/infer"
            | "/inference.GRPCInferenceService/ServerLive"
            | "/inference.GRPCInferenceService/ServerReady"
            | "/inference.GRPCInferenceService/ModelReady"
            | "/inference.GRPCInferenceService/ModelInfer"
            | "/inference.GRPCInferenceService/ModelStreamInfer"
            | "/grpc.health.v1.Health/Check"
    )
}

/// An error that some library answered with, in its own shape or none.
fn foreign(response: &Response) -> Option<ApiError> {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_ours = content_type.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    match response.status() {
        status if is_ours || !(status.is_client_error() || status.is_server_error()) => None,
        StatusCode::NOT_FOUND => Some(ApiError::new(ErrorCode::NotFound, "there is nothing here")),
        status => Some(ApiError::internal_text(format!("a library answered {status}"))),
    }
}

/// In whose words an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Native,
    OipRest,
    OipGrpc,
}

impl Protocol {
    fn of(path: &str) -> Self {
        match path {
            path if oip::grpc::owns(path) => Self::OipGrpc,
            path if oip::rest::owns(path) => Self::OipRest,
            _ => Self::Native,
        }
    }
}

/// Keeps what inner layers said in headers, such as `Allow` beside a 405.
fn render(
    protocol: Protocol,
    error: &ApiError,
    inner: &Response,
    trace_id: &str,
    context: &Context,
) -> Response {
    let mut response = match protocol {
        Protocol::Native => error.render(trace_id, context.clock.now()),
        Protocol::OipRest => oip::rest::render(error),
        Protocol::OipGrpc => oip::grpc::render(error),
    };
    if let Some(allow) = inner.headers().get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allow.clone());
    }
    response
}

pub(crate) fn log_error(error: &ApiError) {
    let cause = error.cause().unwrap_or("");
    match error.code {
        // Overload, or nothing deployed: worth knowing, and nothing is broken. With a cause, something is.
        ErrorCode::ServiceUnavailable if cause.is_empty() => {
            tracing::warn!(code = ?error.code, message = error.message, cause, "request turned away");
        }
        code if code.status().is_server_error() => {
            tracing::error!(code = ?error.code, message = error.message, cause, "request failed");
        }
        _ => tracing::debug!(code = ?error.code, message = error.message, cause, "request refused"),
    }
}

/// The trace id of a well-formed `traceparent`: `version-traceid-parentid-flags`, lowercase hexadecimal, ids not all
/// zero, version not `ff` (section 3.2 of the recommendation; later versions may append fields).
fn trace_id_of(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut fields = text.split('-');
    let (version, trace_id, parent_id, flags) =
        (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let hex = |field: &str, length| {
        field.len() == length && field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let id = |field: &str, length| hex(field, length) && field.bytes().any(|b| b != b'0');
    let well_formed = hex(version, 2)
        && version != "ff"
        && id(trace_id, 32)
        && id(parent_id, 16)
        && hex(flags, 2)
        && (version != "00" || fields.next().is_none());
    well_formed.then(|| trace_id.to_owned())
}

/// 32 hexadecimal digits, from the same source as every id.
fn fresh_trace_id(context: &Context) -> String {
    let id: RequestId = context.ids.next(context.clock.now());
    id.as_str().rsplit_once('-').map_or_else(|| id.to_string(), |(_, hex)| hex.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_traceparent_is_taken_over() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = "00f067aa0ba902b7";
        let cases = [
            (format!("00-{id}-{parent}-01"), true),
            (format!("01-{id}-{parent}-01-future"), true),
            (format!("00-{id}-{parent}-01-extra"), false),
            (format!("ff-{id}-{parent}-01"), false),
            (format!("00-{}-{parent}-01", id.to_uppercase()), false),
            (format!("00-{}-{parent}-01", "0".repeat(32)), false),
            (format!("00-{id}-{}-01", "0".repeat(16)), false),
            (format!("00-{id}-{parent}"), false),
            ("nonsense".to_owned(), false),
        ];
        for (text, taken) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_str(&text).unwrap());
            assert_eq!(trace_id_of(&headers).as_deref(), taken.then_some(id), "{text}");
        }
    }
}
