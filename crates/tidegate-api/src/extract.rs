//! Extractors whose rejections have the shape of every other error and name the field.

mod asker;
mod body;
mod encoding;
mod lines;
mod page;
mod principal;
mod rest;

pub(crate) use asker::{Asker, is_key, not_a_key, sticky_header};
pub(crate) use body::{
    ApiJson, MaybeJson, is_json, json_from_slice, media_type, read_body, read_content, too_large,
};
pub(crate) use encoding::Encoding;
pub(crate) use lines::{Line, Lines};
pub(crate) use page::Pagination;
pub use principal::ANONYMOUS;
pub(crate) use principal::Principal;
pub(crate) use rest::lend_body;

use axum::extract::{FromRequestParts, Path};
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ErrorCode};

/// Path parameters, percent-decoded.
pub(crate) struct ApiPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for ApiPath<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(value)) => Ok(Self(value)),
            Err(rejection) => Err(ApiError::new(ErrorCode::ValidationError, rejection.body_text())),
        }
    }
}

/// Query parameters; an unknown or misread one is refused by name.
pub(crate) struct ApiQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        let parsed = serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs));
        parsed.map(Self).map_err(|error| {
            let path = error.path().to_string();
            misfit("the query string does not fit", &path, &error.into_inner().to_string())
        })
    }
}

/// A value that does not fit its description: names the field, also when serde only mentions it in its words.
pub(crate) fn misfit(summary: &str, path: &str, message: &str) -> ApiError {
    let quoted = message
        .strip_prefix("unknown field `")
        .or_else(|| message.strip_prefix("missing field `"))
        .or_else(|| message.strip_prefix("duplicate field `"))
        .and_then(|rest| rest.split('`').next());
    let field = match (path, quoted) {
        ("." | "" | "?", Some(name)) => name.to_owned(),
        ("." | "" | "?", None) => "(body)".to_owned(),
        (path, Some(name)) if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        (path, None) => path.to_owned(),
    };
    ApiError::new(ErrorCode::ValidationError, format!("{summary}: `{field}`: {message}"))
        .with_detail(field, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_is_named_wherever_serde_puts_it() {
        let cases = [
            (".", "missing field `name`", "name"),
            (".", "invalid type: string, expected struct", "(body)"),
            ("nme", "unknown field `nme`, expected `name`", "nme"),
            ("inputs[0]", "missing field `shape`", "inputs[0].shape"),
            ("inputs[0].shape", "invalid type: null, expected a sequence", "inputs[0].shape"),
        ];
        for (path, message, field) in cases {
            assert_eq!(misfit("no", path, message).details[0].field, field);
        }
    }
}
