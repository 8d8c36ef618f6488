//! The stages and their threads: one reads and resamples, some run the model, one stitches, one hands over what is done.
//!
//! Every channel between them is short, so that memory is bounded by strips, and whoever is slowest sets the pace. Batches
//! are stitched in the order of the tiles, whoever finished first: the result does not depend on the number of threads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::Tensor;

use super::output::Maps;
use super::plan::Plan;
use super::reader::{Area, Reader, SceneRows, WorkStrip};
use super::stitch::{Block, Stitcher};
use super::tensors::{Orientation, TensorMaker};
use super::tiles::Tile;
use super::{Progress, RunFault, SegmentError, SegmentOptions};
use crate::raster::{Raster, Samples};
use crate::stac_mlm::ModelItem;

/// Runs a model on one batch; called from several threads at once.
pub type RunTile<'a> = dyn Fn(Tensor) -> Result<Tensor, RunFault> + Sync + 'a;

/// Returns once tiles can be run; asked by every worker, before every batch.
pub type Ready<'a> = dyn Fn() -> Result<(), RunFault> + Sync + 'a;

/// One pass over a raster.
pub(crate) struct Pass<'a> {
    pub raster: &'a dyn Raster,
    pub plan: &'a Plan,
    pub item: &'a ModelItem,
    pub options: &'a SegmentOptions,
    pub area: Option<&'a dyn Area>,
    pub keep_probabilities: bool,
    pub block_rows: usize,
    /// Blocks before it are done already.
    pub first_block: usize,
    /// Rows of tiles before it are counted already.
    pub first_counted_row: usize,
    pub ready: &'a Ready<'a>,
    pub stop: &'a AtomicBool,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct PassReport {
    /// Rows of tiles that are done and counted.
    pub n_rows: usize,
    pub n_tiles: usize,
    pub n_empty_tiles: usize,
    /// Of the reading thread.
    pub preprocess_seconds: f64,
    /// Inside the runtime, over all threads.
    pub runtime_seconds: f64,
    /// Of the stitching thread.
    pub postprocess_seconds: f64,
    pub wall_seconds: f64,
}

impl PassReport {
    /// With what a later pass did.
    pub fn plus(&self, later: &Self) -> Self {
        Self {
            n_rows: self.n_rows + later.n_rows,
            n_tiles: self.n_tiles + later.n_tiles,
            n_empty_tiles: self.n_empty_tiles + later.n_empty_tiles,
            preprocess_seconds: self.preprocess_seconds + later.preprocess_seconds,
            runtime_seconds: self.runtime_seconds + later.runtime_seconds,
            postprocess_seconds: self.postprocess_seconds + later.postprocess_seconds,
            wall_seconds: self.wall_seconds + later.wall_seconds,
        }
    }
}

/// What is told as a pass goes on.
pub(crate) struct Listeners<'a> {
    /// Gets every block, in order, on a thread of its own. With it comes what the pass did so far. The block that is given
    /// back is filled again.
    pub block: &'a mut (dyn FnMut(Block, PassReport) -> Result<Block, SegmentError> + Send),
    /// Sees the raster's rows with their samples as they are read, on the reading thread.
    pub rows: &'a mut SeeRows<'a>,
    pub progress: &'a mut dyn FnMut(Progress),
}

pub(crate) type SeeRows<'a> = dyn FnMut(&SceneRows, &[Samples]) -> Result<(), SegmentError> + Send + 'a;

/// Tiles to run together.
struct Job {
    sequence: usize,
    tiles: Vec<Tile>,
    strip: Arc<WorkStrip>,
}

/// A row of tiles that was cut into jobs.
struct TileRow {
    top: usize,
    n_rows: usize,
    /// Tiles from here on belong to later rows.
    next_top: usize,
    batches: Vec<Vec<Tile>>,
    n_empty: usize,
    /// Rows of the raster read for it.
    seen: Vec<SceneRows>,
}

