//! The place of a job on this machine's disk, while it is at work.
//!
//! A lock that the system lets go of when its process ends keeps two processes out of one folder: one that has lost its
//! lease may still be at its last tile when another takes the job up.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_api::RasterResult;
use tidegate_core::{JobId, VersionId};

/// A folder that is ours. Dropped, it is left for whoever takes the job up.
pub struct Work {
    folder: PathBuf,
    _lock: File,
}

/// What is left to be stored when everything else is done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Finished {
    pub version_id: VersionId,
    /// Without outputs yet.
    pub result: RasterResult,
    pub files: Vec<String>,
}

const LOCK: &str = "lock";
const OUTPUT: &str = "output";
const FINISHED: &str = "finished.json";

/// How often a folder is asked for that another process is still in: a tile takes as long.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

impl Work {
    /// Waits for a process that is about to leave; `None` when told to stop meanwhile. Blocks.
    pub fn enter(root: &Path, id: &JobId, stop: &AtomicBool) -> io::Result<Option<Self>> {
        let folder = root.join(id.as_str());
        while !stop.load(Ordering::Relaxed) {
            fs::create_dir_all(folder.join(OUTPUT))?;
            if let Some(lock) = try_lock(&folder)? {
                return Ok(Some(Self { folder, _lock: lock }));
            }
            std::thread::sleep(LOCK_INTERVAL);
        }
        Ok(None)
    }

    /// Where the pipeline works and leaves its files.
    pub fn output(&self) -> PathBuf {
        self.folder.join(OUTPUT)
    }

    /// An earlier process may have done everything but to store it.
    pub fn finished(&self) -> Option<Finished> {
        let bytes = fs::read(self.folder.join(FINISHED)).ok()?;
        let finished: Finished = serde_json::from_slice(&bytes).ok()?;
        finished.files.iter().all(|name| self.output().join(name).is_file()).then_some(finished)
    }

    pub fn finish(&self, finished: &Finished) -> io::Result<()> {
        let partial = self.folder.join("finished.partial");
        let file = File::create(&partial)?;
        serde_json::to_writer(&file, finished)?;
        file.sync_data()?;
        fs::rename(partial, self.folder.join(FINISHED))
    }
}

/// `None` while another process has it. On the file that is there now: the one before may just have been removed.
fn try_lock(folder: &Path) -> io::Result<Option<File>> {
    let path = folder.join(LOCK);
    let lock = match File::options().create(true).truncate(false).write(true).open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match lock.try_lock() {
        Ok(()) if path.exists() => Ok(Some(lock)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Jobs that have a folder here.
pub fn ids(root: &Path) -> io::Result<Vec<JobId>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let ids = entries.map(|entry| Ok(JobId::new(entry?.file_name().to_string_lossy())));
    ids.collect()
}

/// Removes the folder of a job, unless somebody is in it or there is none.
pub fn remove(root: &Path, id: &JobId) -> io::Result<()> {
    let folder = root.join(id.as_str());
    let Some(lock) = try_lock(&folder)? else { return Ok(()) };
    // Some systems remove no file that is open.
    drop(lock);
    fs::remove_dir_all(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_process_s_and_is_removed_when_nobody_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let id = JobId::new("job-1");
        let go = AtomicBool::new(false);
        let work = Work::enter(root.path(), &id, &go).unwrap().unwrap();
        remove(root.path(), &id).unwrap();
        assert_eq!(ids(root.path()).unwrap(), std::slice::from_ref(&id), "somebody is in it");
        let stop = AtomicBool::new(true);
        assert!(Work::enter(root.path(), &id, &stop).unwrap().is_none(), "told to stop");
        drop(work);
        drop(Work::enter(root.path(), &id, &go).unwrap().unwrap());
        remove(root.path(), &id).unwrap();
        assert_eq!(ids(root.path()).unwrap(), []);
        remove(root.path(), &id).unwrap();
        assert_eq!(ids(&root.path().join("none")).unwrap(), []);
    }
}
