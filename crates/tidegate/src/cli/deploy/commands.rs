//! `tidegate deployments`, `rollback`, `approve`, `promote`, `pause`, `resume`, `cancel`.

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};

use crate::cli::{ServerFlag, say};
use crate::client::{ApiError, Client};

#[derive(Args)]
pub struct DeploymentsArgs {
    /// Show this deployment and its event log
    deployment: Option<String>,
    /// Only those of this model
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    server: ServerFlag,
}

/// A command to a deployment that is under way.
#[derive(Args)]
pub struct CommandArgs {
    /// A deployment's id, or a model's name: its newest deployment
    target: String,
    /// Where, when a model is named [default: the server's]
    #[arg(long)]
    environment: Option<String>,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Args)]
pub struct RollbackArgs {
    /// A deployment's id, or a model's name: its newest deployment
    target: String,
    /// Why; kept in the event log
    #[arg(long, default_value = "asked for on the command line")]
    reason: String,
    /// Where, when a model is named [default: the server's]
    #[arg(long)]
    environment: Option<String>,
    /// Also when there is no version before: nothing serves then
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    server: ServerFlag,
}

pub async fn deployments(args: &DeploymentsArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    if let Some(id) = &args.deployment {
        return show(&client, id).await;
    }
    let query = [("modelId", args.model.as_deref())];
    let listed = client.list_all("/api/v1/deployments", "deployments", &query).await?;
    let columns = ["DEPLOYMENT", "MODEL", "VERSION", "ENVIRONMENT", "STRATEGY", "STATUS"];
    say(row(&columns));
    for deployment in &listed {
        let text = |key: &str| deployment[key].as_str().unwrap_or("-");
        let keys = ["deploymentId", "modelName", "version", "environment", "strategy", "status"];
        say(row(&keys.map(text)));
    }
    Ok(())
}

async fn show(client: &Client, id: &str) -> anyhow::Result<()> {
    let path = format!("/api/v1/deployments/{}", Client::segment(id));
    say(serde_json::to_string_pretty(&client.get(&path).await?)?);
    for event in client.events_after(&path, 0).await? {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        say(format!("{}  {:<11} {}", text("at"), text("kind"), text("message")));
    }
    Ok(())
}

fn row(cells: &[&str; 6]) -> String {
    let [id, model, version, environment, strategy, status] = cells;
    format!("{id:<40} {model:<26} {version:<10} {environment:<12} {strategy:<10} {status}")
}

pub async fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let id = resolve(&client, &args.target, args.environment.as_deref(), Which::LivingOnly).await?;
    let body = json!({"reason": args.reason, "force": args.force});
    let answer =
        client.post(&format!("/api/v1/deployments/{}/rollback", Client::segment(&id)), &body).await?;
    let text = |key: &str| answer[key].as_str().unwrap_or("nothing");
    say(format!("{id} is {}; {} serves", text("status"), text("currentVersion")));
    Ok(())
}

/// `verb`: approve, promote, pause, resume or cancel.
pub async fn command(verb: &str, args: &CommandArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let id = resolve(&client, &args.target, args.environment.as_deref(), Which::LivingOnly).await?;
    let deployment =
        client.post(&format!("/api/v1/deployments/{}/{verb}", Client::segment(&id)), &json!({})).await?;
    let text = |key: &str| deployment[key].as_str().unwrap_or_default();
    let share = &deployment["trafficPercentage"];
    let paused = if deployment["pausedAt"].is_null() { "" } else { ", paused" };
    say(format!("{id} is {} ({}{paused}), {share} % of the traffic", text("status"), text("phase")));
    Ok(())
}

/// Which of a model's deployments is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Under way or serving: what failed or was rolled back before has nothing left to be told.
    LivingOnly,
    Any,
}

/// The id of a deployment, given by its id or by its model: then the newest in the environment. What looks like an id may be a
/// model's name all the same.
pub(super) async fn resolve(
    client: &Client,
    target: &str,
    environment: Option<&str>,
    which: Which,
) -> anyhow::Result<String> {
    if target.starts_with("deploy-") {
        match client.get(&format!("/api/v1/deployments/{}", Client::segment(target))).await {
            Ok(_) => return Ok(target.to_owned()),
            Err(error) if !is_not_found(&error) => return Err(error),
            Err(not_a_deployment) => {
                let found = newest_of_model(client, target, environment, which).await;
                return found.map_err(|error| if is_not_found(&error) { not_a_deployment } else { error });
            }
        }
    }
    newest_of_model(client, target, environment, which).await
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|error| error.status == 404)
}

async fn newest_of_model(
    client: &Client,
    model: &str,
    environment: Option<&str>,
    which: Which,
) -> anyhow::Result<String> {
    let server = client.get("/api/v1/server").await?;
    let environment = environment.or(server["defaultEnvironment"].as_str());
    let query = [("modelId", Some(model)), ("environment", environment)];
    // Newest first.
    let listed = client.list_all("/api/v1/deployments", "deployments", &query).await?;
    let is_meant = |deployment: &&Value| {
        let is_over =
            matches!(deployment["status"].as_str(), Some("Failed" | "RolledBack" | "Cancelled") | None);
        which == Which::Any || !is_over
    };
    let newest = listed.iter().find(is_meant);
    let id = newest.and_then(|deployment| deployment["deploymentId"].as_str());
    id.map(str::to_owned).with_context(|| {
        let environment = environment.unwrap_or("this environment");
        match which {
            Which::LivingOnly => {
                format!("model `{model}` has no deployment in {environment} that is under way or serves")
            }
            Which::Any => format!("model `{model}` has no deployment in {environment} yet"),
        }
    })
}
