//! What this process is and what it has loaded.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::context::Context;
use crate::operations::cache::CacheStatus;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ServerInfo {
    #[schema(example = "tidegate")]
    name: &'static str,
    version: &'static str,
    runtime: RuntimeFacts,
    /// `SQLite` or `PostgreSQL`.
    backend: String,
    /// Where requests go that name no environment.
    #[schema(value_type = String)]
    default_environment: tidegate_core::Environment,
    /// Loaded versions: model, version, environments, state, requests, errors.
    #[schema(value_type = Vec<Object>)]
    models: Value,
    uptime_seconds: u64,
    /// Of the models that have one: hits, misses, evictions, and how full it is.
    response_caches: Vec<CacheStatus>,
    /// Rows of the inference log that were dropped because its buffer was full.
    inference_log_shed: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RuntimeFacts {
    /// `onnxruntime` or `rten`.
    name: &'static str,
    version: String,
    /// Why this one, and what to do for the other.
    reason: String,
    library: Option<String>,
}

/// What this server is, which runtime it uses and why, and which models it has loaded.
#[utoipa::path(get, path = "/api/v1/server",
    operation_id = "getServer", tag = "server",
    responses((status = 200, body = ServerInfo)))]
pub(crate) async fn server(State(context): State<Context>) -> Json<ServerInfo> {
    let runtime = context.server.runtime();
    Json(ServerInfo {
        name: "tidegate",
        version: env!("CARGO_PKG_VERSION"),
        runtime: RuntimeFacts {
            name: runtime.name,
            version: runtime.version.clone(),
            reason: runtime.reason.clone(),
            library: runtime.library.as_ref().map(|path| path.display().to_string()),
        },
        backend: context.store.backend().to_string(),
        default_environment: context.settings.default_environment,
        models: serde_json::to_value(context.server.loaded()).unwrap_or_default(),
        uptime_seconds: context.inner().started.elapsed().as_secs(),
        response_caches: context.inner().caches.statuses(),
        inference_log_shed: context.shed_log_rows(),
    })
}
