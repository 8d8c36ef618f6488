//! Predicting a scene of any size: strips in, a folder of files out.
//!
//! While the model runs, decided blocks are appended to spools in a folder of their own, and a checkpoint says how far they
//! go; a run that was cut off goes on from there, and its result is the same byte for byte. Overviews and polygons are made
//! from the same blocks as they come. Files are made under other names, and renamed when they are whole. Memory is bounded by
//! strips of the raster all the way.
//!
//! Start reading at [`predict_scene`].

mod area;
mod assumed;
mod checkpoint;
pub(crate) mod cog;
mod derived;
mod ground;
mod ifd;
mod item;
mod memory;
mod overviews;
mod projection;
mod remedy;
mod spool;
mod survey;
mod trace;
mod vectors;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

pub use area::{AreaError, AreaOfInterest};
pub use assumed::{AssumedCrs, UnnamedCrs};
pub use checkpoint::Ingredient;
use checkpoint::{Begun, Workshop};
use cog::{CogSpec, TILE};
use cpu_time::ThreadTime;
use derived::Derived;
use ground::Ground;
pub use item::{ITEM, SceneProvenance, media_type, write_item};
pub use projection::Projection;
pub use remedy::Remedy;
pub use vectors::VectorFormat;

use tidegate_core::Timestamp;

use crate::image::ImageError;
use crate::raster::{Raster, RasterInfo, Samples};
use crate::segment::pipeline::{Listeners, Pass, PassReport, Ready, RunTile};
use crate::segment::plan::Plan;
use crate::segment::reader::{Area, SceneRows};
use crate::segment::{Block, Placement, Progress, SegmentError, SegmentOptions};
use crate::stac_mlm::ModelItem;

/// What is wanted of a scene beside the mask.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneOptions {
    pub segment: SegmentOptions,
    /// A raster of probabilities.
    pub probability: bool,
    pub vectors: Vec<VectorFormat>,
    /// Polygons are simplified by this many metres at most; `None` keeps the edges of the pixels.
    pub simplify_m: Option<f64>,
    /// Smaller polygons are left out.
    pub min_area_m2: f64,
    /// A picture of the result over the scene.
    pub overlay: bool,
    /// What strips of the scene may take at work, as far as their size tells beforehand.
    pub max_memory_bytes: u64,
}

/// Far more than scenes take (350 MB at a width of 32,768 pixels), and less than most machines have.
const MAX_MEMORY_BYTES: u64 = 8 << 30;

impl Default for SceneOptions {
    fn default() -> Self {
        Self {
            segment: SegmentOptions::default(),
            probability: false,
            vectors: vec![VectorFormat::GeoJson],
            simplify_m: None,
            min_area_m2: 0.0,
            overlay: true,
            max_memory_bytes: MAX_MEMORY_BYTES,
        }
    }
}

/// A scene to be predicted.
pub struct SceneJob<'a> {
    pub raster: &'a dyn Raster,
    pub item: &'a ModelItem,
    pub options: &'a SceneOptions,
    pub area: Option<&'a AreaOfInterest>,
    /// What else the result depends on: which scene, which artifact, which runtime. A run is resumed only where this and
    /// the options are what they were. Asked for before an earlier run is looked at, or else with the first checkpoint: to
    /// hash a scene takes a while.
    pub identity: &'a (dyn Fn() -> Result<String, ImageError> + Sync),
    /// Returns once tiles can be run: a model may load while the first strip is read.
    pub ready: &'a Ready<'a>,
    /// The time that files carry which carry one.
    pub created_at: Timestamp,
    pub folder: &'a Path,
    pub begin: Begin,
}

/// What to do with a run of the same scene that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Refuse to throw it away.
    Carefully,
    /// Go on with it, where there is one.
    Resume,
    /// Throw it away.
    Afresh,
}

/// What a long run tells on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SceneStep {
    Tiles(Progress),
    /// Making a file, by its name.
    Writing(&'static str),
}

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SceneFile {
    pub name: &'static str,
    pub path: PathBuf,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneReport {
    pub width: usize,
    pub height: usize,
    pub files: Vec<SceneFile>,
    pub n_tiles: usize,
    pub n_empty_tiles: usize,
    /// Tiles that an earlier run had done.
    pub n_resumed_tiles: usize,
    /// Pixels by mask value; [`crate::segment::NODATA`] last.
    pub class_pixels: [u64; 256],
    pub n_polygons: u64,
    pub placement: Placement,
    pub image_gsd_m: Option<f64>,
    pub seconds: SceneSeconds,
    pub notes: Vec<String>,
}

/// Where the time went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SceneSeconds {
    /// Inside the runtime, over all threads.
    pub runtime: f64,
    /// From the first strip to the last block, with what the first tile waits for a model that still loads.
    pub inference: f64,
    /// CPU time, as what follows: most of it passes beside the inference, on a thread that waits for cores, and the rest after
    /// it. Waiting for the disk is not in it.
    pub mask: f64,
    pub probability: f64,
    pub polygons: f64,
    pub overlay: f64,
}

