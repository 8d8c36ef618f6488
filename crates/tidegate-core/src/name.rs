//! Names that people choose: they end up in URLs, file names and metric labels, so they are checked once, here.

use serde::{Deserialize, Serialize};

/// A model's name: 1 to 128 characters, lowercase ASCII letters, digits, `-`, `_` and `.`, starting with a letter or
/// digit and without `..`. Safe as a URL segment and as a folder name on every platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ModelName(String);

/// Why a text is not a [`ModelName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a model name: {reason}")]
pub struct InvalidName {
    pub name: String,
    pub reason: &'static str,
}

const MAX_LENGTH: usize = 128;

/// Windows opens a device instead of a file for these, whatever the extension.
const DEVICE_NAMES: [&str; 4] = ["con", "prn", "aux", "nul"];

impl ModelName {
    pub fn parse(name: &str) -> Result<Self, InvalidName> {
        let fault = |reason| Err(InvalidName { name: name.chars().take(MAX_LENGTH).collect(), reason });
        if name.is_empty() {
            return fault("it is empty");
        }
        if name.len() > MAX_LENGTH {
            return fault("it is longer than 128 characters");
        }
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b)) {
            return fault("use lowercase letters, digits, `-`, `_` and `.`");
        }
        if !name.as_bytes()[0].is_ascii_alphanumeric() {
            return fault("start with a letter or digit");
        }
        if name.contains("..") || name.ends_with('.') {
            return fault("it may not contain `..` nor end with `.`");
        }
        let stem = name.split('.').next().unwrap_or(name);
        if DEVICE_NAMES.contains(&stem) {
            return fault("Windows reserves it for a device");
        }
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ModelName {
    type Error = InvalidName;

    fn try_from(name: String) -> Result<Self, InvalidName> {
        Self::parse(&name)
    }
}

impl From<ModelName> for String {
    fn from(name: ModelName) -> String {
        name.0
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_teams_use_and_refuses_what_bites() {
        for good in ["fraud-detection", "refugee-camp-detector", "u2net_p", "yolo.v8", "3d"] {
            assert!(ModelName::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "..", "../etc", "a/b", "a\\b", "A", "-x", ".x", "x.", "a..b", "a b", "ü", "nul", "con.onnx"]
        {
            assert!(ModelName::parse(bad).is_err(), "{bad}");
        }
        assert!(ModelName::parse(&"a".repeat(129)).is_err());
    }
}
