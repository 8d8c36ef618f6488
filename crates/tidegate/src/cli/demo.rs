//! `tidegate demo`: the whole story once, over the real API, told in a few lines.

mod load;
mod replicas;
mod rollouts;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::deploy::{News, Until};
use super::{deploy, model, predict, say};
use crate::app::RunningServer;
use crate::client::{ApiError, Client, DeployRequest};
use crate::config::{Config, ConfigFlags, LogConfig};
use crate::local::read_item;
use crate::logging;

const READY_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DemoArgs {
    #[command(subcommand)]
    story: Option<OtherStory>,
    /// A folder with stac_item.json, its model files, and the image to look at
    #[arg(long, value_name = "FOLDER", default_value = "examples/refugee-camp")]
    example: PathBuf,
    /// The image, in the example's folder
    #[arg(long, value_name = "FILE", default_value = "sample-scene.tif")]
    image: PathBuf,
    /// Where the prediction goes
    #[arg(long, short, value_name = "FOLDER", default_value = "tidegate-output")]
    output_dir: PathBuf,
    #[command(flatten)]
    pub config: ConfigFlags,
}

#[derive(Subcommand)]
enum OtherStory {
    /// Deliver good and bad versions by every strategy, under load, over three servers
    Rollouts(rollouts::RolloutsArgs),
}

pub async fn run(args: &DemoArgs, config: Config) -> anyhow::Result<()> {
    if let Some(OtherStory::Rollouts(args)) = &args.story {
        return rollouts::run(args).await;
    }
    let item = args.example.join("stac_item.json");
    let image = args.example.join(&args.image);
    for file in [&item, &image] {
        if !file.is_file() {
            bail!(
                "`{}` is not there; run this in a checkout of Tidegate, or name a folder with --example",
                file.display()
            );
        }
    }
    logging::init(&LogConfig { level: "warn".to_owned(), ..config.log.clone() })?;
    let server = RunningServer::start(&config).await?;
    let result = tell(args, &config, &server, &item, &image).await;
    server.shutdown().await;
    result
}

async fn tell(
    args: &DemoArgs,
    config: &Config,
    server: &RunningServer,
    item: &Path,
    image: &Path,
) -> anyhow::Result<()> {
    let client = Client::new(&format!("http://{}", server.address))?;
    wait_until_ready(&client).await?;
    let facts = client.get("/api/v1/server").await?;
    let runtime = &facts["runtime"];
    say(format!(
        "A server is up at http://{} on {} {}, keeping its data in {}.",
        server.address,
        text(runtime, "name"),
        text(runtime, "version"),
        config.data_dir.display()
    ));

    let name = register(&client, item).await?;
    deploy_highest(&client, &name).await?;

    let started = Instant::now();
    let zip = client.predict_image(&name, image, &[]).await?;
    let took = started.elapsed().as_secs_f64();
    say(format!("Asked it about {} ({took:.1} s). What came back:", image.display()));
    let files = predict::unzip(&zip)?;
    predict::write(&args.output_dir, &files)?;
    summarise(&files)?;

    say("");
    say(format!("Look at {}.", args.output_dir.join("prediction_overlay.png").display()));
    say("Everything is kept. To go on:");
    say("  tidegate serve                                        the same model, live again");
    say("  open http://127.0.0.1:5000/swagger                    the whole API, to try");
    say("  tidegate predict IMAGE --model NAME                   your own image");
    say("  tidegate model register --stac your/stac_item.json    your own model");
    Ok(())
}

async fn wait_until_ready(client: &Client) -> anyhow::Result<()> {
    let deadline = Instant::now() + READY_TIMEOUT;
    loop {
        match client.get("/ready").await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).context("the server did not get ready");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Registers the example, or finds it registered by an earlier run.
async fn register(client: &Client, item: &Path) -> anyhow::Result<String> {
    let files = model::item_files(item)?;
    match client.register(&json!({}), Some(item), &files, &[]).await {
        Ok(registered) => {
            let (name, version) = (text(&registered, "name"), text(&registered, "version"));
            say(format!(
                "Registered {name} {version} from {}: {} files, checksums verified.",
                item.display(),
                files.len()
            ));
            Ok(name)
        }
        Err(error) if is_conflict(&error) => {
            let name = read_item(item)?.name;
            say(format!("{name} is registered already, from an earlier run."));
            Ok(name)
        }
        Err(error) => Err(error),
    }
}

/// Deploys the highest version unless it serves already.
async fn deploy_highest(client: &Client, name: &str) -> anyhow::Result<()> {
    let request = DeployRequest {
        model: name.to_owned(),
        strategy_config: Some(json!({"smokeTestSamples": 8})),
        ..DeployRequest::default()
    };
    match client.deploy(&request).await {
        Ok(deployment) => {
            say("Deployed it to Production by BlueGreen:");
            let id = text(&deployment, "deploymentId");
            deploy::follow(client, &id, Until::AllTraffic, |news| {
                if let News::Event(event) = news {
                    say(format!("  {}", text(event, "message")));
                }
            })
            .await
        }
        Err(error) if is_conflict(&error) => {
            say("It serves in Production already.");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_conflict(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ApiError>().is_some_and(|error| error.status == 409)
}

/// What was found, in one line.
fn summarise(files: &[tidegate_geo::OutputFile]) -> anyhow::Result<()> {
    let metadata = files.iter().find(|file| file.name == "inference_metadata.json");
    let metadata: Value = serde_json::from_slice(&metadata.context("no metadata came back")?.bytes)?;
    for class in metadata["classes"].as_array().into_iter().flatten() {
        let fraction = class["fraction"].as_f64().unwrap_or_default();
        if class["value"] != json!(0) {
            say(format!("{:.1} % of the image is {}.", fraction * 100.0, text(class, "name")));
        }
    }
    Ok(())
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or("?").to_owned()
}
