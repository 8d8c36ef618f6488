//! The worker threads that run requests, batch by batch. Models compute here, not on the threads that talk to clients, but for
//! those that take less time than handing them over would ([`crate::brief`]).
//!
//! A free worker asks [`crate::queue`] what to run, and that asks [`crate::pack`] which requests go together.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_core::{NamedTensor, SignatureMismatch};
use tokio::sync::oneshot;

use crate::batch::{Form, in_order, split, stack};
use crate::brief::Callers;
use crate::pack::Priority;
use crate::queue::{Job, JobId, Queue, Run, Taken};
use crate::quiet;
use crate::runtime::{RunError, Runtime, guarded};
use crate::slot::{Slot, Standing};

/// The outputs of a request, and where its time went.
#[derive(Clone, Debug, PartialEq)]
pub struct Inference {
    pub outputs: Vec<NamedTensor>,
    /// From the queue to a free worker.
    pub queue: Duration,
    /// In the runtime, together with the requests of its batch.
    pub run: Duration,
    /// How many requests ran as that batch.
    pub n_together: usize,
}

impl Inference {
    /// What this request took of the runtime; unknown where others ran with it.
    pub(crate) fn run_alone(&self) -> Option<Duration> {
        (self.n_together == 1).then_some(self.run)
    }
}

/// How a request is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InferOptions {
    /// When the caller stops waiting: a request that still waits then leaves the queue with an error.
    pub deadline: Option<Instant>,
    pub priority: Priority,
    pub standing: Standing,
    /// Runs by itself whatever waits beside it: in a batch a result may differ in its last bits, and some must be the same
    /// each time.
    pub alone: bool,
    /// Waits for a worker, however brief it is: whether workers have time to spare is then seen by who waits for them.
    pub on_worker: bool,
}

impl InferOptions {
    fn may_run_here(&self, now: Instant) -> bool {
        !self.on_worker
            && self.priority == Priority::Request
            && self.deadline.is_none_or(|deadline| deadline > now)
    }
}

/// Why a request has no outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InferError {
    #[error(transparent)]
    Mismatch(#[from] SignatureMismatch),
    /// `retry_after` is about what the requests in the queue will take.
    #[error("the server is overloaded: its queue is full; try again later")]
    Overloaded { retry_after: Duration },
    #[error("the deadline of the request passed before it was answered")]
    DeadlineExceeded,
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// How often a worker that has run out of work lets the threads that bring it go first, before it sleeps. To be put to sleep
/// and woken costs more than a tiny model's run, and on busy cores the next request is one turn away; on idle ones a turn takes
/// less than a microsecond. While a model loads, the turn would be its.
const YIELDS: u32 = 3;

pub(crate) struct WorkerPool {
    shared: Arc<Shared>,
    callers: Callers,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    /// A job came, or the pool closed.
    changed: Condvar,
    /// A worker has nothing to do, or the pool closed.
    spare: Condvar,
}

struct State {
    queue: Queue,
    /// Workers that wait for `changed`: with none, nobody need be told.
    n_idle: usize,
    /// Threads that wait for `spare`.
    n_wanting: usize,
}

/// Tells whether the workers have time to spare, for work that is none of theirs.
#[derive(Clone)]
pub(crate) struct Spare(Arc<Shared>);

impl Spare {
    /// Whether requests wait for a worker.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.state().queue.len() > 0
    }

    /// Waits until a worker has nothing to do; false once the pool takes no more requests.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.0.state();
        loop {
            if state.queue.is_closed() {
                return false;
            }
            if state.n_idle > 0 && state.queue.len() == 0 {
                return true;
            }
            state.n_wanting += 1;
            state = self.0.spare.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.n_wanting -= 1;
        }
    }
}

