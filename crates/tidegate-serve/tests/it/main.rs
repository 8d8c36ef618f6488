//! Tests of the public API: all runtimes through one conformance suite, then slots, routes and the server.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy allows both in tests, but not in their helpers"
)]

/// Polls a request once, which queues it.
macro_rules! queued {
    ($future:expr) => {{
        let mut future = Box::pin($future);
        assert!(futures::poll!(&mut future).is_pending(), "the request is answered already");
        future
    }};
}

mod accelerators;
mod batching;
mod brief;
mod classical;
mod conformance;
mod fake;
mod files;
mod mirroring;
mod routing;
mod serving;
mod shared_data;
mod support;
mod swapping;
