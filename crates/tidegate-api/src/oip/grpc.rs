//! The protocol on gRPC: `inference.GRPCInferenceService` of `proto/open_inference.proto`, and `grpc.health.v1.Health`, on
//! the port of everything else.
//!
//! gRPC is a few bytes around each message on HTTP/2, which hyper speaks already; `exchange` is all of it. So a message's
//! length meets the limits and the budget of bodies before memory is taken, and errors pass the one layer that logs and
//! renders them. Tensors of a request are cut out of its body: `infer_request` reads the wire format itself. All other
//! messages are small, and prost's.

mod error;
mod exchange;
mod fields;
mod health;
mod infer;
mod infer_answer;
pub(crate) mod infer_request;
mod management;
mod messages;
mod metadata;
mod parameters;

pub(crate) use error::render;

use axum::Router;
use axum::routing::post;

use crate::context::Context;

const SERVICE: &str = "/inference.GRPCInferenceService/";
const HEALTH: &str = "/grpc.health.v1.Health/";

/// Whether a path is a call of this protocol: its body is read with its own limits, and its errors are in its words.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with(SERVICE) || path.starts_with(HEALTH)
}

/// Nothing around these may time the body as a whole: a stream lasts as long as its client likes.
pub(crate) fn routes() -> Router<Context> {
    let call = |name: &str| format!("{SERVICE}{name}");
    Router::new()
        .route(&call("ServerLive"), post(metadata::server_live))
        .route(&call("ServerReady"), post(metadata::server_ready))
        .route(&call("ModelReady"), post(metadata::model_ready))
        .route(&call("ServerMetadata"), post(metadata::server_metadata))
        .route(&call("ModelMetadata"), post(metadata::model_metadata))
        .route(&call("ModelConfig"), post(metadata::model_config))
        .route(&call("ModelInfer"), post(infer::model_infer))
        .route(&call("ModelStreamInfer"), post(infer::model_stream_infer))
        .route(&call("ModelStatistics"), post(management::model_statistics))
        .route(&call("RepositoryIndex"), post(management::repository_index))
        .route(&call("RepositoryModelLoad"), post(management::load))
        .route(&call("RepositoryModelUnload"), post(management::unload))
        .route(&call("TraceSetting"), post(management::trace_setting))
        .route(&call("LogSettings"), post(management::log_settings))
        .route(&format!("{HEALTH}Check"), post(health::check))
}
