//! What is here and whether it answers: health, server and model metadata, model configuration.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tidegate_core::TensorSpec;
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::ApiError;
use crate::oip::EXTENSIONS;
use crate::oip::infer::Addressee;
use crate::oip::models::{self, PLATFORM, TensorConfig, config_datatype};

/// The process lives.
#[utoipa::path(get, path = "/v2/health/live", operation_id = "oipLive", tag = "open inference protocol",
    responses((status = 200, description = "`live` is true")))]
pub(super) async fn live() -> Json<Value> {
    Json(json!({"live": true}))
}

/// The models of the routes are loaded, and the process is not about to end.
#[utoipa::path(get, path = "/v2/health/ready", operation_id = "oipReady", tag = "open inference protocol",
    responses((status = 200, description = "`ready` is true"), (status = 503, description = "`ready` is false")))]
pub(super) async fn ready(State(context): State<Context>) -> Response {
    let ready = models::is_server_ready(&context);
    (status(ready), Json(json!({"ready": ready}))).into_response()
}

#[derive(Serialize, ToSchema)]
#[schema(as = OipServer)]
pub(super) struct ServerJson {
    name: &'static str,
    version: &'static str,
    extensions: [&'static str; EXTENSIONS.len()],
}

/// Name, version and extensions of the server.
#[utoipa::path(get, path = "/v2", operation_id = "oipServer", tag = "open inference protocol",
    responses((status = 200, body = ServerJson)))]
pub(super) async fn server() -> Json<ServerJson> {
    Json(ServerJson { name: "tidegate", version: env!("CARGO_PKG_VERSION"), extensions: EXTENSIONS })
}

#[derive(Serialize, ToSchema)]
#[schema(as = OipModel)]
pub(super) struct ModelJson {
    name: String,
    /// Those that answer in this environment.
    versions: Vec<String>,
    platform: &'static str,
    #[schema(value_type = Vec<Object>)]
    inputs: Vec<TensorSpec>,
    #[schema(value_type = Vec<Object>)]
    outputs: Vec<TensorSpec>,
}

/// Versions, inputs and outputs of a model that is deployed.
#[utoipa::path(get, path = "/v2/models/{model}", operation_id = "oipModel", tag = "open inference protocol",
    params(("model" = String, Path), ("X-Tidegate-Environment" = Option<String>, Header)),
    responses((status = 200, body = ModelJson), (status = "4XX"), (status = 503, description = "Not deployed")))]
pub(super) async fn model(
    State(context): State<Context>,
    addressee: Addressee,
    headers: HeaderMap,
) -> Result<Json<ModelJson>, ApiError> {
    let view = models::view(&context, addressee, &headers).await?;
    let signature = view.signature().clone();
    Ok(Json(ModelJson {
        name: view.chosen.model_name(),
        versions: view.versions,
        platform: PLATFORM,
        inputs: signature.inputs,
        outputs: signature.outputs,
    }))
}

/// Whether a model answers.
#[utoipa::path(get, path = "/v2/models/{model}/ready", operation_id = "oipModelReady",
    tag = "open inference protocol",
    params(("model" = String, Path), ("X-Tidegate-Environment" = Option<String>, Header)),
    responses((status = 200, description = "`ready` is true"), (status = 404, description = "There is no such model"),
        (status = 503, description = "`ready` is false: not deployed, or not this version")))]
pub(super) async fn model_ready(
    State(context): State<Context>,
    addressee: Addressee,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let name = addressee.model.clone();
    let ready = models::is_ready(&context, addressee, &headers).await?;
    Ok((status(ready), Json(json!({"name": name, "ready": ready}))).into_response())
}

/// Triton's model configuration.
pub(super) async fn config(
    State(context): State<Context>,
    addressee: Addressee,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let view = models::view(&context, addressee, &headers).await?;
    let config = models::config(&context, &view);
    let tensors = |tensors: &[TensorConfig<'_>]| -> Value {
        let tensor = |tensor: &TensorConfig<'_>| json!({"name": tensor.name, "data_type": config_datatype(tensor.datatype).0, "dims": tensor.dims});
        tensors.iter().map(tensor).collect()
    };
    Ok(Json(json!({
        "name": config.name,
        "platform": PLATFORM,
        "backend": config.backend,
        "max_batch_size": config.max_batch_size,
        "input": tensors(&config.inputs),
        "output": tensors(&config.outputs),
    })))
}

fn status(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
