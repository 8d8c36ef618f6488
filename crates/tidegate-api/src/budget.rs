//! Bytes that the bodies of all requests may hold together: each has a limit of its own, but many at once would still
//! fill the memory. Who finds none left is told to come back, as with every other queue that is full.

use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{Method, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::context::Context;
use crate::error::{ApiError, ErrorCode, OVERLOAD_RETRY_S};
use crate::extract::{media_type, too_large};
use crate::native::inference::ndjson;
use crate::native::jobs::scene_query;
use crate::oip::grpc;

/// Bodies of the largest size that fit at once. With two, one slow sender of large bodies could keep everybody out;
/// each more costs its size in memory, and parsed JSON costs a multiple of it.
const LARGEST_BODIES: u64 = 4;

/// The budget is counted in these: finer would only make larger numbers.
const UNIT_BYTES: u64 = 1024;

/// One permit for each KiB.
pub(crate) struct BodyBudget {
    permits: Arc<Semaphore>,
    max_request_bytes: u64,
}

impl BodyBudget {
    pub(crate) fn new(max_request_bytes: u64) -> Self {
        let permits = u64::from(units(max_request_bytes)) * LARGEST_BODIES;
        let permits =
            usize::try_from(permits).map_or(Semaphore::MAX_PERMITS, |n| n.min(Semaphore::MAX_PERMITS));
        Self { permits: Arc::new(Semaphore::new(permits)), max_request_bytes }
    }

    /// Takes this many bytes, or tells the caller to come back.
    pub(crate) fn hold(&self, size_bytes: u64) -> Result<Held, ApiError> {
        match Arc::clone(&self.permits).try_acquire_many_owned(units(size_bytes)) {
            Ok(permit) => Ok(Held(permit)),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                let message = "the server holds as many request bodies as it can; try again";
                Err(ApiError::new(ErrorCode::ServiceUnavailable, message).with_retry_after(OVERLOAD_RETRY_S))
            }
        }
    }
}

/// Bytes of the budget; dropped, they are given back.
pub(crate) struct Held(#[expect(dead_code, reason = "what counts is that it is there")] OwnedSemaphorePermit);

/// Takes the body's bytes from the budget for as long as the request is answered; gone callers give them back too.
pub(crate) async fn within_budget(State(context): State<Context>, request: Request, next: Next) -> Response {
    let budget = &context.inner().body_budget;
    let limit_bytes = budget.max_request_bytes;
    // Without a length, or compressed, a body may become as large as any.
    let is_compressed = request.headers().contains_key(header::CONTENT_ENCODING);
    let length = request.body().size_hint().upper().filter(|length| !is_compressed || *length > limit_bytes);
    let size_bytes = length.unwrap_or(limit_bytes);
    if request.body().is_end_stream() || size_bytes == 0 || is_held_elsewhere(&request) {
        return next.run(request).await;
    }
    if size_bytes > limit_bytes {
        return too_large(limit_bytes).into_response();
    }
    match budget.hold(size_bytes) {
        Ok(_held) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Files of a registration and uploaded scenes go from the network to the store and are never held; gRPC holds message by
/// message, a stream some lines.
fn is_held_elsewhere(request: &Request<Body>) -> bool {
    grpc::owns(request.uri().path())
        || is_upload(request)
        || scene_query::carries_scene(request)
        || ndjson::owns(request)
}

fn is_upload(request: &Request<Body>) -> bool {
    request.method() == Method::POST
        && request.uri().path() == "/api/v1/models"
        && media_type(request.headers()) == "multipart/form-data"
}

fn units(n_bytes: u64) -> u32 {
    u32::try_from(n_bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}
