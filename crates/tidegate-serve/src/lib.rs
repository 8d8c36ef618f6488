//! Running models: runtimes behind one small blocking trait, slots, and routing a request to one.
//!
//! A [`Runtime`] turns a file into a [`Session`]; a [`Slot`] is one loaded version with its pool of sessions; a
//! [`Server`] is what a process serves now: which slots are loaded, which of them answers a request, and the bounded
//! queue and worker threads that run it.
//!
//! Knows no HTTP, no database, no artifact store, no environment and no clock (`Instant` measures durations only). It is
//! told which file is which version and which route holds; it decides neither.
//!
//! Start reading at [`runtime`] (the seam), then [`slot`], then [`server`].

pub mod accelerator;
mod batch;
mod batchable;
mod brief;
mod classical;
mod hostile;
pub mod load_error;
mod loads;
pub mod memory;
mod mirror;
mod onnx_file;
mod onnxruntime;
mod pack;
mod pool;
pub mod probe;
mod queue;
mod quiet;
pub mod routes;
mod rten;
pub mod runtime;
pub mod server;
pub mod slot;

pub use accelerator::{AcceleratorChoice, AcceleratorInfo, cpu_has_bf16};
pub use batchable::BatchOptions;
pub use hostile::read_onnx;
pub use load_error::LoadError;
pub use onnx_file::{OnnxDescription, describe_onnx};
pub use pack::Priority;
pub use probe::{check_outputs, probe_inputs};
pub use routes::{ResolveError, Resolved};
pub use runtime::{
    RunError, Runtime, RuntimeChoice, RuntimeError, RuntimeInfo, RuntimeOptions, Session, SessionOptions,
    open_runtime,
};
pub use server::{InferError, InferOptions, Inference, Server, ServerOptions, SlotState, SlotStatus};
pub use slot::{Slot, SlotOptions, SlotSpec, Standing, Tally};
