//! What this process is and what it has loaded.

use std::path::Path;

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
    accelerator: AcceleratorFacts,
    /// In which versions can be loaded here: `f32`, `int8`, `bf16`.
    precisions: Vec<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AcceleratorFacts {
    /// `none`, `openvino` or `cuda`.
    name: &'static str,
    /// What it runs and why, or why there is none.
    reason: String,
    library: Option<String>,
}

/// What this server is, which runtime it uses and why, and which models it has loaded.
#[utoipa::path(get, path = "/api/v1/server",
    operation_id = "getServer", tag = "server",
    responses((status = 200, body = ServerInfo)))]
pub(crate) async fn server(State(context): State<Context>) -> Json<ServerInfo> {
    let runtime = context.server.runtime();
    let text = |path: Option<&Path>| path.map(|path| path.display().to_string());
    Json(ServerInfo {
        name: "tidegate",
        version: env!("CARGO_PKG_VERSION"),
        runtime: RuntimeFacts {
            name: runtime.name,
            version: runtime.version.clone(),
            reason: runtime.reason.clone(),
            library: text(runtime.library.as_deref()),
            accelerator: AcceleratorFacts {
                name: runtime.accelerator.name,
                reason: runtime.accelerator.reason.clone(),
                library: text(runtime.accelerator.library.as_deref()),
            },
            precisions: runtime.precisions.iter().map(|precision| precision.as_str()).collect(),
        },
        backend: context.store.backend().to_string(),
        default_environment: context.settings.default_environment,
        models: serde_json::to_value(context.server.loaded()).unwrap_or_default(),
        uptime_seconds: context.inner().started.elapsed().as_secs(),
        response_caches: context.inner().caches.statuses(),
        inference_log_shed: context.shed_log_rows(),
    })
}
