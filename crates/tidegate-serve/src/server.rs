//! What a process serves now: loaded slots, the routes over them, and the workers that run requests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};

use serde::Serialize;
use tidegate_core::{
    Caller, Environment, HeaderName, ModelName, NamedTensor, Precision, Route, SemVer, Signature, VersionId,
};
use tokio::sync::oneshot;

use crate::load_error::LoadError;
use crate::loads::Loads;
use crate::mirror::Copy;
use crate::pool::WorkerPool;
pub use crate::pool::{InferError, InferOptions, Inference};
use crate::quiet;
use crate::routes::{ResolveError, Resolved, Routes};
use crate::runtime::{Runtime, RuntimeInfo, SessionOptions};
use crate::slot::{Slot, SlotOptions, SlotSpec};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Threads that run models. With as many sessions per slot, no request waits for a session while a worker is free.
    pub n_workers: usize,
    /// Requests that may wait for a worker; beyond, callers are told to come back at once.
    pub queue_limit: usize,
    pub slot: SlotOptions,
    /// Instead of `slot`, for models of these names.
    pub models: BTreeMap<String, SlotOptions>,
}

impl Default for ServerOptions {
    /// One worker and one session per core, each single-threaded: the best throughput on few cores. The queue holds 256
    /// requests: a second or two of a heavy model on many cores, and 200 MB of 256 x 256 RGB float images.
    fn default() -> Self {
        let n_workers = std::thread::available_parallelism().map_or(1, usize::from);
        let slot = SlotOptions { n_sessions: n_workers, ..SlotOptions::default() };
        Self { n_workers, queue_limit: 256, slot, models: BTreeMap::new() }
    }
}

/// See the module. Every method but `inspect` may be called from async code; the async ones, and the last `Arc` of a slot
/// that goes, want a Tokio runtime around them.
pub struct Server {
    runtime: Arc<dyn Runtime>,
    options: ServerOptions,
    loads: Arc<Loads>,
    routes: Routes,
    pool: Arc<WorkerPool>,
}

/// What a loaded version is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum SlotState {
    /// Has traffic in some environment.
    Active,
    /// On a route, without traffic.
    Warm,
    /// Loaded, but on no route: about to be, or just taken off.
    Detached,
}

/// A loaded version, for people to look at.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SlotStatus {
    pub model: ModelName,
    pub version_id: VersionId,
    pub version: SemVer,
    pub environments: Vec<Environment>,
    pub state: SlotState,
    /// What executes it.
    pub runtime: &'static str,
    pub precision: Precision,
    pub n_sessions: usize,
    pub loaded_in_ms: f64,
    pub warm_latency_ms: f64,
    /// The most rows of different requests that run together, and why.
    pub max_batch: usize,
    pub batching: String,
    pub resident_bytes: Option<u64>,
    pub requests: u64,
    pub errors: u64,
}

impl Server {
    pub fn new(runtime: Arc<dyn Runtime>, options: ServerOptions) -> Self {
        let pool = Arc::new(WorkerPool::new(&runtime, options.n_workers, options.queue_limit));
        Self { runtime, options, loads: Arc::default(), routes: Routes::default(), pool }
    }

    pub fn runtime(&self) -> &RuntimeInfo {
        self.runtime.info()
    }

    /// The signature of a file, by loading it once, out of the way of requests. Blocks.
    pub fn inspect(&self, path: &Path) -> Result<Signature, LoadError> {
        let options = SessionOptions {
            intra_threads: self.options.slot.intra_threads.max(1),
            precision: Precision::F32,
        };
        let (runtime, path) = (Arc::clone(&self.runtime), path.to_owned());
        let (sender, outcome) = mpsc::channel();
        quiet::spawn("inspect", move || {
            let session = runtime.load(&path, &options);
            let signature = session.as_ref().map(|session| session.signature().clone());
            // The caller waits for it.
            let _ = sender.send(signature.map_err(LoadError::clone));
            quiet::free(Box::new(session.ok()));
        });
        outcome.recv().unwrap_or_else(|_| Err(LoadError::cut_short()))
    }

    /// Loads and warms a version beside those that serve, on a thread of its own. Callers that ask for the same version at
    /// the same time share one load; a version that is loaded already is given at once.
    pub async fn load(&self, spec: SlotSpec) -> Result<Arc<Slot>, LoadError> {
        let options = self.slot_options(&spec.model_name);
        self.loads.load(&self.runtime, spec, options).await
    }

    /// Loads a slot of one session that only the caller knows: no route can name it, nobody else is given it, and it is
    /// freed with the last `Arc` of it. For a comparison with something that is no version of its own.
    pub async fn load_apart(&self, spec: SlotSpec) -> Result<Arc<Slot>, LoadError> {
        let options = SlotOptions { n_sessions: 1, ..self.slot_options(&spec.model_name) };
        let runtime = Arc::clone(&self.runtime);
        let (sender, outcome) = oneshot::channel();
        quiet::spawn("load-apart", move || {
            let slot = Slot::load(&*runtime, spec, &options);
            // Whoever asked may have gone: then it is freed here.
            drop(sender.send(slot.map(Arc::new)));
        });
        outcome.await.unwrap_or_else(|_| Err(LoadError::cut_short()))
    }

