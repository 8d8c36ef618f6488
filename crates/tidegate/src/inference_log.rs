//! Writes the inference log behind the requests, in batches. A full buffer sheds rows and counts them; requests never wait.

use std::sync::Arc;
use std::time::Duration;

use tidegate_store::{InferenceRecord, Store};
use tokio::sync::mpsc;

/// Rows that may wait: at a thousand requests a second, four seconds of a database that does not answer.
pub const BUFFER: usize = 4096;

const MAX_BATCH: usize = 256;
const MAX_DELAY: Duration = Duration::from_millis(200);

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
