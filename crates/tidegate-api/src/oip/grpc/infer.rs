//! `ModelInfer` and `ModelStreamInfer`.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::HeaderMap;

use super::exchange::{Incoming, Received, framed, one, respond, stream};
use super::infer_answer::{streamed, unary};
use super::infer_request::{Decoded, decode};
use super::messages::{ModelInferResponse, ModelStreamInferError};
use crate::context::Context;
use crate::error::ApiError;
use crate::native::inference::with_cache;
use crate::oip::infer::infer;

pub(super) async fn model_infer(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let received = one(&context, &parts.headers, body, u64::MAX).await?;
    let Decoded { addressee, mut request, is_typed, .. } = decode(received.bytes)?;
    request.timeout = [request.timeout, timeout(&parts.headers)].into_iter().flatten().min();
    let answer = infer(&context, addressee, &parts.headers, request, started).await?;
    drop(received.held);
    Ok(with_cache(respond(unary(&answer, is_typed)), answer.cache))
}

/// What the caller's deadline was when it sent the request: a number and a unit.
fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

/// Requests of one stream that run at the same time: enough to keep a few cores busy, few enough that one client does not
/// fill the queue of all.
const IN_FLIGHT: usize = 8;

/// Answers come in the order of the requests; one that fails is answered as such and ends nothing.
pub(super) async fn model_stream_infer(
    State(context): State<Context>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let incoming = Incoming::new(&context, &parts.headers, body, u64::MAX)?;
    let requests = futures::stream::unfold(Some(incoming), |incoming| async {
        let mut incoming = incoming?;
        match incoming.next(false).await {
            Ok(Some(received)) => Some((Ok(received), Some(incoming))),
            Ok(None) => None,
            // Where the next message begins is not known any more.
            Err(error) => Some((Err(error), None)),
        }
    });
    let headers = parts.headers;
    let answers = requests.map(move |received| {
        let (context, headers) = (context.clone(), headers.clone());
        async move {
            match received {
                Ok(received) => Ok(stream_one(&context, &headers, received).await),
                Err(error) => Err(error),
            }
        }
    });
    Ok(stream(answers.buffered(IN_FLIGHT)))
}

async fn stream_one(context: &Context, headers: &HeaderMap, received: Received) -> Bytes {
    let started = Instant::now();
    let mut id = String::new();
    let answer = async {
        let Decoded { addressee, request, is_typed, wants_final } = decode(received.bytes)?;
        id.clone_from(&request.id);
        let answer = infer(context, addressee, headers, request, started).await?;
        Ok::<_, ApiError>(streamed(&answer, is_typed, wants_final))
    };
    match answer.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(code = ?error.code, message = error.message, "request of a stream refused");
            let infer_response = Some(ModelInferResponse { id, ..Default::default() });
            let failed = ModelStreamInferError { error_message: error.message, infer_response };
            framed(&failed, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_read_in_every_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("1", None),
            ("S", None),
            ("-1S", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]);
            assert_eq!(timeout(&headers), expected, "{text}");
        }
    }
}
