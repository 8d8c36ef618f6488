//! Keeps what this process has loaded equal to what the routes name.
//!
//! Each route is followed by itself: one whose version takes minutes to load does not keep another from rolling back, and a
//! newer generation of the same route does not wait for an older one. A version with traffic is loaded before the route
//! holds; a warm one joins when it is loaded.

mod faults;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_core::{Arm, Environment, ModelId, ModelName, Precision, ReplicaId, Route, Version, VersionId};
use tidegate_serve::{LoadError, Server, Slot, SlotSpec};
use tidegate_store::{
    AppliedRoute, ArtifactError, ArtifactStore, Change, LoadState, ReplicaReport, Store, StoreError,
    VersionReport,
};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use self::faults::Faults;

/// How often the routes are looked at although nothing was told: what does not load is tried again, and a feed that lost
/// something without noticing costs no more than that.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// Versions that load at a time for the routes. Loading is disk and one core; more would make all of them later.
const MAX_LOADS: usize = 2;

type RouteKey = (Environment, ModelId);

pub struct Placement {
    store: Arc<Store>,
    artifacts: Arc<ArtifactStore>,
    server: Arc<Server>,
    /// Where artifacts of a remote store are kept for the runtimes.
    cache_dir: PathBuf,
    /// Who this process is in the routes.
    replica: ReplicaId,
    followed: Mutex<HashMap<RouteKey, Followed>>,
    /// Versions that routes name and that do not load.
    faults: Faults,
    loads: Semaphore,
    /// Something was applied, loaded or failed.
    news: Notify,
}

/// How far a route has come here.
#[derive(Clone, Debug, Default)]
struct Followed {
    /// The newest that was read, as it holds on this replica.
    wanted: Option<Route>,
    /// The generation that requests meet; 0 for none.
    applied: u64,
    /// The applied one with every version loaded that it names.
    complete: u64,
    /// The generation that a task of [`Placement::run`] is busy with.
    busy_with: u64,
}

