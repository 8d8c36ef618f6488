//! Jobs that are over are deleted after a while, and work folders that nobody will come back to at once.

use std::sync::Arc;
use std::time::Duration;

use tidegate_api::job_prefix;
use tidegate_core::Timestamp;
use tokio_util::sync::CancellationToken;

use super::{Runner, work};

const INTERVAL: Duration = Duration::from_secs(600);

/// Deleted in one go; the rest has its turn the next time.
const MAX_EXPIRED: u32 = 100;

pub async fn upkeep(runner: Arc<Runner>, stop: CancellationToken) {
    loop {
        expire(&runner).await;
        sweep(&runner).await;
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn expire(runner: &Runner) {
    let cutoff = runner.clock.now().saturating_sub(runner.settings.retention).unwrap_or(Timestamp::MIN);
    let expired = match runner.store.jobs.over_before(cutoff, MAX_EXPIRED).await {
        Ok(expired) => expired,
        Err(error) => {
            tracing::warn!(%error, "failed to look for expired jobs");
            return;
        }
    };
    for id in expired {
        let deleted = runner.store.jobs.delete(&id).await;
        if let Err(error) = deleted {
            tracing::warn!(job = %id, %error, "failed to delete an expired job");
            continue;
        }
        // What a failure leaves has no row, and the sweep of the artifact store finds it.
        if let Err(error) = runner.artifacts.delete_prefix(&job_prefix(&id)).await {
            tracing::warn!(job = %id, %error, "left the files of an expired job to the sweep");
        }
    }
}

/// Folders of jobs that are over, left by a process that was killed in between.
async fn sweep(runner: &Runner) {
    let root = runner.settings.folder.clone();
    let folders = tokio::task::spawn_blocking({
        let root = root.clone();
        move || work::ids(&root)
    });
    let ids = match folders.await {
        Ok(Ok(ids)) => ids,
        Ok(Err(error)) => {
            tracing::warn!(%error, folder = %root.display(), "failed to look for left folders of jobs");
            return;
        }
        Err(_) => return,
    };
    for id in ids {
        let is_over = match runner.store.jobs.get(&id).await {
            Ok(job) => job.is_none_or(|job| job.status.is_over()),
            Err(_) => continue,
        };
        let (root, over) = (root.clone(), id.clone());
        if is_over
            && let Ok(Err(error)) = tokio::task::spawn_blocking(move || work::remove(&root, &over)).await
        {
            tracing::warn!(job = %id, %error, "failed to remove the folder of a job");
        }
    }
}
