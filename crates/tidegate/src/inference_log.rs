//! Writes the inference log behind the requests, in batches. A full buffer sheds rows and counts them; requests never wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tidegate_core::{Clock, Timestamp};
use tidegate_store::{InferenceRecord, Store};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Rows that may wait: at a thousand requests a second, four seconds of a database that does not answer.
pub const BUFFER: usize = 4096;

/// Rows of one transaction.
const MAX_BATCH: usize = 512;

/// How long the first row of a batch waits for others, at most.
const MAX_DELAY: Duration = Duration::from_millis(200);

/// How often it is looked whether a batch is worth writing. Woken for each row, the writer would cost as much as its rows do;
/// the buffer holds what comes in so long, up to 200,000 requests a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

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
    while rows.recv_many(&mut batch, 1).await > 0 {
        gather(&rows).await;
        while let Ok(row) = rows.try_recv() {
            batch.push(row);
            if batch.len() == MAX_BATCH {
                write(&store, &mut batch).await;
            }
        }
        write(&store, &mut batch).await;
    }
}

/// Waits until there is a batch, or its first row has waited long enough.
async fn gather(rows: &mpsc::Receiver<InferenceRecord>) {
    let first_came = Instant::now();
    while rows.len() + 1 < MAX_BATCH && !rows.is_closed() && first_came.elapsed() < MAX_DELAY {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

async fn write(store: &Store, batch: &mut Vec<InferenceRecord>) {
    if let Err(error) = store.inferences.record(batch).await {
        tracing::warn!(%error, rows = batch.len(), "failed to write the inference log; these rows are lost");
    }
    batch.clear();
}
