//! Files elsewhere that are read by ranges: on a web server that answers range requests, or in a bucket.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::client::{HttpClient, HttpConnector};
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    ClientOptions, GetOptions, GetRange, OBJECT_STORE_COALESCE_DEFAULT, ObjectStore, coalesce_ranges,
};
use url::Url;

use crate::artifacts::{ArtifactError, ArtifactLocation, ArtifactStore, location};

/// A file that was found. Cloning shares it.
#[derive(Clone, Debug)]
pub struct RemoteFile {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    size_bytes: u64,
    version: String,
    /// Of this state of the file, where the server has tags that can be compared.
    e_tag: Option<String>,
}

/// Where a server's answer may lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirects {
    Follow,
    /// Who may name only some hosts must not be led to others by them.
    Refuse,
}

#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("`{url}` is not an address of a file")]
    Address { url: String },
    #[error("there is nothing at `{url}`")]
    Absent { url: String },
    #[error("`{url}` may not be read: the keys, or the signature in the address, do not allow it")]
    Denied { url: String },
    #[error("failed to open `{url}`")]
    Open { url: String, source: object_store::Error },
    #[error(transparent)]
    Bucket(#[from] ArtifactError),
}

impl RemoteError {
    /// Whether the same may be there a moment later: the server did not answer, or not with sense.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Open { source, .. } => !matches!(
                source,
                object_store::Error::NotSupported { .. } | object_store::Error::InvalidPath { .. }
            ),
            Self::Address { .. } | Self::Absent { .. } | Self::Denied { .. } | Self::Bucket(_) => false,
        }
    }

    /// What a server says of a file that is not there is a page of XML, with an address that is none of the caller's.
    fn of_open(url: String, source: object_store::Error) -> Self {
        match source {
            object_store::Error::NotFound { .. } => Self::Absent { url },
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Self::Denied { url }
            }
            source => Self::Open { url, source },
        }
    }
}

impl RemoteFile {
    /// A file at an `http` or `https` address. Its query, such as a signature, goes with every request.
    pub async fn open_http(address: &Url, redirects: Redirects) -> Result<Self, RemoteError> {
        let not = || RemoteError::Address { url: shown(address) };
        let path = Path::from_url_path(address.path()).map_err(|_| not())?;
        if path.as_ref().is_empty() {
            return Err(not());
        }
        let mut base = address.clone();
        base.set_path("");
        base.set_fragment(None);
        let failed = |source| RemoteError::of_open(shown(address), source);
        location::install_tls();
        let mut builder = HttpBuilder::new()
            .with_url(base)
            .with_client_options(location::client_options().with_allow_http(true))
            .with_retry(location::retries());
        if redirects == Redirects::Refuse {
            builder = builder.with_http_connector(Straight);
        }
        let objects = builder.build().map_err(failed)?;
        Self::open(Arc::new(objects), path).await.map_err(failed)
    }

    /// The object `key` of the bucket, or folder, at `location`.
    pub async fn open_object(location: &ArtifactLocation, key: &str) -> Result<Self, RemoteError> {
        let not = || RemoteError::Address { url: key.to_owned() };
        let path = Path::parse(key).map_err(|_| not())?;
        let objects = ArtifactStore::open(location)?.objects();
        Self::open(objects, path).await.map_err(|source| RemoteError::of_open(key.to_owned(), source))
    }

    /// An artifact, wherever its store keeps it.
    pub async fn open_artifact(store: &ArtifactStore, key: &str) -> Result<Self, RemoteError> {
        let not = |_| RemoteError::Address { url: key.to_owned() };
        let path = Path::parse(key).map_err(not)?;
        let opened = Self::open(store.objects(), path).await;
        opened.map_err(|source| RemoteError::of_open(key.to_owned(), source))
    }

    /// By the first bytes, as signed addresses often allow nothing but `GET`.
    async fn open(objects: Arc<dyn ObjectStore>, path: Path) -> Result<Self, object_store::Error> {
        let options = GetOptions { range: Some(GetRange::Bounded(0..16)), ..GetOptions::default() };
        let found = objects.get_opts(&path, options).await?;
        let version = found.meta.e_tag.clone().unwrap_or_else(|| found.meta.last_modified.to_string());
        let e_tag = found.meta.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
        let size_bytes = found.meta.size;
        found.bytes().await?;
        Ok(Self { objects, path, size_bytes, version, e_tag })
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// What the server calls the state of the file: its entity tag, or when it was changed.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Each range whole, in the order asked for; near ones in one request, several requests at a time. A request that
    /// fails is tried again for half a minute. A file that was replaced since it was opened is an error: half of each
    /// would be neither.
    pub async fn ranges(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
        if ranges.iter().any(|range| range.start > range.end || range.end > self.size_bytes) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let part = |range| self.part(range);
        let parts = coalesce_ranges(ranges, part, OBJECT_STORE_COALESCE_DEFAULT).await;
        let parts = parts.map_err(|error| match error {
            object_store::Error::Precondition { .. } => {
                io::Error::other("the file was replaced while it was read")
            }
            error => io::Error::other(error),
        })?;
        let is_whole = |(part, range): (&Bytes, &Range<u64>)| part.len() as u64 == range.end - range.start;
        if parts.iter().zip(ranges).all(is_whole) {
            return Ok(parts);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the server sent less than was asked for"))
    }
}

impl RemoteFile {
    async fn part(&self, range: Range<u64>) -> Result<Bytes, object_store::Error> {
        let range = Some(GetRange::Bounded(range));
        let options = GetOptions { range, if_match: self.e_tag.clone(), ..GetOptions::default() };
        self.objects.get_opts(&self.path, options).await?.bytes().await
    }
}

/// Clients that go nowhere but where they are sent.
#[derive(Debug)]
struct Straight;

impl HttpConnector for Straight {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(location::READ_TIMEOUT)
            .build();
        let failed =
            |source: reqwest::Error| object_store::Error::Generic { store: "HTTP", source: Box::new(source) };
        Ok(HttpClient::new(client.map_err(failed)?))
    }
}

/// As object_store's own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Without the query, which may hold a key.
fn shown(address: &Url) -> String {
    let mut shown = address.clone();
    shown.set_query(None);
    shown.to_string()
}
