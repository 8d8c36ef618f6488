//! A slot: one loaded version, with its pool of sessions and what was measured while it warmed up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_core::{LatencyHistogram, ModelName, NamedTensor, SemVer, ShadowSummary, Signature, VersionId};

use crate::batch;
use crate::batchable::{BatchOptions, Batching};
use crate::in_place::InPlace;
use crate::load_error::LoadError;
use crate::memory;
use crate::mirror::Mirror;
use crate::pack::BatchLimits;
use crate::probe;
use crate::quiet;
use crate::runtime::{RunError, Runtime, Session, SessionOptions};

/// Which version to load, and from which file.
#[derive(Clone, Debug)]
pub struct SlotSpec {
    pub version_id: VersionId,
    pub model_name: ModelName,
    pub number: SemVer,
    pub path: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotOptions {
    /// Requests that run at the same time, at least one. Each session costs the memory of a run, and of the weights where
    /// the runtime cannot share them.
    pub n_sessions: usize,
    /// Threads inside one run.
    pub intra_threads: usize,
    /// Trial runs per session before the slot counts as loaded, at least one: the first run of a session allocates and is
    /// several times slower.
    pub warmup_runs: usize,
    pub batch: BatchOptions,
    /// Whether runs that were seen to be very short may use the caller's thread, which costs less than handing them over.
    pub in_place: bool,
}

impl Default for SlotOptions {
    /// One single-threaded session, warmed by a few runs.
    fn default() -> Self {
        Self {
            n_sessions: 1,
            intra_threads: 1,
            warmup_runs: 3,
            batch: BatchOptions::default(),
            in_place: true,
        }
    }
}

/// The life of the slot that is loaded next.
static NEXT_LIFE: AtomicU64 = AtomicU64::new(1);

/// A loaded version. Freed when the last `Arc` of it goes.
pub struct Slot {
    spec: SlotSpec,
    life: u64,
    runtime: &'static str,
    signature: Signature,
    idle: Mutex<Vec<Box<dyn Session>>>,
    returned: Condvar,
    n_sessions: usize,
    loaded_in: Duration,
    warm_latency: Duration,
    batching: Batching,
    in_place: InPlace,
    resident_bytes: Option<u64>,
    tally: Mutex<Tally>,
    mirror: Arc<Mirror>,
}

/// What a slot has answered since it was loaded, warm-up not counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Answered, failed ones included.
    pub requests: u64,
    /// Those that the model failed; a caller's bad input never comes this far.
    pub failures: u64,
    /// Of the model's runs that did not fail, without the time in the queue.
    pub latency: LatencyHistogram,
    /// What came of the copies that it ran as a shadow; they are no part of the rest.
    pub shadow: ShadowSummary,
}

impl Tally {
    /// Of both together, exactly.
    pub fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        self.latency.merge(&other.latency);
        self.shadow.merge(&other.shadow);
    }

    /// What came after `earlier`, an older state of the same tally.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            failures: self.failures.saturating_sub(earlier.failures),
            latency: self.latency.since(&earlier.latency),
            shadow: self.shadow.since(&earlier.shadow),
        }
    }
}

impl Slot {
    /// Loads the file and runs every session on made-up inputs. Blocks for as long as that takes.
    pub fn load(runtime: &dyn Runtime, spec: SlotSpec, options: &SlotOptions) -> Result<Self, LoadError> {
        let resident_before = memory::resident_bytes();
        let started = Instant::now();
        let mut sessions = load_sessions(runtime, &spec, options)?;
        let loaded_in = started.elapsed();
        let WarmUp { latency: warm_latency, input_bytes } =
            warm_up(&mut sessions, options.warmup_runs.max(1))?;
        let batching = Batching::find_out(&mut sessions, &options.batch);
        let trials = [Some((input_bytes, warm_latency)), batching.whole];
        let trials = trials.into_iter().flatten().filter(|_| options.in_place);
        let resident_bytes =
            memory::resident_bytes().zip(resident_before).map(|(after, before)| after.saturating_sub(before));
        Ok(Self {
            spec,
            life: NEXT_LIFE.fetch_add(1, Ordering::Relaxed),
            runtime: runtime.info().name,
            signature: sessions[0].signature().clone(),
            n_sessions: sessions.len(),
            idle: Mutex::new(sessions),
            returned: Condvar::new(),
            in_place: InPlace::new(trials),
            loaded_in,
            warm_latency,
            batching,
            resident_bytes,
            tally: Mutex::default(),
            mirror: Arc::default(),
        })
    }

    pub fn version_id(&self) -> &VersionId {
        &self.spec.version_id
    }

    /// Tells this loading from every other one in this process, of the same version too: its tally began at zero.
    pub fn life(&self) -> u64 {
        self.life
    }

    pub fn model_name(&self) -> &ModelName {
        &self.spec.model_name
    }

