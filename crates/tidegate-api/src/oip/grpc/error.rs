//! Errors of the protocol on gRPC: a status code and a message, in the trailers or, where nothing was sent yet, the headers.
//! Codes: <https://grpc.io/docs/guides/status-codes/>.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::exchange::CONTENT_TYPE;
use crate::error::{ApiError, ErrorCode};

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// When a client that tries again by itself may do so.
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A response that is an error from the start.
pub(crate) fn render(error: &ApiError) -> Response {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(header::CONTENT_TYPE, CONTENT_TYPE);
    response.headers_mut().extend(trailers(Some(error)));
    response
}

/// What ends a response, well or not.
pub(super) fn trailers(error: Option<&ApiError>) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(3);
    let Some(error) = error else {
        trailers.insert(STATUS, HeaderValue::from_static("0"));
        return trailers;
    };
    trailers.insert(STATUS, HeaderValue::from(status(error.code)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&error.message)) {
        trailers.insert(MESSAGE, message);
    }
    if let Some(seconds) = error.retry_after_s {
        trailers.insert(PUSHBACK, HeaderValue::from(u64::from(seconds) * 1000));
    }
    trailers
}

fn status(code: ErrorCode) -> u16 {
    const INVALID_ARGUMENT: u16 = 3;
    const DEADLINE_EXCEEDED: u16 = 4;
    const NOT_FOUND: u16 = 5;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const FAILED_PRECONDITION: u16 = 9;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    match code {
        ErrorCode::ValidationError
        | ErrorCode::SchemaValidationError
        | ErrorCode::NotAcceptable
        | ErrorCode::RangeNotSatisfiable
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::UnprocessableArtifact => INVALID_ARGUMENT,
        ErrorCode::ModelNotFound
        | ErrorCode::VersionNotFound
        | ErrorCode::DeploymentNotFound
        | ErrorCode::RequestNotFound
        | ErrorCode::ResultExpired
        | ErrorCode::JobNotFound => NOT_FOUND,
        // Of a path, which is a method here.
        ErrorCode::NotFound | ErrorCode::MethodNotAllowed => UNIMPLEMENTED,
        ErrorCode::RequestTimeout | ErrorCode::DeadlineExceeded => DEADLINE_EXCEEDED,
        ErrorCode::Conflict => FAILED_PRECONDITION,
        ErrorCode::PayloadTooLarge | ErrorCode::InsufficientStorage => RESOURCE_EXHAUSTED,
        ErrorCode::InferenceError | ErrorCode::InternalError => INTERNAL,
        ErrorCode::ServiceUnavailable => UNAVAILABLE,
        ErrorCode::Forbidden => PERMISSION_DENIED,
    }
}

/// As the gRPC protocol asks: everything but printable ASCII, and the percent sign.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_trailers() {
        assert_eq!(percent_encoded("100 % `ü`\n…"), "100 %25 `%C3%BC`%0A%E2%80%A6");
        let error = ApiError::new(ErrorCode::ServiceUnavailable, "full").with_retry_after(2);
        let trailers = trailers(Some(&error));
        assert_eq!(trailers[STATUS], "14");
        assert_eq!(trailers[MESSAGE], "full");
        assert_eq!(trailers[PUSHBACK], "2000");
    }
}
