//! `tidegate model`: the registry from the command line.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use tidegate_core::Precision;

use super::{ServerFlag, say};
use crate::client::Client;
use crate::local::read_item;

#[derive(Subcommand)]
pub enum ModelCommand {
    /// Register a version from a STAC-MLM item with its assets, or from model files
    #[command(after_help = "\
Examples:
  tidegate model register --stac stac_item.json
  tidegate model register fraud.onnx --name fraud-detection --version 2.0.0 --type Classification
  tidegate model register fraud.onnx --name fraud-detection --version 2.1.0 --validation-sample rows.jsonl
  tidegate model register --name fraud-detection --from 2.0.0 --version 2.2.0 --precision bf16
  tidegate model register --stac stac_item.json --validation-sample val.tif --validation-sample val-mask.tif")]
    Register(Box<RegisterArgs>),
    /// List models
    List(ListArgs),
    /// Show a model and its versions
    Show(NamedArgs),
    /// Archive a model: it is kept, but no longer listed, and its name is free again
    Archive(NamedArgs),
}

#[derive(Args)]
pub struct RegisterArgs {
    /// The model's files; the first that can run is the one that does
    files: Vec<PathBuf>,
    /// A STAC-MLM item: names, classes, scaling and files come from it
    #[arg(long, value_name = "ITEM.json")]
    stac: Option<PathBuf>,
    /// The model's name: lowercase letters, digits, `-`, `_`, `.`
    #[arg(long, required_unless_present = "stac")]
    name: Option<String>,
    /// A semantic version, such as 1.0.0
    #[arg(long, required_unless_present = "stac")]
    version: Option<String>,
    /// What it was made with: ONNX, PyTorch, TensorFlow, ScikitLearn, XGBoost, LightGBM, Custom
    #[arg(long)]
    framework: Option<String>,
    /// What it does: Classification, Regression, ComputerVision, ...
    #[arg(long = "type", value_name = "TYPE")]
    model_type: Option<String>,
    /// Compute in f32, bf16 or int8 (a quantised file) [default: as the file says]
    #[arg(long)]
    precision: Option<Precision>,
    /// Instead of files: those of this version of the model, with its schemas, baseline and validation sample
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["files", "stac", "validation_sample"], requires = "name")]
    from: Option<String>,
    /// The version that a quantised file was made from: a deployment compares the two
    #[arg(long, value_name = "VERSION")]
    reference: Option<String>,
    #[arg(long)]
    description: Option<String>,
    #[arg(long)]
    owner: Option<String>,
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Rows of JSON with labels, or images and their masks (`a.tif`, `a-mask.tif`, or a zip of them): every deployment is
    /// tested on it; may be repeated
    #[arg(long, value_name = "FILE")]
    validation_sample: Vec<PathBuf>,
    /// What it is said to reach on the sample, where no version serves yet to compare it with
    #[arg(long, value_name = "0 to 1")]
    baseline_accuracy: Option<f64>,
    /// How long a prediction is said to take, in milliseconds
    #[arg(long, value_name = "MS")]
    baseline_latency_ms: Option<f64>,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Args)]
pub struct ListArgs {
    #[arg(long)]
    framework: Option<String>,
    #[arg(long = "type", value_name = "TYPE")]
    model_type: Option<String>,
    #[arg(long)]
    tag: Option<String>,
    #[arg(long)]
    owner: Option<String>,
    #[command(flatten)]
    server: ServerFlag,
}

#[derive(Args)]
pub struct NamedArgs {
    /// The model's name or id
    model: String,
    #[command(flatten)]
    server: ServerFlag,
}

pub async fn run(command: ModelCommand) -> anyhow::Result<()> {
    match command {
        ModelCommand::Register(args) => register(&args).await,
        ModelCommand::List(args) => list(&args).await,
        ModelCommand::Show(args) => show(&args).await,
        ModelCommand::Archive(args) => {
            args.server.client()?.delete(&format!("/api/v1/models/{}", Client::segment(&args.model))).await?;
            say(format!("archived {}", args.model));
            Ok(())
        }
    }
}

