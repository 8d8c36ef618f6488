//! Use cases that protocols share: registering a version, and predicting.
//!
//! Knows no axum, no status code and no wire format of any one protocol. Each operation has its own error, which names
//! the field at fault where the caller is.

pub(crate) mod agreement;
pub(crate) mod cache;
pub(crate) mod catalogue;
mod exact;
pub(crate) mod facts;
pub(crate) mod fault;
pub(crate) mod features;
pub(crate) mod feedback;
pub(crate) mod instances;
pub(crate) mod log_policy;
pub(crate) mod nested;
pub(crate) mod predict;
pub(crate) mod prediction;
pub(crate) mod raster;
pub(crate) mod register;
pub(crate) mod sample;
pub(crate) mod segment;
pub(crate) mod served;
pub(crate) mod shadow;
pub(crate) mod stack;
pub(crate) mod tensor_json;
