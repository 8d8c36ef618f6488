//! One request, written in each way.

use anyhow::{Context, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_core::{DType, NamedTensor};

use crate::{grpc, http};

const PATH: &str = "/v2/models/bench/infer";

/// Ready to be sent.
#[derive(Clone)]
pub struct Requests {
    pub json: Bytes,
    pub binary: Bytes,
    pub grpc: Bytes,
    /// The bytes of all inputs.
    pub n_bytes: usize,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InferRequest {
    #[prost(string, tag = "1")]
    model_name: String,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<InferInput>,
    #[prost(bytes = "vec", repeated, tag = "7")]
    raw_input_contents: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InferInput {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
}

impl Requests {
    pub fn of(inputs: &[NamedTensor]) -> anyhow::Result<Self> {
        let mut raw = vec![];
        for input in inputs {
            if input.tensor.dtype() != DType::Fp32 {
                bail!("input `{}` is {}; the bench knows FP32", input.name, input.tensor.dtype().as_str());
            }
            raw.push(input.tensor.as_bytes().context("FP32 has bytes")?.to_vec());
        }
        let json = json!({"inputs": inputs.iter().map(with_data).collect::<Vec<_>>()}).to_string();
        let head = json!({
            "inputs": inputs.iter().map(with_size).collect::<Vec<_>>(),
            "parameters": {"binary_data_output": true},
        });
        let head = head.to_string();
        let headers = format!(
            "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {}\r\n",
            head.len()
        );
        let binary = http::request(PATH, &headers, &[head.into_bytes(), raw.concat()].concat());
        let message = InferRequest {
            model_name: "bench".to_owned(),
            inputs: inputs.iter().map(in_grpc).collect(),
            raw_input_contents: raw,
        };
        Ok(Self {
            json: http::request(PATH, "Content-Type: application/json\r\n", json.as_bytes()),
            binary,
            grpc: grpc::framed(&prost::Message::encode_to_vec(&message)),
            n_bytes: inputs.iter().map(|input| input.tensor.size_bytes()).sum(),
        })
    }
}

fn with_data(input: &NamedTensor) -> Value {
    let data = input.tensor.values::<f32>().unwrap_or_default();
    json!({"name": input.name, "shape": input.tensor.shape(), "datatype": "FP32", "data": data})
}

fn with_size(input: &NamedTensor) -> Value {
    let size = json!({"binary_data_size": input.tensor.size_bytes()});
    json!({"name": input.name, "shape": input.tensor.shape(), "datatype": "FP32", "parameters": size})
}

fn in_grpc(input: &NamedTensor) -> InferInput {
    InferInput {
        name: input.name.clone(),
        datatype: "FP32".to_owned(),
        shape: input.tensor.shape().iter().map(|size| *size as i64).collect(),
    }
}
