//! An event log, of a deployment or a job, as it is written: server-sent events (WHATWG HTML, section 9.2), each with its number
//! as id, so that a client that was cut off goes on where it was.

use std::collections::VecDeque;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::{HeaderMap, StatusCode, header};
use tidegate_core::{DeploymentId, JobId};
use tidegate_store::{Change, ChangeStream, EventRecord, Store, StoreError};
use tokio::sync::OwnedSemaphorePermit;

use crate::context::Context;
use crate::error::{ApiError, ErrorCode, OVERLOAD_RETRY_S};
use crate::native::events::EventView;

/// Streams at once in this process. Each holds a connection and looks at every change of what it follows; dashboards of a
/// large team need some dozens.
pub(crate) const MAX_STREAMS: usize = 256;

/// A comment after so much silence, for proxies that cut off what seems dead (commonly after 60 s).
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Events read at a time.
const PAGE: u32 = 100;

const EVENT_STREAM: &str = "text/event-stream";

/// Whose events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    Deployment(DeploymentId),
    Job(JobId),
}

impl Log {
    /// Whether nothing more will be written; so too where it is gone.
    async fn is_closed(&self, store: &Store) -> Result<bool, StoreError> {
        Ok(match self {
            Self::Deployment(id) => {
                store.deployments.get(id).await?.is_none_or(|deployment| deployment.is_settled)
            }
            Self::Job(id) => store.jobs.get(id).await?.is_none_or(|job| job.status.is_over()),
        })
    }

    pub(crate) async fn read(
        &self,
        store: &Store,
        after: u64,
        limit: u32,
    ) -> Result<Vec<EventRecord>, StoreError> {
        match self {
            Self::Deployment(id) => store.deployments.events(id, after, limit).await,
            Self::Job(id) => store.jobs.events(id, after, limit).await,
        }
    }

    fn is_changed_by(&self, change: &Change) -> bool {
        match (self, change) {
            (Self::Deployment(followed), Change::Deployment { id }) => followed == id,
            (Self::Job(followed), Change::Job { id }) => followed == id,
            (_, change) => *change == Change::Everything,
        }
    }
}

/// Whether the caller wants the events as they come.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == EVENT_STREAM)
}

/// The number after which a client that was cut off goes on.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    let message = "give the id of an event of this stream, or leave it out";
    number.map(Some).ok_or_else(|| ApiError::invalid("Last-Event-ID", message))
}

/// Every event after `after`, then each as it is committed, until the log is closed.
pub(crate) async fn open(context: Context, log: Log, after: u64) -> Result<Response, ApiError> {
    let Ok(permit) = context.inner().event_streams.clone().try_acquire_owned() else {
        let message = "too many event streams are open; try again, or read the events page by page";
        return Err(ApiError::new(ErrorCode::ServiceUnavailable, message).with_retry_after(OVERLOAD_RETRY_S));
    };
    // Subscribed before the first look, so that nothing falls between the two.
    let changes = context.store.changes.subscribe();
    let mut follower = Follower {
        context,
        log,
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
    log: Log,
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
                tracing::warn!(log = ?self.log, %error, "an event stream was cut off");
                return None;
            }
        }
    }

    /// Until there may be more to read; false when the stream has to end.
    async fn wait(&mut self) -> bool {
        loop {
            let change = tokio::select! {
                change = self.changes.next() => change,
                () = self.context.readiness.stopping() => return false,
            };
            match change {
                Some(change) if self.log.is_changed_by(&change) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// Reads the next page.
    async fn read(&mut self) -> Result<(), StoreError> {
        // First whether it is closed: the last event was committed with that.
        let is_closed = self.log.is_closed(&self.context.store).await?;
        let events = self.log.read(&self.context.store, self.after, PAGE).await?;
        self.after = events.last().map_or(self.after, |event| event.seq);
        self.has_more = events.len() == PAGE as usize;
        self.is_over = is_closed && !self.has_more;
        self.unsent.extend(events);
        Ok(())
    }
}
