//! What a version has answered in this process, for protocols that tell. Analysis does not go by it: it counts in the
//! slot, and in the log.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tidegate_core::Timestamp;

/// How often, and how long in all.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Counter {
    pub(crate) fn add(&self, duration: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn ns(&self) -> u64 {
        self.ns.load(Ordering::Relaxed)
    }
}

/// Counted with relaxed order: readers want sums, not a moment.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub success: Counter,
    pub fail: Counter,
    pub queue: Counter,
    pub infer: Counter,
    /// Answers that were given before, and how long it took to find them; they are among `success`.
    pub cache_hit: Counter,
    /// And how long it took to find none.
    pub cache_miss: Counter,
    rows: AtomicU64,
    last_ms: AtomicI64,
}

impl Served {
    pub(crate) fn succeeded(
        &self,
        n_rows: usize,
        took: Duration,
        queue: Duration,
        infer: Duration,
        at: Timestamp,
    ) {
        self.success.add(took);
        self.queue.add(queue);
        self.infer.add(infer);
        self.rows.fetch_add(n_rows as u64, Ordering::Relaxed);
        self.last_ms.store(at.as_millisecond(), Ordering::Relaxed);
    }

    pub(crate) fn answered_from_cache(&self, took: Duration, at: Timestamp) {
        self.success.add(took);
        self.cache_hit.add(took);
        self.last_ms.store(at.as_millisecond(), Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, took: Duration) {
        self.fail.add(took);
    }

    /// Rows of batches, each counted.
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Milliseconds of the Unix epoch; 0 when it has answered nothing.
    pub(crate) fn last_ms(&self) -> u64 {
        u64::try_from(self.last_ms.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
