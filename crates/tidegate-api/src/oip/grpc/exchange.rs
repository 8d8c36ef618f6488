//! Messages in and out of HTTP/2 bodies: a flag, a length, the message
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use axum::body::{Body, BodyDataStream};
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use prost::Message;

use super::error::trailers;
use crate::budget::Held;
use crate::context::Context;
use crate::error::{ApiError, ErrorCode};
use crate::extract::{Encoding, too_large};
use crate::oip::MAX_SMALL_BYTES;
use crate::oip::body::Pieces;

pub(super) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");

/// The flag and the length before each message.
const PREFIX: usize = 5;

/// Taken at once for a message that comes in many pieces; more as the bytes come.
const FIRST_PIECE: usize = 1 << 20;

/// The messages of a request, one after the other.
pub(super) struct Incoming {
    context: Context,
    /// Of one message.
    limit_bytes: u64,
    encoding: Encoding,
    body: BodyDataStream,
    /// Came, and was not taken yet.
    rest: Bytes,
}

/// A message and its share of the budget of bodies, which goes back when this is dropped.
pub(super) struct Received {
    pub bytes: Bytes,
    pub held: Held,
}

impl Incoming {
    /// Messages of up to `max_bytes` and the server's limit, whichever is less.
    pub(super) fn new(
        context: &Context,
        headers: &HeaderMap,
        body: Body,
        max_bytes: u64,
    ) -> Result<Self, ApiError> {
        let content_type = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
        if !content_type.starts_with(b"application/grpc") {
            let message = "this is a gRPC method; send `application/grpc` over HTTP/2, or use REST under /v2";
            return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
        }
        let encoding = Encoding::of(headers, "grpc-encoding")?;
        let limit_bytes = context.settings.max_request_bytes.min(max_bytes);
        let (context, body) = (context.clone(), body.into_data_stream());
        Ok(Self { context, limit_bytes, encoding, body, rest: Bytes::new() })
    }

    /// `None` when the caller has sent all of them. How long the next one lets wait is the caller's business, unless
    /// `is_due`; one that has begun is.
    pub(super) async fn next(&mut self, is_due: bool) -> Result<Option<Received>, ApiError> {
        let Some(prefix) = self.take(PREFIX, is_due).await? else { return Ok(None) };
        let is_compressed = prefix[0] & 1 == 1;
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
        let limit_bytes = self.limit_bytes;
        if u64::from(length) > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        // What a compressed message will come to is not known: it may become as large as any.
        let held_bytes = if is_compressed { limit_bytes } else { u64::from(length) };
        let held = self.context.inner().body_budget.hold(held_bytes)?;
        let bytes = self.take(length as usize, true).await?.ok_or_else(cut_short)?;
        let bytes = if is_compressed { self.encoding.decode(bytes, limit_bytes).await? } else { bytes };
        Ok(Some(Received { bytes, held }))
    }

    /// The next `n` bytes, in the piece that they came in where it has all of them; `None` where the body has ended.
    async fn take(&mut self, n: usize, is_due: bool) -> Result<Option<Bytes>, ApiError> {
        if self.rest.len() >= n {
            return Ok(Some(self.rest.split_to(n)));
        }
        let mut gathered = BytesMut::new();
        loop {
            let is_due = is_due || !self.rest.is_empty() || !gathered.is_empty();
            let Some(piece) = self.piece(is_due).await? else {
                let is_clean = self.rest.is_empty() && gathered.is_empty();
                return if is_clean { Ok(None) } else { Err(cut_short()) };
            };
            if self.rest.is_empty() && gathered.is_empty() && piece.len() >= n {
                self.rest = piece;
                return Ok(Some(self.rest.split_to(n)));
            }
            if gathered.is_empty() {
                gathered.reserve(n.min(FIRST_PIECE));
                gathered.extend_from_slice(&std::mem::take(&mut self.rest));
            }
            gathered.extend_from_slice(&piece);
            if gathered.len() >= n {
                self.rest = gathered.freeze();
                return Ok(Some(self.rest.split_to(n)));
            }
        }
    }

    async fn piece(&mut self, is_due: bool) -> Result<Option<Bytes>, ApiError> {
        let next = self.body.next();
        let piece = match is_due {
            true => tokio::time::timeout(self.context.settings.body_idle_timeout, next).await,
            false => Ok(next.await),
        };
        match piece {
            Ok(piece) => piece.transpose().map_err(|error| ApiError::of_body(&error)),
            Err(_) => Err(ApiError::new(ErrorCode::RequestTimeout, "the message paused for too long")),
        }
    }
}

fn cut_short() -> ApiError {
    ApiError::new(ErrorCode::ValidationError, "the body ends in the middle of a message")
}

/// The one message of a unary call. Bind the second field for as long as the message is used.
pub(super) struct Unary<Q>(pub Q, pub Held);

impl<Q: Message + Default> FromRequest<Context> for Unary<Q> {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let received = one(context, &parts.headers, body, MAX_SMALL_BYTES).await?;
        let message = Q::decode(received.bytes).map_err(|error| {
            ApiError::new(ErrorCode::ValidationError, format!("not the message of this method: {error}"))
        })?;
        Ok(Self(message, received.held))
    }
}

/// The message of a body that has one.
pub(super) async fn one(
    context: &Context,
    headers: &HeaderMap,
    body: Body,
    max_bytes: u64,
) -> Result<Received, ApiError> {
    let mut incoming = Incoming::new(context, headers, body, max_bytes)?;
    let received = incoming.next(true).await?;
    received.ok_or_else(|| ApiError::new(ErrorCode::ValidationError, "the call has no message"))
}

/// The answer to a unary call.
pub(super) struct Reply<A>(pub A);

impl<A: Message> IntoResponse for Reply<A> {
    fn into_response(self) -> Response {
        respond(vec![framed(&self.0, 0)])
    }
}

/// A response of one message, which is in pieces.
pub(super) fn respond(pieces: Vec<Bytes>) -> Response {
    response(Body::new(Pieces::new(pieces, Some(trailers(None)))))
}

fn response(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response
}

/// The message behind its prefix; `n_more` bytes of it, encoded already, are to follow.
pub(super) fn framed(message: &impl Message, n_more: usize) -> Bytes {
    let n_bytes = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + n_bytes);
    put_prefix(&mut frame, n_bytes + n_more);
    message.encode_raw(&mut frame);
    frame.freeze()
}

/// The protocol has no messages over 4 GiB; what a model gives is far smaller.
pub(super) fn put_prefix(frame: &mut BytesMut, n_bytes: usize) {
    frame.put_u8(0);
    frame.put_u32(u32::try_from(n_bytes).unwrap_or(u32::MAX));
}

/// A response of as many messages as the stream gives; an error ends it.
pub(super) fn stream(messages: impl Stream<Item = Result<Bytes, ApiError>> + Send + 'static) -> Response {
    response(Body::new(Outgoing { messages: Some(Box::pin(messages)) }))
}

struct Outgoing {
    /// `None`: the trailers are sent.
    messages: Option<BoxStream<'static, Result<Bytes, ApiError>>>,
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        let error = match messages.as_mut().poll_next(task) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some(Ok(message))) => return Poll::Ready(Some(Ok(Frame::data(message)))),
            Poll::Ready(Some(Err(error))) => Some(error),
            Poll::Ready(None) => None,
        };
        self.messages = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers(error.as_ref())))))
    }
}
