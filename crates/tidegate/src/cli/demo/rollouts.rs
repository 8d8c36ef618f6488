//! `tidegate demo rollouts`: every strategy under load, over three servers on one database.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::load::{Load, Seen};
use super::replicas::Replicas;
use super::text;
use crate::cli::say;
use crate::client::{Client, DeployRequest};

const MODEL: &str = "loan-default";
const N_REPLICAS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Within which the end of a deployment reaches every server.
const SETTLING: Duration = Duration::from_secs(1);

/// The longest that a chapter may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Args)]
pub struct RolloutsArgs {
    /// The folder with the versions of the model
    #[arg(long, value_name = "FOLDER", default_value = "examples/rollouts")]
    models: PathBuf,
    /// A PostgreSQL for the three servers; without one they share a SQLite file
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// An empty folder for data and logs; without one, a temporary folder that is removed in the end
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

/// One deployment, and how it must end.
struct Chapter {
    title: &'static str,
    version: &'static str,
    strategy: &'static str,
    config: fn() -> Value,
    ends_as: &'static str,
}

/// In an order in which each begins with the version that the one before has left.
const CHAPTERS: [Chapter; 8] = [
    Chapter {
        title: "1.1.0 goes out by Canary, and is promoted on evidence",
        version: "1.1.0",
        strategy: "Canary",
        config: || json!({"steps": [25, 50], "monitoringDuration": "PT1S", "minimumSamples": 200}),
        ends_as: "Active",
    },
    Chapter {
        title: "1.2.0-bad goes out by Canary, is caught, and rolled back by itself",
        version: "1.2.0-bad",
        strategy: "Canary",
        config: || json!({"steps": [25, 50], "monitoringDuration": "PT1S", "minimumSamples": 200}),
        ends_as: "RolledBack",
    },
    Chapter {
        title: "1.2.0-bad goes out by BlueGreen, and is rolled back after the switch",
        version: "1.2.0-bad",
        strategy: "BlueGreen",
        config: || json!({"monitoringDuration": "PT2M"}),
        ends_as: "RolledBack",
    },
    Chapter {
        title: "1.2.0-bad is tested against 1.1.0, and loses",
        version: "1.2.0-bad",
        strategy: "ABTesting",
        config: || json!({"minimumSamples": 200, "stickyBy": "request"}),
        ends_as: "RolledBack",
    },
    Chapter {
        title: "1.2.0-bad runs as a Shadow: nobody meets it, and it is let go of",
        version: "1.2.0-bad",
        strategy: "Shadow",
        config: || json!({"comparisonSamples": 500, "autoPromote": true}),
        ends_as: "Failed",
    },
    Chapter {
        title: "1.2.0-bad goes over the servers one by one, and is stopped",
        version: "1.2.0-bad",
        strategy: "Rolling",
        config: || json!({"waitDuration": "PT20S"}),
        ends_as: "RolledBack",
    },
    Chapter {
        title: "1.1.1 goes over the servers one by one, and arrives",
        version: "1.1.1",
        strategy: "Rolling",
        config: || json!({"waitDuration": "PT2S", "monitoringDuration": "PT2S"}),
        ends_as: "Active",
    },
    Chapter {
        title: "1.1.2 runs as a Shadow, agrees, and takes the traffic",
        version: "1.1.2",
        strategy: "Shadow",
        config: || json!({"comparisonSamples": 500, "autoPromote": true, "monitoringDuration": "PT2S"}),
        ends_as: "Active",
    },
];

pub async fn run(args: &RolloutsArgs) -> anyhow::Result<()> {
    let temporary = std::env::temp_dir().join(format!("tidegate-demo-{}", std::process::id()));
    let folder = args.data_dir.clone().unwrap_or_else(|| temporary.clone());
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    let told = tell(args, &folder).await;
    match &told {
        Ok(()) if args.data_dir.is_none() => std::fs::remove_dir_all(&temporary).unwrap_or_default(),
        _ => say(format!("Data and logs are in {}.", folder.display())),
    }
    told
}

async fn tell(args: &RolloutsArgs, folder: &Path) -> anyhow::Result<()> {
    let replicas = Replicas::start(N_REPLICAS, folder, args.database.as_deref()).await?;
    say(format!("{N_REPLICAS} servers share one database: {}.", replicas.urls.join(", ")));
    let client = Client::new(&replicas.urls[0])?;
    for (version, file) in [
        ("1.0.0", "1.0.0"),
        ("1.1.0", "1.1.0"),
        ("1.1.1", "1.1.0"),
        ("1.1.2", "1.1.0"),
        ("1.2.0-bad", "1.2.0-bad"),
    ] {
        let file = args.models.join(format!("loan-default-{file}.onnx"));
        ensure!(
            file.is_file(),
            "`{}` is not there; run this in a checkout of Tidegate, or name a folder with --models",
            file.display()
        );
        client
            .register(&json!({"name": MODEL, "version": version, "framework": "ONNX"}), None, &[file], &[])
            .await?;
    }
    deliver(&client, "1.0.0", "BlueGreen", &json!({})).await?;
    until_all_answer(&replicas.urls).await?;
    let load = Load::start(MODEL, &replicas.urls)?;
    say("1.0.0 serves. Users ask all three, and say of every fourth answer what really happened.");

    let mut serving = "1.0.0".to_owned();
    for chapter in &CHAPTERS {
        say("");
        say(format!("== {}", chapter.title));
        serving = chapter.tell(&client, &load, &serving).await?;
    }
    let seen = load.stop().await;
    say("");
    let total: u64 = seen.answers.values().sum();
    say(format!("{total} requests were answered, {} failed.", seen.failures.len()));
    ensure!(seen.failures.is_empty(), "requests failed: {}", seen.failures[0]);
    Ok(())
}

/// The first version of all reaches the other servers a moment after the one that was asked.
async fn until_all_answer(urls: &[String]) -> anyhow::Result<()> {
    let question = json!({"features": {"features": [0.0, 0.0, 0.0, 0.0]}});
    let deadline = Instant::now() + PATIENCE;
    for url in urls {
        let client = Client::new(url)?;
        while let Err(error) = client.post(&format!("/api/v1/inference/{MODEL}"), &question).await {
            ensure!(Instant::now() < deadline, "{url} does not answer: {error:#}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

impl Chapter {
    /// Gives the version that serves in the end. An end that is not as it must be is an error, and so is an answer by a
    /// version that had no business to answer.
    async fn tell(&self, client: &Client, load: &Load, serving: &str) -> anyhow::Result<String> {
        let before = load.seen();
        let started = Instant::now();
        // Microsecond models on a busy machine: wide limits for latency, and for accuracy such that a few hundred labels tell.
        // 1.1.0 is surer of itself than 1.0.0, which is drift: 0.22 of the usual 0.3 takes thousands of answers to tell.
        let mut config = (self.config)();
        config["smokeTestSamples"] = json!(5);
        config["rollbackThresholds"] =
            json!({"latencyIncrease": 100, "accuracyDrop": 0.2, "errorRateIncrease": 0.05, "driftScore": 1});
        let status = deliver(client, self.version, self.strategy, &config).await?;
        // What the other servers answer until the end has reached them belongs to this chapter.
        tokio::time::sleep(SETTLING).await;
        let after = load.seen();
        let answered = |seen: &Seen, version: &str| seen.answers.get(version).copied().unwrap_or(0);
        let met = answered(&after, self.version) - answered(&before, self.version);
        let took = started.elapsed().as_secs_f64();
        say(format!("-> {status} after {took:.1} s; {met} answers by {}", self.version));
        ensure!(status == self.ends_as, "it should have ended as {}", self.ends_as);
        ensure!(self.strategy != "Shadow" || status == "Active" || met == 0, "callers met the shadow");
        let others = after.answers.iter().filter(|(version, count)| {
            **count > answered(&before, version) && *version != serving && *version != self.version
        });
        let others: Vec<&String> = others.map(|(version, _)| version).collect();
        ensure!(others.is_empty(), "answers by versions that nobody had deployed: {others:?}");
        Ok(if status == "Active" { self.version } else { serving }.to_owned())
    }
}

/// Deploys and tells every event until the end; gives the status.
async fn deliver(client: &Client, version: &str, strategy: &str, config: &Value) -> anyhow::Result<String> {
    let request = DeployRequest {
        model: MODEL.to_owned(),
        version: Some(version.to_owned()),
        strategy: Some(strategy.to_owned()),
        strategy_config: Some(config.clone()),
        ..DeployRequest::default()
    };
    let created = client.deploy(&request).await?;
    let path = format!("/api/v1/deployments/{}", text(&created, "deploymentId"));
    let deadline = Instant::now() + PATIENCE;
    let mut after = 0;
    loop {
        let deployment = client.get(&path).await?;
        for event in &client.events_after(&path, after).await? {
            after = event["seq"].as_u64().unwrap_or(after);
            say(format!("  {:18} {}", text(event, "kind"), text(event, "message")));
        }
        let status = text(&deployment, "status");
        match status.as_str() {
            "Active" | "Failed" | "RolledBack" | "Cancelled" => return Ok(status),
            _ if Instant::now() > deadline => bail!("{version} has not ended within {PATIENCE:?}"),
            _ => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
