//! JSON bodies, read up to a limit.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Encoding, misfit};
use crate::context::Context;
use crate::error::{ApiError, ErrorCode};

/// A JSON body of at most `settings.max_request_bytes`.
pub(crate) struct ApiJson<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Context> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let bytes = read_body(&parts.headers, body, context.settings.max_request_bytes).await?;
        json_from_slice(&bytes).map(Self)
    }
}

/// A JSON body that may be left out.
pub(crate) struct MaybeJson<T>(pub T);

impl<T: DeserializeOwned + Default> FromRequest<Context> for MaybeJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, context: &Context) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body, context.settings.max_request_bytes).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        require_json(&parts.headers)?;
        json_from_slice(&bytes).map(Self)
    }
}

/// The media type without parameters, in lower case; empty when the header is missing.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim().to_ascii_lowercase()
}

/// `curl -d` without a header calls JSON a form, and the guides' commands do so; what is not JSON is refused as such.
pub(crate) fn is_json(media_type: &str) -> bool {
    media_type == "application/json"
        || media_type.ends_with("+json")
        || media_type == "application/x-www-form-urlencoded"
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let media_type = media_type(headers);
    if is_json(&media_type) {
        return Ok(());
    }
    let got = if media_type.is_empty() { "none".to_owned() } else { format!("`{media_type}`") };
    let message =
        format!("send JSON with the header `Content-Type: application/json`; the content type is {got}");
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, message))
}

/// The whole body, refused as soon as it is known to be longer than `limit_bytes`.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body, limit_bytes: u64) -> Result<Bytes, ApiError> {
    read_aligned(headers, body, limit_bytes, 0).await
}

/// The whole body of an inference request, decompressed. What lies `aligned` bytes into it lies well in memory, so that a
/// tensor that begins there need not be copied.
pub(crate) async fn read_content(
    context: &Context,
    headers: &HeaderMap,
    body: Body,
    aligned: usize,
) -> Result<Bytes, ApiError> {
    let limit_bytes = context.settings.max_request_bytes;
    let encoding = Encoding::of(headers, header::CONTENT_ENCODING.as_str())?;
    let bytes = read_aligned(headers, body, limit_bytes, aligned).await?;
    encoding.decode(bytes, limit_bytes).await
}

/// The largest element is this many bytes long.
const ALIGNMENT: usize = 8;

/// Taken at once for a body that comes in many pieces; more as the bytes come.
const FIRST_PIECE: u64 = 1 << 20;

async fn read_aligned(
    headers: &HeaderMap,
    body: Body,
    limit_bytes: u64,
    aligned: usize,
) -> Result<Bytes, ApiError> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > limit_bytes) {
        return Err(too_large(limit_bytes));
    }
    let mut stream = body.into_data_stream();
    let (mut first, mut bytes) = (Bytes::new(), BytesMut::new());
    // Allocations begin at a multiple of this.
    let padding = (ALIGNMENT - aligned % ALIGNMENT) % ALIGNMENT;
    let mut n_bytes = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| ApiError::of_body(&error))?;
        n_bytes += chunk.len() as u64;
        if n_bytes > limit_bytes {
            return Err(too_large(limit_bytes));
        }
        if first.is_empty() && bytes.is_empty() {
            first = chunk;
            continue;
        }
        if bytes.is_empty() {
            let expected = declared.unwrap_or(0).min(FIRST_PIECE);
            bytes.reserve(padding + usize::try_from(expected).unwrap_or(0));
            bytes.put_bytes(0, padding);
            bytes.extend_from_slice(&std::mem::take(&mut first));
        }
        bytes.extend_from_slice(&chunk);
    }
    // In one piece it is left where it is: small, so that a copy of it costs little.
    Ok(if bytes.is_empty() { first } else { bytes.freeze().slice(padding..) })
}

/// A body over its limit.
pub(crate) fn too_large(limit_bytes: u64) -> ApiError {
    let message =
        format!("the body is larger than the {limit_bytes} bytes allowed here; send it in smaller parts");
    ApiError::new(ErrorCode::PayloadTooLarge, message)
}

/// Reads JSON; the error names the field, or where the syntax breaks.
pub(crate) fn json_from_slice<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.is_data() {
            return misfit("the body does not fit", &path, &without_position(&error));
        }
        broken(bytes, &path, &error)
    })?;
    deserializer.end().map_err(|error| broken(bytes, "", &error))?;
    Ok(value)
}

/// serde_json ends its messages with a position, which only helps where the syntax is broken.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

fn broken(bytes: &[u8], path: &str, error: &serde_json::Error) -> ApiError {
    // `?` stands for a key that broke off.
    let path = path.strip_suffix(".?").unwrap_or(path);
    let field = if matches!(path, "" | "." | "?") { "(body)" } else { path };
    let message = match not_a_number(bytes, error) {
        Some(token) => format!(
            "`{token}` at line {} column {} is not JSON: replace it by a number, or leave the value out",
            error.line(),
            error.column()
        ),
        None => format!("not valid JSON: {error}"),
    };
    ApiError::invalid(field, message)
}

/// The `NaN` or `Infinity` at the place of the error: what Python's `json.dumps` writes for them.
fn not_a_number(bytes: &[u8], error: &serde_json::Error) -> Option<&'static str> {
    let line = bytes.split(|byte| *byte == b'\n').nth(error.line().checked_sub(1)?)?;
    let start = error.column().saturating_sub(3).min(line.len());
    let near = &line[start..line.len().min(start + 12)];
    ["-Infinity", "Infinity", "NaN", "nan"]
        .into_iter()
        .find(|token| near.windows(token.len()).any(|window| window == token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn broken_json_says_where_and_nan_says_what_to_do() {
        let cases = [
            ("{\"a\": NaN}", "`NaN` at line 1"),
            ("{\"a\": [1,\n -Infinity]}", "`-Infinity` at line 2"),
            ("{\"a\": Infinity}", "`Infinity`"),
            ("{\"a\": 1", "EOF while parsing an object at line 1"),
            ("{} {}", "trailing characters"),
            ("", "EOF while parsing a value"),
            ("{\"a\": 1e999}", "number out of range"),
        ];
        for (body, expected) in cases {
            let error = json_from_slice::<Value>(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, ErrorCode::ValidationError);
            assert!(error.message.contains(expected), "{body}: {}", error.message);
        }
    }
}
