//! Segmenting an image: bring it to the model's resolution, cut tiles, run them, stitch, and bring the result back.
//!
//! Knows neither runtime nor protocol: a closure runs one batch. The result does not depend on the batch size, and
//! overlapping tiles are blended with weights that sum to one, so that no seam shows.

mod output;
mod prepare;
mod resample;
mod stitch;
mod tiles;

use std::time::Instant;

use tidegate_core::Tensor;

use crate::image::Image;
use crate::stac_mlm::ModelItem;
use output::Maps;
use prepare::Source;
use resample::Kernel;
use stitch::Stitcher;
use tiles::{Tile, TilePlan};

/// What the caller chooses; everything else comes from the item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SegmentOptions {
    /// Metres on the ground per pixel of the image; goes before its georeference.
    pub gsd_m: Option<f64>,
    /// Pixels of the model's resolution that neighbouring tiles share at least; half a tile at most is used.
    pub overlap_px: usize,
    /// Tiles per run, where the model takes any batch.
    pub batch: usize,
    /// Pixels that the image may have once it is resampled to the model's resolution: `gsd_m` is the caller's word, and
    /// a small file can become a huge scene by it.
    pub max_work_pixels: u64,
}

impl Default for SegmentOptions {
    /// 32 pixels of overlap hide the tile edges of a U-Net; more batch than 8 gains nothing on a CPU; 100 million pixels
    /// are about a gigabyte at work.
    fn default() -> Self {
        Self { gsd_m: None, overlap_px: 32, batch: 8, max_work_pixels: 100_000_000 }
    }
}

/// Tiles looked at, of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: usize,
    pub total: usize,
}

/// Why the runtime failed, whatever the caller's error is; reach it by [`RunFault::into_inner`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunFault(Box<dyn std::error::Error + Send + Sync>);

impl RunFault {
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }

    pub fn into_inner(self) -> Box<dyn std::error::Error + Send + Sync> {
        self.0
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    #[error("the image is not usable: {reason}")]
    InvalidImage { reason: String },
    #[error("the image has {image} {}, but the model takes {model} ({names})", if *image == 1 { "band" } else { "bands" })]
    BandMismatch { image: usize, model: usize, names: String },
    #[error("the model needs {what}, which is not supported on images")]
    Unsupported { what: String },
    #[error("option `{name}` is {value}: {reason}")]
    InvalidOption { name: &'static str, value: String, reason: &'static str },
    #[error(
        "{width} x {height} pixels of {n_channels} channels at the model's resolution do not fit in memory: check the ground resolution, or cut the image"
    )]
    TooLarge { width: usize, height: usize, n_channels: usize },
    #[error(
        "{width} x {height} pixels at the model's resolution are more than the {max_pixels} allowed: check the ground resolution `gsd`, or cut the image"
    )]
    TooManyPixels { width: usize, height: usize, max_pixels: u64 },
    #[error("failed to run the model")]
    Run(#[source] RunFault),
    #[error("the model's output has shape {actual:?}, expected {expected}")]
    OutputShape { actual: Vec<usize>, expected: String },
    #[error("the model's output is not usable: {reason}")]
    OutputValues { reason: String },
}

/// How the image met the model's input.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Placement {
    /// The whole image was resized to the model's input.
    Resized,
    /// The image was resampled by `scale` and cut into tiles.
    Tiled {
        /// Model pixels per image pixel; 1 where a resolution is unknown.
        scale: f64,
        /// Height and width of a tile in model pixels.
        tile: [usize; 2],
        /// Model pixels that neighbours share at least.
        overlap: usize,
        /// Whether the ground resolutions of image and model were both known. If not, `scale` is a guess of 1.
        resolution_known: bool,
    },
}

/// The result, pixel by pixel of the input image.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmentation {
    pub width: usize,
    pub height: usize,
    /// Channels of the model's output: 1 for a binary model.
    pub n_classes_out: usize,
    /// `n_classes_out x height x width`; 0 where the image is invalid.
    pub probabilities: Vec<f32>,
    /// `height x width`. Binary: 1 from the threshold on. Otherwise the channel with the highest probability. 0 where the
    /// image is invalid.
    pub mask: Vec<u8>,
    /// Tiles that were run.
    pub n_tiles: usize,
    /// Tiles without a valid pixel, not run.
    pub n_empty_tiles: usize,
    pub placement: Placement,
    /// Metres per pixel of the image, where known.
    pub image_gsd_m: Option<f64>,
    pub preprocess_seconds: f64,
    pub runtime_seconds: f64,
    pub postprocess_seconds: f64,
    /// What the user should know about how the image was read, in sentences.
    pub notes: Vec<String>,
}

