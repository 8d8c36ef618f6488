//! The server put together: storage, runtime, controller, API, and their orderly end.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::SignedDuration;
use tidegate_api::{
    AppState, Application, AsyncSettings, DeploymentControl, Phase, Readiness, Settings, ThisReplica,
    job_of_key,
};
use tidegate_core::{Clock, IdSource, JobId, ReplicaId};
use tidegate_delivery::GateLimits;
use tidegate_geo::ImageLimits;
use tidegate_serve::{RuntimeOptions, Server, ServerOptions, memory, open_runtime};
use tidegate_store::{ArtifactStore, Change, Store, StoreError};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::{SystemClock, system_ids};
use crate::config::{AsyncRequestsConfig, Config, mask_password};
use crate::controller::{Controller, ControllerSettings, Ledger, Limits, Performer, Placement};
use crate::fleet::{Fleet, Me};
use crate::jobs::{self, JobSettings};
use crate::{fleet, inference_log, listener, webhooks};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Uploads that are not part of a version after this long were cut off; their files are removed.
const ORPHAN_AGE: SignedDuration = SignedDuration::from_hours(1);
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// How long the last rows of the inference log may take to be written at shutdown.
const LOG_GRACE: Duration = Duration::from_secs(5);

/// A server that answers; [`RunningServer::shutdown`] ends it.
pub struct RunningServer {
    pub address: SocketAddr,
    store: Arc<Store>,
    server: Arc<Server>,
    readiness: Arc<Readiness>,
    /// Ends the listener; requests in flight finish.
    stop_http: CancellationToken,
    http: JoinHandle<()>,
    /// Ends everything that works in the background.
    stop_background: CancellationToken,
    background: Vec<JoinHandle<()>>,
    log_writer: JoinHandle<()>,
}

impl RunningServer {
    /// Starts on the configured storage and address. Answers `/health` at once, and `/ready` when every model that a
    /// route names is loaded.
    pub async fn start(config: &Config) -> anyhow::Result<Self> {
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("failed to create the data folder `{}`", config.data_dir.display()))?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids = Arc::new(system_ids()?);
        let store = Arc::new(connect(config).await?);
        let artifacts = Arc::new(ArtifactStore::open(&config.artifact_location()?)?);
        let server = Arc::new(open_server(config, config.runtime.server_options())?);
        let runtime = server.runtime();
        tracing::info!(runtime = runtime.name, version = runtime.version, "{}", runtime.reason);
        let accelerator = &runtime.accelerator;
        tracing::info!(accelerator = accelerator.name, "{}", accelerator.reason);

        let socket = listen(config.server.listen).await?;
        let address = socket.local_addr()?;
        let me = Me {
            id: ids.next(clock.now()),
            address: config.advertised_address(address),
            started_at: clock.now(),
            heartbeat: Duration::from_secs(config.replica.heartbeat_s),
        };

        let cache_dir = config.data_dir.join("cache");
        let placement = Arc::new(Placement::new(
            Arc::clone(&store),
            Arc::clone(&artifacts),
            Arc::clone(&server),
            cache_dir.clone(),
            me.id.clone(),
        ));
        let fleet = Arc::new(Fleet::new(
            Arc::clone(&store),
            Arc::clone(&server),
            Arc::clone(&placement),
            Arc::clone(&clock),
            me.clone(),
        ));
        let controller = Arc::new(new_controller(
            config, &me.id, &store, &artifacts, &server, &placement, &fleet, &clock, &ids,
        ));
        let readiness = Arc::new(Readiness::default());
        let (inference_log, rows) = mpsc::channel(inference_log::BUFFER);
        let state = AppState {
            store: Arc::clone(&store),
            artifacts: Arc::clone(&artifacts),
            server: Arc::clone(&server),
            control: Arc::clone(&controller) as Arc<dyn DeploymentControl>,
            clock: Arc::clone(&clock),
            ids,
            settings: settings(config, cache_dir)?,
            readiness: Arc::clone(&readiness),
            inference_log,
            replica: ThisReplica { id: me.id.clone(), time_to_live: fleet::time_to_live(me.heartbeat) },
        };

