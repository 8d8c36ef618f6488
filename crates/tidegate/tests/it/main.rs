//! The real binary, used as its users do: started, asked over HTTP, killed, started again.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that panics has failed, and says what it skips"
)]

mod async_requests;
mod canary;
mod catalogue;
mod cli;
mod crash;
mod fleet;
mod gates;
mod jobs;
mod kills;
mod lifecycle;
mod ndjson;
mod oip;
mod package;
mod predict;
mod replicas;
mod stac;
mod strategies;
mod support;
mod watch;
mod webhooks;

/// Settings of the test run. Tests have no configuration file; these few variables are it.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment what there is to test with")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says that a test had nothing to run against; on CI that is a failure.
fn skip(what: &str) {
    assert!(setting("CI").as_deref() != Some("true"), "{what}; on CI it must be there");
    println!("skipped: {what}");
}
