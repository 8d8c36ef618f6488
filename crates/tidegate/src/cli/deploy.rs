//! `tidegate deploy MODEL` and `tidegate deploy watch`, and what people ask of deployments ([`commands`]).
//!
//! Both follow a deployment with [`follow`] and show it by a [`Teller`]: on a terminal a [`panel`] that is redrawn in place
//! below the log, elsewhere the log alone, a line an event.

mod commands;
mod follow;
mod panel;
mod teller;

pub use commands::{CommandArgs, DeploymentsArgs, RollbackArgs, command, deployments, rollback};
pub use follow::{EndedOtherwise, News, Until, follow};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::{ServerFlag, say};
use crate::client::{Client, DeployRequest};
use commands::{Which, resolve};
use teller::{Teller, Times};

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  tidegate deploy refugee-camp-detector
  tidegate deploy fraud-detection --version 2.0.0 --environment Staging
  tidegate deploy fraud-detection --strategy Canary --set 'steps=[5,25,50]' --set monitoringDuration=PT1M
  tidegate deploy watch fraud-detection     see how its newest deployment goes
  tidegate deploy -- watch                  a model that is called watch

Exit status: 0 when the version has all the traffic, 1 after an error, 2 for unusable arguments, 3 when the deployment
ended as Failed, RolledBack or Cancelled, 130 after Ctrl-C, which leaves the deployment running.")]
pub struct DeployArgs {
    #[command(subcommand)]
    other: Option<DeployCommand>,
    /// The model's name or id
    #[arg(required = true)]
    model: Option<String>,
    /// The version to deploy [default: the highest]
    #[arg(long)]
    version: Option<String>,
    /// Development, Staging or Production [default: the server's]
    #[arg(long)]
    environment: Option<String>,
    /// How to move the traffic: BlueGreen, Canary, ABTesting, Shadow or Rolling [default: the server's]
    #[arg(long)]
    strategy: Option<String>,
    /// A key of the strategy's configuration; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, Value)>,
    /// Go on where validation fails, and why; for those that the server lists as admins
    #[arg(long = "override", value_name = "REASON")]
    override_reason: Option<String>,
    /// Return at once, do not follow the deployment
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Subcommand)]
enum DeployCommand {
    /// Show how a deployment goes, from its first event to its end; also one that has ended
    Watch(WatchArgs),
}

#[derive(Args)]
#[command(after_help = "\
On a terminal a live view: what is going on, the share of each version, the time left, what both have answered, and how each
metric stands. Elsewhere one line an event. May be run at any time, by anybody, as often as one likes.

To deploy a model that is called watch: tidegate deploy -- watch

Exit status: 0 when the version is active, 1 after an error, 2 for unusable arguments, 3 when the deployment ended as Failed,
RolledBack or Cancelled, 130 after Ctrl-C, which leaves the deployment running.")]
struct WatchArgs {
    /// A deployment's id, or a model's name: its newest deployment
    target: String,
    /// Where, when a model is named [default: the server's]
    #[arg(long)]
    environment: Option<String>,
    #[command(flatten)]
    server: ServerFlag,
}

/// Somebody has seen enough; the deployment goes on.
#[derive(Debug, thiserror::Error)]
#[error("the deployment goes on by itself; to come back: tidegate deploy watch {id}{server}")]
pub struct SeenEnough {
    id: String,
    /// The flag that leads to it, where that is not the default one.
    server: String,
}

/// `KEY=VALUE`; a value that is JSON (a number, `true`, `[..]`) is taken as such, anything else as text.
fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as smokeTestSamples=20")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok((key.to_owned(), value))
}

pub async fn deploy(args: &DeployArgs) -> anyhow::Result<()> {
    match &args.other {
        Some(DeployCommand::Watch(args)) => watch(args).await,
        None => start(args).await,
    }
}

async fn start(args: &DeployArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let settings: Map<String, Value> = args.settings.iter().cloned().collect();
    let request = DeployRequest {
        model: args.model.clone().context("which model? see tidegate deploy --help")?,
        version: args.version.clone(),
        environment: args.environment.clone(),
        strategy: args.strategy.clone(),
        strategy_config: (!settings.is_empty()).then_some(Value::Object(settings)),
        override_reason: args.override_reason.clone(),
    };
    let deployment = client.deploy(&request).await?;
    let id = deployment["deploymentId"].as_str().context("the server's answer has no deploymentId")?;
    say(format!("deployment {id}"));
    if args.no_wait {
        return Ok(());
    }
    show(&client, &args.server, id, Until::AllTraffic, Times::Hidden).await
}

async fn watch(args: &WatchArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let id = resolve(&client, &args.target, args.environment.as_deref(), Which::Any).await?;
    show(&client, &args.server, &id, Until::Active, Times::Shown).await
}

/// Follows and shows a deployment, until its end or until somebody has seen enough.
async fn show(
    client: &Client,
    server: &ServerFlag,
    id: &str,
    until: Until,
    times: Times,
) -> anyhow::Result<()> {
    let mut teller = Teller::new(times);
    let result = tokio::select! {
        result = follow(client, id, until, |news| teller.tell(&news)) => result,
        Ok(()) = tokio::signal::ctrl_c() => {
            Err(SeenEnough { id: id.to_owned(), server: server.as_flag() }.into())
        }
    };
    teller.finish();
    result
}
