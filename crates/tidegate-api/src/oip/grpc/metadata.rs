//! What is here and whether it answers.

use axum::extract::State;
use http::HeaderMap;
use tidegate_core::TensorSpec;

use super::exchange::{Reply, Unary};
use super::messages::{
    Empty, ModelConfig, ModelConfigResponse, ModelInput, ModelMetadataResponse, ModelOutput, ModelRequest,
    ReadyResponse, ServerLiveResponse, ServerMetadataResponse, TensorMetadata,
};
use crate::context::Context;
use crate::error::ApiError;
use crate::oip::EXTENSIONS;
use crate::oip::infer::Addressee;
use crate::oip::models::{self, PLATFORM, config_datatype};

impl From<ModelRequest> for Addressee {
    fn from(request: ModelRequest) -> Self {
        Self { model: request.name, version: request.version }
    }
}

pub(super) async fn server_live(_: Unary<Empty>) -> Reply<ServerLiveResponse> {
    Reply(ServerLiveResponse { live: true })
}

pub(super) async fn server_ready(State(context): State<Context>, _: Unary<Empty>) -> Reply<ReadyResponse> {
    Reply(ReadyResponse { ready: models::is_server_ready(&context) })
}

/// Where there is no such model, it is not ready either: clients wait for it to come.
pub(super) async fn model_ready(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<ModelRequest>,
) -> Result<Reply<ReadyResponse>, ApiError> {
    let ready = match models::is_ready(&context, request.into(), &headers).await {
        Err(error) if error.code.status() == http::StatusCode::NOT_FOUND => false,
        ready => ready?,
    };
    Ok(Reply(ReadyResponse { ready }))
}

pub(super) async fn server_metadata(_: Unary<Empty>) -> Reply<ServerMetadataResponse> {
    Reply(ServerMetadataResponse {
        name: "tidegate".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    })
}

pub(super) async fn model_metadata(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<ModelRequest>,
) -> Result<Reply<ModelMetadataResponse>, ApiError> {
    let view = models::view(&context, request.into(), &headers).await?;
    let describe = |spec: &TensorSpec| TensorMetadata {
        name: spec.name.clone(),
        datatype: spec.datatype.to_string(),
        shape: spec.shape.iter().map(|dim| i64::from(*dim)).collect(),
    };
    Ok(Reply(ModelMetadataResponse {
        name: view.chosen.model_name(),
        platform: PLATFORM.to_owned(),
        inputs: view.signature().inputs.iter().map(describe).collect(),
        outputs: view.signature().outputs.iter().map(describe).collect(),
        versions: view.versions,
    }))
}

pub(super) async fn model_config(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<ModelRequest>,
) -> Result<Reply<ModelConfigResponse>, ApiError> {
    let view = models::view(&context, request.into(), &headers).await?;
    let config = models::config(&context, &view);
    let inputs = config.inputs.into_iter().map(|input| ModelInput {
        name: input.name.to_owned(),
        data_type: config_datatype(input.datatype).1,
        dims: input.dims,
    });
    let outputs = config.outputs.into_iter().map(|output| ModelOutput {
        name: output.name.to_owned(),
        data_type: config_datatype(output.datatype).1,
        dims: output.dims,
    });
    let config = ModelConfig {
        name: config.name.to_owned(),
        platform: PLATFORM.to_owned(),
        max_batch_size: i32::try_from(config.max_batch_size).unwrap_or(i32::MAX),
        input: inputs.collect(),
        output: outputs.collect(),
        backend: config.backend.to_owned(),
    };
    Ok(Reply(ModelConfigResponse { config: Some(config) }))
}
