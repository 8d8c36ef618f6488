//! Tests of the public API: both runtimes through one conformance suite, then slots, routes and the server.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy allows both in tests, but not in their helpers"
)]

mod batching;
mod conformance;
mod fake;
mod files;
mod mirroring;
mod routing;
mod serving;
mod shared_data;
mod support;
mod swapping;
