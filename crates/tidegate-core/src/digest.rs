//! SHA-256 (FIPS 180-4) of an artifact's bytes.

use serde::{Deserialize, Serialize};
use sha2::Digest;

/// 64 lowercase hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Digest(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a SHA-256: give 64 hexadecimal digits, `sha256:` and 64 digits, or the multihash `1220` and 64 digits"
)]
pub struct InvalidDigest(String);

impl Sha256Digest {
    /// Accepts bare hexadecimal, the form `sha256:<hex>`, and the multihash of the STAC file extension (`1220<hex>`).
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        let lower = text.trim().to_ascii_lowercase();
        let hex = match lower.strip_prefix("sha256:") {
            Some(hex) => hex,
            None if lower.len() == 68 => lower.strip_prefix("1220").unwrap_or(&lower),
            None => &lower,
        };
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(hex.to_owned()))
        } else {
            Err(InvalidDigest(text.chars().take(80).collect()))
        }
    }

    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Sha256Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the STAC file extension wants it: multihash code 0x12, length 0x20, then the digest.
    pub fn to_multihash(&self) -> String {
        format!("1220{}", self.0)
    }
}

/// Computes a digest while bytes stream past.
#[derive(Default)]
pub struct Sha256Hasher(sha2::Sha256);

impl Sha256Hasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Sha256Digest {
        let hex = self.finish_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Sha256Digest(hex)
    }

    /// Not written out, for keys in memory.
    pub fn finish_bytes(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl TryFrom<String> for Sha256Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        Self::parse(&text)
    }
}

impl From<Sha256Digest> for String {
    fn from(digest: Sha256Digest) -> String {
        digest.0
    }
}

impl std::fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the one-block example.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn matches_the_standards_example_and_every_spelling() {
        let digest = Sha256Digest::of(b"abc");
        assert_eq!(digest.as_str(), ABC);
        for spelling in [ABC.to_owned(), ABC.to_uppercase(), format!("sha256:{ABC}"), digest.to_multihash()] {
            assert_eq!(Sha256Digest::parse(&spelling).unwrap(), digest, "{spelling}");
        }
        for bad in ["", "abc", "sha256:abc", &format!("1120{ABC}"), &ABC.replace('b', "g")] {
            assert!(Sha256Digest::parse(bad).is_err(), "{bad}");
        }
    }
}
