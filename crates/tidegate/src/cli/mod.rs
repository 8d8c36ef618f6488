//! The command line: one file a command, each a thin face over the server's API or over [`crate::local`].

mod activation;
mod demo;
mod deploy;
mod job;
mod model;
mod package;
mod predict;
mod replica;
mod scene_flags;
mod serve;
mod stac;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::Client;
use crate::config::{Config, ConfigFlags};

#[derive(Parser)]
#[command(
    name = "tidegate",
    version,
    about = "Takes a trained model from a file to production traffic, and back out of it.",
    after_help = "\
From a file to predictions, with nothing else installed:

  tidegate serve                                    start a server (data in ./tidegate-data)
  tidegate model register --stac stac_item.json     bring a model with all its files
  tidegate deploy my-model                          test it, then give it the traffic
  tidegate predict photo.tif --model my-model       mask, overlay, probabilities, metadata
  tidegate rollback my-model                        and back, at once

Without a server:

  tidegate predict photo.tif --stac stac_item.json

Settings come from ./tidegate.toml, TIDEGATE_... variables and flags; `tidegate config` shows them all.",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server: API at /api/v1, Swagger UI at /swagger
    Serve(ConfigFlags),
    /// Run the whole story once: register an example, deploy it, predict an image, show what came out
    Demo(demo::DemoArgs),
    /// Register, list, show and archive models
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// Bring a version into an environment, and watch it get there; or watch another one
    Deploy(deploy::DeployArgs),
    /// List deployments, or show one with its event log
    Deployments(deploy::DeploymentsArgs),
    /// Give the traffic back to the version before
    Rollback(deploy::RollbackArgs),
    /// Let a deployment that waits for it go on; not by the one who asked for it
    Approve(deploy::CommandArgs),
    /// Take a deployment's next step without waiting for evidence
    Promote(deploy::CommandArgs),
    /// Hold a deployment where it is
    Pause(deploy::CommandArgs),
    /// Let a paused deployment go on
    Resume(deploy::CommandArgs),
    /// End a deployment in progress; the version before goes on
    Cancel(deploy::CommandArgs),
    /// The servers that share the database
    #[command(subcommand)]
    Replica(replica::ReplicaCommand),
    /// Find what a model finds in an image: writes mask, overlay, probabilities and metadata
    Predict(predict::PredictArgs),
    /// Scenes on a server: ask for one, follow it, fetch what comes out
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Check a model's STAC-MLM item, or write a first one
    #[command(subcommand)]
    Stac(stac::StacCommand),
    /// Make, sign and check deep learning packages for ArcGIS
    #[command(subcommand)]
    Package(package::PackageCommand),
    /// Print the settings in force, as a tidegate.toml
    Config(ConfigFlags),
}

/// Which server a command talks to.
#[derive(Args, Clone)]
pub struct ServerFlag {
    /// The Tidegate server
    #[arg(long, value_name = "URL", default_value = DEFAULT_SERVER, env = "TIDEGATE_URL")]
    pub server: String,
}

const DEFAULT_SERVER: &str = "http://127.0.0.1:5000";

impl ServerFlag {
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.server)
    }

    /// What must be written to reach the same server again, with a space before it; nothing for the default one.
    pub fn as_flag(&self) -> String {
        if self.server == DEFAULT_SERVER { String::new() } else { format!(" --server {}", self.server) }
    }
}

/// Parses the arguments and runs the command. Errors go to standard error; the exit status is 1 for them, 2 for unusable
/// arguments, [`ENDED_OTHERWISE`] and [`INTERRUPTED`].
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // reqwest and the S3 client take the process's provider; ring needs no C toolchain of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("failed to start the threads")),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve(flags) => serve::run(&Config::load(&flags)?).await,
        Command::Demo(args) => demo::run(&args, Config::load(&args.config)?).await,
        Command::Model(command) => model::run(command).await,
        Command::Deploy(args) => deploy::deploy(&args).await,
        Command::Deployments(args) => deploy::deployments(&args).await,
        Command::Rollback(args) => deploy::rollback(&args).await,
        Command::Approve(args) => deploy::command("approve", &args).await,
        Command::Promote(args) => deploy::command("promote", &args).await,
        Command::Pause(args) => deploy::command("pause", &args).await,
        Command::Resume(args) => deploy::command("resume", &args).await,
        Command::Cancel(args) => deploy::command("cancel", &args).await,
        Command::Replica(command) => replica::run(command).await,
        Command::Predict(args) => predict::run(&args).await,
        Command::Job(command) => job::run(command).await,
        Command::Package(command) => package::run(&command).await,
        Command::Stac(command) => stac::run(&command),
        Command::Config(flags) => {
            say(Config::load(&flags)?.to_toml()?.trim_end());
            Ok(())
        }
    }
}

/// A deployment that was followed has ended, but not with the new version.
const ENDED_OTHERWISE: u8 = 3;

/// As shells say it of what Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

fn fail(error: &anyhow::Error) -> ExitCode {
    if let Some(seen_enough) = error.downcast_ref::<deploy::SeenEnough>() {
        eprintln!("{seen_enough}");
        return ExitCode::from(INTERRUPTED);
    }
    eprintln!("error: {error:#}");
    match error.is::<deploy::EndedOtherwise>() {
        true => ExitCode::from(ENDED_OTHERWISE),
        false => ExitCode::FAILURE,
    }
}

/// On standard error, and only where somebody watches.
fn progress_bar(length: u64, template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template);
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// One line for the user. A closed pipe (`tidegate ... | head`) is not an error.
pub fn say(line: impl AsRef<str>) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
}
