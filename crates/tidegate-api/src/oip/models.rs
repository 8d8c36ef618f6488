//! What can be known of a loaded model: readiness, metadata, configuration.

use std::time::Instant;

use http::HeaderMap;
use tidegate_core::{DType, Dim, Signature, TensorSpec};

use super::infer::{Addressee, target};
use crate::context::Context;
use crate::error::{ApiError, ErrorCode};
use crate::operations::predict::{Chosen, resolve};
use crate::readiness::Phase;

/// The protocol's word for an ONNX file: what every model is here, whatever it was registered as.
pub(super) const PLATFORM: &str = "onnx_onnxv1";

/// A model that answers, and its versions that do.
pub(super) struct ModelView {
    pub chosen: Chosen,
    pub versions: Vec<String>,
}

impl ModelView {
    pub(super) fn signature(&self) -> &Signature {
        self.chosen.resolved.slot.signature()
    }
}

/// The model as a request with these headers would meet it.
pub(super) async fn view(
    context: &Context,
    addressee: Addressee,
    headers: &HeaderMap,
) -> Result<ModelView, ApiError> {
    let target = target(context, addressee, headers, "", Instant::now())?;
    let chosen = resolve(context, &target).await?;
    let model = chosen.resolved.slot.model_name();
    let loaded = context.server.loaded();
    let here = loaded
        .iter()
        .filter(|status| status.model == *model && status.environments.contains(&target.environment));
    let versions = here.map(|status| status.version.to_string()).collect();
    Ok(ModelView { chosen, versions })
}

/// Whether a request would be answered. An error where there is no such model at all.
pub(super) async fn is_ready(
    context: &Context,
    addressee: Addressee,
    headers: &HeaderMap,
) -> Result<bool, ApiError> {
    let target = target(context, addressee, headers, "", Instant::now())?;
    match resolve(context, &target).await.map_err(ApiError::from) {
        Ok(_) => Ok(context.readiness.phase() != Phase::Stopping),
        // Not deployed, or not this version.
        Err(error) if matches!(error.code, ErrorCode::ServiceUnavailable | ErrorCode::Conflict) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every model that a route names is loaded, and the process is not about to end.
pub(super) fn is_server_ready(context: &Context) -> bool {
    context.readiness.phase() == Phase::Ready
}

/// Triton's description of a model, as far as it means something here.
pub(super) struct ModelConfig<'a> {
    pub name: &'a str,
    /// How many requests may be put together by the caller; 0 where the first axis is not a batch.
    pub max_batch_size: usize,
    pub backend: &'static str,
    pub inputs: Vec<TensorConfig<'a>>,
    pub outputs: Vec<TensorConfig<'a>>,
}

pub(super) struct TensorConfig<'a> {
    pub name: &'a str,
    pub datatype: DType,
    /// Without the batch axis, where there is one.
    pub dims: Vec<i64>,
}

pub(super) fn config<'a>(context: &Context, view: &'a ModelView) -> ModelConfig<'a> {
    let signature = view.signature();
    let mut tensors = signature.inputs.iter().chain(&signature.outputs);
    let is_batched = tensors.all(|spec| spec.shape.first() == Some(&Dim::Dynamic));
    let describe = |spec: &'a TensorSpec| TensorConfig {
        name: &spec.name,
        datatype: spec.datatype,
        dims: spec.shape.iter().skip(usize::from(is_batched)).map(|dim| i64::from(*dim)).collect(),
    };
    ModelConfig {
        name: view.chosen.resolved.slot.model_name().as_str(),
        max_batch_size: if is_batched { context.settings.max_batch_instances } else { 0 },
        backend: view.chosen.resolved.slot.runtime(),
        inputs: signature.inputs.iter().map(describe).collect(),
        outputs: signature.outputs.iter().map(describe).collect(),
    }
}

/// Triton's configuration language has words of its own.
pub(super) fn config_datatype(datatype: DType) -> (&'static str, i32) {
    match datatype {
        DType::Bool => ("TYPE_BOOL", 1),
        DType::Uint8 => ("TYPE_UINT8", 2),
        DType::Uint16 => ("TYPE_UINT16", 3),
        DType::Uint32 => ("TYPE_UINT32", 4),
        DType::Uint64 => ("TYPE_UINT64", 5),
        DType::Int8 => ("TYPE_INT8", 6),
        DType::Int16 => ("TYPE_INT16", 7),
        DType::Int32 => ("TYPE_INT32", 8),
        DType::Int64 => ("TYPE_INT64", 9),
        DType::Fp16 => ("TYPE_FP16", 10),
        DType::Fp32 => ("TYPE_FP32", 11),
        DType::Fp64 => ("TYPE_FP64", 12),
        DType::Bytes => ("TYPE_STRING", 13),
        DType::Bf16 => ("TYPE_BF16", 14),
    }
}
