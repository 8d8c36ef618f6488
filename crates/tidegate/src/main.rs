//! `tidegate`: takes a trained model from a file to production traffic, and back out of it.
//!
//! The binary wires the crates together: it alone reads the environment, the system clock and the configuration
//! ([`config`]), performs what delivery decides ([`controller`]), and is the face on the command line ([`cli`]).
//! [`app`] is where everything is put together.

mod app;
mod cli;
mod client;
mod clock;
mod config;
mod controller;
mod fleet;
mod inference_log;
mod jobs;
mod listener;
mod local;
mod logging;
mod remedies;
mod scenes;
mod soon;
mod webhooks;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
