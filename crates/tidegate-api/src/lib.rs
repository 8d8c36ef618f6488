//! Protocols: the native REST API under `/api/v1`, the Open Inference Protocol on REST (`/v2`) and gRPC, health, OpenAPI
//! 3.1 and Swagger UI.
//!
//! The only crate that knows axum and wire formats; it names no SQL, no model runtime and no environment. A handler
//! extracts, makes one domain call and converts; what several protocols share is in `operations`, which knows no axum.
//! `error` is the one place that maps errors to status codes.
//!
//! Start reading at [`application`], then a file of `native` or `oip`.

mod budget;
mod context;
mod control;
mod error;
mod extract;
mod hostile;
mod native;
mod oip;
mod openapi;
mod operations;
mod readiness;
mod stac;
mod trace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use jiff::SignedDuration;
use tidegate_core::{Clock, Environment, IdSource, ReplicaId, StrategyKind};
use tidegate_serve::Server;
use tidegate_store::{ArtifactStore, InferenceRecord, Store};
use tokio::sync::mpsc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

pub use control::{CommandError, CreateDeploymentError, DeploymentCommand, DeploymentControl, NewDeployment};
pub use error::{ApiError, ErrorBody, ErrorCode, ErrorContent, ErrorDetail};
pub use extract::ANONYMOUS;
pub use hostile::decode_tensors;
pub use native::inference::AsyncRunner;
pub use openapi::openapi;
pub use operations::agreement::contradictions;
pub use operations::log_policy::{InvalidRedaction, LogSettings, Redaction};
pub use operations::raster::source::WebPlace;
pub use operations::raster::{
    ChooseError, RASTER, RasterJob, RasterOutput, RasterProgress, RasterResult, RasterTimings, SceneAddress,
    SceneSource, SceneSources, SourceRefused, choose_version, job_of_key, job_prefix, output_key,
};
pub use operations::register::ImportRoot;
pub use operations::sample::{Sample, SampleError, SampleMisfit, Subject, Trial, TrialError};
pub use operations::segment::{CallerGuard, TileRunner, infer_behind_callers};
pub use readiness::{Phase, Readiness};
pub use trace::TRACE_ID_HEADER;

use context::Context;

/// Everything the protocols stand on. The binary makes it once.
pub struct AppState {
    pub store: Arc<Store>,
    pub artifacts: Arc<ArtifactStore>,
    pub server: Arc<Server>,
    pub control: Arc<dyn DeploymentControl>,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<IdSource>,
    pub settings: Settings,
    pub readiness: Arc<Readiness>,
    /// Bounded; a full one sheds rows and counts them.
    pub inference_log: mpsc::Sender<InferenceRecord>,
    pub replica: ThisReplica,
}

/// This process among those that share the database.
#[derive(Clone, Debug)]
pub struct ThisReplica {
    pub id: ReplicaId,
    /// How long after its last sign of life a replica counts as alive.
    pub time_to_live: SignedDuration,
}

/// Limits and defaults of the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of all artifacts of one registration together.
    pub max_upload_bytes: u64,
    /// Of any other body: JSON, tensors, an image. All together may hold four times as much.
    pub max_request_bytes: u64,
    pub max_image_pixels: u64,
    pub max_batch_instances: usize,
    /// A body that pauses longer than this is given up.
    pub body_idle_timeout: Duration,
    /// Below which `artifactPath` may name files and objects; none: uploads only.
    pub import_roots: Vec<ImportRoot>,
    /// Where jobs may read scenes from; none: uploads only.
    pub scene_sources: SceneSources,
    /// Of an uploaded scene.
    pub max_scene_bytes: u64,
    /// Jobs that may wait.
    pub max_queued_jobs: u32,
    /// Where artifacts of a remote store are kept to be read.
    pub cache_dir: PathBuf,
    pub default_environment: Environment,
    pub default_strategy: StrategyKind,
    pub log: LogSettings,
    pub async_requests: AsyncSettings,
    /// What the answers that are kept of a model may take, by its name; without an entry none are kept.
    pub response_cache_bytes: BTreeMap<String, usize>,
}

/// Of requests that are answered later. They are kept in the database, so each bound is one on its size.
#[derive(Clone, Debug)]
pub struct AsyncSettings {
    /// Of one request's body.
    pub max_request_bytes: usize,
    /// Of one prediction, as JSON.
    pub max_result_bytes: usize,
    /// Over all processes; more are told to come back.
    pub max_waiting: u64,
    /// What could not be run for so long, because its model is not deployed, say, has failed.
    pub max_wait: SignedDuration,
    /// How long a result is kept.
    pub retention: SignedDuration,
    /// After which another process takes up what one that was killed was at.
    pub lease: SignedDuration,
}

impl Default for AsyncSettings {
    fn default() -> Self {
        Self {
            max_request_bytes: 1 << 20,
            max_result_bytes: 16 << 20,
            max_waiting: 10_000,
            max_wait: SignedDuration::from_hours(1),
            retention: SignedDuration::from_hours(24),
            lease: SignedDuration::from_secs(10),
        }
    }
}

impl Settings {
    /// The defaults, with the one folder that has none.
    pub fn with_cache_dir(cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            max_upload_bytes: 2 << 30,
            max_request_bytes: 16 << 20,
            max_image_pixels: 100_000_000,
            max_batch_instances: 1000,
            body_idle_timeout: Duration::from_secs(30),
            import_roots: Vec::new(),
            scene_sources: SceneSources::default(),
            max_scene_bytes: 4 << 30,
            max_queued_jobs: 100,
            cache_dir: cache_dir.into(),
            default_environment: Environment::Production,
            default_strategy: StrategyKind::BlueGreen,
            log: LogSettings::default(),
            async_requests: AsyncSettings::default(),
            response_cache_bytes: BTreeMap::new(),
        }
    }
}

/// What serves requests, and what has to run beside it.
pub struct Application {
    pub router: axum::Router,
    /// Answers what is to be answered later, of this process's share.
    pub async_runner: AsyncRunner,
}

/// Puts it together.
pub fn application(state: AppState) -> Application {
    let context = Context::new(state);
    Application { router: router(&context), async_runner: AsyncRunner::new(context) }
}

/// Every route of the server.
fn router(context: &Context) -> axum::Router {
    let (router, openapi) = openapi::documented().split_for_parts();
    router
        .merge(oip::rest::routes())
        .merge(openapi::browsable(openapi))
        .fallback(native::unknown_path)
        .method_not_allowed_fallback(native::unknown_method)
        .layer((
            RequestBodyTimeoutLayer::new(context.settings.body_idle_timeout),
            // Each extractor has the limit of its route; none reads without one.
            DefaultBodyLimit::disable(),
        ))
        .merge(oip::grpc::routes())
        // From outside to inside. As one layer: for each more, axum clones and boxes all that lies below it at every request.
        .layer((
            from_fn_with_state(context.clone(), trace::trace),
            CatchPanicLayer::custom(native::answer_panic),
            // Outside the timeout, which hides how large a body says it is.
            from_fn_with_state(context.clone(), budget::within_budget),
        ))
        .with_state(context.clone())
}