/// Of results that wait while the stitcher ends a row of tiles, which takes as long as some dozen small ones on a wide
/// raster.
const RESULT_BYTES: usize = 8 << 20;

/// Rows of tiles that wait to be stitched: with one at work and one being cut, a strip is read while another is run.
const ROWS_AHEAD: usize = 1;

impl Pass<'_> {
    pub fn run(&self, run: &RunTile<'_>, listeners: Listeners<'_>) -> Result<PassReport, SegmentError> {
        let started = Instant::now();
        let first_row = self.first_tile_row();
        let clocks = Clocks::default();
        let (row_sender, rows) = sync_channel(ROWS_AHEAD);
        // All jobs of a row of tiles: while they are run, the reader has the time to read the next one.
        let (job_sender, jobs) = sync_channel(self.plan.tiles.n_columns());
        // Every worker may finish while the stitcher is busy.
        let n_results = (RESULT_BYTES / self.result_bytes()).max(2 * self.options.threads);
        let (result_sender, results) = sync_channel(n_results);
        let (block_sender, blocks) = sync_channel::<(Block, PassReport)>(0);
        // One block grows while another is kept, and then it grows again.
        let (used_sender, used_blocks) = sync_channel(1);
        // Owned by the workers alone: when all have ended, the reader cannot send and ends too.
        let jobs = Arc::new(Mutex::new(jobs));
        let Listeners { block: on_block, rows: on_rows, progress } = listeners;
        let (mut report, outcome) = std::thread::scope(|scope| {
            let clocks = &clocks;
            let reader = scope.spawn(move || self.read(first_row, &row_sender, &job_sender, on_rows, clocks));
            for _ in 0..self.options.threads {
                let (jobs, results) = (Arc::clone(&jobs), result_sender.clone());
                scope.spawn(move || self.work(run, &jobs, &results, clocks));
            }
            drop((jobs, result_sender));
            let writer = scope.spawn(move || {
                blocks.into_iter().try_for_each(|(block, report)| {
                    // Nobody waits for the last ones.
                    let _ = used_sender.try_send(on_block(block, report)?);
                    Ok(())
                })
            });
            let mut report = PassReport::default();
            let stitched = self.stitch(
                started,
                first_row,
                &rows,
                &results,
                (&block_sender, &used_blocks),
                progress,
                &mut report,
                clocks,
            );
            // Whoever still waits to send or to receive goes on and ends.
            drop((rows, results, block_sender));
            let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // Workers end when the reader's jobs are through.
            let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (report, first_cause([read, written, stitched]))
        });
        clocks.report(started, &mut report);
        outcome.map(|()| report)
    }

    /// Of one batch, as far as the item tells.
    fn result_bytes(&self) -> usize {
        let ModelItem { input, output, .. } = self.item;
        let n_tiles = input.batch.unwrap_or(self.options.batch);
        let n_values = n_tiles * output.channels.unwrap_or(1) * input.height * input.width;
        (n_values * size_of::<f32>()).max(1)
    }

    /// The first row of tiles that the first block needs.
    fn first_tile_row(&self) -> usize {
        let first_scene_row = (self.first_block * self.block_rows).min(self.plan.image.1 - 1);
        let work_row = self.plan.to_image.first_row(first_scene_row);
        let reaches = |row: &usize| self.plan.tiles.row(*row).end > work_row;
        (0..self.plan.tiles.n_rows()).find(reaches).unwrap_or(0)
    }

    fn read(
        &self,
        first_row: usize,
        rows: &SyncSender<TileRow>,
        jobs: &SyncSender<Job>,
        on_rows: &mut SeeRows<'_>,
        clocks: &Clocks,
    ) -> Result<(), SegmentError> {
        let tiles = &self.plan.tiles;
        let mut reader = Reader::new(self.raster, self.plan, self.area, tiles.row(first_row).start);
        let mut sequence = 0;
        for row in first_row..tiles.n_rows() {
            if self.stop.load(Ordering::Relaxed) {
                return Err(SegmentError::Stopped);
            }
            let started = Instant::now();
            let span = tiles.row(row);
            let mut seen = Vec::new();
            let mut see = |rows: SceneRows, planes: &[Samples]| {
                on_rows(&rows, planes)?;
                seen.push(rows);
                Ok(())
            };
            let strip = reader.strip(span.start, span.len(), &mut see)?;
            let is_last = row + 1 == tiles.n_rows();
            if is_last {
                reader.finish(&mut see)?;
            }
            let all = tiles.tiles_of(row).collect::<Vec<_>>();
            let wanted = all.iter().filter(|tile| reader.is_wanted(tile)).copied().collect::<Vec<_>>();
            let n_batch = self.item.input.batch.unwrap_or(self.options.batch);
            let batches = wanted.chunks(n_batch).map(<[Tile]>::to_vec).collect::<Vec<_>>();
            clocks.count(&clocks.reading, started);
            let tile_row = TileRow {
                top: span.start,
                n_rows: span.len(),
                next_top: if is_last { usize::MAX } else { tiles.row(row + 1).start },
                batches: batches.clone(),
                n_empty: all.len() - wanted.len(),
                seen,
            };
            // Failing to send means that another stage has ended, for a reason of its own.
            if rows.send(tile_row).is_err() {
                return Err(SegmentError::Stopped);
            }
            for tiles in batches {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(SegmentError::Stopped);
                }
                let job = Job { sequence, tiles, strip: Arc::clone(&strip) };
                if jobs.send(job).is_err() {
                    return Err(SegmentError::Stopped);
                }
                sequence += 1;
            }
        }
        Ok(())
    }

    fn work(
        &self,
        run: &RunTile<'_>,
        jobs: &Mutex<Receiver<Job>>,
        results: &SyncSender<(usize, Result<Maps, SegmentError>)>,
        clocks: &Clocks,
    ) {
        let maker = TensorMaker::new(&self.item.input);
        loop {
            let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else { return };
            let maps = self.run_job(&job, &maker, run, clocks);
            if results.send((job.sequence, maps)).is_err() {
                return;
            }
        }
    }

    fn run_job(
        &self,
        job: &Job,
        maker: &TensorMaker<'_>,
        run: &RunTile<'_>,
        clocks: &Clocks,
    ) -> Result<Maps, SegmentError> {
        (self.ready)().map_err(SegmentError::Run)?;
        let (width, height) = (self.item.input.width, self.item.input.height);
        let run_once = |orientation| {
            let tensor = maker.tensor(&job.strip, &job.tiles, orientation);
            let started = Instant::now();
            let output = run(tensor).map_err(SegmentError::Run);
            clocks.count(&clocks.running, started);
            Maps::read(&output?, self.item, job.tiles.len())
        };
        if !self.options.augment {
            return run_once(Orientation::UPRIGHT);
        }
        let orientations = Orientation::all(width == height);
        let share = 1.0 / orientations.len() as f32;
        let mut mean: Option<Maps> = None;
        for orientation in orientations {
            let maps = run_once(orientation)?;
            let n_values = maps.values.len();
            let mean = mean.get_or_insert(Maps { values: vec![0.0; n_values], ..maps });
            orientation.add_back(&maps.values, &mut mean.values, width, height);
        }
        let mut mean = mean.expect("there is always the upright orientation");
        mean.values.iter_mut().for_each(|value| *value *= share);
        Ok(mean)
    }

    #[expect(clippy::too_many_arguments, reason = "the ends of every channel, each used once")]
    fn stitch(
        &self,
        started: Instant,
        first_row: usize,
        rows: &Receiver<TileRow>,
        results: &Receiver<(usize, Result<Maps, SegmentError>)>,
        (blocks, used_blocks): (&SyncSender<(Block, PassReport)>, &Receiver<Block>),
        progress: &mut dyn FnMut(Progress),
        report: &mut PassReport,
        clocks: &Clocks,
    ) -> Result<(), SegmentError> {
        let tiles = &self.plan.tiles;
        let mut stitcher = Stitcher::new(
            self.plan,
            self.item.output.channels.filter(|_| self.item.output.dim_order.is_some()),
            self.item.output.threshold,
            self.keep_probabilities,
            (self.first_block, self.block_rows),
            tiles.row(first_row).start,
        )?;
        let mut early = BTreeMap::new();
        let mut sequence = 0;
        let total = tiles.len();
        let mut done = first_row * tiles.n_columns();
        progress(Progress { done, total });
        for (number, row) in (first_row..).zip(rows) {
            stitcher.begin(row.top, row.n_rows);
            row.seen.iter().for_each(|seen| stitcher.note(seen));
            done += row.n_empty;
            let counts = number >= self.first_counted_row;
            if counts {
                report.n_rows += 1;
                report.n_empty_tiles += row.n_empty;
                report.n_tiles += row.batches.iter().map(Vec::len).sum::<usize>();
            }
            if row.n_empty > 0 {
                progress(Progress { done, total });
            }
            for batch in &row.batches {
                let maps = take(sequence, &mut early, results)?;
                let adding = Instant::now();
                stitcher.add(batch, &maps?)?;
                clocks.count(&clocks.stitching, adding);
                sequence += 1;
                done += batch.len();
                progress(Progress { done, total });
            }
            clocks.report(started, report);
            let mut emit = |block| {
                blocks.send((block, *report)).map_err(|_| SegmentError::Stopped)?;
                Ok(used_blocks.try_recv().unwrap_or_default())
            };
            let ending = Instant::now();
            stitcher.end(row.next_top, &mut emit)?;
            clocks.count(&clocks.stitching, ending);
        }
        Ok(())
    }
}

