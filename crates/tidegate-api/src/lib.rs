//! Protocols: the native REST API under `/api/v1`, the Open Inference Protocol on REST (`/v2`) and gRPC, health, OpenAPI
//! 3.1 and Swagger UI.
//!
//! The only crate that knows axum and wire formats; it names no SQL, no model runtime and no environment. A handler
//! extracts, makes one domain call and converts; what several protocols share is in `operations`, which knows no axum.
//! `error` is the one place that maps errors to status codes.
//!
//! Start reading at [`router`], then a file of `native` or `oip`.

mod budget;
mod context;
mod control;
mod error;
mod extract;
mod native;
mod oip;
mod openapi;
mod operations;
mod readiness;
mod stac;
mod trace;

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
pub use openapi::openapi;
pub use operations::agreement::contradictions;
pub use operations::register::ImportRoot;
pub use operations::sample::{Sample, SampleError, SampleMisfit, Subject, Trial, TrialError};
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
    /// Where artifacts of a remote store are kept to be read.
    pub cache_dir: PathBuf,
    pub default_environment: Environment,
    pub default_strategy: StrategyKind,
    /// Whether the inference log keeps small features and predictions, not only that there was a request.
    pub log_payloads: bool,
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
            cache_dir: cache_dir.into(),
            default_environment: Environment::Production,
            default_strategy: StrategyKind::BlueGreen,
            log_payloads: true,
        }
    }
}

/// Every route of the server.
pub fn router(state: AppState) -> axum::Router {
    let context = Context::new(state);
    let (router, openapi) = openapi::documented().split_for_parts();
    router
        .merge(oip::rest::routes())
        .merge(openapi::browsable(openapi))
        .fallback(native::unknown_path)
        .method_not_allowed_fallback(native::unknown_method)
        .layer(RequestBodyTimeoutLayer::new(context.settings.body_idle_timeout))
        // Each extractor has the limit of its route; none reads without one.
        .layer(DefaultBodyLimit::disable())
        .merge(oip::grpc::routes())
        // Outside the timeout, which hides how large a body says it is.
        .layer(from_fn_with_state(context.clone(), budget::within_budget))
        .layer(CatchPanicLayer::custom(native::answer_panic))
        .layer(from_fn_with_state(context.clone(), trace::trace))
        .with_state(context)
}
