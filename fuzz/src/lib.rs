//! What the targets share.

pub mod members;
#[path = "../../crates/tidegate-api/tests/it/hostile/requests.rs"]
pub mod requests;