    fn slot_options(&self, model_name: &ModelName) -> SlotOptions {
        *self.options.models.get(model_name.as_str()).unwrap_or(&self.options.slot)
    }

    /// Makes a route hold from now on. Requests that were resolved before finish on the slot they have; a slot that the
    /// route no longer names is freed with its last request. A generation older than the present one is ignored.
    ///
    /// # Panics
    ///
    /// When `slots` lacks a version of an arm: the caller loads first.
    pub fn apply(&self, route: Route, model_name: ModelName, slots: Vec<Arc<Slot>>) {
        self.routes.apply(route, &model_name, &slots);
    }

    /// The slot of a version, whether on a route or not.
    pub fn slot(&self, version_id: &VersionId) -> Option<Arc<Slot>> {
        self.loads.get(version_id)
    }

    /// Every slot that lives, in no particular order.
    pub fn slots(&self) -> Vec<Arc<Slot>> {
        self.loads.all()
    }

    /// Who answers a request for a model, named by name or id. Between arms decides what the route goes by of the caller;
    /// `pin` asks for one loaded version whatever its weight.
    pub fn resolve(
        &self,
        environment: Environment,
        model: &str,
        pin: Option<&SemVer>,
        caller: &Caller<'_>,
    ) -> Result<Resolved, ResolveError> {
        self.routes.resolve(environment, model, pin, caller)
    }

    /// The header that decides between the arms of a model, where its route goes by one. To be looked up before
    /// [`resolve`](Self::resolve), which is told what it says.
    pub fn sticky_header(&self, environment: Environment, model: &str) -> Option<HeaderName> {
        self.routes.sticky_header(environment, model)
    }

    /// Checks the inputs against the signature, then runs them on the worker pool. A full queue refuses at once; a dropped
    /// future leaves the queue without running.
    pub async fn infer(&self, slot: &Arc<Slot>, inputs: Vec<NamedTensor>) -> Result<Inference, InferError> {
        self.infer_with(slot, inputs, InferOptions::default()).await
    }

    /// The same with a deadline, or in the background.
    pub async fn infer_with(
        &self,
        slot: &Arc<Slot>,
        inputs: Vec<NamedTensor>,
        options: InferOptions,
    ) -> Result<Inference, InferError> {
        slot.signature().check_inputs(&inputs)?;
        self.pool.run(Arc::clone(slot), inputs, options).await
    }

    /// Has a shadow run a copy of a request that was answered, and compares; the shadow's [`Tally`](crate::Tally) says how
    /// that went. Returns at once: the copy runs while a worker has nothing to do, and is shed where callers need them all.
    pub fn mirror(&self, shadow: Arc<Slot>, inputs: Vec<NamedTensor>, answer: Inference) {
        let mirror = Arc::clone(shadow.mirror());
        mirror.submit(Copy { slot: shadow, inputs, answer }, self.pool.spare());
    }

    /// Every loaded version, by model and version number.
    pub fn loaded(&self) -> Vec<SlotStatus> {
        let mut statuses: Vec<_> = self.loads.all().iter().map(|slot| self.status(slot)).collect();
        statuses.sort_by(|a, b| (&a.model, &a.version).cmp(&(&b.model, &b.version)));
        statuses
    }

    /// Refuses new requests and returns once every queued one is answered.
    pub async fn shutdown(&self) {
        self.pool.close();
        let pool = Arc::clone(&self.pool);
        if tokio::task::spawn_blocking(move || pool.join()).await.is_err() {
            tracing::error!("the inference workers were not joined");
        }
    }

    fn status(&self, slot: &Slot) -> SlotStatus {
        let usage = self.routes.usage(slot.version_id());
        let state = match (usage.is_active, usage.environments.is_empty()) {
            (true, _) => SlotState::Active,
            (false, false) => SlotState::Warm,
            (false, true) => SlotState::Detached,
        };
        SlotStatus {
            model: slot.model_name().clone(),
            version_id: slot.version_id().clone(),
            version: slot.number().clone(),
            environments: usage.environments,
            state,
            runtime: slot.runtime(),
            precision: slot.precision(),
            n_sessions: slot.n_sessions(),
            loaded_in_ms: slot.loaded_in().as_secs_f64() * 1e3,
            warm_latency_ms: slot.warm_latency().as_secs_f64() * 1e3,
            max_batch: slot.max_batch(),
            batching: slot.batching().to_owned(),
            resident_bytes: slot.resident_bytes(),
            requests: slot.n_answered(),
            errors: slot.n_failed(),
        }
    }
}
