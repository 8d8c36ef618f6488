//! `tidegate replica`.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{ServerFlag, say};

#[derive(Subcommand)]
pub enum ReplicaCommand {
    /// List the servers that share the database: who lives, what each has loaded, who is behind
    List(ListArgs),
}

#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    server: ServerFlag,
}

pub async fn run(command: ReplicaCommand) -> anyhow::Result<()> {
    match command {
        ReplicaCommand::List(args) => list(&args).await,
    }
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let answer = args.server.client()?.get("/api/v1/replicas").await?;
    let row = |id: &str, address: &str, state: &str, last_seen: &str, behind: &str, serves: &str| {
        say(format!("{id:<40} {address:<28} {state:<5} {last_seen:<20} {behind:<6} {serves}"));
    };
    row("REPLICA", "ADDRESS", "STATE", "LAST SEEN", "BEHIND", "LOADED");
    for replica in answer["replicas"].as_array().into_iter().flatten() {
        let text = |key: &str| replica[key].as_str().unwrap_or("-");
        // To the second: `2026-11-23T12:00:00Z`.
        let last_seen = text("heartbeatAt").split('.').next().unwrap_or("-").trim_end_matches('Z');
        let behind = replica["routesBehind"].to_string();
        row(text("replicaId"), text("address"), text("state"), last_seen, &behind, &loaded(replica));
    }
    Ok(())
}

/// `model version, model version`; what is not loaded says so.
fn loaded(replica: &Value) -> String {
    let versions = replica["versions"].as_array().into_iter().flatten().map(|version| {
        let text = |key: &str| version[key].as_str().unwrap_or("-");
        let state = match text("state") {
            "Loaded" => String::new(),
            state => format!(" ({})", state.to_lowercase()),
        };
        format!("{} {}{state}", text("modelName"), text("version"))
    });
    let versions: Vec<_> = versions.collect();
    if versions.is_empty() { "-".to_owned() } else { versions.join(", ") }
}
