//! Keeping a job: signs of life, how far it is, and noticing that it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use serde_json::json;
use tidegate_api::RasterProgress;
use tidegate_store::{Change, Hold, NewEvent};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Runner;

/// A lease is renewed this many times in its life, so that one slow write does not lose it.
const RENEWALS_PER_LEASE: u32 = 5;

/// Also with a long lease: how old what people see of the progress may be.
const MAX_INTERVAL: Duration = Duration::from_secs(2);

/// The log tells of progress when so much more is done and so long has passed: a page of events for a day's work.
const TOLD_SHARE: f64 = 0.05;
const TOLD_INTERVAL: Duration = Duration::from_secs(5);

/// Whether the job is still ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// `came_forward`: something was done since it was taken.
    Held {
        came_forward: bool,
    },
    Lost,
}

pub struct Keeper<'a> {
    pub runner: &'a Runner,
    pub hold: &'a Hold,
    pub progress: watch::Receiver<Option<RasterProgress>>,
    /// Raised when the work has to stop.
    pub stop_work: Arc<AtomicBool>,
}

impl Keeper<'_> {
    /// Until `done`. Raises the flag when the job is lost, or `stop` is told.
    pub async fn keep(mut self, stop: &CancellationToken, done: &CancellationToken) -> Kept {
        let lease = self.runner.settings.lease;
        let interval = MAX_INTERVAL.min(lease / RENEWALS_PER_LEASE);
        let mut changes = self.runner.store.changes.subscribe();
        let mut renewed = Instant::now();
        let mut told = Told { first: None, share: 0.0, at: Instant::now() };
        let mut is_stopping = false;
        loop {
            match self.renew().await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => return self.lost(),
                // Somebody else may have it by then.
                Err(error) if renewed.elapsed() >= lease => {
                    tracing::warn!(job = %self.hold.job_id, %error, "lost a job: its lease could not be renewed");
                    return self.lost();
                }
                Err(error) => tracing::debug!(job = %self.hold.job_id, %error, "failed to renew a job"),
            }
            self.tell(&mut told).await;
            tokio::select! {
                () = done.cancelled() => return self.last_word(&told).await,
                () = stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    self.stop_work.store(true, Ordering::Relaxed);
                }
                () = changed(&mut changes, self.hold) => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// How far it came, for people.
    async fn last_word(&mut self, told: &Told) -> Kept {
        match self.renew().await {
            Ok(false) => self.lost(),
            Ok(true) | Err(_) => Kept::Held { came_forward: told.came_forward(&self.progress) },
        }
    }

    fn lost(&self) -> Kept {
        self.stop_work.store(true, Ordering::Relaxed);
        Kept::Lost
    }

    async fn renew(&mut self) -> Result<bool, tidegate_store::StoreError> {
        let progress = self.progress.borrow_and_update().clone();
        let progress = progress.and_then(|progress| serde_json::to_value(progress).ok());
        let lease = SignedDuration::try_from(self.runner.settings.lease).unwrap_or(SignedDuration::MAX);
        let now = self.runner.clock.now();
        let until = now.saturating_add(lease).unwrap_or(now);
        self.runner.store.jobs.renew(self.hold, until, progress.as_ref()).await
    }

    /// The log's share of the progress.
    async fn tell(&self, told: &mut Told) {
        let Some(progress) = self.progress.borrow().clone() else { return };
        if progress.tiles_total == 0 {
            return;
        }
        if told.first.is_none() {
            (told.first, told.share) = (Some(progress.share_done), progress.share_done);
        }
        if progress.share_done - told.share < TOLD_SHARE || told.at.elapsed() < TOLD_INTERVAL {
            return;
        }
        let RasterProgress { tiles_done, tiles_total, share_done, eta_seconds, .. } = progress;
        let left = eta_seconds.map_or_else(String::new, |eta| format!(", about {eta:.0} s left"));
        let event = NewEvent {
            at: self.runner.clock.now(),
            kind: "progress".to_owned(),
            message: format!("{:.0} %: {tiles_done} of {tiles_total} tiles{left}", 100.0 * share_done),
            evidence: json!({"tilesDone": tiles_done, "tilesTotal": tiles_total, "shareDone": share_done}),
        };
        if self.runner.store.jobs.note(self.hold, &event).await.is_ok() {
            (told.share, told.at) = (share_done, Instant::now());
        }
    }
}

struct Told {
    /// Where the work began, or was taken up.
    first: Option<f64>,
    /// Of the last event.
    share: f64,
    at: Instant,
}

impl Told {
    fn came_forward(&self, progress: &watch::Receiver<Option<RasterProgress>>) -> bool {
        let progress = progress.borrow();
        let now = progress.as_ref().filter(|progress| progress.tiles_total > 0);
        now.zip(self.first).is_some_and(|(progress, first)| progress.share_done > first)
    }
}

/// Until the job was changed by somebody.
async fn changed(changes: &mut tidegate_store::ChangeStream, hold: &Hold) {
    loop {
        match changes.next().await {
            Some(Change::Job { id }) if id == hold.job_id => return,
            Some(Change::Everything) => return,
            Some(_) => {}
            None => std::future::pending().await,
        }
    }
}
