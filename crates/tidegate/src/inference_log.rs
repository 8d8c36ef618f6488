//! Writes the inference log behind the requests, in batches. A full buffer sheds rows and counts them; requests never wait.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tidegate_core::{Clock, Timestamp};
use tidegate_store::{InferenceRecord, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Rows that may wait: at a thousand requests a second, four seconds of a database that does not answer.
pub const BUFFER: usize = 4096;

const MAX_BATCH: usize = 256;
const MAX_DELAY: Duration = Duration::from_millis(200);

/// How often old requests are deleted, and how many in one transaction: writers wait for no more than that.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(600);
const EXPIRE_BATCH: u32 = 5_000;

/// Deletes requests older than `retention` until told to stop.
pub async fn expire(
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    retention: SignedDuration,
    stop: CancellationToken,
) {
    loop {
        let cutoff = clock.now().saturating_sub(retention).unwrap_or(Timestamp::MIN);
        match store.inferences.delete_before(cutoff, EXPIRE_BATCH).await {
            Ok(deleted) if deleted >= u64::from(EXPIRE_BATCH) => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "failed to delete old requests from the inference log"),
        }
        tokio::select! {
            () = tokio::time::sleep(EXPIRE_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Runs until every sender is gone, then writes what is left.
pub async fn run(store: Arc<Store>, mut rows: mpsc::Receiver<InferenceRecord>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while let Some(first) = rows.recv().await {
        batch.push(first);
        let deadline = tokio::time::sleep(MAX_DELAY);
        tokio::pin!(deadline);
        while batch.len() < MAX_BATCH {
            tokio::select! {
                row = rows.recv() => match row {
                    Some(row) => batch.push(row),
                    None => break,
                },
                () = &mut deadline => break,
            }
        }
        if let Err(error) = store.inferences.record(&batch).await {
            tracing::warn!(%error, rows = batch.len(), "failed to write the inference log; these rows are lost");
        }
        batch.clear();
    }
}
