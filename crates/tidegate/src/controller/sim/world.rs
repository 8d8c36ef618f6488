//! The world that a story is told in: what is stored, which processes live, what their replicas have loaded, and traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate_core::prediction::Difference;
use tidegate_core::route::BUCKETS;
use tidegate_core::{
    ArmSummary, Clock, DeploymentId, Environment, ModelId, ReplicaId, Route, ShadowSummary, Timestamp,
    VersionId,
};
use tidegate_store::{DeploymentRecord, NewEvent};
use tokio::time::Instant;

use super::story::Story;

/// A live replica has applied a route this long after it was committed, unless it has just started.
const MAX_LAG: Duration = Duration::from_secs(3);

/// How long a replica that has just started may take to load what serves.
const START_GRACE: Duration = Duration::from_secs(15);

/// How long a dead replica still counts as live.
pub const REPLICA_TTL: Duration = Duration::from_secs(3);

pub struct World {
    pub story: Story,
    pub began: Instant,
    state: Mutex<State>,
}

pub struct State {
    pub rng: StdRng,
    pub trace: Vec<String>,
    pub deployments: BTreeMap<DeploymentId, DeploymentRecord>,
    pub events: BTreeMap<DeploymentId, Vec<NewEvent>>,
    pub route: Option<Route>,
    pub route_at: Option<Instant>,
    pub leases: BTreeMap<String, Lease>,
    pub replicas: BTreeMap<ReplicaId, Replica>,
    pub answered: BTreeMap<VersionId, ArmSummary>,
    pub mirrored: BTreeMap<VersionId, ShadowSummary>,
    /// Who has committed under each generation of a lease.
    pub actors: BTreeMap<(String, u64), String>,
}

#[derive(Clone, Debug)]
pub struct Lease {
    pub holder: Option<String>,
    pub generation: u64,
    pub expires_at: Timestamp,
}

/// What one process serves.
pub struct Replica {
    pub process: Arc<Process>,
    pub started: Instant,
    /// When it was last alive.
    pub seen: Instant,
    pub loaded: BTreeSet<VersionId>,
    pub loading: BTreeMap<VersionId, Instant>,
    pub applied: Option<Route>,
}

/// One life of a process. A dead one never returns from a call: whatever it was about to do does not happen.
pub struct Process {
    pub name: String,
    pub replica: ReplicaId,
    is_dead: AtomicBool,
    /// By how much its clock is off, in milliseconds.
    clock_offset_ms: AtomicI64,
}

impl Process {
    pub fn new(name: String) -> Arc<Self> {
        let replica = ReplicaId::new(format!("replica-of-{name}"));
        Arc::new(Self { name, replica, is_dead: AtomicBool::new(false), clock_offset_ms: AtomicI64::new(0) })
    }

    pub fn kill(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    pub fn jump_clock(&self, offset_ms: i64) {
        self.clock_offset_ms.store(offset_ms, Ordering::Relaxed);
    }

    /// Where a dead process stops for good.
    pub async fn live_on(&self) {
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }
}

/// A process's clock: virtual time, and its own error.
pub struct SimClock {
    pub began: Instant,
    pub process: Arc<Process>,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.began.elapsed()).expect("a story takes hours");
        let offset = SignedDuration::from_millis(self.process.clock_offset_ms.load(Ordering::Relaxed));
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24) + elapsed + offset
    }
}

impl World {
    pub fn new(story: Story) -> Arc<Self> {
        let state = State {
            rng: StdRng::seed_from_u64(story.seed),
            trace: Vec::new(),
            deployments: BTreeMap::new(),
            events: BTreeMap::new(),
            route: None,
            route_at: None,
            leases: BTreeMap::new(),
            replicas: BTreeMap::new(),
            answered: BTreeMap::new(),
            mirrored: BTreeMap::new(),
            actors: BTreeMap::new(),
        };
        Arc::new(Self { story, began: Instant::now(), state: Mutex::new(state) })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether things still go wrong.
    pub fn is_stormy(&self) -> bool {
        self.began.elapsed() < self.story.storm
    }

    pub fn note(&self, line: String) {
        let at = self.began.elapsed();
        self.state().trace.push(format!("{:9.3} {line}", at.as_secs_f64()));
    }

    /// True with probability `p`, while things go wrong.
    pub fn strikes(&self, p: f64) -> bool {
        self.is_stormy() && self.state().rng.random_bool(p)
    }

    pub fn draw_ms(&self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.state().rng.random_range(range))
    }

    pub fn start_replica(&self, process: &Arc<Process>) {
        let now = Instant::now();
        let replica = Replica {
            process: Arc::clone(process),
            started: now,
            seen: now,
            loaded: BTreeSet::new(),
            loading: BTreeMap::new(),
            applied: None,
        };
        self.state().replicas.insert(process.replica.clone(), replica);
    }