async fn register(args: &RegisterArgs) -> anyhow::Result<()> {
    let mut files = args.files.clone();
    if let Some(item) = &args.stac {
        files.extend(item_files(item)?);
    }
    if files.is_empty() && args.from.is_none() {
        bail!(
            "name the model's files, a STAC item with --stac, or with --from the version whose files it has"
        );
    }
    let client = args.server.client()?;
    let registered = match args.from {
        Some(_) => client.post("/api/v1/models", &metadata(args)).await?,
        None => {
            client.register(&metadata(args), args.stac.as_deref(), &files, &args.validation_sample).await?
        }
    };
    let text = |key: &str| registered[key].as_str().unwrap_or_default().to_owned();
    say(format!("registered {} {} ({})", text("name"), text("version"), text("versionId")));
    for artifact in registered["artifacts"].as_array().into_iter().flatten() {
        let size = artifact["sizeBytes"].as_u64().unwrap_or_default();
        let (name, format) = (artifact["name"].as_str(), artifact["format"].as_str());
        say(format!("  {} {} {size} bytes", name.unwrap_or_default(), format.unwrap_or_default()));
    }
    for note in registered["notes"].as_array().into_iter().flatten() {
        say(format!("  {}", note.as_str().unwrap_or_default()));
    }
    let artifacts = registered["artifacts"].as_array();
    if artifacts.is_some_and(|artifacts| artifacts.iter().any(|artifact| artifact["format"] == "Onnx")) {
        say(format!("next: tidegate deploy {}", text("name")));
    } else {
        say("no file of it can run yet: register the next version with an .onnx file to deploy it");
    }
    Ok(())
}

/// The files that the item's assets name, all of them there and inside the item's folder.
pub fn item_files(item_path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let item = read_item(item_path)?;
    let folder = item_path.parent().unwrap_or(Path::new("."));
    item.assets.iter().map(|asset| Ok(tidegate_geo::resolve_href(folder, &asset.href)?)).collect()
}

fn metadata(args: &RegisterArgs) -> Value {
    let fields = [
        ("name", &args.name),
        ("version", &args.version),
        ("framework", &args.framework),
        ("type", &args.model_type),
        ("description", &args.description),
        ("owner", &args.owner),
        ("from", &args.from),
        ("reference", &args.reference),
    ];
    let mut metadata = Map::new();
    for (key, value) in fields {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), json!(value));
        }
    }
    if let Some(precision) = args.precision {
        metadata.insert("precision".to_owned(), json!(precision));
    }
    // Without an item, the file itself says what it was made with.
    if args.stac.is_none() && args.from.is_none() && args.framework.is_none() {
        metadata.insert("framework".to_owned(), json!(guess_framework(&args.files)));
    }
    let baseline = [("accuracy", args.baseline_accuracy), ("latencyMs", args.baseline_latency_ms)];
    let baseline: Map<_, _> =
        baseline.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value?)))).collect();
    if !baseline.is_empty() {
        metadata.insert("baseline".to_owned(), Value::Object(baseline));
    }
    if !args.tags.is_empty() {
        metadata.insert("tags".to_owned(), json!(args.tags));
    }
    Value::Object(metadata)
}

fn guess_framework(files: &[PathBuf]) -> &'static str {
    let extension = files.first().and_then(|file| file.extension()).and_then(|extension| extension.to_str());
    match extension {
        Some("onnx") => "ONNX",
        Some("pt" | "pth") => "PyTorch",
        _ => "Custom",
    }
}

async fn list(args: &ListArgs) -> anyhow::Result<()> {
    let filters = [
        ("framework", &args.framework),
        ("type", &args.model_type),
        ("tag", &args.tag),
        ("owner", &args.owner),
    ];
    let query = filters.map(|(key, value)| (key, value.as_deref()));
    let models = args.server.client()?.list_all("/api/v1/models", "models", &query).await?;
    say(format!("{:<32} {:<12} {:<14} {}", "NAME", "PRODUCTION", "FRAMEWORK", "TYPE"));
    for model in &models {
        let text = |key: &str| model[key].as_str().unwrap_or("-").to_owned();
        say(format!(
            "{:<32} {:<12} {:<14} {}",
            text("name"),
            text("activeVersion"),
            text("framework"),
            text("type")
        ));
    }
    Ok(())
}

async fn show(args: &NamedArgs) -> anyhow::Result<()> {
    let model =
        args.server.client()?.get(&format!("/api/v1/models/{}", Client::segment(&args.model))).await?;
    say(serde_json::to_string_pretty(&model)?);
    Ok(())
}
