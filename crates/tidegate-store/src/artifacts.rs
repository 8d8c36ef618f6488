//! Artifacts: files of any size under keys, in a folder or an S3-compatible bucket.
//!
//! Knows no version and no database. A key is what [`Artifact::path`](tidegate_core::Artifact) holds. Writing is in
//! `upload`, cleaning up after a crash in `sweep`.

mod error;
mod folder;
mod key;
pub(crate) mod location;
mod sweep;
mod upload;

use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::{GetOptions, GetRange, ObjectStoreExt};
use tidegate_core::digest::Sha256Hasher;
use tidegate_core::{Sha256Digest, Timestamp};

pub use self::error::{ArtifactError, PutError};
pub use self::location::ArtifactLocation;
use self::upload::Upload;

/// A place for artifacts. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ArtifactStore {
    objects: Arc<dyn object_store::ObjectStore>,
    /// Where the files lie, when they do.
    folder: Option<PathBuf>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub sha256: Sha256Digest,
    pub size_bytes: u64,
}

/// An artifact as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    pub key: String,
    pub size_bytes: u64,
    /// When it was written, by the clock of the file system or the bucket.
    pub modified_at: Timestamp,
}

/// The bytes of an artifact, as they come.
pub type ArtifactStream = BoxStream<'static, Result<Bytes, ArtifactError>>;

impl ArtifactStore {
    /// Creates the folder where it is missing; does not reach out to a bucket yet.
    pub fn open(location: &ArtifactLocation) -> Result<Self, ArtifactError> {
        location::open(location)
    }

    pub(crate) fn objects(&self) -> Arc<dyn object_store::ObjectStore> {
        Arc::clone(&self.objects)
    }

    /// Writes the stream under `key`, hashing as it goes: memory is constant, and nothing is there to read until all of it
    /// is on the disk. On any error, a stream over `limit_bytes` among them, nothing remains.
    pub async fn put(
        &self,
        key: &str,
        mut stream: impl Stream<Item = Result<Bytes, std::io::Error>> + Send + Unpin,
        limit_bytes: u64,
    ) -> Result<Stored, PutError> {
        self.write(key, &mut stream, limit_bytes, None).await
    }

    /// The whole artifact, as a stream.
    pub async fn get(&self, key: &str) -> Result<ArtifactStream, ArtifactError> {
        let path = key::parse(key)?;
        let result =
            self.objects.get(&path).await.map_err(|source| ArtifactError::of("read", key, source))?;
        let key = key.to_owned();
        let stream = result.into_stream();
        Ok(stream.map_err(move |source| ArtifactError::of("read", &key, source)).boxed())
    }

    /// The bytes of a range that lies inside the artifact, as a stream.
    pub async fn get_range(&self, key: &str, range: Range<u64>) -> Result<ArtifactStream, ArtifactError> {
        let path = key::parse(key)?;
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let result = self.objects.get_opts(&path, options).await;
        let result = result.map_err(|source| ArtifactError::of("read", key, source))?;
        let key = key.to_owned();
        let stream = result.into_stream();
        Ok(stream.map_err(move |source| ArtifactError::of("read", &key, source)).boxed())
    }

    /// Everything below `prefix` (whole segments), or all there is when it is empty; in no particular order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<StoredKey>, ArtifactError> {
        let path = (!prefix.is_empty()).then(|| key::parse(prefix)).transpose()?;
        let metas = self.objects.list(path.as_ref()).map_ok(|meta| StoredKey {
            key: meta.location.to_string(),
            size_bytes: meta.size,
            modified_at: Timestamp::from_millisecond(meta.last_modified.timestamp_millis())
                .unwrap_or(Timestamp::MAX),
        });
        metas.try_collect().await.map_err(|source| ArtifactError::of("list", prefix, source))
    }

    /// Deletes everything below `prefix` (whole segments, at least one). That nothing is there is no error.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<(), ArtifactError> {
        key::parse(prefix)?;
        for stored in self.list(prefix).await? {
            self.delete(&stored.key).await?;
        }
        Ok(())
    }

    /// A file on this machine with the artifact's bytes: the artifact itself in a folder store, otherwise a copy that is
    /// downloaded into `cache_dir` once, checked against `sha256` before it can be seen, and kept.
    pub async fn local_path(
        &self,
        key: &str,
        sha256: &Sha256Digest,
        cache_dir: &FilePath,
    ) -> Result<PathBuf, ArtifactError> {
        if let Some(folder) = &self.folder {
            let path = folder::file_of(folder, key)?;
            return match tokio::fs::metadata(&path).await {
                Ok(_) => Ok(path),
                Err(source) => Err(ArtifactError::of_file("read", key, source)),
            };
        }
        // The digest names the content for good, so a copy that is there is the right one.
        let name = key.rsplit('/').next().unwrap_or(key);
        let cached_key = format!("{sha256}/{name}");
        let path = cache_dir.join(sha256.as_str()).join(name);
        if !tokio::fs::try_exists(&path).await.unwrap_or(false) {
            let cache = Self::open(&ArtifactLocation::Folder(cache_dir.to_path_buf()))?;
            self.download(key, sha256, &cache, &cached_key).await?;
        }
        Ok(path)
    }

    /// The file of an artifact, in a store that is a folder.
    pub fn file(&self, key: &str) -> Option<PathBuf> {
        self.folder.as_ref().and_then(|folder| folder::file_of(folder, key).ok())
    }

    /// Reads the whole artifact and compares.
    pub async fn verify(&self, key: &str, sha256: &Sha256Digest) -> Result<(), ArtifactError> {
        let actual = match &self.folder {
            Some(folder) => folder::digest(&folder::file_of(folder, key)?, key).await?,
            None => self.digest(key).await?,
        };
        ArtifactError::compare(key, sha256, &actual)
    }

    async fn digest(&self, key: &str) -> Result<Sha256Digest, ArtifactError> {
        let mut hasher = Sha256Hasher::default();
        let mut stream = self.get(key).await?;
        while let Some(chunk) = stream.try_next().await? {
            hasher.update(&chunk);
        }
        Ok(hasher.finish())
    }

    async fn download(
        &self,
        key: &str,
        sha256: &Sha256Digest,
        cache: &Self,
        cached_key: &str,
    ) -> Result<(), ArtifactError> {
        let mut stream = self.get(key).await?.map_err(std::io::Error::other);
        let written = cache.write(cached_key, &mut stream, u64::MAX, Some(sha256)).await;
        written.map(drop).map_err(|source| match source {
            PutError::Artifact(ArtifactError::DigestMismatch { expected, actual, .. }) => {
                ArtifactError::DigestMismatch { key: key.to_owned(), expected, actual }
            }
            source => ArtifactError::Download { key: key.to_owned(), source: Box::new(source) },
        })
    }

    async fn write(
        &self,
        key: &str,
        stream: &mut (impl Stream<Item = Result<Bytes, std::io::Error>> + Unpin),
        limit_bytes: u64,
        expected: Option<&Sha256Digest>,
    ) -> Result<Stored, PutError> {
        let mut upload = Upload::begin(self, key).await?;
        if let Err(error) = upload.fill(stream, limit_bytes).await {
            upload.abort().await;
            return Err(error);
        }
        upload.finish(expected).await
    }

    async fn delete(&self, key: &str) -> Result<(), ArtifactError> {
        match self.objects.delete(&key::parse(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(ArtifactError::of("delete", key, source)),
        }
    }
}
