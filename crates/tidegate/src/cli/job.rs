//! `tidegate job`: scenes on a server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::scene_flags::SceneFlags;
use super::{ServerFlag, progress_bar, say};
use crate::client::Client;

/// How often a job is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub enum JobCommand {
    /// Have a scene of any size predicted by a deployed model, and fetch what comes out
    Raster(RasterArgs),
    /// List jobs, newest first
    List(ListArgs),
    /// Show a job and its event log
    Show(JobArgs),
    /// Follow a job to its end
    Watch(JobArgs),
    /// End a job that is not over
    Cancel(JobArgs),
    /// Download what a job has made
    Fetch(FetchArgs),
    /// Delete a job that is over, with its files
    Delete(JobArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  tidegate job raster scene.tif --model refugee-camp-detector
  tidegate job raster https://maps.example.org/scene.tif --model refugee-camp-detector --no-wait

A file of this machine is uploaded; an address is read by the server, where its settings allow that (jobs.sources).")]
pub struct RasterArgs {
    /// A (Geo)TIFF of this machine, or an https://, s3:// or file:// address that the server may read
    scene: String,
    /// A model deployed on the server
    #[arg(long, value_name = "NAME")]
    model: String,
    /// A version that is deployed, instead of the one with most of the traffic
    #[arg(long)]
    version: Option<String>,
    /// Development, Staging or Production [default: the server's]
    #[arg(long)]
    environment: Option<String>,
    /// The scene's ground resolution in metres a pixel, where the file does not say
    #[arg(long, value_name = "METRES")]
    gsd: Option<f64>,
    #[command(flatten)]
    options: SceneFlags,
    /// Where the files go
    #[arg(long, short, value_name = "FOLDER", default_value = "tidegate-output")]
    output_dir: PathBuf,
    /// Return at once, do not follow the job
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Args)]
pub struct ListArgs {
    /// Only those of this model
    #[arg(long)]
    model: Option<String>,
    /// Queued, Running, Succeeded, Failed or Cancelled
    #[arg(long)]
    status: Option<String>,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Args)]
pub struct JobArgs {
    /// The job's id
    job: String,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Args)]
pub struct FetchArgs {
    /// The job's id
    job: String,
    /// Where the files go
    #[arg(long, short, value_name = "FOLDER", default_value = "tidegate-output")]
    output_dir: PathBuf,
    #[command(flatten)]
    server: ServerFlag,
}

pub async fn run(command: JobCommand) -> anyhow::Result<()> {
    match command {
        JobCommand::Raster(args) => raster(&args).await,
        JobCommand::List(args) => list(&args).await,
        JobCommand::Show(args) => show(&args.server.client()?, &args.job).await,
        JobCommand::Watch(args) => watch(&args.server.client()?, &args.job).await.map(drop),
        JobCommand::Cancel(args) => cancel(&args.server.client()?, &args.job).await,
        JobCommand::Fetch(args) => {
            let client = args.server.client()?;
            let job = client.get(&path(&args.job)).await?;
            fetch(&client, &job, &args.output_dir).await
        }
        JobCommand::Delete(args) => args.server.client()?.delete(&path(&args.job)).await,
    }
}

fn path(job: &str) -> String {
    format!("/api/v1/jobs/{}", Client::segment(job))
}

async fn raster(args: &RasterArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let mut body = json!({"modelId": args.model, "options": args.options.to_json(args.gsd)?});
    for (key, value) in [("version", &args.version), ("environment", &args.environment)] {
        if let Some(value) = value {
            body[key] = json!(value);
        }
    }
    let job = if args.scene.contains("://") {
        body["source"] = json!(args.scene);
        client.post("/api/v1/jobs/raster", &body).await?
    } else {
        client.upload_scene(&body, Path::new(&args.scene)).await?
    };
    let id = job["jobId"].as_str().context("the server's answer has no jobId")?;
    say(format!("job {id}"));
    if args.no_wait {
        return Ok(());
    }
    let job = watch(&client, id).await?;
    fetch(&client, &job, &args.output_dir).await
}

