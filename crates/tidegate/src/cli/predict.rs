//! `tidegate predict`: an image in, four files out.

use std::io::{Cursor, IsTerminal, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tidegate_geo::{OutputFile, Placement, SegmentOptions, Segmentation};

use super::{ServerFlag, say};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigFlags};
use crate::local;

/// What a prediction is made of.
const FILES: [&str; 4] =
    ["prediction_raw.npy", "prediction_mask.png", "prediction_overlay.png", "inference_metadata.json"];

/// An answer larger than this is not one of ours.
const MAX_FILE_BYTES: u64 = 4 << 30;

#[derive(Args)]
#[command(after_help = "\
Examples:
  tidegate predict tile.png --model refugee-camp-detector
  tidegate predict scene.tif --stac stac_item.json --output-dir out

Writes prediction_raw.npy (probabilities), prediction_mask.png (0/255), prediction_overlay.png and
inference_metadata.json. A georeferenced image is resampled to the resolution that the model was trained at.")]
pub struct PredictArgs {
    /// PNG, JPEG, WebP or (Geo)TIFF
    image: PathBuf,
    /// A model deployed on a server
    #[arg(long, value_name = "NAME", required_unless_present = "stac", conflicts_with = "stac")]
    model: Option<String>,
    /// A STAC-MLM item with its files beside it: no server is needed
    #[arg(long, value_name = "ITEM.json")]
    stac: Option<PathBuf>,
    /// A loaded version of the model instead of the one that serves
    #[arg(long, requires = "model")]
    version: Option<String>,
    /// Where the files go
    #[arg(long, short, value_name = "FOLDER", default_value = "tidegate-output")]
    output_dir: PathBuf,
    /// The image's ground resolution in metres a pixel, where the file does not say
    #[arg(long, value_name = "METRES")]
    gsd: Option<f64>,
    #[command(flatten)]
    server: ServerFlag,
    #[command(flatten)]
    config: ConfigFlags,
}

pub async fn run(args: &PredictArgs) -> anyhow::Result<()> {
    match (&args.stac, &args.model) {
        (Some(item), _) => run_locally(args, item, &Config::load(&args.config)?).await,
        (None, Some(model)) => run_on_server(args, model).await,
        (None, None) => anyhow::bail!("name a deployed model with --model, or a STAC item with --stac"),
    }
}

async fn run_locally(args: &PredictArgs, item: &Path, config: &Config) -> anyhow::Result<()> {
    let bar = progress_bar();
    let options = SegmentOptions { gsd_m: args.gsd, ..SegmentOptions::default() };
    let progress = |progress: tidegate_geo::Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    };
    let prediction = local::predict(config, item, &args.image, &options, &SystemClock, progress).await?;
    bar.finish_and_clear();
    write(&args.output_dir, &prediction.files)?;
    say(format!("{} on {}", describe(&prediction.segmentation), prediction.runtime));
    Ok(())
}

async fn run_on_server(args: &PredictArgs, model: &str) -> anyhow::Result<()> {
    let mut query = Vec::new();
    query.extend(args.gsd.map(|gsd| ("gsd", gsd.to_string())));
    query.extend(args.version.clone().map(|version| ("version", version)));
    let zip = args.server.client()?.predict_image(model, &args.image, &query).await?;
    write(&args.output_dir, &unzip(&zip)?)
}

/// Unpacks the server's answer; names with folders are not ours and are refused.
pub fn unzip(bytes: &[u8]) -> anyhow::Result<Vec<OutputFile>> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(bytes)).context("the server's answer is not a zip file")?;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let named = entry.name()?.into_owned();
        let known = FILES.into_iter().find(|name| *name == named);
        let name = known.with_context(|| format!("unexpected file `{named}` in the server's answer"))?;
        let mut content = Vec::new();
        entry.by_ref().take(MAX_FILE_BYTES).read_to_end(&mut content)?;
        files.push(OutputFile { name, content_type: "application/octet-stream", bytes: content });
    }
    Ok(files)
}

/// Writes the files and names them.
pub fn write(folder: &Path, files: &[OutputFile]) -> anyhow::Result<()> {
    tidegate_geo::write_files(folder, files)
        .with_context(|| format!("failed to write the prediction into `{}`", folder.display()))?;
    for file in files {
        say(folder.join(file.name).display().to_string());
    }
    Ok(())
}

fn describe(segmentation: &Segmentation) -> String {
    let how = match &segmentation.placement {
        Placement::Resized => "resized to the model's input".to_owned(),
        Placement::Tiled { scale, .. } => format!("{} tiles at scale {scale:.3}", segmentation.n_tiles),
    };
    let (width, height) = (segmentation.width, segmentation.height);
    format!("{width} x {height} pixels, {how}, {:.2} s", segmentation.runtime_seconds)
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} tiles, {eta} left");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
