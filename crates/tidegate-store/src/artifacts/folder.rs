//! What only a folder store does: name the file of a key, hash it in one go, clean up half-written files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tidegate_core::digest::Sha256Hasher;
use tidegate_core::{Sha256Digest, Timestamp};

use super::error::ArtifactError;
use super::key;

/// Large enough that the disk, not the system calls, sets the pace.
const READ_BYTES: usize = 1 << 20;

pub(super) fn file_of(folder: &Path, key: &str) -> Result<PathBuf, ArtifactError> {
    key::parse(key)?;
    Ok(key.split('/').fold(folder.to_path_buf(), |path, segment| path.join(segment)))
}

pub(super) async fn digest(path: &Path, key: &str) -> Result<Sha256Digest, ArtifactError> {
    let path = path.to_path_buf();
    let digest = blocking(move || {
        let mut file = File::open(path)?;
        let mut hasher = Sha256Hasher::default();
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finish()),
                n_bytes => hasher.update(&buffer[..n_bytes]),
            }
        }
    });
    digest.await.map_err(|source| ArtifactError::of_file("read", key, source))
}

/// Removes what a failed upload to `key` left: its half-written file, and the folders that are empty now.
pub(super) async fn clean_up_after(folder: &Path, key: &str) {
    let Ok(path) = file_of(folder, key) else { return };
    let folder = folder.to_path_buf();
    let cleaned = blocking(move || {
        let Some(parent) = path.parent() else { return Ok(()) };
        for entry in std::fs::read_dir(parent)?.flatten() {
            if staged_for(&entry.path()).is_some_and(|key_path| key_path == path) {
                std::fs::remove_file(entry.path())?;
            }
        }
        remove_empty(parent, &folder);
        Ok(())
    });
    // The upload has failed and says why; what is left here, the sweep finds.
    if let Err(error) = cleaned.await {
        tracing::debug!(%error, key, "left the remains of a failed upload to the sweep");
    }
}

/// Removes half-written files that nobody has written to since `cutoff`, and folders that have been empty since then.
/// Returns how many files.
pub(super) async fn remove_staged(folder: &Path, cutoff: Timestamp) -> io::Result<u64> {
    let folder = folder.to_path_buf();
    blocking(move || remove_staged_below(&folder, cutoff)).await
}

fn remove_staged_below(folder: &Path, cutoff: Timestamp) -> io::Result<u64> {
    let mut n_removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // Asked first, since removing what is in it touches it. A young one may be the folder of an upload of another
            // process, which has made it and not yet put anything in.
            let is_old = is_older(&entry, cutoff)?;
            n_removed += remove_staged_below(&entry.path(), cutoff)?;
            if is_old {
                // Fails on a folder that is not empty.
                let _ = std::fs::remove_dir(entry.path());
            }
        } else if kind.is_file() && staged_for(&entry.path()).is_some() && is_older(&entry, cutoff)? {
            std::fs::remove_file(entry.path())?;
            n_removed += 1;
        }
    }
    Ok(n_removed)
}

fn is_older(entry: &std::fs::DirEntry, cutoff: Timestamp) -> io::Result<bool> {
    let modified = entry.metadata()?.modified()?;
    Ok(Timestamp::try_from(modified).is_ok_and(|modified| modified < cutoff))
}

/// The file that `object_store` is about to make of a half-written `name#1`.
fn staged_for(path: &Path) -> Option<PathBuf> {
    let (name, number) = path.file_name()?.to_str()?.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| path.with_file_name(name))
}

/// Removes `path` and its parents as far as they are empty, but never `root`.
fn remove_empty(path: &Path, root: &Path) {
    let below = |path: &&Path| *path != root && path.starts_with(root);
    for folder in path.ancestors().take_while(below) {
        if std::fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
