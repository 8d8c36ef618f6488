//! Cleaning up what a process left that was killed in the middle of an upload.

use jiff::SignedDuration;
use tidegate_core::Timestamp;

use super::error::ArtifactError;
use super::{ArtifactStore, folder};

impl ArtifactStore {
    /// Removes artifacts that nothing refers to and half-written files, when they are older than `older_than` at `now`;
    /// returns how many. Choose the age longer than any upload and its registration take: younger orphans may be about
    /// to be referred to.
    ///
    /// Unfinished multipart uploads of a bucket cannot be listed here: give the bucket a lifecycle rule for them.
    pub async fn sweep(
        &self,
        is_referenced: impl Fn(&str) -> bool,
        older_than: SignedDuration,
        now: Timestamp,
    ) -> Result<u64, ArtifactError> {
        let cutoff = now.saturating_sub(older_than).unwrap_or(Timestamp::MIN);
        let mut n_removed = 0;
        for stored in self.list("").await? {
            if stored.modified_at < cutoff && !is_referenced(&stored.key) {
                self.delete(&stored.key).await?;
                n_removed += 1;
            }
        }
        if let Some(folder) = &self.folder {
            let removed = folder::remove_staged(folder, cutoff).await;
            n_removed += removed.map_err(|source| ArtifactError::of_file("sweep", "", source))?;
        }
        Ok(n_removed)
    }
}
