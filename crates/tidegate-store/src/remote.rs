//! Files elsewhere that are read by ranges: on a web server that answers range requests, or in a bucket.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use url::Url;

use crate::artifacts::{ArtifactError, ArtifactLocation, ArtifactStore, location};

/// A file that was found. Cloning shares it.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    size_bytes: u64,
    version: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("`{url}` is not an address of a file")]
    Address { url: String },
    #[error("failed to open `{url}`")]
    Open { url: String, source: object_store::Error },
    #[error(transparent)]
    Bucket(#[from] ArtifactError),
}

impl RemoteFile {
    /// A file at an `http` or `https` address. Its query, such as a signature, goes with every request.
    pub async fn open_http(address: &Url) -> Result<Self, RemoteError> {
        let not = || RemoteError::Address { url: shown(address) };
        let path = Path::from_url_path(address.path()).map_err(|_| not())?;
        if path.as_ref().is_empty() {
            return Err(not());
        }
        let mut base = address.clone();
        base.set_path("");
        base.set_fragment(None);
        let failed = |source| RemoteError::Open { url: shown(address), source };
        location::install_tls();
        let objects = HttpBuilder::new()
            .with_url(base)
            .with_client_options(location::client_options().with_allow_http(true))
            .with_retry(location::retries())
            .build()
            .map_err(failed)?;
        Self::open(Arc::new(objects), path).await.map_err(failed)
    }

    /// The object `key` of the bucket, or folder, at `location`.
    pub async fn open_object(location: &ArtifactLocation, key: &str) -> Result<Self, RemoteError> {
        let not = || RemoteError::Address { url: key.to_owned() };
        let path = Path::parse(key).map_err(|_| not())?;
        let objects = ArtifactStore::open(location)?.objects();
        Self::open(objects, path).await.map_err(|source| RemoteError::Open { url: key.to_owned(), source })
    }

    /// By the first bytes, as signed addresses often allow nothing but `GET`.
    async fn open(objects: Arc<dyn ObjectStore>, path: Path) -> Result<Self, object_store::Error> {
        let options = GetOptions { range: Some(GetRange::Bounded(0..16)), ..GetOptions::default() };
        let found = objects.get_opts(&path, options).await?;
        let version = found.meta.e_tag.clone().unwrap_or_else(|| found.meta.last_modified.to_string());
        let size_bytes = found.meta.size;
        found.bytes().await?;
        Ok(Self { objects, path, size_bytes, version })
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What the server calls the state of the file: its entity tag, or when it was changed.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Each range whole, in the order asked for; near ones in one request, several requests at a time. A request that
    /// fails is tried again for half a minute.
    pub async fn ranges(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        if ranges.iter().any(|range| range.start > range.end || range.end > self.size_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let parts = self.objects.get_ranges(&self.path, ranges).await.map_err(io::Error::other)?;
        let is_whole = |(part, range): (&Bytes, &Range<u64>)| part.len() as u64 == range.end - range.start;
        if parts.iter().zip(ranges).all(is_whole) {
            return Ok(parts);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the server sent less than was asked for"))
    }
}

/// Without the query, which may hold a key.
fn shown(address: &Url) -> String {
    let mut shown = address.clone();
    shown.set_query(None);
    shown.to_string()
}