/// Says what is wrong; [`SceneError::remedy`] says what can be done about it.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    #[error(transparent)]
    Read(ImageError),
    #[error(transparent)]
    SourceLost(ImageError),
    #[error(transparent)]
    Segment(SegmentError),
    #[error("`{}` holds an unfinished run of this scene ({done} of {total} strips)", folder.display())]
    Unfinished { folder: PathBuf, done: usize, total: usize },
    #[error("the unfinished run in `{}` was begun with {what}", folder.display())]
    Changed { folder: PathBuf, what: Ingredient },
    #[error(
        "the model's item does not say how many channels its output has, which a raster of probabilities needs"
    )]
    UnknownChannels,
    #[error(
        "{format} is not possible: it holds longitude and latitude, and there is no way from {system} to them here"
    )]
    Vectors { format: &'static str, system: String },
    #[error("failed to write into `{}`", folder.display())]
    Write { folder: PathBuf, resumable: bool, source: io::Error },
    #[error(
        "rows of {width} pixels, {work_width} at the model's resolution, would take about {needed_mib} MiB of memory, and {limit_mib} are allowed"
    )]
    Memory { width: usize, work_width: usize, needed_mib: u64, limit_mib: u64 },
    #[error("stopped")]
    Stopped,
}

pub const MASK: &str = "prediction_mask.tif";
pub const PROBABILITY: &str = "prediction_probability.tif";
pub const OVERLAY: &str = "prediction_overlay.png";

/// Runs the model of the job's item over its raster and writes the files.
pub fn predict_scene(
    job: &SceneJob<'_>,
    run: &RunTile<'_>,
    stop: &AtomicBool,
    listen: &mut dyn FnMut(SceneStep),
) -> Result<SceneReport, SceneError> {
    let info = job.raster.info();
    let plan = Plan::new(info, job.item, &job.options.segment).map_err(SceneError::Segment)?;
    let n_channels = job.item.output.channels.filter(|_| job.item.output.dim_order.is_some());
    if job.options.probability && n_channels.is_none() {
        return Err(SceneError::UnknownChannels);
    }
    for format in &job.options.vectors {
        format.check(info)?;
    }
    memory::check(job, &plan)?;
    let n_blocks = info.height.div_ceil(TILE);
    let failed = |source| SceneError::Write { folder: job.folder.to_owned(), resumable: false, source };
    let (mut workshop, mut begun) =
        Workshop::open(job, n_blocks).map_err(|error| error.into_scene(job.folder))?;
    let n_resumed_tiles = begun.report.n_tiles + begun.report.n_empty_tiles;
    let resumable = |source| SceneError::Write { folder: job.folder.to_owned(), resumable: true, source };
    let n_bands = n_channels.filter(|_| job.options.probability);
    let mut derived = Derived::new(job, workshop.folder(), n_bands).map_err(failed)?;
    derived.catch_up(begun.n_blocks, stop).map_err(resumable)?;
    if begun.n_blocks < n_blocks {
        infer(job, &plan, run, stop, listen, &mut workshop, &mut derived, &mut begun)?;
    }
    let folder = workshop.close().map_err(failed)?;

    // Making a file is not interrupted; what is done of the others is made again.
    let go_on = || if stop.load(Ordering::Relaxed) { Err(SceneError::Stopped) } else { Ok(()) };
    let mut files = Vec::new();
    let mut notes = plan.notes.clone();
    let Derived { mask, probability, survey, mut seconds, .. } = derived;
    go_on()?;
    listen(SceneStep::Writing(MASK));
    let mut started = ThreadTime::now();
    let thumbnail =
        mask.finish(&mask_spec(job, info), &folder.mask(), &folder.file(MASK)).map_err(resumable)?;
    files.push(MASK);
    seconds.mask += lap(&mut started);
    if let (Some(probability), Some(n_bands)) = (probability, n_bands) {
        go_on()?;
        listen(SceneStep::Writing(PROBABILITY));
        let spec = probability_spec(job, info, n_bands);
        probability.finish(&spec, &folder.probability(), &folder.file(PROBABILITY)).map_err(resumable)?;
        files.push(PROBABILITY);
    }
    seconds.probability += lap(&mut started);
    go_on()?;
    listen(SceneStep::Writing("polygons"));
    let surveyed = survey.finish(&mut notes).map_err(resumable)?;
    files.extend(job.options.vectors.iter().map(|format| format.file_name()));
    seconds.polygons += lap(&mut started);
    if job.options.overlay {
        go_on()?;
        listen(SceneStep::Writing(OVERLAY));
        ground::overlay(job.item, &folder, info, &thumbnail, n_channels.unwrap_or(1)).map_err(resumable)?;
        files.push(OVERLAY);
    }
    seconds.overlay = lap(&mut started);
    go_on()?;
    let files = folder.publish(job.folder, &files).map_err(resumable)?;
    if begun.report.n_tiles == 0 {
        notes.push("no pixel of the scene is valid, so the model was not run".to_owned());
    }
    Ok(SceneReport {
        width: info.width,
        height: info.height,
        files,
        n_tiles: begun.report.n_tiles,
        n_empty_tiles: begun.report.n_empty_tiles,
        n_resumed_tiles,
        class_pixels: surveyed.class_pixels,
        n_polygons: surveyed.n_polygons,
        placement: plan.placement,
        image_gsd_m: plan.image_gsd_m,
        seconds: SceneSeconds {
            runtime: begun.report.runtime_seconds,
            inference: begun.report.wall_seconds,
            ..seconds
        },
        notes,
    })
}

