//! Absolute addresses of this server, as its caller reached it: clients follow links and join nothing themselves.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};
use serde_json::{Value, json};

use super::{GEOJSON, ROOT};
use crate::error::ApiError;

/// The address of this server, without a slash at its end.
pub(crate) struct Links(String);

impl<S: Send + Sync> FromRequestParts<S> for Links {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
        Ok(Self::of(&parts.headers, authority))
    }
}

impl Links {
    /// A proxy says by which name and scheme it was asked; whoever lies with these headers misleads only themselves.
    fn of(headers: &HeaderMap, authority: Option<String>) -> Self {
        let first = |name: &str| {
            let value = headers.get(name)?.to_str().ok()?;
            Some(value.split(',').next()?.trim().to_owned())
        };
        let is_host = |host: &String| {
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c))
        };
        let host = first("x-forwarded-host").or_else(|| first(header::HOST.as_str())).or(authority);
        let host = host.filter(is_host).unwrap_or_else(|| "localhost".to_owned());
        let scheme =
            first("x-forwarded-proto").filter(|scheme| scheme == "https").map_or("http", |_| "https");
        Self(format!("{scheme}://{host}"))
    }

    pub(super) fn root(&self) -> String {
        format!("{}{ROOT}", self.0)
    }

    pub(super) fn path(&self, segments: &[&str]) -> String {
        segments.iter().fold(self.root(), |path, segment| format!("{path}/{}", encoded(segment)))
    }

    pub(super) fn collection(&self, model: &str) -> String {
        self.path(&["collections", model])
    }

    pub(super) fn items(&self, model: &str) -> String {
        self.path(&["collections", model, "items"])
    }

    pub(super) fn item(&self, model: &str, id: &str) -> String {
        self.path(&["collections", model, "items", id])
    }

    pub(super) fn artifact(&self, model: &str, version: &str, name: &str) -> String {
        let [model, version, name] = [model, version, name].map(encoded);
        format!("{}/api/v1/models/{model}/versions/{version}/artifacts/{name}", self.0)
    }

    pub(super) fn description(&self) -> String {
        format!("{}/openapi.json", self.0)
    }

    pub(super) fn swagger(&self) -> String {
        format!("{}/swagger/", self.0)
    }
}

/// A link to JSON.
pub(super) fn link(rel: &str, href: String) -> Value {
    json!({"rel": rel, "href": href, "type": "application/json"})
}

/// A link to items.
pub(super) fn geo_link(rel: &str, href: String) -> Value {
    json!({"rel": rel, "href": href, "type": GEOJSON})
}

/// A name as one segment of a path, whatever is in it.
fn encoded(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encode =
        |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_one_that_was_asked() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[("host", "models.example.org:5000")], "http://models.example.org:5000/stac"),
            (
                &[("host", "10.0.0.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a.org, b.org")],
                "https://a.org/stac",
            ),
            (&[("host", "[::1]:5000")], "http://[::1]:5000/stac"),
            (&[("host", "a.org/\"><script>")], "http://localhost/stac"),
            (&[], "http://localhost/stac"),
        ];
        for (given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            assert_eq!(Links::of(&headers, None).root(), expected);
        }
        let links = Links::of(&HeaderMap::new(), Some("h:1".to_owned()));
        assert_eq!(links.item("m", "m-1.0.0+b 1"), "http://h:1/stac/collections/m/items/m-1.0.0%2Bb%201");
    }
}