    /// Brings what a replica has loaded in line with the route, as `Placement` does: what has traffic first, then a switch.
    pub fn follow(&self, id: &ReplicaId) {
        let mut state = self.state();
        let State { route, replicas, rng, .. } = &mut *state;
        let Some(replica) = replicas.get_mut(id).filter(|replica| !replica.process.is_dead()) else { return };
        let now = Instant::now();
        replica.seen = now;
        let Some(route) = route.clone() else { return };
        let ready: Vec<_> = replica
            .loading
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(version, _)| version.clone())
            .collect();
        for version in ready {
            replica.loading.remove(&version);
            replica.loaded.insert(version);
        }
        let route = route.on(id);
        for version in route.versions() {
            let known = replica.loaded.contains(version) || replica.loading.contains_key(version);
            if !known && self.story.version(version).loads {
                let takes = Duration::from_millis(rng.random_range(50..4_000));
                replica.loading.insert(version.clone(), now + takes);
            }
        }
        let named: BTreeSet<VersionId> = route.versions().cloned().collect();
        if route.arms.iter().all(|arm| replica.loaded.contains(&arm.version_id)) {
            replica.applied = Some(route);
        }
        let serving = replica.applied.iter().flat_map(|route| route.versions());
        let in_use: BTreeSet<VersionId> = serving.cloned().chain(named).collect();
        replica.loaded.retain(|version| in_use.contains(version));
    }

    /// A second of traffic over every live replica, and what must hold while there is any.
    pub fn serve_a_second(&self) {
        let mut state = self.state();
        let State { replicas, answered, mirrored, rng, route, route_at, .. } = &mut *state;
        let now = Instant::now();
        for replica in replicas.values().filter(|replica| !replica.process.is_dead()) {
            let is_old = now - replica.started > START_GRACE;
            if let (Some(newest), Some(at)) = (route.as_ref(), *route_at)
                && is_old
                && now - at > MAX_LAG
            {
                let applied = replica.applied.as_ref().map(|route| route.generation);
                assert_eq!(
                    applied,
                    Some(newest.generation),
                    "{} lags: traffic on a version not loaded",
                    replica.process.name
                );
            }
            let Some(applied) = &replica.applied else { continue };
            let total: u32 = applied.arms.iter().map(|arm| arm.weight).sum();
            assert!(applied.arms.is_empty() || total == BUCKETS, "weights sum to {total}");
            for arm in &applied.arms {
                assert!(
                    replica.loaded.contains(&arm.version_id),
                    "{} serves without being loaded",
                    arm.version_id
                );
                let n =
                    u64::from(self.story.requests_per_second) * u64::from(arm.weight) / u64::from(BUCKETS);
                let quality = self.story.version(&arm.version_id);
                let summary = answered.entry(arm.version_id.clone()).or_default();
                for _ in 0..n {
                    summary.requests += 1;
                    summary.failures += u64::from(rng.random_bool(quality.error_rate));
                    summary.labelled += 1;
                    summary.correct += u64::from(rng.random_bool(quality.accuracy));
                }
            }
            if let Some(shadow) = &applied.shadow
                && replica.loaded.contains(&shadow.version_id)
            {
                let quality = self.story.version(&shadow.version_id);
                let summary = mirrored.entry(shadow.version_id.clone()).or_default();
                let n =
                    u64::from(self.story.requests_per_second) * u64::from(shadow.share) / u64::from(BUCKETS);
                for _ in 0..n {
                    match rng.random_bool(quality.error_rate) {
                        true => summary.failed(),
                        false => {
                            let difference = f64::from(u8::from(rng.random_bool(1.0 - quality.accuracy)));
                            let seen = Difference { difference, reason: None, outputs: Vec::new() };
                            summary.compared(&seen, Some((1_000, 1_000)));
                        }
                    }
                }
            }
        }
    }

    /// The replicas that others take for live.
    pub fn live_replicas(&self) -> Vec<(ReplicaId, bool)> {
        let now = Instant::now();
        let state = self.state();
        let live = state.replicas.iter().filter(|(_, replica)| now - replica.seen < REPLICA_TTL);
        let newest = state.route.as_ref();
        live.map(|(id, replica)| {
            let moved = newest.and_then(|route| route.moved.as_ref());
            let serves = moved.is_some_and(|moved| {
                replica
                    .applied
                    .as_ref()
                    .is_some_and(|route| route.arms.iter().any(|arm| arm.version_id == moved.version_id))
            });
            (id.clone(), serves)
        })
        .collect()
    }

    /// Whether every live replica has the version loaded.
    pub fn is_loaded_everywhere(&self, version: &VersionId) -> bool {
        let now = Instant::now();
        let state = self.state();
        state
            .replicas
            .values()
            .filter(|replica| now - replica.seen < REPLICA_TTL)
            .all(|replica| replica.loaded.contains(version))
    }

    pub fn answered(&self, version: &VersionId) -> ArmSummary {
        self.state().answered.get(version).cloned().unwrap_or_default()
    }

    pub fn mirrored(&self, version: &VersionId) -> ShadowSummary {
        self.state().mirrored.get(version).cloned().unwrap_or_default()
    }
}

pub const ENVIRONMENT: Environment = Environment::Production;

pub fn model_id() -> ModelId {
    ModelId::new("model-1")
}
