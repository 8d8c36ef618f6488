//! One upload: bytes are hashed as they pass and go out in parts.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use object_store::{ObjectStoreExt, WriteMultipart};
use tidegate_core::Sha256Digest;
use tidegate_core::digest::Sha256Hasher;

use super::error::{ArtifactError, PutError};
use super::{ArtifactStore, Stored, folder, key};

/// S3 wants parts of at least 5 MiB and at most 10,000 of them: 8 MiB makes 78 GiB, ten times any model's limit.
const PART_BYTES: usize = 8 << 20;
/// One part is sent while the next fills: memory stays below three parts.
const PARTS_IN_FLIGHT: usize = 2;

/// An artifact that is being written. Dropped without [`finish`](Self::finish), nothing appears under its key.
pub(super) struct Upload<'a> {
    store: &'a ArtifactStore,
    key: &'a str,
    parts: WriteMultipart,
    hasher: Sha256Hasher,
    size_bytes: u64,
}

impl<'a> Upload<'a> {
    pub async fn begin(store: &'a ArtifactStore, key: &'a str) -> Result<Self, PutError> {
        let upload = store.objects.put_multipart(&key::parse(key)?).await;
        let upload = upload.map_err(|source| PutError::of_write(key, source))?;
        let parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        Ok(Self { store, key, parts, hasher: Sha256Hasher::default(), size_bytes: 0 })
    }

    /// Takes in the whole stream.
    pub async fn fill(
        &mut self,
        stream: &mut (impl Stream<Item = Result<Bytes, std::io::Error>> + Unpin),
        limit_bytes: u64,
    ) -> Result<(), PutError> {
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|source| PutError::Stream { source })?;
            self.size_bytes += chunk.len() as u64;
            if self.size_bytes > limit_bytes {
                return Err(PutError::TooLarge { limit_bytes });
            }
            self.hasher.update(&chunk);
            let sent = self.parts.wait_for_capacity(PARTS_IN_FLIGHT).await;
            sent.map_err(|source| PutError::of_write(self.key, source))?;
            self.parts.put(chunk);
        }
        Ok(())
    }

    /// Makes the artifact appear, unless its digest is not the `expected` one where there is one.
    pub async fn finish(self, expected: Option<&Sha256Digest>) -> Result<Stored, PutError> {
        let Self { store, key, parts, hasher, size_bytes } = self;
        let sha256 = hasher.finish();
        if let Some(expected) = expected
            && let Err(error) = ArtifactError::compare(key, expected, &sha256)
        {
            abort(store, key, parts).await;
            return Err(error.into());
        }
        match parts.finish().await {
            Ok(_) => Ok(Stored { sha256, size_bytes }),
            Err(source) => {
                clean_up(store, key).await;
                Err(PutError::of_write(key, source))
            }
        }
    }

    pub async fn abort(self) {
        abort(self.store, self.key, self.parts).await;
    }
}

/// The reason for it is the caller's error, so a failure to clean up is only logged.
async fn abort(store: &ArtifactStore, key: &str, parts: WriteMultipart) {
    if let Err(error) = parts.abort().await {
        tracing::debug!(%error, key, "failed to abort an upload");
    }
    clean_up(store, key).await;
}

async fn clean_up(store: &ArtifactStore, key: &str) {
    if let Some(folder) = &store.folder {
        folder::clean_up_after(folder, key).await;
    }
}
