//! Reading on after an error. A server that answers and closes while the client still sends makes the client's system
//! throw the answer away; reading a while longer lets it arrive.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream};
use axum::extract::Request;
use bytes::Bytes;
use futures::{Stream, StreamExt};

/// More than most models; who sends more than this in vain is cut off.
const MAX_DRAINED_BYTES: usize = 256 << 20;

/// What a handler has left of a body.
pub(crate) struct Rest(Lent);

#[derive(Clone)]
struct Lent(Arc<Mutex<BodyDataStream>>);

/// The same request, and a way to read on when the handler is done with it.
pub(crate) fn lend_body(request: Request) -> (Request, Rest) {
    let (parts, body) = request.into_parts();
    let lent = Lent(Arc::new(Mutex::new(body.into_data_stream())));
    let body = Body::from_stream(lent.clone());
    (Request::from_parts(parts, body), Rest(lent))
}

impl Rest {
    /// Reads and forgets, up to a bound; a pause ends it too (the idle timeout of bodies).
    pub(crate) async fn drain(mut self) {
        let mut n_bytes = 0;
        while let Some(Ok(chunk)) = self.0.next().await {
            n_bytes += chunk.len();
            if n_bytes > MAX_DRAINED_BYTES {
                return;
            }
        }
    }
}

impl Stream for Lent {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_next_unpin(context)
    }
}
