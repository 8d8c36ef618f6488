//! The event log of a deployment as it is written: server-sent events (WHATWG HTML, section 9.2), each with its number
//! as id, so that a client that was cut off goes on where it was.

use std::collections::VecDeque;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::{HeaderMap, StatusCode, header};
use tidegate_core::DeploymentId;
use tidegate_store::{Change, ChangeStream, DeploymentRecord, EventRecord, StoreError};
use tokio::sync::OwnedSemaphorePermit;

use super::view::EventView;
use crate::context::Context;
use crate::error::{ApiError, ErrorCode, OVERLOAD_RETRY_S};

/// Streams at once in this process. Each holds a connection and looks at every change of its deployment; dashboards of a
/// large team need some dozens.
pub(crate) const MAX_STREAMS: usize = 256;

/// A comment after so much silence, for proxies that cut off what seems dead (commonly after 60 s).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events read at a time.
const PAGE: u32 = 100;

const EVENT_STREAM: &str = "text/event-stream";

/// Whether the caller wants the events as they come.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == EVENT_STREAM)
}

/// The number after which a client that was cut off goes on.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let message = "give the id of an event of this deployment, or leave it out";
    number.map(Some).ok_or_else(|| ApiError::invalid("Last-Event-ID", message))
}

/// Every event after `after`, then each as it is committed, until the deployment is settled.
pub(super) async fn open(
    context: Context,
    record: DeploymentRecord,
    after: u64,
) -> Result<Response, ApiError> {
    let Ok(permit) = context.inner().event_streams.clone().try_acquire_owned() else {
        let message = "too many event streams are open; try again, or read the events page by page";
        return Err(ApiError::new(ErrorCode::ServiceUnavailable, message).with_retry_after(OVERLOAD_RETRY_S));
    };
    // Subscribed before the first look, so that nothing falls between the two.
    let changes = context.store.changes.subscribe();
    let mut follower = Follower {
        context,
        id: record.id,
        after,
        unsent: VecDeque::new(),
        has_more: false,
        is_over: false,
        changes,
        _permit: permit,
    };
    follower.read().await?;
    if follower.is_over && follower.unsent.is_empty() {
        // How a client that reconnects by itself is told to stop.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let events = stream::unfold(follower, Follower::next);
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

struct Follower {
    context: Context,
    id: DeploymentId,
    /// The number of the last event that was read.
    after: u64,
    unsent: VecDeque<EventRecord>,
    /// The log goes on after what is unsent.
    has_more: bool,
    /// Nothing comes after what is unsent.
    is_over: bool,
    changes: ChangeStream,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<Event, axum::Error>, Self)> {
        loop {
            if let Some(event) = self.unsent.pop_front() {
                let seq = event.seq.to_string();
                return Some((Event::default().id(seq).json_data(EventView::from(event)), self));
            }
            if self.is_over || (!self.has_more && !self.wait().await) {
                return None;
            }
            if let Err(error) = self.read().await {
                // The client comes back with the number of its last event, and is told how things are.
                tracing::warn!(deployment = %self.id, %error, "an event stream was cut off");
                return None;
            }
        }
    }

    /// Until the deployment may have changed; false when the stream has to end.
    async fn wait(&mut self) -> bool {
        loop {
            let change = tokio::select! {
                change = self.changes.next() => change,
                () = self.context.readiness.stopping() => return false,
            };
            match change {
                Some(Change::Deployment { id }) if id == self.id => return true,
                Some(Change::Everything) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Reads the next page.
    async fn read(&mut self) -> Result<(), StoreError> {
        // First whether it is settled: its last event was committed with that.
        let record = self.context.store.deployments.get(&self.id).await?;
        let is_settled = record.is_none_or(|record| record.is_settled);
        let events = self.context.store.deployments.events(&self.id, self.after, PAGE).await?;
        self.after = events.last().map_or(self.after, |event| event.seq);
        self.has_more = events.len() == PAGE as usize;
        self.is_over = is_settled && !self.has_more;
        self.unsent.extend(events);
        Ok(())
    }
}