/// Shows the progress until the job is over; gives the job, or its failure.
async fn watch(client: &Client, id: &str) -> anyhow::Result<Value> {
    let bar = progress_bar(0, "{bar:40} {percent}% {pos}/{len} tiles, {msg}");
    loop {
        let job = client.get(&path(id)).await?;
        let progress = &job["progress"];
        bar.set_length(progress["tilesTotal"].as_u64().unwrap_or(0));
        bar.set_position(progress["tilesDone"].as_u64().unwrap_or(0));
        bar.set_message(told(&job));
        let status = job["status"].as_str().unwrap_or_default();
        match status {
            "Succeeded" => {
                bar.finish_and_clear();
                return Ok(job);
            }
            "Failed" | "Cancelled" => {
                bar.finish_and_clear();
                bail!(
                    "job {id} ended as {status}: {}",
                    job["errorMessage"].as_str().unwrap_or("see `tidegate job show`")
                );
            }
            _ => tokio::time::sleep(WATCH_INTERVAL).await,
        }
    }
}

/// What a job is at, in a few words.
fn told(job: &Value) -> String {
    let progress = &job["progress"];
    let phase = progress["phase"].as_str().filter(|_| job["status"] == "Running");
    let words = phase.or(job["status"].as_str()).unwrap_or("-").to_lowercase();
    match progress["etaSeconds"].as_f64() {
        Some(eta) if job["status"] == "Running" => format!("{words}, about {eta:.0} s left"),
        _ => words,
    }
}

async fn fetch(client: &Client, job: &Value, folder: &Path) -> anyhow::Result<()> {
    let id = job["jobId"].as_str().unwrap_or_default();
    let status = job["status"].as_str().unwrap_or_default();
    let Some(outputs) = job["result"]["outputs"].as_array() else {
        bail!("job {id} is {status}; its files are there once it has succeeded");
    };
    std::fs::create_dir_all(folder).with_context(|| format!("failed to create `{}`", folder.display()))?;
    for output in outputs {
        let name = output["name"].as_str().unwrap_or_default();
        // A server that is not ours must not choose where on this machine it writes.
        if name.is_empty() || name.contains(['/', '\\', ':']) || name.starts_with('.') {
            bail!("unexpected file `{name}` in the server's answer");
        }
        let target = folder.join(name);
        let partial = folder.join(format!("{name}.partial"));
        client.download(&format!("{}/outputs/{}", path(id), Client::segment(name)), &partial).await?;
        std::fs::rename(&partial, &target)
            .with_context(|| format!("failed to write `{}`", target.display()))?;
        say(target.display().to_string());
    }
    for note in job["result"]["notes"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        say(format!("Note: {note}."));
    }
    say(summary(job));
    Ok(())
}

fn summary(job: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let result = &job["result"];
    format!(
        "{} x {} pixels, {} tiles ({} empty), {} polygons by {} {} on {}",
        result["width"],
        result["height"],
        result["tiles"],
        result["emptyTiles"],
        result["polygons"],
        text(&job["modelName"]),
        text(&job["version"]),
        text(&result["runtime"]),
    )
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let client = args.server.client()?;
    let query = [("modelId", args.model.as_deref()), ("status", args.status.as_deref())];
    let jobs = client.list_all("/api/v1/jobs", "jobs", &query).await?;
    let row = |cells: [&str; 6]| {
        let [id, model, version, status, done, source] = cells;
        say(format!("{id:<38} {model:<26} {version:<10} {status:<10} {done:>6}  {source}"));
    };
    row(["JOB", "MODEL", "VERSION", "STATUS", "DONE", "SCENE"]);
    for job in &jobs {
        let text = |key: &str| job[key].as_str().unwrap_or("-");
        let share = job["progress"]["shareDone"].as_f64().unwrap_or(0.0);
        let share = if job["status"] == "Succeeded" { 1.0 } else { share };
        let done = format!("{:.0} %", 100.0 * share);
        row([text("jobId"), text("modelName"), text("version"), text("status"), &done, text("source")]);
    }
    Ok(())
}

async fn show(client: &Client, id: &str) -> anyhow::Result<()> {
    say(serde_json::to_string_pretty(&client.get(&path(id)).await?)?);
    for event in client.events_after(&path(id), 0).await? {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        say(format!("{}  {:<10} {}", text("at"), text("kind"), text("message")));
    }
    Ok(())
}

async fn cancel(client: &Client, id: &str) -> anyhow::Result<()> {
    let job = client.post(&format!("{}/cancel", path(id)), &json!({})).await?;
    say(format!("{id} is {}", job["status"].as_str().unwrap_or_default()));
    Ok(())
}