impl SceneError {
    /// Of what a scene is read from: what cannot be read now may be read later.
    fn of_source(error: ImageError) -> Self {
        match error {
            ImageError::Unreadable { .. } => Self::SourceLost(error),
            error => Self::Read(error),
        }
    }
}

/// The seconds of CPU that this thread took since `started`, which begins anew. Windows counts in steps of 1/64 s.
fn lap(started: &mut ThreadTime) -> f64 {
    let now = ThreadTime::now();
    now.duration_since(std::mem::replace(started, now)).as_secs_f64()
}

/// Runs the model over everything that is not in the spools yet.
#[expect(clippy::too_many_arguments, reason = "what it goes on with, each used once")]
fn infer(
    job: &SceneJob<'_>,
    plan: &Plan,
    run: &RunTile<'_>,
    stop: &AtomicBool,
    listen: &mut dyn FnMut(SceneStep),
    workshop: &mut Workshop<'_>,
    derived: &mut Derived<'_>,
    begun: &mut Begun,
) -> Result<(), SceneError> {
    let pass = Pass {
        raster: job.raster,
        plan,
        item: job.item,
        options: &job.options.segment,
        area: job.area.map(|area| area as &dyn Area),
        keep_probabilities: job.options.probability,
        block_rows: TILE,
        first_block: begun.n_blocks,
        first_counted_row: begun.report.n_rows,
        ready: job.ready,
        stop,
    };
    let mut ground = Ground::new(job, workshop, begun).map_err(|source| SceneError::Write {
        folder: job.folder.to_owned(),
        resumable: true,
        source,
    })?;
    let before = begun.report;
    let mut keep = |block: Block, report: PassReport| {
        // Beside each other: nothing else is done any more when the last blocks come.
        let (kept, added) = std::thread::scope(|scope| {
            let kept = scope.spawn(|| workshop.keep(&block, &before.plus(&report)));
            let added = derived.add(&block.mask, &block.confidence, block.probabilities.as_deref());
            (kept.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), added)
        });
        kept.and(added.map_err(SegmentError::Keep)).map(|()| block)
    };
    let mut see = |rows: &SceneRows, planes: &[Samples]| ground.see(rows, planes).map_err(SegmentError::Keep);
    let mut progress = |progress| listen(SceneStep::Tiles(progress));
    let listeners = Listeners { block: &mut keep, rows: &mut see, progress: &mut progress };
    match pass.run(run, listeners) {
        Ok(report) => {
            begun.report = before.plus(&report);
            Ok(())
        }
        Err(SegmentError::Stopped) => Err(SceneError::Stopped),
        Err(SegmentError::Read(error)) => Err(SceneError::of_source(error)),
        Err(SegmentError::Keep(source)) => {
            Err(SceneError::Write { folder: job.folder.to_owned(), resumable: true, source })
        }
        Err(error) => Err(SceneError::Segment(error)),
    }
}

fn mask_spec<'a>(job: &'a SceneJob<'_>, info: &'a RasterInfo) -> CogSpec<'a> {
    let classes = job.item.output.classes.iter().map(|class| format!("{} = {}", class.value, class.name));
    CogSpec {
        n_bands: 1,
        tags: &info.georeference.tags,
        nodata: "255",
        band_names: vec!["class".to_owned()],
        metadata: vec![
            ("CLASSES", classes.collect::<Vec<_>>().join("; ")),
            ("MODEL", job.item.id.clone()),
            ("OVERVIEW_RESAMPLING", "mode".to_owned()),
        ],
    }
}

fn probability_spec<'a>(job: &'a SceneJob<'_>, info: &'a RasterInfo, n_bands: usize) -> CogSpec<'a> {
    let name = |channel: usize| {
        let value = if n_bands == 1 { 1 } else { channel as i64 };
        let class = job.item.output.classes.iter().find(|class| class.value == value);
        class.map_or_else(|| format!("channel {channel}"), |class| class.name.clone())
    };
    CogSpec {
        n_bands,
        tags: &info.georeference.tags,
        nodata: "nan",
        band_names: (0..n_bands).map(name).collect(),
        metadata: vec![("MODEL", job.item.id.clone()), ("OVERVIEW_RESAMPLING", "average".to_owned())],
    }
}
