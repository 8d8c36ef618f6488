//! What can go wrong with an artifact.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use tidegate_core::Sha256Digest;

/// An artifact could not be read, listed, deleted or trusted.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("artifact `{key}` is missing")]
    Missing { key: String },
    #[error("artifact `{key}` has SHA-256 {actual}, expected {expected}")]
    DigestMismatch { key: String, expected: Sha256Digest, actual: Sha256Digest },
    #[error("`{key}` is not an artifact key: {reason}")]
    InvalidKey { key: String, reason: &'static str },
    #[error("failed to {doing} artifact `{key}`")]
    Backend {
        doing: &'static str,
        key: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("failed to download artifact `{key}` into the cache")]
    Download {
        key: String,
        #[source]
        source: Box<PutError>,
    },
    #[error("failed to open the artifact folder `{}`", path.display())]
    OpenFolder {
        path: PathBuf,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("failed to set up the artifact bucket `{bucket}`")]
    OpenBucket {
        bucket: String,
        #[source]
        source: object_store::Error,
    },
}

/// Why an artifact was not written. Nothing remains under its key.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("artifact is larger than the limit of {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("no space is left for artifact `{key}`: free some or choose another place")]
    NoSpace {
        key: String,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("the incoming stream broke off")]
    Stream {
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
}

impl ArtifactError {
    pub(super) fn of(doing: &'static str, key: &str, source: object_store::Error) -> Self {
        let key = key.to_owned();
        match source {
            object_store::Error::NotFound { .. } => Self::Missing { key },
            source => Self::Backend { doing, key, source: Box::new(source) },
        }
    }

    pub(super) fn of_file(doing: &'static str, key: &str, source: io::Error) -> Self {
        let key = key.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { key },
            _ => Self::Backend { doing, key, source: Box::new(source) },
        }
    }

    pub(super) fn compare(key: &str, expected: &Sha256Digest, actual: &Sha256Digest) -> Result<(), Self> {
        if expected == actual {
            return Ok(());
        }
        Err(Self::DigestMismatch { key: key.to_owned(), expected: expected.clone(), actual: actual.clone() })
    }
}

impl PutError {
    pub(super) fn of_write(key: &str, source: object_store::Error) -> Self {
        if is_no_space(&source) {
            return Self::NoSpace { key: key.to_owned(), source: Box::new(source) };
        }
        ArtifactError::of("write", key, source).into()
    }
}

/// Looks down the causes for a full disk or an exhausted quota.
fn is_no_space(error: &(dyn Error + 'static)) -> bool {
    let full =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    error.downcast_ref().is_some_and(full) || error.source().is_some_and(is_no_space)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure_of(kind: io::ErrorKind) -> PutError {
        let source = Box::new(io::Error::from(kind));
        PutError::of_write("a/b", object_store::Error::Generic { store: "test", source })
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        assert!(matches!(failure_of(io::ErrorKind::StorageFull), PutError::NoSpace { .. }));
        assert!(matches!(failure_of(io::ErrorKind::QuotaExceeded), PutError::NoSpace { .. }));
        assert!(matches!(failure_of(io::ErrorKind::PermissionDenied), PutError::Artifact(_)));
    }
}
