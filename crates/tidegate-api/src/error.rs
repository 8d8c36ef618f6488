//! Errors of the native protocol: the one place that knows which failure is which status and code.
//!
//! Operations return their own errors; the conversions at the end of this file give each its [`ErrorCode`]. A handler
//! returns an [`ApiError`]; the trace layer writes it out, because only that knows the trace id and the time.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tidegate_core::{Timestamp, error_chain};
use utoipa::ToSchema;

mod convert;

pub(crate) use convert::OVERLOAD_RETRY_S;

/// What went wrong, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    ValidationError,
    SchemaValidationError,
    Forbidden,
    ModelNotFound,
    VersionNotFound,
    DeploymentNotFound,
    RequestNotFound,
    ResultExpired,
    JobNotFound,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    Conflict,
    PayloadTooLarge,
    RangeNotSatisfiable,
    UnsupportedMediaType,
    UnprocessableArtifact,
    InferenceError,
    InternalError,
    ServiceUnavailable,
    DeadlineExceeded,
    InsufficientStorage,
}

impl ErrorCode {
    pub fn status(self) -> StatusCode {
        match self {
            Self::ValidationError | Self::SchemaValidationError => StatusCode::BAD_REQUEST,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::ModelNotFound
            | Self::VersionNotFound
            | Self::DeploymentNotFound
            | Self::RequestNotFound
            | Self::JobNotFound
            | Self::NotFound => StatusCode::NOT_FOUND,
            Self::ResultExpired => StatusCode::GONE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UnprocessableArtifact => StatusCode::UNPROCESSABLE_ENTITY,
            Self::InferenceError | Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

/// Errors quote what the caller sent, and are answered and stored: no more of it than a person would read.
pub(crate) const MAX_MESSAGE_CHARS: usize = 1000;

/// Longer than any path into a request that means something.
const MAX_FIELD_CHARS: usize = 200;

/// A request can be wrong at each of a million numbers; the first faults show what is wrong.
const MAX_DETAILS: usize = 100;

/// One fault of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// The key, header, query parameter or JSON pointer at fault.
    pub field: String,
    pub message: String,
}

impl ErrorDetail {
    /// Both texts are cut where they are too long.
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            field: shortened(field.into(), MAX_FIELD_CHARS),
            message: shortened(message.into(), MAX_MESSAGE_CHARS),
        }
    }
}

/// A failed request. Messages are for the caller and say what to do next; `cause` is for the log only.
#[derive(Clone, Debug)]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
    pub details: Vec<ErrorDetail>,
    /// When trying again may help, in seconds.
    pub retry_after_s: Option<u32>,
    cause: Option<String>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = shortened(message.into(), MAX_MESSAGE_CHARS);
        Self { code, message, details: Vec::new(), retry_after_s: None, cause: None }
    }

    /// A request that does not fit its description, with the field that does not.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let detail = ErrorDetail::new(field, message);
        let message = format!("`{}`: {}", detail.field, detail.message);
        Self { details: vec![detail], ..Self::new(ErrorCode::ValidationError, message) }
    }

    /// Several faults of one request; the message is `summary` and the first of them, and tells how many there are also
    /// where the details are cut short.
    pub fn faults(code: ErrorCode, summary: &str, details: Vec<ErrorDetail>) -> Self {
        let first = details.first().map(|fault| format!(": `{}`: {}", fault.field, fault.message));
        let more = match details.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let message = format!("{summary}{}{more}", first.unwrap_or_default());
        let details = details.into_iter().take(MAX_DETAILS).collect();
        Self { details, ..Self::new(code, message) }
    }

    /// Something that is ours to mend. The caller learns the trace id, the log the cause.
    pub fn internal(cause: &(dyn std::error::Error + 'static)) -> Self {
        Self::internal_text(error_chain(cause))
    }

    pub fn internal_text(cause: impl Into<String>) -> Self {
        let message = "something went wrong on the server; \
                       give the traceId to whoever runs it, their log has the cause";
        Self { cause: Some(cause.into()), ..Self::new(ErrorCode::InternalError, message) }
    }

    pub fn with_detail(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.details.push(ErrorDetail::new(field, message));
        self
    }

    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub(crate) fn with_cause(mut self, cause: &(dyn std::error::Error + 'static)) -> Self {
        self.cause = Some(error_chain(cause));
        self
    }

    /// What the log should have beside the message.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// What the caller is told.
    pub(crate) fn content(&self, trace_id: &str, timestamp: Timestamp) -> ErrorContent {
        ErrorContent {
            code: self.code,
            message: self.message.clone(),
            details: self.details.clone(),
            trace_id: trace_id.to_owned(),
            timestamp,
        }
    }

    /// The response as it goes out.
    pub(crate) fn render(&self, trace_id: &str, timestamp: Timestamp) -> Response {
        let body = ErrorBody { error: self.content(trace_id, timestamp) };
        let mut response = (self.code.status(), axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// Carries the error to the trace layer, which renders it.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Every failed request answers with this.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorContent,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorContent {
    pub code: ErrorCode,
    /// What is wrong and what to do about it.
    pub message: String,
    /// Each fault by field, where the request is at fault.
    pub details: Vec<ErrorDetail>,
    /// W3C trace id; the server's log has it too.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    pub trace_id: String,
    pub timestamp: Timestamp,
}

/// The text, or its first `max_chars` characters and an ellipsis.
pub(crate) fn shortened(mut text: String, max_chars: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(max_chars) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_caller_are_cut_between_characters() {
        assert_eq!(shortened("é".repeat(3), 3), "ééé");
        assert_eq!(shortened("é".repeat(4), 3), "ééé…");
        let error = ApiError::invalid("f".repeat(5000), "é".repeat(5000));
        let longest = |text: &str| text.chars().count();
        assert_eq!(longest(&error.message), MAX_MESSAGE_CHARS + 1);
        assert_eq!(longest(&error.details[0].field), MAX_FIELD_CHARS + 1);
        assert_eq!(longest(&error.details[0].message), MAX_MESSAGE_CHARS + 1);
        let many = vec![error.details[0].clone(); MAX_DETAILS + 1];
        let error = ApiError::faults(ErrorCode::ValidationError, "no", many);
        assert_eq!(error.details.len(), MAX_DETAILS);
    }
}
