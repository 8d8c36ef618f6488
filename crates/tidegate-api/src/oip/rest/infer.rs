//! `POST /v2/models/{model}/infer`: JSON, with tensors in it or as bytes behind it.

use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tidegate_core::{DType, NamedTensor, Tensor};
use utoipa::ToSchema;

use super::answer::{Form, answer};
use crate::context::Context;
use crate::error::{ApiError, ErrorCode};
use crate::extract::{json_from_slice, read_content};
use crate::oip::MAX_TENSORS;
use crate::oip::binary::tensor_from_binary;
use crate::oip::infer::{self, Addressee, InferRequest, RequestedOutput};
use crate::operations::fault::Fault;
use crate::operations::tensor_json::tensor_from_json;

/// How long the JSON at the beginning of the body is; the tensors' bytes follow. Also in responses.
pub(super) const JSON_LENGTH_HEADER: &str = "inference-header-content-length";

/// An inference request of the protocol. Unknown keys and parameters are ignored.
#[derive(Deserialize, ToSchema)]
#[schema(as = OipInferRequest)]
pub(super) struct InferJson<'a> {
    id: Option<String>,
    /// `binary_data_output`: all outputs as bytes behind the JSON.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Parameters>,
    /// Each with `name`, `shape`, `datatype` (such as FP32) and `data`, flat in row-major order or nested as the shape says;
    /// or instead of `data` the parameter `binary_data_size`: so many bytes behind the JSON.
    #[serde(borrow)]
    #[schema(value_type = Vec<Object>)]
    inputs: Vec<InputJson<'a>>,
    /// All, where it is missing. Each with `name`, and the parameters `binary_data` (as bytes behind the JSON) and
    /// `classification` (the highest so many as `value:index`).
    #[schema(value_type = Option<Vec<Object>>)]
    outputs: Option<Vec<OutputJson>>,
}

#[derive(Deserialize)]
struct InputJson<'a> {
    name: String,
    shape: Vec<usize>,
    datatype: DType,
    parameters: Option<Parameters>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OutputJson {
    name: String,
    parameters: Option<Parameters>,
}

/// The parameters that mean something here, wherever they stand.
#[derive(Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
    binary_data: Option<bool>,
    binary_data_output: Option<bool>,
    classification: Option<usize>,
    /// In microseconds; 0 is none.
    timeout: Option<u64>,
    /// A number or a text; 0 and the empty text mean none.
    sequence_id: Option<Value>,
    shared_memory_region: Option<IgnoredAny>,
}

/// Predicts by the Open Inference Protocol; the model's name or id. With `/versions/{version}`, that version and no other.
#[utoipa::path(post, path = "/v2/models/{model}/infer", operation_id = "oipInfer", tag = "open inference protocol",
    params(("model" = String, Path), ("Inference-Header-Content-Length" = Option<usize>, Header),
        ("X-Tidegate-Environment" = Option<String>, Header), ("X-Tidegate-Key" = Option<String>, Header)),
    request_body(content((InferJson = "application/json"), (Vec<u8> = "application/octet-stream"))),
    responses((status = 200, description = "Model, version, id and outputs"), (status = "4XX"), (status = "5XX")))]
