//! Segmenting an image: bring it to the model's resolution, cut tiles, run them, stitch, and bring the result back.
//!
//! Knows neither runtime nor protocol: a closure runs one batch. Overlapping tiles are blended with weights that sum to
//! one, so that no seam shows. One pipeline carries images in memory ([`segment()`]) and scenes of any size
//! ([`crate::scene`]): strip by strip, so that a row of the result is a function of the raster, the model and the plan,
//! and not of batch, threads or where a pass began.

mod output;
pub(crate) mod pipeline;
pub(crate) mod plan;
pub(crate) mod reader;
mod resample;
mod stitch;
mod tensors;
mod tiles;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use tidegate_core::Tensor;

use crate::image::{Image, ImageError};
use crate::raster::{MemoryRaster, Raster};
use crate::stac_mlm::ModelItem;
use pipeline::{Listeners, Pass};
pub use pipeline::{Ready, RunTile};
use plan::Plan;
pub use stitch::{Block, CONFIDENCE_STEPS, NODATA};

/// What the caller chooses; everything else comes from the item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SegmentOptions {
    /// Metres on the ground per pixel of the image; goes before its georeference.
    pub gsd_m: Option<f64>,
    /// Pixels of the model's resolution that neighbouring tiles share at least; half a tile at most is used.
    pub overlap_px: usize,
    /// Tiles per run, where the model takes any batch.
    pub batch: usize,
    /// Batches that run at the same time.
    pub threads: usize,
    /// Test-time augmentation: the mean over flips and, of square tiles, quarter turns.
    pub augment: bool,
    /// Pixels that the image may have once it is resampled to the model's resolution: `gsd_m` is the caller's word, and
    /// a small file can become a huge scene by it.
    pub max_work_pixels: u64,
}

impl Default for SegmentOptions {
    /// 32 pixels of overlap hide the tile edges of a U-Net; more batch than 8 gains nothing on a CPU; 100 million pixels
    /// are about a gigabyte at work.
    fn default() -> Self {
        Self {
            gsd_m: None,
            overlap_px: 32,
            batch: 8,
            threads: 1,
            augment: false,
            max_work_pixels: 100_000_000,
        }
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
    #[error(
        "{width} x {height} pixels at the model's resolution are more than anything has: check the ground resolution `gsd`"
    )]
    TooWide { width: usize, height: usize },
    #[error("failed to run the model")]
    Run(#[source] RunFault),
    #[error("the model's output has shape {actual:?}, expected {expected}")]
    OutputShape { actual: Vec<usize>, expected: String },
    #[error("the model's output is not usable: {reason}")]
    OutputValues { reason: String },
    #[error(transparent)]
    Read(ImageError),
    /// Whoever takes the results could not.
    #[error("failed to keep the result")]
    Keep(#[source] std::io::Error),
    #[error("stopped before the end")]
    Stopped,
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
    run: &mut (dyn FnMut(Tensor) -> Result<Tensor, RunFault> + Send),
    progress: &mut dyn FnMut(Progress),
) -> Result<Segmentation, SegmentError> {
    check_samples(image)?;
    let raster = MemoryRaster::of_image(image);
    let plan = Plan::new(raster.info(), item, options)?;
    check_work_size(&plan, item, options)?;
    // One at a time: the closure is the caller's only one.
    let options = SegmentOptions { threads: 1, ..*options };
    let run = Mutex::new(run);
    let run = |tensor| (run.lock().unwrap_or_else(PoisonError::into_inner))(tensor);
    let mut whole = None;
    let pass = Pass {
        raster: &raster,
        plan: &plan,
        item,
        options: &options,
        area: None,
        keep_probabilities: true,
        block_rows: image.height,
        first_block: 0,
        first_counted_row: 0,
        ready: &|| Ok(()),
        stop: &AtomicBool::new(false),
    };
    let mut keep = |block, _| {
        whole = Some(block);
        Ok(Block::default())
    };
    let listeners = Listeners { block: &mut keep, rows: &mut |_, _| Ok(()), progress };
    let report = pass.run(&run, listeners)?;
    let Block { mut mask, probabilities, .. } = whole.expect("an image has rows, and all rows are one block");
    // Invalid pixels are background here: these files have no nodata.
    mask.iter_mut().filter(|value| **value == NODATA).for_each(|value| *value = 0);
    let channels = probabilities.expect("they were asked for");
    let n_classes_out = channels.len();
    let mut probabilities = channels.concat();
    probabilities.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = 0.0);
    let mut notes = plan.notes;
    if report.n_tiles == 0 {
        notes.push("no pixel of the image is valid, so the model was not run".to_owned());
    }
    Ok(Segmentation {
        width: image.width,
        height: image.height,
        n_classes_out,
        probabilities,
        mask,
        n_tiles: report.n_tiles,
        n_empty_tiles: report.n_empty_tiles,
        placement: plan.placement,
        image_gsd_m: plan.image_gsd_m,
        preprocess_seconds: report.preprocess_seconds,
        runtime_seconds: report.runtime_seconds,
        postprocess_seconds: report.postprocess_seconds,
        notes,
    })
}

fn check_samples(image: &Image) -> Result<(), SegmentError> {
    let n_pixels = image.width.checked_mul(image.height).filter(|n| *n > 0);
    let n_samples = n_pixels.and_then(|n| n.checked_mul(image.n_bands));
    let valid_fits = image.valid.as_ref().is_none_or(|valid| Some(valid.len()) == n_pixels);
    if n_samples == Some(image.pixels.len()) && valid_fits {
        return Ok(());
    }
    let reason = format!(
        "{} x {} pixels of {} bands do not go with {} samples",
        image.width,
        image.height,
        image.n_bands,
        image.pixels.len()
    );
    Err(SegmentError::InvalidImage { reason })
}

/// Of the samples and probabilities at the model's resolution.
const MAX_WORK_BYTES: f64 = 4.0 * 1024.0 * 1024.0 * 1024.0;

/// What is kept in memory whole must fit there.
fn check_work_size(plan: &Plan, item: &ModelItem, options: &SegmentOptions) -> Result<(), SegmentError> {
    let (width, height) = plan.work;
    let (n_pixels, max_pixels) = (width as f64 * height as f64, options.max_work_pixels);
    if n_pixels > max_pixels as f64 && plan.placement != Placement::Resized {
        return Err(SegmentError::TooManyPixels { width, height, max_pixels });
    }
    let n_channels = item.output.channels.unwrap_or(1).max(1);
    if n_pixels * (item.input.n_bands + n_channels * size_of::<f32>()) as f64 > MAX_WORK_BYTES {
        return Err(SegmentError::TooLarge { width, height, n_channels });
    }
    Ok(())
}
