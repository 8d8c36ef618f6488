//! An event log, of a deployment or a job: a page of it, or, for who accepts that, the stream of [`follow`].

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::Timestamp;
use tidegate_store::EventRecord;
use utoipa::ToSchema;

use super::follow::{self, Log};
use crate::context::Context;
use crate::error::ApiError;
use crate::extract::Pagination;

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// Events after this number; default 0, from the first.
    #[serde(default)]
    after: u64,
    /// Of a page: 1 to 100, default 20.
    limit: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventList {
    events: Vec<EventView>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// From 1; give the last one as `after` to get what is new.
    seq: u64,
    at: Timestamp,
    kind: String,
    message: String,
    #[schema(value_type = Object)]
    evidence: Value,
}

/// Of a log that is there.
pub(crate) async fn answer(
    context: Context,
    log: Log,
    query: &EventQuery,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    if follow::is_wanted(headers) {
        let after = query.to_follow(headers)?;
        return follow::open(context, log, after).await;
    }
    let page = Pagination { limit: query.limit, offset: None }.page()?;
    let events = log.read(&context.store, query.after, page.limit).await?;
    Ok(Json(EventList { events: events.into_iter().map(EventView::from).collect() }).into_response())
}

impl EventQuery {
    /// The number after which a stream begins.
    fn to_follow(&self, headers: &HeaderMap) -> Result<u64, ApiError> {
        if self.limit.is_some() {
            return Err(ApiError::invalid("limit", "a stream has none; leave it out"));
        }
        Ok(follow::last_event_id(headers)?.unwrap_or(self.after))
    }
}

impl From<EventRecord> for EventView {
    fn from(event: EventRecord) -> Self {
        Self {
            seq: event.seq,
            at: event.at,
            kind: event.kind,
            message: event.message,
            evidence: event.evidence,
        }
    }
}