/// The result of one job, whatever order they come in.
fn take(
    sequence: usize,
    early: &mut BTreeMap<usize, Result<Maps, SegmentError>>,
    results: &Receiver<(usize, Result<Maps, SegmentError>)>,
) -> Result<Result<Maps, SegmentError>, SegmentError> {
    loop {
        if let Some(maps) = early.remove(&sequence) {
            return Ok(maps);
        }
        let (number, maps) = results.recv().map_err(|_| SegmentError::Stopped)?;
        early.insert(number, maps);
    }
}

/// The error that made the other stages stop, where there is one.
fn first_cause<const N: usize>(outcomes: [Result<(), SegmentError>; N]) -> Result<(), SegmentError> {
    let mut errors = outcomes.into_iter().filter_map(Result::err).collect::<Vec<_>>();
    let cause = errors.iter().position(|error| !matches!(error, SegmentError::Stopped)).unwrap_or(0);
    if errors.is_empty() { Ok(()) } else { Err(errors.swap_remove(cause)) }
}

/// Time spent, in nanoseconds, by stage.
#[derive(Default)]
struct Clocks {
    reading: AtomicU64,
    running: AtomicU64,
    stitching: AtomicU64,
}

impl Clocks {
    fn report(&self, started: Instant, report: &mut PassReport) {
        report.preprocess_seconds = seconds(&self.reading);
        report.runtime_seconds = seconds(&self.running);
        report.postprocess_seconds = seconds(&self.stitching);
        report.wall_seconds = started.elapsed().as_secs_f64();
    }

    #[expect(clippy::unused_self, reason = "reads as what it is where it is called")]
    fn count(&self, clock: &AtomicU64, started: Instant) {
        let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        clock.fetch_add(elapsed, Ordering::Relaxed);
    }
}

fn seconds(clock: &AtomicU64) -> f64 {
    Duration::from_nanos(clock.load(Ordering::Relaxed)).as_secs_f64()
}
