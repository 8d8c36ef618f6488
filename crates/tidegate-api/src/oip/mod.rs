//! Open Inference Protocol, version 2, on REST and gRPC, with Triton's extensions as clients use them: binary tensors,
//! model repository, statistics, trace settings, classification, streams.
//!
//! Specification: <https://github.com/kserve/open-inference-protocol>; the extensions:
//! <https://github.com/triton-inference-server/server/tree/main/docs/protocol>.
//!
//! What both spellings share stands here: [`infer`] is the path of a request, `models`, `repository`, `statistics` and
//! `settings` the rest. `rest` and `grpc` only read and write; each has one file that maps errors to its codes. Neither
//! builds a tree of values: tensors are cut out of the body, and written from where the model left them.

mod binary;
mod body;
mod classification;
pub(crate) mod grpc;
mod infer;
mod models;
mod repository;
pub(crate) mod rest;
mod settings;
mod statistics;

pub(crate) use settings::Traces;

/// Tensors of one request, inputs or outputs. Models have a handful; more is an attack on memory.
const MAX_TENSORS: usize = 1024;

/// Of a body that holds no tensors.
const MAX_SMALL_BYTES: u64 = 1 << 20;

/// What `server metadata` says of itself, in the names that Triton gave them.
const EXTENSIONS: [&str; 6] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "statistics",
    "trace",
];