    pub fn number(&self) -> &SemVer {
        &self.spec.number
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The name of the runtime that executes it.
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    pub fn n_sessions(&self) -> usize {
        self.n_sessions
    }

    /// From the file to the last session, without the warm-up.
    pub fn loaded_in(&self) -> Duration {
        self.loaded_in
    }

    /// The median of the warm-up runs, on inputs with one element along every varying axis.
    pub fn warm_latency(&self) -> Duration {
        self.warm_latency
    }

    /// The most rows of different requests that run together; one where requests run alone.
    pub fn max_batch(&self) -> usize {
        self.batching.limits.max_rows
    }

    /// Whether each row of the first axis was seen to get the same answer whatever lies beside it.
    pub fn has_independent_rows(&self) -> bool {
        self.batching.has_independent_rows
    }

    /// One phrase for people: why requests run together, or alone.
    pub fn batching(&self) -> &str {
        &self.batching.reason
    }

    /// The same where a session is free now.
    pub(crate) fn try_run(&self, inputs: &[NamedTensor]) -> Option<Result<Vec<NamedTensor>, RunError>> {
        let session = self.idle().pop()?;
        let mut lease = Lease { slot: self, session: Some(session) };
        Some(lease.session.as_mut().expect("taken back only on drop").run(inputs))
    }

    /// Whether inputs of this size run in less time than handing them to a worker takes.
    pub(crate) fn runs_in_place(&self, input_bytes: usize) -> bool {
        self.in_place.allows(input_bytes)
    }

    /// What a run on the caller's thread took.
    pub(crate) fn note_in_place(&self, run: Duration) {
        self.in_place.note(run);
    }

    pub(crate) fn batch_limits(&self) -> BatchLimits {
        self.batching.limits
    }

    /// By how much the process grew while this loaded: an estimate, blurred by whatever else ran. Linux only.
    pub fn resident_bytes(&self) -> Option<u64> {
        self.resident_bytes
    }

    /// Runs the model on a free session, waiting for one where all are busy. The inputs are not checked against the
    /// signature; the caller has done so.
    pub fn run_blocking(&self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        let mut lease = Lease { slot: self, session: Some(self.take_session()) };
        lease.session.as_mut().expect("taken back only on drop").run(inputs)
    }

    pub fn tally(&self) -> Tally {
        let tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Tally { shadow: self.mirror.summary(), ..tally }
    }

    pub(crate) fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    pub(crate) fn count<T>(&self, outcome: &Result<T, RunError>, run: Duration) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.requests += 1;
        match outcome {
            Ok(_) => tally.latency.record(u64::try_from(run.as_micros()).unwrap_or(u64::MAX)),
            // What the caller sent, the runtime could not even begin with.
            Err(RunError::Input { .. }) => {}
            Err(_) => tally.failures += 1,
        }
    }

    /// Counts an answer that turned out to be none (NaN, say) as a failure; its request is counted already.
    pub fn report_unusable(&self) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).failures += 1;
    }

    fn take_session(&self) -> Box<dyn Session> {
        let mut idle = self.idle();
        loop {
            // The one used last: its memory is still in the caches.
            if let Some(session) = idle.pop() {
                return session;
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Box<dyn Session>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({} {})", self.spec.model_name, self.spec.number)
    }
}

impl Drop for Slot {
    /// Freeing a large model takes tens of milliseconds: too long for a thread that serves others.
    fn drop(&mut self) {
        let sessions = std::mem::take(&mut *self.idle());
        quiet::free(Box::new(sessions));
    }
}

/// A session on loan; it goes back however the run ends.
struct Lease<'a> {
    slot: &'a Slot,
    session: Option<Box<dyn Session>>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.slot.idle().extend(self.session.take());
        self.slot.returned.notify_one();
    }
}

/// At least one session.
fn load_sessions(
    runtime: &dyn Runtime,
    spec: &SlotSpec,
    options: &SlotOptions,
) -> Result<Vec<Box<dyn Session>>, LoadError> {
    let session_options = SessionOptions { intra_threads: options.intra_threads.max(1) };
    let first = runtime.load(&spec.path, &session_options)?;
    let mut sessions = vec![first];
    while sessions.len() < options.n_sessions {
        let session = match sessions[0].share() {
            Some(session) => session,
            None => runtime.load(&spec.path, &session_options)?,
        };
        sessions.push(session);
    }
    Ok(sessions)
}

struct WarmUp {
    /// The median of the runs.
    latency: Duration,
    input_bytes: usize,
}

fn warm_up(sessions: &mut [Box<dyn Session>], n_runs: usize) -> Result<WarmUp, LoadError> {
    let inputs = probe::probe_inputs(sessions[0].signature(), 0);
    let mut times = vec![];
    for session in sessions {
        for _ in 0..n_runs {
            let started = Instant::now();
            let outcome = session.run(&inputs);
            times.push(started.elapsed());
            outcome.map_err(|source| LoadError::WarmUp { inputs: probe::describe(&inputs), source })?;
        }
    }
    times.sort_unstable();
    Ok(WarmUp { latency: times[times.len() / 2], input_bytes: batch::size(&inputs) })
}
