//! Errors of the protocol on REST: a status, and `{"error": "..."}`. It asks for 4xx and 5xx and leaves the choice open, so
//! the statuses are those of the native protocol.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;

use crate::error::ApiError;

#[derive(Serialize)]
struct ErrorBody<'a> {
    error: &'a str,
}

/// The response as it goes out.
pub(crate) fn render(error: &ApiError) -> Response {
    let mut response = (error.code.status(), Json(ErrorBody { error: &error.message })).into_response();
    if let Some(seconds) = error.retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
