//! `tidegate predict`: an image in, four files out; a scene in, a folder of maps out.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::Args;
use indicatif::ProgressStyle;
use tidegate_core::Precision;
use tidegate_geo::scene::{Begin, SceneOptions, SceneReport, SceneSeconds, SceneStep};
use tidegate_geo::{ImageLimits, ModelItem, OutputFile, Placement, SegmentOptions, Segmentation};

use super::scene_flags::SceneFlags;
use super::{ServerFlag, progress_bar, say};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigFlags};
use crate::local::{self, SceneRequest};
use crate::remedies::Face;
use crate::scenes;

/// What a prediction is made of.
const FILES: [&str; 4] =
    ["prediction_raw.npy", "prediction_mask.png", "prediction_overlay.png", "inference_metadata.json"];

/// An answer larger than this is not one of ours.
const MAX_FILE_BYTES: u64 = 4 << 30;

/// How a run over tiles is shown.
const TILES: &str = "{bar:40} {percent}% {pos}/{len} tiles, {eta} left";

#[derive(Args)]
#[command(after_help = "\
Examples:
  tidegate predict tile.png --model refugee-camp-detector
  tidegate predict scene.tif --stac stac_item.json --output-dir out
  tidegate predict scene.tif --stac stac_item.json --resume
  tidegate job raster scene.tif --model refugee-camp-detector      (a scene, on a server)

Of an image: prediction_raw.npy (probabilities), prediction_mask.png (0/255), prediction_overlay.png and
inference_metadata.json. Of a georeferenced scene, of any size: prediction_mask.tif (cloud-optimised), polygons,
prediction_overlay.png and prediction_item.json (STAC). What is georeferenced is resampled to the resolution that the
model was trained at.")]
pub struct PredictArgs {
    /// PNG, JPEG, WebP or (Geo)TIFF; a scene may also be at https:// or s3://BUCKET/KEY
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
    /// Compute in f32 or bf16 [default: as the file says]
    #[arg(long, requires = "stac")]
    precision: Option<Precision>,
    /// Where the files go
    #[arg(long, short, value_name = "FOLDER", default_value = "tidegate-output")]
    output_dir: PathBuf,
    /// The image's ground resolution in metres a pixel, where the file does not say
    #[arg(long, value_name = "METRES")]
    gsd: Option<f64>,
    #[command(flatten)]
    scene: SceneArgs,
    #[command(flatten)]
    server: ServerFlag,
    #[command(flatten)]
    config: ConfigFlags,
}

#[derive(Args, Debug, PartialEq)]
#[command(next_help_heading = "Scenes (with --stac)")]
struct SceneArgs {
    /// Go on with a run that was cut off
    #[arg(long, conflicts_with = "restart")]
    resume: bool,
    /// Begin again, whatever an earlier run has done
    #[arg(long)]
    restart: bool,
    /// Tiles that are run at the same time [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Tiles per run of the model
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    #[command(flatten)]
    options: SceneFlags,
}

pub async fn run(args: &PredictArgs) -> anyhow::Result<()> {
    match (&args.stac, &args.model) {
        (Some(item), _) => run_locally(args, item, &Config::load(&args.config)?).await,
        (None, Some(model)) => {
            refuse_scene(args, model)?;
            run_on_server(args, model).await
        }
        (None, None) => anyhow::bail!("name a deployed model with --model, or a STAC item with --stac"),
    }
}

/// Options that would be ignored, and addresses that would be taken for files, are refused: on a server a scene is a job.
fn refuse_scene(args: &PredictArgs, model: &str) -> anyhow::Result<()> {
    let image = args.image.to_string_lossy();
    if args.scene == SceneArgs::default() && !image.contains("://") {
        return Ok(());
    }
    anyhow::bail!(
        "with --model, one image is answered at once; a scene, with the options of scenes, is a job: tidegate job raster {image} --model {model}"
    )
}

async fn run_locally(args: &PredictArgs, item: &Path, config: &Config) -> anyhow::Result<()> {
    predict_locally(args, item, config).await.map_err(|error| Face::CommandLine.explain(error))
}