        let runner = Arc::new(jobs::Runner {
            store: Arc::clone(&store),
            artifacts: Arc::clone(&artifacts),
            server: Arc::clone(&server),
            placement: Arc::clone(&placement),
            clock: Arc::clone(&clock),
            settings: job_settings(config, me.id.to_string())?,
        });

        let upkeep = jobs::Upkeep {
            store: Arc::clone(&store),
            artifacts: Arc::clone(&artifacts),
            clock: Arc::clone(&clock),
            folder: config.jobs_folder(),
            retention: SignedDuration::from_hours(24 * i64::from(config.jobs.retention_days)),
        };

        let (stop_http, stop_background) = (CancellationToken::new(), CancellationToken::new());
        let grace = Duration::from_secs(config.server.shutdown_grace_s);
        let Application { router, async_runner } = tidegate_api::application(state);
        let http = tokio::spawn(listener::serve(socket, router, stop_http.clone(), grace));
        let log_writer = tokio::spawn(inference_log::run(Arc::clone(&store), rows));
        let background = vec![
            tokio::spawn(hear_changes(Arc::clone(&store), stop_background.clone())),
            tokio::spawn(wake_on_change(
                Arc::clone(&store),
                Arc::clone(&controller),
                stop_background.clone(),
            )),
            tokio::spawn(controller.run(stop_background.clone())),
            tokio::spawn(async_runner.run(stop_background.clone())),
            tokio::spawn(runner.run(stop_background.clone())),
            tokio::spawn(upkeep.run(stop_background.clone())),
            tokio::spawn(follow_routes(placement, Arc::clone(&readiness), stop_background.clone())),
            tokio::spawn(fleet::report(fleet, stop_background.clone())),
            tokio::spawn(fleet::sweep(Arc::clone(&store), Arc::clone(&clock), stop_background.clone())),
            tokio::spawn(webhooks::run(
                config.webhooks()?,
                Arc::clone(&store),
                Arc::clone(&clock),
                me.id.to_string(),
                Duration::from_secs(config.deployments.lease_s),
                stop_background.clone(),
            )),
            tokio::spawn(sweep_orphans(
                Arc::clone(&store),
                artifacts,
                Arc::clone(&clock),
                stop_background.clone(),
            )),
            tokio::spawn(inference_log::expire(
                Arc::clone(&store),
                clock,
                SignedDuration::from_hours(24 * i64::from(config.inference_log.retention_days)),
                stop_background.clone(),
            )),
        ];
        let running = Self {
            address,
            store,
            server,
            readiness,
            stop_http,
            http,
            stop_background,
            background,
            log_writer,
        };
        tracing::info!(
            %address,
            database = mask_password(&config.database_url()),
            "tidegate {} is listening", env!("CARGO_PKG_VERSION")
        );
        Ok(running)
    }

    /// Takes no new request, finishes those in flight within the grace period, lets go of leases, writes what is
    /// buffered.
    pub async fn shutdown(self) {
        self.readiness.set(Phase::Stopping);
        self.stop_http.cancel();
        let _ = self.http.await;
        self.stop_background.cancel();
        for task in self.background {
            let _ = task.await;
        }
        self.server.shutdown().await;
        if tokio::time::timeout(LOG_GRACE, self.log_writer).await.is_err() {
            tracing::warn!("the inference log could not be written in time");
        }
        self.store.close().await;
    }
}

async fn connect(config: &Config) -> anyhow::Result<Store> {
    let url = config.database_url();
    Store::connect(&url)
        .await
        .with_context(|| format!("failed to open the database `{}` (database.url)", mask_password(&url)))
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("failed to listen on {address}; is another server there? `--listen IP:PORT` chooses another")
    })
}