/// Runs the model of `item` over `image`. `run` takes a batch in the item's shape and data type and gives the model's
/// output; `progress` is told after each batch.
pub fn segment(
    image: &Image,
    item: &ModelItem,
    options: &SegmentOptions,
    run: &mut dyn FnMut(Tensor) -> Result<Tensor, RunFault>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Segmentation, SegmentError> {
    let started = Instant::now();
    check(image, item, options)?;
    let mut notes = Vec::new();
    let image_gsd_m = options.gsd_m.or_else(|| image.geo.as_ref()?.ground_resolution_m(image.height));
    let placement = place(image, item, options, image_gsd_m, &mut notes);
    let (width, height) = work_size(image, item, options, &placement)?;
    let kernel = if placement == Placement::Resized { Kernel::Bilinear } else { Kernel::Sharp };
    let source = Source::new(image, item, (width, height), kernel, &mut notes)?;
    let plan = TilePlan::new(width, height, [item.input.height, item.input.width], overlap(&placement));

    let mut timings = Timings { preprocess_seconds: started.elapsed().as_secs_f64(), ..Timings::default() };
    let (tiles, empty): (Vec<_>, Vec<_>) = plan.tiles().partition(|tile| source.has_valid(tile));
    if tiles.is_empty() {
        notes.push("no pixel of the image is valid, so the model was not run".to_owned());
    }
    let total = tiles.len() + empty.len();
    let mut done = empty.len();
    progress(Progress { done, total });
    let mut stitcher = None;
    for batch in tiles.chunks(item.input.batch.unwrap_or(options.batch)) {
        let tensor = timed(&mut timings.preprocess_seconds, || source.tensor(batch, item.input.batch));
        let output = timed(&mut timings.runtime_seconds, || run(tensor)).map_err(SegmentError::Run)?;
        timed(&mut timings.postprocess_seconds, || stitch(&output, item, batch, &plan, &mut stitcher))?;
        done += batch.len();
        progress(Progress { done, total });
    }

    let finished = Instant::now();
    let stitcher = match stitcher {
        Some(stitcher) => stitcher,
        None => Stitcher::new(&plan, item.output.channels.unwrap_or(1).max(1))?,
    };
    let n_classes_out = stitcher.n_channels();
    let probabilities = stitcher.finish(image)?;
    let mask = stitch::mask(&probabilities, image, n_classes_out, item.output.threshold);
    Ok(Segmentation {
        width: image.width,
        height: image.height,
        n_classes_out,
        probabilities,
        mask,
        n_tiles: tiles.len(),
        n_empty_tiles: empty.len(),
        placement,
        image_gsd_m,
        preprocess_seconds: timings.preprocess_seconds,
        runtime_seconds: timings.runtime_seconds,
        postprocess_seconds: timings.postprocess_seconds + finished.elapsed().as_secs_f64(),
        notes,
    })
}

#[derive(Default)]
struct Timings {
    preprocess_seconds: f64,
    runtime_seconds: f64,
    postprocess_seconds: f64,
}

/// Adds one batch's output; the first tells how many channels there are.
fn stitch<'a>(
    output: &Tensor,
    item: &ModelItem,
    batch: &[Tile],
    plan: &'a TilePlan,
    stitcher: &mut Option<Stitcher<'a>>,
) -> Result<(), SegmentError> {
    let maps = Maps::read(output, item, batch.len())?;
    match stitcher {
        Some(stitcher) => stitcher.add(batch, &maps),
        None => stitcher.insert(Stitcher::new(plan, maps.n_channels)?).add(batch, &maps),
    }
}

/// Adds the seconds that `work` took to `total`.
fn timed<T>(total: &mut f64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    *total += started.elapsed().as_secs_f64();
    result
}

