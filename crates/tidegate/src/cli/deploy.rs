//! `tidegate deploy`, `deployments`, `rollback`.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde_json::{Map, Value, json};

use super::{ServerFlag, say};
use crate::client::{Client, DeployRequest};

/// How often the event log is asked for what is new.
const WATCH_INTERVAL: Duration = Duration::from_millis(300);

#[derive(Args)]
#[command(after_help = "\
Examples:
  tidegate deploy refugee-camp-detector
  tidegate deploy fraud-detection --version 2.0.0 --environment Staging
  tidegate deploy fraud-detection --strategy Canary --set 'steps=[5,25,50]' --set monitoringDuration=PT1M")]
pub struct DeployArgs {
    /// The model's name or id
    model: String,
    /// The version to deploy [default: the highest]
    #[arg(long)]
    version: Option<String>,
    /// Development, Staging or Production [default: the server's]
    #[arg(long)]
    environment: Option<String>,
    /// How to move the traffic: BlueGreen or Canary [default: the server's]
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

/// `KEY=VALUE`; a value that is JSON (a number, `true`, `[..]`) is taken as such, anything else as text.
fn parse_setting(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as smokeTestSamples=20")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok((key.to_owned(), value))
}

pub async fn deploy(args: &DeployArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let settings: Map<String, Value> = args.settings.iter().cloned().collect();
    let request = DeployRequest {
        model: args.model.clone(),
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
    follow(&client, id, tell_event).await
}

/// One event in a line, and under it the checks of a validation that are worth reading.
fn tell_event(event: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&event["kind"]);
    let checks = event["evidence"]["checks"].as_array().map_or(&[][..], Vec::as_slice);
    let has_failed = kind == "failed" && !checks.is_empty();
    let message = if has_failed { "validation failed".to_owned() } else { text(&event["message"]) };
    say(format!("  {kind:<11} {message}"));
    for check in checks {
        let name = text(&check["name"]);
        let is_compared = matches!(name.as_str(), "sample" | "accuracy" | "latency");
        if has_failed || (kind == "validated" && is_compared) {
            let verdict = if check["passed"] == json!(true) { "passed" } else { "FAILED" };
            say(format!("    {verdict}  {name:<9} {}", text(&check["detail"])));
        }
    }
}

/// Tells each event as it comes, until the candidate has the traffic or the deployment has ended otherwise (an error).
pub async fn follow(client: &Client, id: &str, mut tell: impl FnMut(&Value)) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        // The state first: whatever it says, its events are then there to read.
        let deployment = client.get(&format!("/api/v1/deployments/{}", Client::segment(id))).await?;
        after = tell_events(client, id, after, &mut tell).await?.unwrap_or(after);
        let status = deployment["status"].as_str().unwrap_or_default();
        match status {
            "Active" => return Ok(()),
            "Failed" | "RolledBack" | "Cancelled" => {
                let why = deployment["errorMessage"].as_str().unwrap_or("see its event log");
                // The report has been shown, check by check.
                let is_shown = deployment["validationResult"]["passed"] == json!(false);
                let why = if is_shown && status == "Failed" { "validation failed" } else { why };
                bail!("deployment {id} ended as {status}: {why}");
            }
            _ if deployment["trafficPercentage"] == json!(100) => return Ok(()),
            _ => tokio::time::sleep(WATCH_INTERVAL).await,
        }
    }
}

/// Tells the events after a number, a page of them; gives the number of the last, or `None` when there was none.
async fn tell_events(
    client: &Client,
    id: &str,
    after: u64,
    mut tell: impl FnMut(&Value),
) -> anyhow::Result<Option<u64>> {
    let page = client
        .get(&format!("/api/v1/deployments/{}/events?after={after}&limit=100", Client::segment(id)))
        .await?;
    let events = page["events"].as_array().map_or(&[][..], Vec::as_slice);
    events.iter().for_each(&mut tell);
    Ok(events.last().and_then(|event| event["seq"].as_u64()))
}

pub async fn deployments(args: &DeploymentsArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    if let Some(id) = &args.deployment {
        let deployment = client.get(&format!("/api/v1/deployments/{}", Client::segment(id))).await?;
        say(serde_json::to_string_pretty(&deployment)?);
        let mut after = 0;
        while let Some(last) = tell_events(&client, id, after, |event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default();
            say(format!("{}  {:<11} {}", text("at"), text("kind"), text("message")));
        })
        .await?
        {
            after = last;
        }
        return Ok(());
    }
    let listed = list(&client, args.model.as_deref(), None).await?;
    let columns = ["DEPLOYMENT", "MODEL", "VERSION", "ENVIRONMENT", "STRATEGY", "STATUS"];
    say(row(&columns));
    for deployment in &listed {
        let text = |key: &str| deployment[key].as_str().unwrap_or("-");
        let keys = ["deploymentId", "modelName", "version", "environment", "strategy", "status"];
        say(row(&keys.map(text)));
    }
    Ok(())
}

fn row(cells: &[&str; 6]) -> String {
    let [id, model, version, environment, strategy, status] = cells;
    format!("{id:<40} {model:<26} {version:<10} {environment:<12} {strategy:<10} {status}")
}

/// Newest first.
async fn list(client: &Client, model: Option<&str>, environment: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let query = [("modelId", model), ("environment", environment)];
    client.list_all("/api/v1/deployments", "deployments", &query).await
}

pub async fn rollback(args: &RollbackArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let id = resolve(&client, &args.target, args.environment.as_deref()).await?;
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
    let id = resolve(&client, &args.target, args.environment.as_deref()).await?;
    let deployment =
        client.post(&format!("/api/v1/deployments/{}/{verb}", Client::segment(&id)), &json!({})).await?;
    let text = |key: &str| deployment[key].as_str().unwrap_or_default();
    let share = &deployment["trafficPercentage"];
    let paused = if deployment["pausedAt"].is_null() { "" } else { ", paused" };
    say(format!("{id} is {} ({}{paused}), {share} % of the traffic", text("status"), text("phase")));
    Ok(())
}

async fn resolve(client: &Client, target: &str, environment: Option<&str>) -> anyhow::Result<String> {
    match target.starts_with("deploy-") {
        true => Ok(target.to_owned()),
        false => newest_of_model(client, target, environment).await,
    }
}

async fn newest_of_model(client: &Client, model: &str, environment: Option<&str>) -> anyhow::Result<String> {
    let server = client.get("/api/v1/server").await?;
    let environment = environment.or(server["defaultEnvironment"].as_str());
    let listed = list(client, Some(model), environment).await?;
    // What failed or was rolled back before has nothing left to roll back.
    let newest = listed.iter().find(|deployment| {
        !matches!(deployment["status"].as_str(), Some("Failed" | "RolledBack" | "Cancelled") | None)
    });
    let id = newest.and_then(|deployment| deployment["deploymentId"].as_str());
    id.map(str::to_owned)
        .with_context(|| format!("model `{model}` has no deployment that is under way or serves"))
}