/// Opens the runtime and its workers; also used without a server.
pub fn open_server(config: &Config, options: ServerOptions) -> anyhow::Result<Server> {
    let runtime = RuntimeOptions {
        choice: config.runtime.engine,
        library_candidates: config.onnxruntime_candidates(),
        accelerator: config.runtime.accelerator,
        openvino_candidates: config.openvino_candidates(),
    };
    Ok(Server::new(open_runtime(&runtime)?, options))
}

#[expect(clippy::too_many_arguments, reason = "they go into one struct of parts")]
fn new_controller(
    config: &Config,
    replica: &ReplicaId,
    store: &Arc<Store>,
    artifacts: &Arc<ArtifactStore>,
    server: &Arc<Server>,
    placement: &Arc<Placement>,
    fleet: &Arc<Fleet>,
    clock: &Arc<dyn Clock>,
    ids: &Arc<IdSource>,
) -> Controller {
    let hands = Performer::new(
        Arc::clone(store),
        Arc::clone(artifacts),
        Arc::clone(server),
        Arc::clone(placement),
        Arc::clone(fleet),
        limits(config),
    );
    let settings = ControllerSettings {
        holder: replica.to_string(),
        max_concurrent: config.deployments.max_concurrent.max(1),
        lease: Duration::from_secs(config.deployments.lease_s.max(1)),
        require_approval: config.deployments.require_approval.clone(),
        admins: config.deployments.admins.clone(),
    };
    let ledger = Arc::clone(store) as Arc<dyn Ledger>;
    Controller::new(ledger, Arc::new(hands), Arc::clone(clock), Arc::clone(ids), settings)
}

/// What validation lets pass.
fn limits(config: &Config) -> Limits {
    let validation = &config.deployments.validation;
    let limit_bytes = config.runtime.memory_limit_mib.map(|mib| mib * MIB);
    Limits {
        max_artifact_bytes: validation.max_artifact_mib * MIB,
        max_memory_bytes: validation.max_memory_mib * MIB,
        // The system kills a process at its limit, and needs some of it for itself before.
        memory_limit_bytes: limit_bytes.or_else(|| Some(memory::limit_bytes()? / 10 * 9)),
        gates: GateLimits {
            max_latency_ratio: validation.max_latency_ratio,
            min_accuracy_ratio: validation.min_accuracy_ratio,
            max_changed_decisions: validation.max_changed_decisions,
            max_relative_rms: validation.max_relative_rms,
        },
        max_duration: Duration::from_secs(validation.max_duration_s),
        max_image_pixels: config.server.max_image_megapixels * 1_000_000,
    }
}

fn settings(config: &Config, cache_dir: std::path::PathBuf) -> anyhow::Result<Settings> {
    Ok(Settings {
        max_upload_bytes: config.artifacts.max_artifact_mib * MIB,
        max_request_bytes: config.server.max_request_mib * MIB,
        max_image_pixels: config.server.max_image_megapixels * 1_000_000,
        log: config.inference_log.settings()?,
        async_requests: async_settings(config),
        response_cache_bytes: response_cache_bytes(config),
        import_roots: config.import_roots()?,
        scene_sources: config.scene_sources()?,
        max_scene_bytes: config.jobs.max_upload_mib * MIB,
        max_queued_jobs: config.jobs.queue_limit,
        default_environment: config.deployments.default_environment,
        default_strategy: config.deployments.default_strategy,
        ..Settings::with_cache_dir(cache_dir)
    })
}

fn response_cache_bytes(config: &Config) -> BTreeMap<String, usize> {
    let models = config.runtime.models.iter();
    let bytes = |mib: u64| usize::try_from(mib * MIB).unwrap_or(usize::MAX);
    models.filter_map(|(name, model)| Some((name.clone(), bytes(model.cache_mib?)))).collect()
}