pub(super) async fn infer(
    State(context): State<Context>,
    addressee: Addressee,
    request: Request,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let json_length = json_length(&parts.headers)?;
    let body = read_content(&context, &parts.headers, body, json_length.unwrap_or(0)).await?;
    let (request, forms) = read(body, json_length)?;
    let inferred = infer::infer(&context, addressee, &parts.headers, request, started).await?;
    answer(&inferred, forms)
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, ApiError> {
    let Some(value) = headers.get(JSON_LENGTH_HEADER) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    let fault =
        || ApiError::invalid("Inference-Header-Content-Length", "give the number of bytes of the JSON");
    length.ok_or_else(fault).map(Some)
}

/// How each output is to be written: one by one as they were asked for, or all alike.
pub(crate) struct Forms {
    pub each: Vec<Form>,
    pub default: Form,
}

pub(crate) fn read(body: Bytes, json_length: Option<usize>) -> Result<(InferRequest, Forms), ApiError> {
    let json_length = json_length.unwrap_or(body.len());
    if json_length > body.len() {
        let message = format!("says {json_length} bytes, the body has {}", body.len());
        return Err(ApiError::invalid("Inference-Header-Content-Length", message));
    }
    let (json, mut binary) = (body.slice(..json_length), body.slice(json_length..));
    // Naming the field at fault costs more than reading; only who has one pays for it.
    let request: InferJson = match serde_json::from_slice(&json) {
        Ok(request) => request,
        Err(_) => json_from_slice(&json)?,
    };
    let parameters = request.parameters.unwrap_or_default();
    refuse_state(&parameters, "parameters")?;
    let outputs = request.outputs.unwrap_or_default();
    if request.inputs.len() > MAX_TENSORS || outputs.len() > MAX_TENSORS {
        let message = format!("at most {MAX_TENSORS} inputs and as many outputs are taken");
        return Err(ApiError::invalid("inputs", message));
    }
    let inputs = read_inputs(request.inputs, &mut binary)?;
    let default = Form::of(parameters.binary_data_output.unwrap_or(false));
    let mut forms = Forms { each: Vec::with_capacity(outputs.len()), default };
    let mut requested = Vec::with_capacity(outputs.len());
    for OutputJson { name, parameters } in outputs {
        let parameters = parameters.unwrap_or_default();
        refuse_state(&parameters, "outputs")?;
        forms.each.push(parameters.binary_data.map_or(default, Form::of));
        requested.push(RequestedOutput { name, n_classes: parameters.classification.unwrap_or(0) });
    }
    let timeout = parameters.timeout.filter(|timeout| *timeout > 0).map(Duration::from_micros);
    let id = request.id.unwrap_or_default();
    Ok((InferRequest { id, inputs, outputs: requested, timeout }, forms))
}

/// What would need a memory that the server does not have.
fn refuse_state(parameters: &Parameters, field: &str) -> Result<(), ApiError> {
    let refused = |name: &str, message: &str| Err(ApiError::invalid(format!("{field}.{name}"), message));
    let none = [Value::from(0), Value::from("")];
    if parameters.sequence_id.as_ref().is_some_and(|id| !none.contains(id)) {
        return refused("sequence_id", "models keep no state between requests; leave it out");
    }
    if parameters.shared_memory_region.is_some() {
        return refused(
            "shared_memory_region",
            "shared memory is not supported; send the data in the request",
        );
    }
    Ok(())
}

/// The tensors, or all faults of them by place. What is left behind the last of them is a fault too.
fn read_inputs(
    inputs: Vec<InputJson<'_>>,
    binary: &mut Bytes,
) -> Result<Result<Vec<NamedTensor>, Vec<Fault>>, ApiError> {
    let (mut tensors, mut faults) = (Vec::with_capacity(inputs.len()), Vec::new());
    for (index, input) in inputs.into_iter().enumerate() {
        let parameters = input.parameters.unwrap_or_default();
        refuse_state(&parameters, &format!("inputs[{index}].parameters"))?;
        let tensor = match (input.data, parameters.binary_data_size) {
            (Some(data), None) => tensor_from_json(input.datatype, &input.shape, data),
            (None, Some(size)) => cut(input.datatype, input.shape, size, binary),
            (Some(_), Some(_)) => Err(Fault::new("data", "give `data` or `binary_data_size`, not both")),
            (None, None) => Err(Fault::new(
                "data",
                "missing; give it, or the bytes behind the JSON and `binary_data_size`",
            )),
        };
        match tensor {
            Ok(tensor) => tensors.push(NamedTensor { name: input.name, tensor }),
            Err(fault) => faults.push(fault.within(&format!("[{index}]"))),
        }
    }
    if faults.is_empty() && !binary.is_empty() {
        let message = format!("{} bytes are left behind the last tensor", binary.len());
        return Err(ApiError::new(ErrorCode::ValidationError, message));
    }
    Ok(if faults.is_empty() { Ok(tensors) } else { Err(faults) })
}

fn cut(datatype: DType, shape: Vec<usize>, size: usize, binary: &mut Bytes) -> Result<Tensor, Fault> {
    if size > binary.len() {
        let message = format!("says {size} bytes, {} are left behind the JSON", binary.len());
        return Err(Fault::new("parameters.binary_data_size", message));
    }
    let bytes = binary.split_to(size);
    tensor_from_binary(datatype, shape, bytes).map_err(|message| Fault::new("data", message))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the header says of whatever body: an answer, never a panic.
        #[test]
        fn nothing_panics(
            sizes in prop::collection::vec(0usize..40, 0..3),
            shape in prop::collection::vec(0usize..5, 0..3),
            tail in prop::collection::vec(any::<u8>(), 0..40),
            datatype in prop::sample::select(&["FP32", "BYTES", "INT64", "BOOL", "FP16"][..]),
            offset in -3isize..3,
        ) {
            let inputs: Vec<_> = sizes.iter().map(|size| serde_json::json!({
                "name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size},
            })).collect();
            let mut body = serde_json::json!({"inputs": inputs}).to_string().into_bytes();
            let length = body.len().checked_add_signed(offset).unwrap();
            body.extend_from_slice(&tail);
            if let Ok((request, _)) = read(Bytes::from(body), Some(length))
                && let Ok(tensors) = request.inputs
            {
                let held: usize = sizes.iter().sum();
                prop_assert!(held == tail.len() && tensors.len() == sizes.len());
            }
        }
    }
}
