//! The one integration-test binary of the crate: the contract of the repositories on both databases, and the artifact
//! store on a folder and on S3.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy.toml's leave for tests does not reach helpers"
)]

mod artifacts;
mod bench;
mod connect;
mod contract;
mod postgres;
mod s3;
mod samples;

/// Settings of the test run. Tests have no configuration file; these few variables are it.
#[expect(clippy::disallowed_methods, reason = "tests are pointed at servers by the environment")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says that a test had nothing to run against; on CI that is a failure.
fn skip(what: &str) {
    assert!(setting("CI").as_deref() != Some("true"), "{what}; on CI it must be there");
    println!("skipped: {what}");
}
