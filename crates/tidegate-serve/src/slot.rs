//! A slot: one loaded version, with its pool of sessions and what was measured while it warmed up.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tidegate_core::{
    ArmSummary, ModelName, NamedTensor, Precision, SemVer, ShadowSummary, Signature, VersionId,
};

use crate::batch::Form;
use crate::batchable::{BatchOptions, Batching};
use crate::brief::Pace;
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
    pub precision: Precision,
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
}

impl Default for SlotOptions {
    /// One single-threaded session, warmed by a few runs.
    fn default() -> Self {
        Self { n_sessions: 1, intra_threads: 1, warmup_runs: 3, batch: BatchOptions::default() }
    }
}

/// Whether what came of a request says something about its version in traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// A route sent it here: chance decided, so that it may be compared with what others were sent elsewhere.
    #[default]
    Evidence,
    /// Somebody chose this version (a pin, a smoke test, a validation sample): it is counted, and judges nobody.
    Apart,
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
    is_repeatable: bool,
    batching: Batching,
    /// `None` where runs are tied to the threads of workers, or are to wait for company there.
    pace: Option<Pace>,
    resident_bytes: Option<u64>,
    answered: AtomicU64,
    failed: AtomicU64,
    evidence: Mutex<ArmSummary>,
    mirror: Arc<Mirror>,
}

/// What a slot has answered since it was loaded, as evidence for or against its version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Of the requests that a route sent to it. Latency is that of the runs, without the time in the queue.
    #[serde(flatten)]
    pub arm: ArmSummary,
    /// What came of the copies that it ran as a shadow; they are no part of the rest.
    pub shadow: ShadowSummary,
}

impl Tally {
    /// Of both together, exactly.
    pub fn merge(&mut self, other: &Self) {
        self.arm.merge(&other.arm);
        self.shadow.merge(&other.shadow);
    }

    /// What came after `earlier`, an older state of the same tally.
    pub fn since(&self, earlier: &Self) -> Self {
        Self { arm: self.arm.since(&earlier.arm), shadow: self.shadow.since(&earlier.shadow) }
    }
}

impl Slot {
    /// Loads the file and runs every session on made-up inputs. Blocks for as long as that takes.
    pub fn load(runtime: &dyn Runtime, spec: SlotSpec, options: &SlotOptions) -> Result<Self, LoadError> {
        let resident_before = memory::resident_bytes();
        let started = Instant::now();
        let mut sessions = load_sessions(runtime, &spec, options)?;
        let loaded_in = started.elapsed();
        let WarmUp { latency: warm_latency, n_bytes, is_repeatable } =
            warm_up(&mut sessions, options.warmup_runs.max(1))?;
        let is_for_workers = !sessions[0].runs_anywhere() || !options.batch.max_delay.is_zero();
        let pace = (!is_for_workers).then(|| Pace::after_trials(n_bytes, warm_latency));
        let batching = Batching::find_out(&mut sessions, &options.batch, spec.precision);
        let resident_bytes =
            memory::resident_bytes().zip(resident_before).map(|(after, before)| after.saturating_sub(before));
        Ok(Self {
            spec,
            life: NEXT_LIFE.fetch_add(1, Ordering::Relaxed),
            runtime: sessions[0].runtime().unwrap_or(runtime.info().name),
            signature: sessions[0].signature().clone(),
            n_sessions: sessions.len(),
            pace,
            idle: Mutex::new(sessions),
            returned: Condvar::new(),
            loaded_in,
            warm_latency,
            is_repeatable,
            batching,
            resident_bytes,
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            evidence: Mutex::default(),
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

    pub fn precision(&self) -> Precision {
        self.spec.precision
    }

    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The name of what executes it: the runtime, the part of it that runs such models, or the accelerator.
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

    /// Whether all warm-up runs, of one input, gave the same answer to the last bit. Not known, so false, after a single run.
    pub fn is_repeatable(&self) -> bool {
        self.is_repeatable
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
        Lease { slot: self, session: Some(self.take_session()) }.run(inputs)
    }

    /// The same, unless all sessions are busy.
    pub(crate) fn run_if_free(&self, inputs: &[NamedTensor]) -> Option<Result<Vec<NamedTensor>, RunError>> {
        let session = self.idle().pop()?;
        Some(Lease { slot: self, session: Some(session) }.run(inputs))
    }

    /// Whether the thread that brings inputs of so many bytes may as well run them: see [`crate::brief`].
    pub(crate) fn is_brief(&self, n_bytes: usize) -> bool {
        self.pace.as_ref().is_some_and(|pace| pace.is_brief(n_bytes))
    }

    /// Takes note of what a run on inputs of so many bytes took.
    pub(crate) fn ran(&self, n_bytes: usize, took: Duration) {
        if let Some(pace) = &self.pace {
            pace.ran(n_bytes, took);
        }
    }

    /// Requests that it has answered since it was loaded, failed ones included, whoever sent them.
    pub fn n_answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Those of them that it failed; a caller's bad input is no failure.
    pub fn n_failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub fn tally(&self) -> Tally {
        Tally { arm: self.evidence().clone(), shadow: self.mirror.summary() }
    }

    pub(crate) fn mirror(&self) -> &Arc<Mirror> {
        &self.mirror
    }

    pub(crate) fn count(
        &self,
        outcome: &Result<Vec<NamedTensor>, RunError>,
        run: Duration,
        standing: Standing,
    ) {
        // What the caller sent, the runtime could not even begin with.
        let has_failed = matches!(outcome, Err(error) if !matches!(error, RunError::Input { .. }));
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(has_failed), Ordering::Relaxed);
        if standing == Standing::Apart {
            return;
        }
        let mut evidence = self.evidence();
        match outcome {
            Ok(outputs) => evidence.answered(u64::try_from(run.as_micros()).unwrap_or(u64::MAX), outputs),
            Err(_) if has_failed => evidence.failed(),
            Err(_) => {}
        }
    }

    /// Counts an answer that turned out to be none (NaN, say) as a failure; its request is counted already.
    pub fn report_unusable(&self, standing: Standing) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        if standing == Standing::Evidence {
            self.evidence().failures += 1;
        }
    }

    fn evidence(&self) -> MutexGuard<'_, ArmSummary> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Lease<'_> {
    fn run(mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        self.session.as_mut().expect("taken back only on drop").run(inputs)
    }
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
    let session_options =
        SessionOptions { intra_threads: options.intra_threads.max(1), precision: spec.precision };
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
    /// The median time of a run.
    latency: Duration,
    /// Of its inputs.
    n_bytes: usize,
    is_repeatable: bool,
}

fn warm_up(sessions: &mut [Box<dyn Session>], n_runs: usize) -> Result<WarmUp, LoadError> {
    let inputs = probe::probe_inputs(sessions[0].signature(), 0);
    let mut times = vec![];
    let (mut first, mut n_alike) = (None, 0);
    for session in sessions {
        for _ in 0..n_runs {
            let started = Instant::now();
            let outcome = session.run(&inputs);
            times.push(started.elapsed());
            let outputs =
                outcome.map_err(|source| LoadError::WarmUp { inputs: probe::describe(&inputs), source })?;
            match &first {
                None => first = Some(outputs),
                Some(first) if *first == outputs => n_alike += 1,
                Some(_) => {}
            }
        }
    }
    times.sort_unstable();
    Ok(WarmUp {
        latency: times[times.len() / 2],
        n_bytes: Form::of(&inputs).bytes,
        is_repeatable: n_alike > 0 && n_alike + 1 == times.len(),
    })
}
