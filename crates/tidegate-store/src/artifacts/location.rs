//! Where artifacts are kept, and opening it.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore, RetryConfig};

use super::error::ArtifactError;
use super::{ArtifactStore, key};

/// A folder, or a bucket of S3 or anything that speaks its protocol.
#[derive(Clone, PartialEq, Eq)]
pub enum ArtifactLocation {
    Folder(PathBuf),
    S3 {
        bucket: String,
        /// What every key starts with in the bucket; may be empty.
        prefix: String,
        /// For MinIO and others, such as `http://localhost:9000`; absent for AWS.
        endpoint: Option<String>,
        region: String,
        /// Without keys the machine's role is asked for them (instance metadata).
        access_key_id: Option<String>,
        secret_access_key: Option<String>,
        /// Whether the endpoint may be without TLS.
        allow_http: bool,
    },
}

impl std::fmt::Debug for ArtifactLocation {
    /// Without the keys, so that it can be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => f.debug_tuple("Folder").field(path).finish(),
            Self::S3 { bucket, prefix, endpoint, region, .. } => f
                .debug_struct("S3")
                .field("bucket", bucket)
                .field("prefix", prefix)
                .field("endpoint", endpoint)
                .field("region", region)
                .finish_non_exhaustive(),
        }
    }
}

pub(super) fn open(location: &ArtifactLocation) -> Result<ArtifactStore, ArtifactError> {
    match location {
        ArtifactLocation::Folder(path) => open_folder(path),
        ArtifactLocation::S3 {
            bucket,
            prefix,
            endpoint,
            region,
            access_key_id,
            secret_access_key,
            allow_http,
        } => {
            let mut builder = AmazonS3Builder::new()
                .with_client_options(client_options())
                .with_retry(retries())
                .with_bucket_name(bucket)
                .with_region(region)
                .with_allow_http(*allow_http);
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }
            if let (Some(id), Some(secret)) = (access_key_id, secret_access_key) {
                builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            }
            Ok(ArtifactStore { objects: open_bucket(builder, bucket, prefix)?, folder: None })
        }
    }
}

fn open_folder(path: &FilePath) -> Result<ArtifactStore, ArtifactError> {
    let failed = |source| ArtifactError::OpenFolder { path: path.to_path_buf(), source };
    std::fs::create_dir_all(path).map_err(|error| failed(error.into()))?;
    // Synced to the disk before a version names it: a version must not outlive its artifacts in a power cut.
    let objects = LocalFileSystem::new_with_prefix(path)
        .map_err(|error| failed(error.into()))?
        .with_automatic_cleanup(true)
        .with_fsync(true);
    let folder = std::fs::canonicalize(path).map_err(|error| failed(error.into()))?;
    Ok(ArtifactStore { objects: Arc::new(objects), folder: Some(folder) })
}

pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// The client's own limit of 30 s for a whole request would cut off the download of a large model; a bucket that says
/// nothing for a minute is gone.
pub(crate) fn client_options() -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_read_timeout(READ_TIMEOUT)
}

/// A caller waits for an answer, so the client's patience of three minutes is too long.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() }
}

/// The HTTP client panics without one. That it is installed already is fine.
pub(crate) fn install_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn open_bucket(
    builder: AmazonS3Builder,
    bucket: &str,
    prefix: &str,
) -> Result<Arc<dyn ObjectStore>, ArtifactError> {
    install_tls();
    let failed = |source| ArtifactError::OpenBucket { bucket: bucket.to_owned(), source };
    let objects = builder.build().map_err(failed)?;
    let prefix = prefix.trim_matches('/');
    if prefix.is_empty() {
        return Ok(Arc::new(objects));
    }
    Ok(Arc::new(PrefixStore::new(objects, key::parse(prefix)?)))
}