async fn predict_locally(args: &PredictArgs, item: &Path, config: &Config) -> anyhow::Result<()> {
    // First, so that a scene is not read for nothing.
    let mut model = local::read_item(item)?;
    let limits = ImageLimits::with_max_pixels(config.server.max_image_megapixels * 1_000_000);
    model.output.threshold = args.scene.options.threshold.unwrap_or(model.output.threshold);
    if let Some(scene) = scenes::open(config, &args.image, args.scene.options.assume_crs, &limits).await? {
        return run_scene(args, (item, &model), config, &scene).await;
    }
    let bar = progress_bar(0, TILES);
    let options = SegmentOptions { gsd_m: args.gsd, ..SegmentOptions::default() };
    let progress = |progress: tidegate_geo::Progress| {
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    };
    let model = (item, &model);
    let prediction =
        local::predict(config, model, args.precision, &args.image, &options, &SystemClock, progress).await?;
    bar.finish_and_clear();
    write(&args.output_dir, &prediction.files)?;
    say(format!("{} on {}", describe(&prediction.segmentation), prediction.runtime));
    Ok(())
}

async fn run_scene(
    args: &PredictArgs,
    (item_path, item): (&Path, &ModelItem),
    config: &Config,
    scene: &scenes::Scene,
) -> anyhow::Result<()> {
    let threads = args
        .scene
        .threads
        .or(config.runtime.workers)
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut config = config.clone();
    config.runtime.workers = Some(threads);
    let area = args.scene.options.area()?;
    let options = args.scene.options(args.gsd, threads);
    let request = SceneRequest {
        item_path,
        item,
        scene,
        options: &options,
        area: area.as_deref(),
        folder: &args.output_dir,
        begin: args.scene.begin(),
        precision: args.precision,
    };
    let bar = progress_bar(0, TILES);
    let mut resumed_at = None;
    let listen = |step| match step {
        SceneStep::Tiles(progress) => {
            bar.set_length(progress.total as u64);
            // What an earlier run did says nothing about the time that is left.
            if resumed_at.is_none() {
                resumed_at = Some(progress.done);
                bar.set_position(progress.done as u64);
                bar.reset_eta();
            }
            bar.set_position(progress.done as u64);
        }
        SceneStep::Writing(name) => {
            bar.set_style(
                ProgressStyle::with_template("{spinner} writing {msg}")
                    .unwrap_or(ProgressStyle::default_spinner()),
            );
            bar.set_message(name);
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = tokio::spawn(stop_on_interrupt(Arc::clone(&stop)));
    let outcome = local::predict_scene(&config, &request, &SystemClock, &stop, listen).await;
    interrupted.abort();
    bar.finish_and_clear();
    let (report, runtime) = outcome?;
    for file in &report.files {
        say(file.path.display().to_string());
    }
    for note in &report.notes {
        say(format!("Note: {note}."));
    }
    say(format!("{} on {runtime}", describe_scene(&report)));
    Ok(())
}

/// The first Ctrl-C lets the tiles that are at work end and keeps what is done; a second one ends at once, and loses no
/// more than that.
async fn stop_on_interrupt(stop: Arc<AtomicBool>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.store(true, Ordering::Relaxed);
    }
    if tokio::signal::ctrl_c().await.is_ok() {
        std::process::exit(130);
    }
}

impl Default for SceneArgs {
    /// As when none is given.
    fn default() -> Self {
        Self { resume: false, restart: false, threads: None, batch: 1, options: SceneFlags::default() }
    }
}

impl SceneArgs {
    fn options(&self, gsd_m: Option<f64>, threads: usize) -> SceneOptions {
        let mut options = self.options.scene_options(gsd_m);
        options.segment.threads = threads;
        options.segment.batch = self.batch;
        options
    }

    fn begin(&self) -> Begin {
        match (self.resume, self.restart) {
            (true, _) => Begin::Resume,
            (_, true) => Begin::Afresh,
            _ => Begin::Carefully,
        }
    }
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

fn describe_scene(report: &SceneReport) -> String {
    let SceneReport { width, height, n_tiles, n_empty_tiles, n_polygons, .. } = *report;
    let scale = match report.placement {
        Placement::Resized => 1.0,
        Placement::Tiled { scale, .. } => scale,
    };
    let resumed = match report.n_resumed_tiles {
        0 => String::new(),
        n => format!(", {n} of them earlier"),
    };
    let tiles = n_tiles + n_empty_tiles;
    let SceneSeconds { runtime, inference, mask, polygons, .. } = report.seconds;
    format!(
        "{width} x {height} pixels, {tiles} tiles at scale {scale:.3} ({n_empty_tiles} empty{resumed}), {n_polygons} polygons; inference {inference:.2} s (over all threads, runtime {runtime:.2} s), CPU of mask {mask:.2} s, polygons {polygons:.2} s"
    )
}