fn async_settings(config: &Config) -> AsyncSettings {
    let AsyncRequestsConfig { max_request_kib, max_result_mib, max_waiting, max_wait_s, retention_hours } =
        config.async_requests;
    let bytes = |n_bytes: u64| usize::try_from(n_bytes).unwrap_or(usize::MAX);
    let span =
        |seconds| SignedDuration::try_from(Duration::from_secs(seconds)).unwrap_or(SignedDuration::MAX);
    AsyncSettings {
        max_request_bytes: bytes(max_request_kib * KIB),
        max_result_bytes: bytes(max_result_mib * MIB),
        max_waiting,
        max_wait: span(max_wait_s),
        retention: span(retention_hours * 3600),
        lease: span(config.deployments.lease_s),
    }
}

fn job_settings(config: &Config, holder: String) -> anyhow::Result<JobSettings> {
    let n_workers = config.runtime.server_options().n_workers;
    Ok(JobSettings {
        holder,
        lease: Duration::from_secs(config.deployments.lease_s.max(1)),
        max_running: config.jobs.max_running,
        // As many as the workers take of what nobody waits for, and one that is being prepared meanwhile.
        threads: (n_workers / 2).max(1) + 1,
        max_memory_bytes: config.jobs.max_memory_mib * MIB,
        limits: ImageLimits::with_max_pixels(config.server.max_image_megapixels * 1_000_000),
        sources: config.scene_sources()?,
        folder: config.jobs_folder(),
    })
}

/// Loads what the routes name, says when that is done, and follows them from then on.
async fn follow_routes(placement: Arc<Placement>, readiness: Arc<Readiness>, stop: CancellationToken) {
    if let Err(error) = placement.follow_all().await {
        tracing::error!(%error, "failed to read the routes");
    }
    // A version that does not load keeps its own model from answering, not the others.
    readiness.set(Phase::Ready);
    placement.run(stop).await;
}

/// Hears what other processes change, and tells everybody in this one who waits for it.
async fn hear_changes(store: Arc<Store>, stop: CancellationToken) {
    tokio::select! {
        () = store.changes.listen() => {}
        () = stop.cancelled() => {}
    }
}

/// Lets the drivers of deployments look again at once when something changed that they may wait for.
async fn wake_on_change(store: Arc<Store>, controller: Arc<Controller>, stop: CancellationToken) {
    let mut changes = store.changes.subscribe();
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = stop.cancelled() => return,
        };
        match change {
            Some(Change::Deployment { .. } | Change::Replica { .. } | Change::Everything) => {
                controller.wake()
            }
            // The deployment that changed it is told too.
            Some(Change::Route { .. } | Change::Job { .. }) => {}
            None => return,
        }
    }
}

/// The artifacts of versions, and the jobs whose files are somebody's.
async fn referenced(store: &Store) -> Result<(HashSet<String>, HashSet<JobId>), StoreError> {
    Ok((store.versions.artifact_keys().await?, store.jobs.ids().await?))
}

/// Removes what uploads that were cut off by a crash, and jobs that are gone, have left behind.
async fn sweep_orphans(
    store: Arc<Store>,
    artifacts: Arc<ArtifactStore>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    loop {
        match referenced(&store).await {
            Ok((keys, jobs)) => {
                let older_than = ORPHAN_AGE;
                let is_of_a_job = |key: &str| job_of_key(key).is_some_and(|job| jobs.contains(&job));
                let is_referenced = |key: &str| keys.contains(key) || is_of_a_job(key);
                let swept = artifacts.sweep(is_referenced, older_than, clock.now()).await;
                match swept {
                    Ok(0) => {}
                    Ok(files) => tracing::info!(files, "removed what interrupted uploads had left"),
                    Err(error) => {
                        tracing::warn!(%error, "failed to look for leftovers of interrupted uploads")
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "failed to list the artifacts"),
        }
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}
