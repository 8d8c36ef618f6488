//! Who is asking. The one seam where authentication goes.

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;

use crate::error::ApiError;

/// The header that names the caller, until there is authentication.
const USER_HEADER: &str = "x-tidegate-user";

const MAX_LENGTH: usize = 255;

/// Who did not say who they are.
pub const ANONYMOUS: &str = "anonymous";

/// The name under which the request acts; `anonymous` without the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        Ok(Self::named(&parts.headers)?.unwrap_or_else(|| Self(ANONYMOUS.to_owned())))
    }
}

impl Principal {
    /// Who the headers name, if anybody.
    pub(crate) fn named(headers: &HeaderMap) -> Result<Option<Self>, ApiError> {
        let Some(value) = headers.get(USER_HEADER) else { return Ok(None) };
        let name = value.to_str().unwrap_or("").trim();
        let visible = name.chars().all(|c| c.is_ascii_graphic() || c == ' ');
        if name.is_empty() || name.len() > MAX_LENGTH || !visible {
            return Err(ApiError::invalid("X-Tidegate-User", "give 1 to 255 visible ASCII characters"));
        }
        Ok(Some(Self(name.to_owned())))
    }
}
