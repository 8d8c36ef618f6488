//! Archives that torch made, converted and run by a runtime in Rust, against what torch answered.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod conversion;
mod documentation;
mod hostile;
mod refusals;
mod shared_data;
mod support;
