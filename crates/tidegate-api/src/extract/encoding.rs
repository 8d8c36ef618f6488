//! Bodies that come compressed.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use http::HeaderMap;

use super::too_large;
use crate::error::{ApiError, ErrorCode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    /// With a zlib header, as HTTP and gRPC mean it.
    Deflate,
}

impl Encoding {
    /// What the header (`content-encoding`, `grpc-encoding`) says.
    pub(crate) fn of(headers: &HeaderMap, header: &'static str) -> Result<Self, ApiError> {
        match headers.get(header).map(|value| value.to_str().unwrap_or_default()) {
            None | Some("" | "identity") => Ok(Self::Identity),
            Some("gzip") => Ok(Self::Gzip),
            Some("deflate") => Ok(Self::Deflate),
            Some(other) => {
                let shown: String = other.chars().take(60).collect();
                let message =
                    format!("`{header}: {shown}` is not taken; send gzip, deflate or the bytes as they are");
                Err(ApiError::new(ErrorCode::UnsupportedMediaType, message))
            }
        }
    }

    /// The bytes as they were, refused as soon as they are more than `limit_bytes`.
    pub(crate) async fn decode(self, bytes: Bytes, limit_bytes: u64) -> Result<Bytes, ApiError> {
        if self == Self::Identity {
            return Ok(bytes);
        }
        // A small body can hold a second of work.
        let decoded = tokio::task::spawn_blocking(move || match self {
            Self::Identity => Ok(bytes),
            Self::Gzip => inflate(GzDecoder::new(&bytes[..]), limit_bytes),
            Self::Deflate => inflate(ZlibDecoder::new(&bytes[..]), limit_bytes),
        });
        decoded.await.map_err(|error| ApiError::internal(&error))?
    }
}

fn inflate(decoder: impl Read, limit_bytes: u64) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    let read = decoder.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|_| {
        ApiError::new(
            ErrorCode::ValidationError,
            "the body is not compressed as its header says, or cut short",
        )
    })?;
    if bytes.len() as u64 > limit_bytes { Err(too_large(limit_bytes)) } else { Ok(bytes.into()) }
}
