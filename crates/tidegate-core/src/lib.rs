//! The vocabulary of Tidegate: what a model, a version, a tensor, a signature and a route *are*.
//!
//! Knows no I/O, no async runtime, no database, no HTTP, and reads neither clock nor environment: [`Clock`] and
//! [`IdSource`] are handed in by the binary. Everything else in the workspace depends on this crate, so a type belongs
//! here only when two of the others must agree on it.
//!
//! Start reading at [`model`] (what is delivered), then [`route`] (who answers), then [`tensor`] (what flows), then
//! [`summary`] (what was seen).

pub mod deployment;
pub mod digest;
mod error_chain;
pub mod id;
pub mod job;
pub mod latency;
pub mod model;
pub mod moments;
pub mod name;
pub mod precision;
pub mod prediction;
pub mod route;
pub mod shadow;
pub mod signature;
mod sparse;
pub mod summary;
pub mod tensor;
pub mod time;
pub mod values;

pub use deployment::{DeploymentStatus, Environment, StrategyKind};
pub use digest::Sha256Digest;
pub use error_chain::error_chain;
pub use id::{DeploymentId, IdSource, JobId, ModelId, ReplicaId, RequestId, VersionId};
pub use job::JobStatus;
pub use latency::LatencyHistogram;
pub use model::{
    Artifact, ArtifactFormat, Baseline, Framework, Model, ModelType, ValidationSample, Version, VersionStatus,
};
pub use moments::Moments;
pub use name::{InvalidName, ModelName};
pub use precision::Precision;
pub use prediction::Predictions;
pub use route::{Arm, Caller, HeaderName, InvalidStickyBy, Moved, Route, Shadow, StickyBy};
pub use shadow::ShadowSummary;
pub use signature::{Dim, Signature, SignatureMismatch, TensorSpec};
pub use summary::ArmSummary;
pub use tensor::{DType, NamedTensor, Tensor, TensorError};
pub use time::{Clock, Timestamp};
pub use values::ValueHistogram;

/// The version number of a model version: Semantic Versioning 2.0.0 (<https://semver.org>).
pub use semver::Version as SemVer;
