//! Reading on after an error. A server that answers and closes while the client still sends makes the client's system
//! throw the answer away; reading a while longer lets it arrive.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use axum::http::header::EXPECT;
use bytes::Bytes;
use futures::{Stream, StreamExt};

/// More than most models; who sends more than this in vain is cut off.
const MAX_DRAINED_BYTES: usize = 256 << 20;

/// What a handler has left of a body.
pub(crate) struct Rest {
    body: Lent,
    /// The client sends only once the body is asked for (RFC 9110, section 10.1.1).
    is_expecting: bool,
}

#[derive(Clone)]
struct Lent(Arc<Mutex<Reading>>);

struct Reading {
    body: BodyDataStream,
    is_begun: bool,
}

/// The same request, and a way to read on when the handler is done with it.
pub(crate) fn lend_body(request: Request) -> (Request, Rest) {
    let (parts, body) = request.into_parts();
    let is_expecting = parts.headers.contains_key(EXPECT);
    let reading = Reading { body: body.into_data_stream(), is_begun: false };
    let lent = Lent(Arc::new(Mutex::new(reading)));
    let body = Body::from_stream(lent.clone());
    (Request::from_parts(parts, body), Rest { body: lent, is_expecting })
}

impl Rest {
    /// Reads and forgets, up to a bound; a pause ends it too (the idle timeout of bodies). A client that still waits to be
    /// asked has nothing on its way.
    pub(crate) async fn drain(mut self) {
        if self.is_expecting && !self.body.reading().is_begun {
            return;
        }
        let mut n_bytes = 0;
        while let Some(Ok(chunk)) = self.body.next().await {
            n_bytes += chunk.len();
            if n_bytes > MAX_DRAINED_BYTES {
                return;
            }
        }
    }
}

impl Lent {
    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut reading = self.reading();
        reading.is_begun = true;
        reading.body.poll_next_unpin(context)
    }
}
