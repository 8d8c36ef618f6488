//! Archives that torch made, converted and run by a runtime in Rust, against what torch answered.

mod conversion;
mod documentation;
mod hostile;
mod refusals;
mod shared_data;
mod support;
