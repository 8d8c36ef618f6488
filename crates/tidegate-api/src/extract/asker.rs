//! What the headers of a prediction (in gRPC, its metadata) say of who asks, and where.

use http::{HeaderMap, HeaderValue};
use tidegate_core::{Environment, HeaderName};
use tidegate_serve::Server;

use super::Principal;
use crate::error::ApiError;

/// Where the request goes, unless its body says so.
const ENVIRONMENT_HEADER: &str = "x-tidegate-environment";

/// Requests with the same key meet the same version while traffic is split.
const KEY_HEADER: &str = "x-tidegate-key";

const MAX_KEY: usize = 255;

/// Each is `None` where the caller does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asker {
    pub environment: Option<Environment>,
    pub key: Option<String>,
    pub principal: Option<String>,
}

impl Asker {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let environment = headers.get(ENVIRONMENT_HEADER).map(|value| {
            let text = value.to_str().unwrap_or_default();
            text.parse().map_err(|message| ApiError::invalid("X-Tidegate-Environment", message))
        });
        let key = match headers.get(KEY_HEADER).map(HeaderValue::to_str) {
            None => None,
            Some(Ok(key)) if is_key(key) => Some(key.to_owned()),
            Some(_) => return Err(not_a_key("X-Tidegate-Key")),
        };
        let principal = Principal::named(headers)?.map(|principal| principal.0);
        Ok(Self { environment: environment.transpose()?, key, principal })
    }
}

/// The header that the model's route goes by, and what the request says in it.
pub(crate) fn sticky_header(
    server: &Server,
    environment: Environment,
    model: &str,
    headers: &HeaderMap,
) -> Option<(HeaderName, Vec<u8>)> {
    let name = server.sticky_header(environment, model)?;
    let value = headers.get(name.as_str())?.as_bytes().to_vec();
    Some((name, value))
}

/// What can be kept and compared: keys, and the ids that callers give to requests.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=MAX_KEY).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(crate) fn not_a_key(field: &str) -> ApiError {
    ApiError::invalid(field, format!("give 1 to {MAX_KEY} visible ASCII characters"))
}