/// Why a version cannot be loaded here.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("version `{0}` is not in the registry")]
    UnknownVersion(VersionId),
    #[error(
        "`{file}` is a {format} file, which this release cannot run; register the version with an .onnx file"
    )]
    NotRunnable { file: String, format: String },
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Placement {
    pub fn new(
        store: Arc<Store>,
        artifacts: Arc<ArtifactStore>,
        server: Arc<Server>,
        cache_dir: PathBuf,
        replica: ReplicaId,
    ) -> Self {
        Self {
            store,
            artifacts,
            server,
            cache_dir,
            replica,
            followed: Mutex::default(),
            faults: Faults::default(),
            loads: Semaphore::new(MAX_LOADS),
            news: Notify::new(),
        }
    }

    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// Loads and warms a version, or gives the slot that is already there. Whoever asks holds it; a route that names it
    /// keeps it.
    pub async fn load(&self, version_id: &VersionId) -> Result<Arc<Slot>, PlaceError> {
        if let Some(slot) = self.server.slot(version_id) {
            return Ok(slot);
        }
        let unknown = || PlaceError::UnknownVersion(version_id.clone());
        let version = self.store.versions.get(version_id).await?.ok_or_else(unknown)?;
        let model = self.store.models.get(&version.model_id).await?.ok_or_else(unknown)?;
        let spec = self.slot_spec(&version, &model.name, version.precision).await?;
        let slot = self.server.load(spec).await?;
        self.news.notify_one();
        Ok(slot)
    }

    /// What to load of a version, in a precision; its file is on this machine from then on.
    pub async fn slot_spec(
        &self,
        version: &Version,
        model_name: &ModelName,
        precision: Precision,
    ) -> Result<SlotSpec, PlaceError> {
        let artifact = &version.primary;
        if !artifact.format.is_runnable() {
            let (file, format) = (artifact.name.clone(), artifact.format.to_string());
            return Err(PlaceError::NotRunnable { file, format });
        }
        let path = self.artifacts.local_path(&artifact.path, &artifact.sha256, &self.cache_dir).await?;
        Ok(SlotSpec {
            version_id: version.id.clone(),
            model_name: model_name.clone(),
            number: version.version.clone(),
            path,
            precision,
        })
    }

    /// Brings one route in line: it holds when this returns, if its versions with traffic load, together with those warm
    /// ones that are loaded. [`Placement::run`] loads the others, and tries again what fails (logged once).
    pub async fn follow(&self, environment: Environment, model_id: &ModelId) {
        let result = async {
            let Some(route) = self.store.routes.get(environment, model_id).await? else { return Ok(()) };
            self.serve(route).await.map(drop)
        };
        if let Err(error) = result.await {
            tracing::error!(%environment, model = %model_id, %error, "failed to bring the route in line; trying again");
        }
    }

    /// The same for every route.
    pub async fn follow_all(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut tasks = JoinSet::new();
        for route in self.read_all().await? {
            let this = Arc::clone(self);
            tasks.spawn(async move { this.serve(route).await });
        }
        while let Some(served) = tasks.join_next().await {
            served.unwrap_or(Ok(None))?;
        }
        Ok(())
    }

    /// Follows the routes until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut changes = self.store.changes.subscribe();
        let mut tick = tokio::time::interval(FOLLOW_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tasks = JoinSet::new();
        loop {
            // The first tick is at once.
            let change = tokio::select! {
                change = changes.next() => change,
                _ = tick.tick() => Some(Change::Everything),
                () = stop.cancelled() => return,
            };
            let read = match change {
                Some(Change::Route { environment, model_id }) => {
                    self.store.routes.get(environment, &model_id).await.map(Vec::from_iter)
                }
                Some(Change::Everything) => self.read_all().await,
                Some(Change::Deployment { .. } | Change::Job { .. } | Change::Replica { .. }) => continue,
                None => return,
            };
            match read {
                Ok(routes) => routes.into_iter().for_each(|route| self.spawn_place(&mut tasks, route)),
                Err(error) => tracing::warn!(%error, "failed to read the routes; serving on as before"),
            }
            while tasks.try_join_next().is_some() {}
        }
    }

    /// What this process has applied and loaded now.
    pub fn report(&self) -> ReplicaReport {
        let mut slots = self.server.slots();
        slots.sort_by(|a, b| a.version_id().cmp(b.version_id()));
        let mut report = ReplicaReport::default();
        let loaded = |slot: &Arc<Slot>| VersionReport {
            version_id: slot.version_id().clone(),
            state: LoadState::Loaded { life: slot.life() },
        };
        report.versions = slots.iter().map(loaded).collect();
        for ((environment, model_id), followed) in &*self.followed() {
            let (environment, model_id, generation) = (*environment, model_id.clone(), followed.applied);
            report.routes.push(AppliedRoute { environment, model_id, generation });
            for version in followed.wanted.iter().flat_map(Route::versions) {
                if report.versions.iter().all(|reported| reported.version_id != *version) {
                    let state = match self.faults.reason(version) {
                        Some(reason) => LoadState::Failed { reason },
                        None => LoadState::Loading,
                    };
                    report.versions.push(VersionReport { version_id: version.clone(), state });
                }
            }
        }
        report.routes.sort_by(|a, b| (a.environment, &a.model_id).cmp(&(b.environment, &b.model_id)));
        report
    }

    /// Versions that share a route with another one: somebody may be comparing them.
    pub fn compared(&self) -> Vec<VersionId> {
        let followed = self.followed();
        let several = followed.values().filter_map(|followed| followed.wanted.as_ref());
        several.filter(|route| route.versions().count() > 1).flat_map(Route::versions).cloned().collect()
    }

    /// Waits until what [`Placement::report`] says is different; may also return when it is not.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// Reads every route, and forgets faults of versions that none names.
    async fn read_all(&self) -> Result<Vec<Route>, StoreError> {
        let routes = self.store.routes.list().await?;
        self.faults
            .retain(|version| routes.iter().any(|route| route.versions().any(|named| named == version)));
        Ok(routes)
    }

    fn spawn_place(self: &Arc<Self>, tasks: &mut JoinSet<()>, route: Route) {
        let key = (route.environment, route.model_id.clone());
        let generation = route.generation;
        {
            let mut followed = self.followed();
            let followed = followed.entry(key.clone()).or_default();
            if followed.complete >= generation || followed.busy_with >= generation {
                return;
            }
            followed.busy_with = generation;
        }
        let this = Arc::clone(self);
        tasks.spawn(async move {
            if let Err(error) = this.place(route).await {
                tracing::warn!(environment = %key.0, model = %key.1, %error, "failed to bring the route in line");
            }
            let mut followed = this.followed();
            let followed = followed.entry(key).or_default();
            if followed.busy_with == generation {
                followed.busy_with = 0;
            }
        });
    }

    async fn place(&self, route: Route) -> Result<(), StoreError> {
        let key = (route.environment, route.model_id.clone());
        if let Some(model) = self.serve(route).await? {
            self.warm_up(&key, model).await;
        }
        Ok(())
    }

    /// Makes the route hold once the versions of its arms are loaded. Gives the model's name when there are warm versions yet
    /// to load.
    async fn serve(&self, route: Route) -> Result<Option<ModelName>, StoreError> {
        let key = (route.environment, route.model_id.clone());
        let route = route.on(&self.replica);
        if !self.want(&key, &route) {
            return Ok(None);
        }
        let Some(model) = self.store.models.get(&route.model_id).await? else { return Ok(None) };
        // Held until the route holds them.
        let mut slots = Vec::new();
        for arm in &route.arms {
            match self.load_for_route(&arm.version_id).await {
                Some(slot) => slots.push(slot),
                None => return Ok(None),
            }
        }
        let is_complete = self.apply(&key, route, &model.name);
        Ok((!is_complete).then_some(model.name))
    }

    /// Loads the warm versions of the route that is wanted now, and lets each join.
    async fn warm_up(&self, key: &RouteKey, model: ModelName) {
        let Some(route) = self.wanted(key) else { return };
        for version in &route.warm {
            let Some(_held) = self.load_for_route(version).await else { continue };
            match self.wanted(key) {
                Some(wanted) if wanted.generation == route.generation => {
                    self.apply(key, wanted, &model);
                }
                // A newer one is at work on its own.
                _ => return,
            }
        }
    }

    /// Notes the route as the one to follow. False when it holds already, whole, or an even newer one is wanted.
    fn want(&self, key: &RouteKey, route: &Route) -> bool {
        let mut followed = self.followed();
        let followed = followed.entry(key.clone()).or_default();
        let newest = followed.wanted.as_ref().map_or(0, |wanted| wanted.generation);
        if route.generation < newest || followed.complete >= route.generation {
            return false;
        }
        if route.generation > newest {
            followed.wanted = Some(route.clone());
            self.news.notify_one();
        }
        true
    }

    fn wanted(&self, key: &RouteKey) -> Option<Route> {
        self.followed().get(key)?.wanted.clone()
    }

    /// Swaps the route in with whatever is loaded of it, if that is every version with traffic. True when nothing of it is
    /// missing.
    ///
    /// Under the lock: of two that apply the same generation, the later one knows every slot that the earlier one did.
    fn apply(&self, key: &RouteKey, route: Route, model: &ModelName) -> bool {
        let mut followed = self.followed();
        let followed = followed.entry(key.clone()).or_default();
        let generation = route.generation;
        if generation < followed.applied {
            return true;
        }
        let slots: Vec<_> = route.versions().filter_map(|version| self.server.slot(version)).collect();
        let is_loaded = |arm: &Arm| slots.iter().any(|slot| *slot.version_id() == arm.version_id);
        if !route.arms.iter().all(is_loaded) {
            return false;
        }
        let is_complete = slots.len() == route.versions().count();
        self.server.apply(route, model.clone(), slots);
        followed.applied = generation;
        if is_complete {
            followed.complete = generation;
        }
        self.news.notify_one();
        is_complete
    }

    /// `None`, noted as a fault, when it does not load, or when it did not a moment ago.
    async fn load_for_route(&self, version: &VersionId) -> Option<Arc<Slot>> {
        if let Some(slot) = self.server.slot(version) {
            return Some(slot);
        }
        if self.faults.is_too_early(version) {
            return None;
        }
        let _turn = self.loads.acquire().await.expect("the semaphore is never closed");
        match self.load(version).await {
            Ok(slot) => {
                self.faults.forget(version);
                Some(slot)
            }
            Err(error) => {
                self.faults.note(version, &error);
                self.news.notify_one();
                None
            }
        }
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, HashMap<RouteKey, Followed>> {
        self.followed.lock().expect("never held across a panic")
    }
}