fn check(image: &Image, item: &ModelItem, options: &SegmentOptions) -> Result<(), SegmentError> {
    let n_pixels = image.width.checked_mul(image.height).filter(|n| *n > 0);
    let n_samples = n_pixels.and_then(|n| n.checked_mul(image.n_bands));
    let valid_fits = image.valid.as_ref().is_none_or(|valid| Some(valid.len()) == n_pixels);
    if n_samples != Some(image.pixels.len()) || !valid_fits {
        let reason = format!(
            "{} x {} pixels of {} bands do not go with {} samples",
            image.width,
            image.height,
            image.n_bands,
            image.pixels.len()
        );
        return Err(SegmentError::InvalidImage { reason });
    }
    if let Some(expression) = &item.input.pre_processing {
        return Err(SegmentError::Unsupported {
            what: format!("the pre-processing function `{expression}`"),
        });
    }
    if options.batch == 0 {
        return Err(invalid_option("batch", 0, "give 1 or more"));
    }
    match options.gsd_m {
        Some(gsd) if !gsd.is_finite() || gsd <= 0.0 => {
            Err(invalid_option("gsd", gsd, "give metres per pixel, above 0"))
        }
        _ => Ok(()),
    }
}

fn invalid_option(name: &'static str, value: impl ToString, reason: &'static str) -> SegmentError {
    SegmentError::InvalidOption { name, value: value.to_string(), reason }
}

/// Resolutions closer than this are taken as equal: resampling would only blur.
const SAME_SCALE: f64 = 0.01;

/// Without both resolutions, an image this many times the model's input is still taken as one scene to be resized.
const RESIZE_LIMIT: usize = 2;

fn place(
    image: &Image,
    item: &ModelItem,
    options: &SegmentOptions,
    image_gsd_m: Option<f64>,
    notes: &mut Vec<String>,
) -> Placement {
    let input = &item.input;
    let tile = [input.height, input.width];
    let overlap = options.overlap_px.min(tile[0].min(tile[1]) / 2);
    if let (Some(image_gsd_m), Some(model_gsd_m)) = (image_gsd_m, item.gsd) {
        let scale = image_gsd_m / model_gsd_m;
        let scale = if (scale - 1.0).abs() < SAME_SCALE { 1.0 } else { scale };
        return Placement::Tiled { scale, tile, overlap, resolution_known: true };
    }
    if image.width <= RESIZE_LIMIT * input.width && image.height <= RESIZE_LIMIT * input.height {
        return Placement::Resized;
    }
    let whose =
        if item.gsd.is_none() { "the model's item gives no `gsd`" } else { "the image has no georeference" };
    notes.push(format!(
        "{whose}, so the image was tiled at its own resolution; the result is right only if that is the model's"
    ));
    Placement::Tiled { scale: 1.0, tile, overlap, resolution_known: false }
}

fn overlap(placement: &Placement) -> usize {
    match placement {
        Placement::Resized => 0,
        Placement::Tiled { overlap, .. } => *overlap,
    }
}

/// Of the samples and probabilities at the model's resolution.
const MAX_WORK_BYTES: f64 = 4.0 * 1024.0 * 1024.0 * 1024.0;

/// Width and height of the image at the model's resolution.
fn work_size(
    image: &Image,
    item: &ModelItem,
    options: &SegmentOptions,
    placement: &Placement,
) -> Result<(usize, usize), SegmentError> {
    let (width, height) = match placement {
        Placement::Resized => return Ok((item.input.width, item.input.height)),
        Placement::Tiled { scale, .. } => (image.width as f64 * scale, image.height as f64 * scale),
    };
    let (width, height) = (width.round().max(1.0), height.round().max(1.0));
    let max_pixels = options.max_work_pixels;
    if width * height > max_pixels as f64 {
        return Err(SegmentError::TooManyPixels {
            width: width as usize,
            height: height as usize,
            max_pixels,
        });
    }
    let n_channels = item.output.channels.unwrap_or(1).max(1);
    if width * height * (item.input.n_bands + n_channels * size_of::<f32>()) as f64 > MAX_WORK_BYTES {
        return Err(SegmentError::TooLarge { width: width as usize, height: height as usize, n_channels });
    }
    Ok((width as usize, height as usize))
}