impl WorkerPool {
    pub(crate) fn new(runtime: &Arc<dyn Runtime>, n_workers: usize, queue_limit: usize) -> Self {
        let n_workers = n_workers.max(1);
        let state = Mutex::new(State { queue: Queue::new(queue_limit, n_workers), n_idle: 0, n_wanting: 0 });
        let shared = Arc::new(Shared { state, changed: Condvar::new(), spare: Condvar::new() });
        let start = |index| {
            let (runtime, shared) = (Arc::clone(runtime), Arc::clone(&shared));
            let thread = std::thread::Builder::new().name(format!("infer-{index}"));
            thread
                .spawn(move || runtime.host(Box::new(move || shared.work())))
                .expect("the system starts a handful of threads")
        };
        let threads = Mutex::new((0..n_workers).map(start).collect());
        Self { shared, callers: Callers::default(), threads }
    }

    /// Queues the request and waits for its outputs, or runs it at once where it is brief and nobody waits. Dropping the
    /// future takes it out of the queue; a run that has begun is finished and forgotten.
    pub(crate) async fn run(
        &self,
        slot: Arc<Slot>,
        inputs: Vec<NamedTensor>,
        options: InferOptions,
    ) -> Result<Inference, InferError> {
        let inputs = in_order(inputs, slot.signature());
        let form = Form::of(&inputs);
        let (queued_at, InferOptions { deadline, standing, alone, .. }) = (Instant::now(), options);
        if options.may_run_here(queued_at)
            && let Some(outcome) = self.run_here(&slot, &inputs, form.bytes, standing)
        {
            // Callers that never wait for a worker give way to others here.
            tokio::task::coop::consume_budget().await;
            return outcome;
        }
        let (reply, mut outcome) = oneshot::channel();
        let job = |id| Job { id, slot, inputs, form, alone, queued_at, deadline, standing, reply };
        let id = self.shared.push(options.priority, job)?;
        let mut place = Place { shared: &self.shared, id: Some(id) };
        let outcome = match deadline {
            None => outcome.await,
            Some(deadline) => {
                let answered = tokio::time::timeout_at(deadline.into(), &mut outcome).await;
                answered.map_err(|_| InferError::DeadlineExceeded)?
            }
        };
        place.id = None;
        outcome.unwrap_or_else(|_| Err(RunError::Failed { message: "the worker was lost".to_owned() }.into()))
    }

    /// On the calling thread, where the slot is known to be brief and has a session to spare, and nobody waits for a worker.
    fn run_here(
        &self,
        slot: &Slot,
        inputs: &[NamedTensor],
        n_bytes: usize,
        standing: Standing,
    ) -> Option<Result<Inference, InferError>> {
        if !slot.is_brief(n_bytes) || !self.shared.is_unhurried() {
            return None;
        }
        let _permit = self.callers.enter()?;
        let started = Instant::now();
        let outcome = guarded(|| slot.run_if_free(inputs));
        let outcome = outcome.unwrap_or_else(|message| Some(Err(RunError::Failed { message })))?;
        let run = started.elapsed();
        slot.ran(n_bytes, run);
        slot.count(&outcome, run, standing);
        let answer = |outputs| Inference { outputs, queue: Duration::ZERO, run, n_together: 1 };
        Some(outcome.map(answer).map_err(InferError::Run))
    }

    pub(crate) fn spare(&self) -> Spare {
        Spare(Arc::clone(&self.shared))
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

/// A caller's place in the queue, given up when the caller goes away. `None` once answered.
struct Place<'a> {
    shared: &'a Shared,
    id: Option<JobId>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let job = self.id.and_then(|id| self.shared.state().queue.remove(id));
        // Outside the lock: its inputs may be large.
        drop(job);
    }
}

impl Shared {
    fn push(&self, priority: Priority, job: impl FnOnce(JobId) -> Job) -> Result<JobId, InferError> {
        let mut state = self.state();
        let id = state.queue.push(priority, job)?;
        let is_anybody_idle = state.n_idle > 0;
        drop(state);
        if is_anybody_idle {
            self.changed.notify_one();
        }
        Ok(id)
    }

