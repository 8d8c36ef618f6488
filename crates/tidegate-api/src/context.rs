//! What every handler shares: the application's state and what this crate keeps beside it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tidegate_store::InferenceRecord;
use tokio::sync::{Notify, Semaphore};

use crate::AppState;
use crate::budget::BodyBudget;
use crate::native::follow::MAX_STREAMS;
use crate::native::inference::ndjson;
use crate::oip::Traces;
use crate::operations::cache::ResponseCaches;
use crate::operations::facts::FactsCache;

/// Cheap to clone; reads as [`AppState`].
#[derive(Clone)]
pub(crate) struct Context(Arc<Inner>);

pub(crate) struct Inner {
    state: AppState,
    pub(crate) facts: FactsCache,
    pub(crate) caches: ResponseCaches,
    /// One permit for each image at work; see [`image_slots`].
    pub(crate) image_slots: Arc<Semaphore>,
    /// One permit for each event stream.
    pub(crate) event_streams: Arc<Semaphore>,
    pub(crate) started: Instant,
    pub(crate) body_budget: BodyBudget,
    /// Whose requests are traced, as clients of the Open Inference Protocol ask for it.
    pub(crate) traces: Traces,
    /// One permit for each batch that is a stream.
    pub(crate) batch_streams: Arc<Semaphore>,
    /// A request to be answered later was taken in here.
    pub(crate) async_request_came: Notify,
    shed_log_rows: AtomicU64,
}

impl Context {
    pub(crate) fn new(state: AppState) -> Self {
        let body_budget = BodyBudget::new(state.settings.max_request_bytes);
        Self(Arc::new(Inner {
            body_budget,
            traces: Traces::default(),
            caches: ResponseCaches::new(&state.settings.response_cache_bytes),
            state,
            facts: FactsCache::default(),
            image_slots: Arc::new(Semaphore::new(image_slots())),
            event_streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            started: Instant::now(),
            batch_streams: Arc::new(Semaphore::new(ndjson::MAX_STREAMS)),
            async_request_came: Notify::new(),
            shed_log_rows: AtomicU64::new(0),
        }))
    }

    /// Hands the record to the background writer. A full buffer sheds the row and counts it, never the request.
    pub(crate) fn log_inference(&self, record: InferenceRecord) {
        if self.inference_log.try_send(record).is_err() {
            self.0.shed_log_rows.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn shed_log_rows(&self) -> u64 {
        self.0.shed_log_rows.load(Ordering::Relaxed)
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Deref for Context {
    type Target = AppState;

    fn deref(&self) -> &AppState {
        &self.0.state
    }
}

/// Two images for each core: one computes while the next decodes. Each may hold a gigabyte (the pixel limit), so more
/// are refused with 503 rather than queued.
fn image_slots() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| 2 * cores.get())
}
