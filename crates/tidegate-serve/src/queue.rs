//! The bounded queue of requests that wait for a worker, and what its workers are at. Guarded by one lock in
//! [`crate::pool`]; nothing here blocks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::NamedTensor;
use tokio::sync::oneshot;

use crate::batch::Form;
use crate::pack::{Next, Priority, Waiting, pack};
use crate::pool::{InferError, Inference};
use crate::slot::{Slot, Standing};

/// How much the latest run counts in the running mean of what a request takes: the last dozen decide.
const LATEST_SHARE: f64 = 0.1;

pub(crate) struct Queue {
    /// Both in the order of their ids.
    requests: VecDeque<Job>,
    background: VecDeque<Job>,
    /// Jobs that wait, of both kinds; those that run are not counted. Bounds the longest wait, and the memory of waiting inputs.
    limit: usize,
    n_workers: usize,
    running: Vec<Run>,
    next_id: u64,
    /// Of a worker's time, the running mean; `None` before the first run.
    per_request: Option<Duration>,
    is_closed: bool,
}

/// A request on its way.
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// Held until the outputs are out: a slot that left its route is freed by its last request.
    pub(crate) slot: Arc<Slot>,
    /// In the order of the slot's signature.
    pub(crate) inputs: Vec<NamedTensor>,
    pub(crate) form: Form,
    pub(crate) alone: bool,
    pub(crate) queued_at: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) standing: Standing,
    pub(crate) reply: oneshot::Sender<Result<Inference, InferError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobId {
    priority: Priority,
    number: u64,
}

/// A batch that a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    slot: usize,
    priority: Priority,
    n_requests: usize,
    started: Instant,
}

/// What a free worker does next.
pub(crate) enum Taken {
    Run(Vec<Job>, Run),
    /// Until the queue changes, or this moment.
    Wait(Option<Instant>),
    /// There will be nothing more to do.
    End,
}

impl Queue {
    pub(crate) fn new(limit: usize, n_workers: usize) -> Self {
        Self {
            requests: VecDeque::new(),
            background: VecDeque::new(),
            limit: limit.max(1),
            n_workers,
            running: vec![],
            next_id: 0,
            per_request: None,
            is_closed: false,
        }
    }

    /// Takes in the job that `job` makes of its id, or says why not. A request finds room where background has some.
    pub(crate) fn push(
        &mut self,
        priority: Priority,
        job: impl FnOnce(JobId) -> Job,
    ) -> Result<JobId, InferError> {
        if self.is_closed {
            return Err(InferError::ShuttingDown);
        }
        if self.len() >= self.limit {
            let shed = if priority == Priority::Request { self.background.pop_back() } else { None };
            let Some(shed) = shed else { return Err(self.overloaded()) };
            // Its caller may be gone already.
            let _gone = shed.reply.send(Err(self.overloaded()));
        }
        let id = JobId { priority, number: self.next_id };
        self.next_id += 1;
        self.of(priority).push_back(job(id));
        Ok(id)
    }

    /// Takes out a job that still waits, for the caller to drop.
    pub(crate) fn remove(&mut self, id: JobId) -> Option<Job> {
        let jobs = self.of(id.priority);
        let place = jobs.binary_search_by_key(&id.number, |job| job.id.number).ok()?;
        jobs.remove(place)
    }

    /// For a worker that has nothing to do at `now`.
    pub(crate) fn take(&mut self, now: Instant) -> Taken {
        let n_background = self.running.iter().filter(|run| run.priority == Priority::Background).count();
        let may_run_background = n_background < (self.n_workers / 2).max(1);
        let jobs = self.requests.iter().chain(&self.background);
        let packing = pack(jobs.map(|job| self.waiting(job)), now, may_run_background);
        let batch: &[usize] = if let Next::Run(positions) = &packing.next { positions } else { &[] };
        let mut leaving: Vec<usize> = packing.expired.iter().chain(batch).copied().collect();
        leaving.sort_unstable();
        // From the back, so that the positions of the others hold.
        let mut jobs = vec![];
        for position in leaving.into_iter().rev() {
            let is_expired = packing.expired.contains(&position);
            match self.remove_at(position) {
                Some(job) if is_expired => drop(job.reply.send(Err(InferError::DeadlineExceeded))),
                job => jobs.extend(job),
            }
        }
        jobs.reverse();
        match (packing.next, jobs.first()) {
            (Next::Run(_), Some(first)) => {
                let run = Run {
                    slot: key_of(&first.slot),
                    priority: first.id.priority,
                    n_requests: jobs.len(),
                    started: now,
                };
                self.running.push(run);
                Taken::Run(jobs, run)
            }
            // What still waits belongs to slots at work, whose workers will come for it.
            _ if self.is_closed => Taken::End,
            (Next::Wait(until), _) => Taken::Wait(until),
            (Next::Run(_), None) => Taken::Wait(None),
        }
    }

    pub(crate) fn finished(&mut self, run: Run, now: Instant) {
        if let Some(place) = self.running.iter().position(|other| *other == run) {
            self.running.swap_remove(place);
        }
        let latest = (now - run.started) / u32::try_from(run.n_requests).unwrap_or(u32::MAX).max(1);
        let mean = self
            .per_request
            .map_or(latest, |mean| mean.mul_f64(1.0 - LATEST_SHARE) + latest.mul_f64(LATEST_SHARE));
        self.per_request = Some(mean);
    }

    pub(crate) fn close(&mut self) {
        self.is_closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(crate) fn len(&self) -> usize {
        self.requests.len() + self.background.len()
    }

    /// With the time in which the workers get through what waits now.
    fn overloaded(&self) -> InferError {
        let per_request = self.per_request.unwrap_or_default();
        let n_rounds = self.len() as f64 / self.n_workers.max(1) as f64;
        InferError::Overloaded { retry_after: per_request.mul_f64(n_rounds) }
    }

    fn waiting(&self, job: &Job) -> Waiting {
        let slot = key_of(&job.slot);
        Waiting {
            slot,
            form: job.form.id,
            rows: job.form.rows,
            bytes: job.form.bytes,
            priority: job.id.priority,
            alone: job.alone,
            queued_at: job.queued_at,
            deadline: job.deadline,
            limits: job.slot.batch_limits(),
            n_running: self.running.iter().filter(|run| run.slot == slot).count(),
            n_sessions: job.slot.n_sessions(),
        }
    }

    fn of(&mut self, priority: Priority) -> &mut VecDeque<Job> {
        match priority {
            Priority::Request => &mut self.requests,
            Priority::Background => &mut self.background,
        }
    }

    /// By its place among the requests followed by the background.
    fn remove_at(&mut self, position: usize) -> Option<Job> {
        match position.checked_sub(self.requests.len()) {
            None => self.requests.remove(position),
            Some(position) => self.background.remove(position),
        }
    }
}

/// Tells slots apart: jobs and runs hold theirs, so no other can come to its address meanwhile.
fn key_of(slot: &Arc<Slot>) -> usize {
    Arc::as_ptr(slot) as usize
}