    /// Whether requests are taken in and none waits.
    fn is_unhurried(&self) -> bool {
        let state = self.state();
        !state.queue.is_closed() && state.queue.len() == 0
    }

    fn close(&self) {
        self.state().queue.close();
        self.changed.notify_all();
        self.spare.notify_all();
    }

    fn work(&self) {
        let mut finished = None;
        while let Some((jobs, run)) = self.next(finished.take()) {
            // Runtimes turn their own panics into errors. One in our code costs its requests, never the worker.
            if let Err(message) = guarded(|| run_batch(jobs)) {
                tracing::error!("an inference worker lost a request: {message}");
            }
            finished = Some(run);
        }
    }

    /// What to run next, waiting for it; `None` when the pool is closed and there will be nothing more.
    fn next(&self, finished: Option<Run>) -> Option<(Vec<Job>, Run)> {
        let mut state = self.state();
        let mut n_yields = if finished.is_some() && !quiet::is_at_work() { YIELDS } else { 0 };
        if let Some(run) = finished {
            state.queue.finished(run, Instant::now());
        }
        loop {
            let now = Instant::now();
            let until = match state.queue.take(now) {
                Taken::Run(jobs, run) => {
                    let is_more_to_do = state.n_idle > 0 && state.queue.len() > 0;
                    drop(state);
                    if is_more_to_do {
                        self.changed.notify_one();
                    }
                    return Some((jobs, run));
                }
                Taken::Wait(until) => until,
                Taken::End => return None,
            };
            if n_yields > 0 {
                n_yields -= 1;
                drop(state);
                std::thread::yield_now();
                state = self.state();
                continue;
            }
            state.n_idle += 1;
            if state.n_wanting > 0 && state.queue.len() == 0 {
                self.spare.notify_all();
            }
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let woken = self.changed.wait_timeout(state, until - now);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
            state.n_idle -= 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers every job. One that makes the batch fail must not take the others with it, so that then each runs alone.
fn run_batch(jobs: Vec<Job>) {
    let jobs = if jobs.len() > 1 { run_together(jobs) } else { jobs };
    for job in jobs {
        if !job.reply.is_closed() {
            run_alone(job);
        }
    }
}

/// Gives back the jobs that it could not answer: all or none.
fn run_together(jobs: Vec<Job>) -> Vec<Job> {
    let started = Instant::now();
    let Some(stacked) = stack(jobs.iter().map(|job| job.inputs.as_slice())) else { return jobs };
    let slot = Arc::clone(&jobs[0].slot);
    let outputs = slot.run_blocking(&stacked).ok();
    let run = started.elapsed();
    slot.ran(jobs.iter().map(|job| job.form.bytes).sum(), run);
    let outputs = outputs.and_then(|outputs| split(&outputs, jobs.iter().map(|job| job.form.rows)));
    let Some(outputs) = outputs else { return jobs };
    let n_together = jobs.len();
    for (job, outputs) in jobs.into_iter().zip(outputs) {
        answer(job, Ok(outputs), (started, run), n_together);
    }
    vec![]
}

fn run_alone(job: Job) {
    let started = Instant::now();
    let outcome = job.slot.run_blocking(&job.inputs);
    let run = started.elapsed();
    job.slot.ran(job.form.bytes, run);
    answer(job, outcome, (started, run), 1);
}

fn answer(
    job: Job,
    outcome: Result<Vec<NamedTensor>, RunError>,
    (started, run): (Instant, Duration),
    n_together: usize,
) {
    job.slot.count(&outcome, run, job.standing);
    let queue = started - job.queued_at;
    let outcome =
        outcome.map(|outputs| Inference { outputs, queue, run, n_together }).map_err(InferError::Run);
    // The caller may be gone by now; its outputs go with it. The slot is let go of after the reply, so that freeing the
    // model does not delay its last answer.
    let _gone = job.reply.send(outcome);
}
