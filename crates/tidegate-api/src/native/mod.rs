//! The native protocol: REST under `/api/v1`. Handlers extract, make one domain call and convert; wire types stand
//! beside them. Keys are camelCase, unknown ones are refused by name.

pub(crate) mod deployments;
pub(crate) mod events;
pub(crate) mod feedback;
pub(crate) mod follow;
pub(crate) mod health;
pub(crate) mod inference;
pub(crate) mod jobs;
pub(crate) mod models;
pub(crate) mod registration;
pub(crate) mod replicas;
pub(crate) mod server;
pub(crate) mod versions;

use std::any::Any;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{Method, Uri};

use crate::error::{ApiError, ErrorCode};

/// Any path that no route has.
pub(crate) async fn unknown_path(uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    ApiError::new(ErrorCode::NotFound, format!("there is nothing at `{path}`; /swagger lists what there is"))
}

/// A path with another method. The `Allow` header says which it takes.
pub(crate) async fn unknown_method(method: Method, uri: Uri) -> ApiError {
    let path: String = uri.path().chars().take(200).collect();
    let message = format!("`{path}` does not take {method}; the `Allow` header says what it takes");
    ApiError::new(ErrorCode::MethodNotAllowed, message)
}

/// A panic is our bug; the caller still gets an answer, and the log what it was.
#[expect(clippy::needless_pass_by_value, reason = "the signature that the layer calls")]
pub(crate) fn answer_panic(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let text = text.unwrap_or_else(|| "a panic without words".to_owned());
    ApiError::internal_text(format!("panicked: {text}")).into_response()
}
