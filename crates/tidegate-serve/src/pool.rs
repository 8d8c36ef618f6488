//! The bounded queue and the worker threads that run requests: models compute here, never on the threads that talk to
//! clients.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_core::{NamedTensor, SignatureMismatch};
use tokio::sync::oneshot;

use crate::runtime::{RunError, guarded};
use crate::slot::Slot;

/// The outputs of a request, and where its time went.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    pub outputs: Vec<NamedTensor>,
    /// From the queue to a free worker.
    pub queue: Duration,
    /// In the runtime, with any wait for a free session.
    pub run: Duration,
}

/// Why a request has no outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    #[error(transparent)]
    Mismatch(#[from] SignatureMismatch),
    #[error("the server is overloaded: its queue is full; try again later")]
    Overloaded,
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the server is shutting down")]
    ShuttingDown,
}

pub(crate) struct WorkerPool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    /// A job came, or the pool closed.
    changed: Condvar,
    /// Jobs that wait; those that run are not counted. Bounds the memory of waiting inputs and the longest wait.
    limit: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

struct Job {
    /// Held until the outputs are out: a slot that left its route is freed by its last request.
    slot: Arc<Slot>,
    inputs: Vec<NamedTensor>,
    queued_at: Instant,
    reply: oneshot::Sender<Result<Inference, RunError>>,
}

impl WorkerPool {
    pub(crate) fn new(n_workers: usize, queue_limit: usize) -> Self {
        let shared =
            Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new(), limit: queue_limit.max(1) });
        let start = |index| {
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new().name(format!("infer-{index}"));
            thread.spawn(move || shared.work()).expect("the system starts a handful of threads")
        };
        let threads = Mutex::new((0..n_workers.max(1)).map(start).collect());
        Self { shared, threads }
    }

    /// Queues the request and waits for its outputs. Dropping the future takes it out of the queue; a run that has begun
    /// is finished and forgotten.
    pub(crate) async fn run(
        &self,
        slot: Arc<Slot>,
        inputs: Vec<NamedTensor>,
    ) -> Result<Inference, InferError> {
        let (reply, outcome) = oneshot::channel();
        self.shared.push(Job { slot, inputs, queued_at: Instant::now(), reply })?;
        match outcome.await {
            Ok(outcome) => Ok(outcome?),
            Err(_) => Err(InferError::Run(RunError::Failed { message: "the worker was lost".to_owned() })),
        }
    }

    /// Takes no more requests; those in the queue are still answered.
    pub(crate) fn close(&self) {
        self.shared.close();
    }

    /// Returns once a closed pool has answered its queue. Blocks.
    pub(crate) fn join(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("an inference worker panicked");
            }
        }
    }
}

impl Drop for WorkerPool {
    /// Without [`close`](Self::close), the workers still empty the queue and end, on their own time.
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn push(&self, job: Job) -> Result<(), InferError> {
        let mut queue = self.queue();
        if queue.is_closed {
            return Err(InferError::ShuttingDown);
        }
        if queue.jobs.len() >= self.limit {
            // Callers that went away must not keep out those that are here.
            queue.jobs.retain(|job| !job.reply.is_closed());
        }
        if queue.jobs.len() >= self.limit {
            return Err(InferError::Overloaded);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.changed.notify_one();
        Ok(())
    }

    fn close(&self) {
        self.queue().is_closed = true;
        self.changed.notify_all();
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            if job.reply.is_closed() {
                continue;
            }
            // Runtimes turn their own panics into errors. One in our code costs its request, never the worker.
            if let Err(message) = guarded(|| job.run()) {
                tracing::error!("an inference worker lost a request: {message}");
            }
        }
    }

    /// The oldest job; `None` when the pool is closed and empty.
    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    fn run(self) {
        let queue = self.queued_at.elapsed();
        let started = Instant::now();
        let outcome = self.slot.run_blocking(&self.inputs);
        let run = started.elapsed();
        self.slot.count(&outcome, run);
        // The caller may be gone by now; its outputs go with it. The slot is let go of after the reply, so that freeing
        // the model does not delay its last answer.
        let _gone = self.reply.send(outcome.map(|outputs| Inference { outputs, queue, run }));
    }
}
