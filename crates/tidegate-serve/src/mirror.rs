//! Copies of answered requests, run on a shadow and compared. Nobody waits for them, and they give way to everybody.
//!
//! A copy runs on a thread that belongs to its shadow, not on a worker: a shadow that is slow, or hangs, takes nothing from
//! callers. It begins only while a worker has nothing to do. Few may wait for that; the others are shed and counted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::prediction::{self, Tolerance};
use tidegate_core::{NamedTensor, ShadowSummary};

use crate::batch::in_order;
use crate::pool::{Inference, Spare};
use crate::probe::{check_outputs, first_not_finite};
use crate::runtime::guarded;
use crate::slot::Slot;

/// Copies that wait: a burst of small requests. They are taken out of what callers sent, so one more would be no sample of
/// other requests, only an older one.
const MAX_WAITING: usize = 16;

/// Of the tensors that they hold, inputs and answers, unless it is a single copy: some 50 tiles of 256 x 256 pixels.
const MAX_WAITING_BYTES: usize = 64 << 20;

/// How long a shadow's thread waits for the next copy before it ends: one second of a thread for each pause in traffic.
const LINGER: Duration = Duration::from_secs(1);

/// A shadow's copies and what came of them.
#[derive(Default)]
pub(crate) struct Mirror {
    state: Mutex<State>,
    /// A copy came.
    came: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Copy>,
    n_bytes: usize,
    /// Whether a thread sees to them.
    is_attended: bool,
    summary: ShadowSummary,
}

/// A request that the running version has answered.
pub(crate) struct Copy {
    /// The shadow, held until it has run.
    pub(crate) slot: Arc<Slot>,
    pub(crate) inputs: Vec<NamedTensor>,
    pub(crate) answer: Inference,
}

impl Mirror {
    pub(crate) fn summary(&self) -> ShadowSummary {
        self.state().summary.clone()
    }

    /// Takes in a copy, or sheds it: where callers wait, or too many copies do.
    pub(crate) fn submit(self: &Arc<Self>, copy: Copy, spare: Spare) {
        let (n_bytes, are_callers_waiting) = (copy.size_bytes(), spare.is_wanted());
        let mut state = self.state();
        let has_room = state.waiting.is_empty()
            || state.waiting.len() < MAX_WAITING
                && state.n_bytes.saturating_add(n_bytes) <= MAX_WAITING_BYTES;
        if !has_room || are_callers_waiting {
            state.summary.shed();
            return;
        }
        state.n_bytes += n_bytes;
        state.waiting.push_back(copy);
        if std::mem::replace(&mut state.is_attended, true) {
            self.came.notify_one();
            return;
        }
        let mirror = Arc::clone(self);
        let thread = std::thread::Builder::new().name("shadow".to_owned());
        if thread.spawn(move || mirror.attend(&spare)).is_err() {
            state.shed_waiting();
            state.is_attended = false;
        }
    }

    fn attend(&self, spare: &Spare) {
        while let Some(copy) = self.next(spare) {
            let Copy { slot, inputs, answer } = copy;
            if !is_finite(&answer.outputs) {
                // The running version has failed its caller itself, who was told so.
                continue;
            }
            let (run, answer, shadow) = (answer.run_alone(), answer, Arc::clone(&slot));
            // A model that panics, or an answer that we cannot compare, is the candidate's failure, and not the thread's.
            let compared = guarded(move || {
                let (outputs, candidate_run) = run_copy(&shadow, inputs)?;
                Ok((prediction::compare(&answer.outputs, &outputs, Tolerance::default()), candidate_run))
            });
            let mut state = self.state();
            match compared.and_then(|compared| compared) {
                Ok((difference, candidate_run)) => {
                    let latencies_us = run.map(|run| (micros(run), micros(candidate_run)));
                    state.summary.compared(&difference, latencies_us);
                }
                Err(reason) => {
                    state.summary.failed();
                    tracing::debug!(version = %slot.number(), reason, "the shadow failed a copy");
                }
            }
        }
    }

    /// The next copy, once a worker has nothing to do; `None` when the thread is to end.
    fn next(&self, spare: &Spare) -> Option<Copy> {
        let mut state = self.state();
        while state.waiting.is_empty() {
            let (woken, pause) =
                self.came.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if pause.timed_out() && state.waiting.is_empty() {
                state.is_attended = false;
                return None;
            }
        }
        drop(state);
        let is_spare = spare.wait();
        let mut state = self.state();
        if !is_spare {
            state.shed_waiting();
            state.is_attended = false;
            return None;
        }
        let copy = state.waiting.pop_front()?;
        state.n_bytes -= copy.size_bytes();
        Some(copy)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn shed_waiting(&mut self) {
        self.waiting.drain(..).for_each(|_| self.summary.shed());
        self.n_bytes = 0;
    }
}

impl Copy {
    fn size_bytes(&self) -> usize {
        self.inputs.iter().chain(&self.answer.outputs).map(|named| named.tensor.size_bytes()).sum()
    }
}

/// What a caller would have been sent, and how long the model took; or why it would have been an error.
fn run_copy(slot: &Slot, inputs: Vec<NamedTensor>) -> Result<(Vec<NamedTensor>, Duration), String> {
    slot.signature().check_inputs(&inputs).map_err(|mismatch| mismatch.to_string())?;
    let inputs = in_order(inputs, slot.signature());
    let started = Instant::now();
    let outputs = slot.run_blocking(&inputs).map_err(|error| error.to_string())?;
    let run = started.elapsed();
    check_outputs(slot.signature(), &outputs)?;
    Ok((outputs, run))
}

fn is_finite(outputs: &[NamedTensor]) -> bool {
    outputs.iter().all(|output| first_not_finite(&output.tensor).is_none())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
