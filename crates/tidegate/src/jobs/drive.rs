//! One job that this process has taken, to its end or to being given back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tidegate_api::{RasterResult, job_prefix};
use tidegate_core::Timestamp;
use tidegate_store::{Hold, JobEnd, JobRecord, NewEvent, Postponed, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Runner;
use super::fault::JobFault;
use super::keeper::{Keeper, Kept};
use super::raster::Raster;

/// A job that comes no step forward in so many attempts fails: with the pauses between them, in about half an hour. One that
/// never came to its first tile, whose address is probably wrong, fails in as many seconds.
const MAX_ATTEMPTS: u32 = 10;
const MAX_FIRST_ATTEMPTS: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A last word that cannot be written is tried again so often; then the lease runs out, and whoever takes the job up finds it
/// all but done.
const END_ATTEMPTS: u32 = 5;
const END_PAUSE: Duration = Duration::from_millis(200);

/// Sees the job through.
pub async fn drive(runner: &Arc<Runner>, job: JobRecord, hold: Hold, stop: CancellationToken) {
    let stop_work = Arc::new(AtomicBool::new(false));
    let (progress, seen) = watch::channel(None);
    let done = CancellationToken::new();
    let keeper = {
        let (runner, hold, stop_work) = (Arc::clone(runner), hold.clone(), Arc::clone(&stop_work));
        let (stop, done) = (stop.clone(), done.clone());
        tokio::spawn(async move {
            let keeper = Keeper { runner: &runner, hold: &hold, progress: seen, stop_work };
            keeper.keep(&stop, &done).await
        })
    };
    let raster = Raster { runner, job: &job, hold: &hold, stop: &stop_work, progress: &progress };
    let outcome = raster.run().await;
    done.cancel();
    let kept = keeper.await.unwrap_or(Kept::Lost);
    let ending = Ending { runner, job: &job, hold: &hold };
    match kept {
        Kept::Held { came_forward } => ending.write(outcome, came_forward).await,
        Kept::Lost => ending.clean_up_if_over().await,
    }
}

/// Whether an earlier attempt saw the scene.
fn has_tiles(job: &JobRecord) -> bool {
    let total = job.progress.as_ref().and_then(|progress| progress["tilesTotal"].as_u64());
    total.is_some_and(|total| total > 0)
}

struct Ending<'a> {
    runner: &'a Arc<Runner>,
    job: &'a JobRecord,
    hold: &'a Hold,
}

impl Ending<'_> {
    async fn write(&self, outcome: Result<RasterResult, JobFault>, came_forward: bool) {
        let id = &self.hold.job_id;
        let written = match outcome {
            Ok(result) => self.succeeded(&result).await,
            Err(JobFault::Stopped) => {
                tracing::info!(job = %id, "gave a job back, to be taken up from where it is");
                let postponed = Postponed { until: None, attempts: self.job.attempts };
                self.runner.store.jobs.postpone(self.hold, postponed, None).await
            }
            Err(JobFault::Passing(reason)) => {
                let attempts = if came_forward { 1 } else { self.job.attempts + 1 };
                let has_begun = came_forward || has_tiles(self.job);
                match attempts < if has_begun { MAX_ATTEMPTS } else { MAX_FIRST_ATTEMPTS } {
                    true => self.postponed(&reason, attempts).await,
                    false => self.failed(&format!("{reason} ({attempts} attempts)")).await,
                }
            }
            Err(JobFault::Final(reason)) => self.failed(&reason).await,
        };
        if let Err(error) = written {
            tracing::warn!(job = %id, %error, "failed to write down how a job went; it is taken up again");
            return;
        }
        self.clean_up_if_over().await;
    }

    async fn succeeded(&self, result: &RasterResult) -> Result<bool, StoreError> {
        let message = format!("{} files, {} polygons", result.outputs.len(), result.polygons);
        let end = JobEnd::Succeeded { result: serde_json::to_value(result).unwrap_or(Value::Null) };
        self.end(&end, "succeeded", message).await
    }

    async fn failed(&self, reason: &str) -> Result<bool, StoreError> {
        tracing::warn!(job = %self.hold.job_id, reason, "a job failed");
        self.end(&JobEnd::Failed { reason: reason.to_owned() }, "failed", reason.to_owned()).await
    }

    async fn end(&self, end: &JobEnd, kind: &str, message: String) -> Result<bool, StoreError> {
        let at = self.runner.clock.now();
        let event = NewEvent { at, kind: kind.to_owned(), message, evidence: Value::Null };
        let mut attempt = 1;
        loop {
            match self.runner.store.jobs.end(self.hold, end, at, &event).await {
                Err(error) if error.retryable() && attempt < END_ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(END_PAUSE).await;
                }
                written => return written,
            }
        }
    }

    async fn postponed(&self, reason: &str, attempts: u32) -> Result<bool, StoreError> {
        let pause = LONGEST_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(attempts - 1));
        let now = self.runner.clock.now();
        let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::ZERO);
        let until = now.saturating_add(pause).unwrap_or(Timestamp::MAX);
        let event = NewEvent {
            at: now,
            kind: "postponed".to_owned(),
            message: format!("{reason}; what is done is kept, going on in {} s", pause.as_secs()),
            evidence: json!({"attempts": attempts, "nextAttemptAt": until}),
        };
        let postponed = Postponed { until: Some(until), attempts };
        self.runner.store.jobs.postpone(self.hold, postponed, Some(&event)).await
    }

    /// The folder of a job that is over is of no use; files of one that has not succeeded are nobody's. What another process
    /// is at is left alone.
    async fn clean_up_if_over(&self) {
        let id = &self.hold.job_id;
        let status = match self.runner.store.jobs.get(id).await {
            Ok(job) => job.map(|job| job.status),
            Err(error) => {
                tracing::debug!(job = %id, %error, "left a job's files to the sweep");
                return;
            }
        };
        if status.is_some_and(|status| !status.is_over()) {
            return;
        }
        let (root, over) = (self.runner.settings.folder.clone(), id.clone());
        let removed = tokio::task::spawn_blocking(move || super::work::remove(&root, &over));
        if let Ok(Err(error)) = removed.await {
            tracing::debug!(job = %id, %error, "left the folder of a job to the sweep");
        }
        let prefix = match status {
            // The scene was uploaded for this job alone.
            Some(tidegate_core::JobStatus::Succeeded) => format!("{}/scene", job_prefix(id)),
            _ => job_prefix(id),
        };
        if let Err(error) = self.runner.artifacts.delete_prefix(&prefix).await {
            tracing::debug!(job = %id, %error, "left a job's files to the sweep");
        }
    }
}
