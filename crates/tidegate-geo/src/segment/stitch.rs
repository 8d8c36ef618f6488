//! Blending tiles into rows of probabilities at the model's resolution, and those into blocks of the raster's own rows.

use std::borrow::Cow;
use std::ops::Range;

use super::SegmentError;
use super::output::Maps;
use super::plan::Plan;
use super::reader::SceneRows;
use super::resample::RowWindow;
use super::tiles::Tile;
use crate::raster::Sample;

/// Rows of a result, block by block from the top.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Block {
    pub top: usize,
    pub n_rows: usize,
    pub width: usize,
    /// One channel: 1 from the threshold on. Several: the index of the most probable. [`NODATA`] where the pixel is
    /// invalid or outside the area of interest.
    pub mask: Vec<u8>,
    /// The probability of the foreground, or of the class in the mask, in steps of 1/[`CONFIDENCE_STEPS`]. 0 where the
    /// mask is [`NODATA`].
    pub confidence: Vec<u8>,
    /// Channel by channel, where asked for; NaN where the mask is [`NODATA`].
    pub probabilities: Option<Vec<Vec<f32>>>,
}

/// What a mask has where there is no answer.
pub const NODATA: u8 = 255;

/// The confidence of a probability of one.
pub const CONFIDENCE_STEPS: f32 = 250.0;

/// A mask's pixel is one byte, and one value of it says that there is none.
const MAX_CHANNELS: usize = 255;

/// Rows that are brought to the raster's width in one go: a good step for the cache.
const STEP_ROWS: usize = 32;

pub(super) struct Stitcher<'a> {
    plan: &'a Plan,
    threshold: f32,
    keep_probabilities: bool,
    /// One per channel: rows that are complete and still needed, then those of the row of tiles at work.
    sums: Vec<RowWindow<f32>>,
    /// Rows before it are complete.
    complete: usize,
    wanted: Wanted,
    /// Whether the number of channels is known, by the item or by a first output.
    channels_known: bool,
    next_row: usize,
    block: Block,
    block_rows: usize,
    scratch: Scratch,
}

/// Room for a step, used again and again.
#[derive(Default)]
struct Scratch {
    row: Vec<f32>,
    narrow: Vec<f32>,
    /// One per channel, at the raster's width.
    wide: Vec<Vec<f32>>,
}

impl<'a> Stitcher<'a> {
    /// Begins with block `first_block`, for which the row of tiles at `work_row` is the first that matters.
    pub fn new(
        plan: &'a Plan,
        n_channels: Option<usize>,
        threshold: f32,
        keep_probabilities: bool,
        (first_block, block_rows): (usize, usize),
        work_row: usize,
    ) -> Result<Self, SegmentError> {
        let channels_known = n_channels.is_some();
        let n_channels = n_channels.unwrap_or(1);
        check_channels(n_channels)?;
        let next_row = first_block * block_rows;
        Ok(Self {
            plan,
            threshold,
            keep_probabilities,
            sums: vec![RowWindow::new(work_row, plan.work.0); n_channels],
            complete: work_row,
            wanted: Wanted { end: next_row, rows: None },
            channels_known,
            next_row,
            block: Block::default().emptied(
                next_row..(next_row + block_rows).min(plan.image.1),
                plan.image.0,
                keep_probabilities.then_some(n_channels),
            ),
            block_rows,
            scratch: Scratch::default(),
        })
    }

    /// Makes room for a row of tiles.
    pub fn begin(&mut self, top: usize, n_rows: usize) {
        debug_assert_eq!(self.complete, top, "rows of tiles follow each other");
        self.sums.iter_mut().for_each(|sums| sums.fill(top + n_rows - sums.top, 0.0));
    }

    /// Rows of the raster that were read.
    pub fn note(&mut self, rows: &SceneRows) {
        self.wanted.note(rows, self.next_row, self.plan.image.0);
    }

    /// Adds a batch, each tile by its weights.
    pub fn add(&mut self, tiles: &[Tile], maps: &Maps) -> Result<(), SegmentError> {
        if !self.channels_known {
            check_channels(maps.n_channels)?;
            self.widen(maps.n_channels);
        }
        if maps.n_channels != self.sums.len() {
            let expected = format!("{} channels as in the batch before", self.sums.len());
            let actual = vec![tiles.len(), maps.n_channels, maps.height, maps.width];
            return Err(SegmentError::OutputShape { actual, expected });
        }
        for (index, tile) in tiles.iter().enumerate() {
            let (column_weights, row_weights) = self.plan.tiles.weights(tile);
            for (channel, sums) in self.sums.iter_mut().enumerate() {
                let map = maps.channel(index, channel);
                for (y, row_weight) in row_weights.iter().enumerate() {
                    let start = (tile.top - sums.top + y) * sums.width + tile.left;
                    let target = &mut sums.values_mut()[start..][..tile.width];
                    let line = &map[y * maps.width..][..tile.width];
                    for ((sum, value), weight) in target.iter_mut().zip(line).zip(column_weights) {
                        *sum += value * weight * row_weight;
                    }
                }
            }
        }
        Ok(())
    }

    /// So far nothing was run, so every channel is like the first.
    fn widen(&mut self, n_channels: usize) {
        self.channels_known = true;
        self.sums.resize(n_channels, self.sums[0].clone());
        if let Some(probabilities) = &mut self.block.probabilities {
            probabilities.resize(n_channels, probabilities[0].clone());
        }
    }

    /// Ends a row of tiles: no later one reaches above `next_top`. Gives every block that is complete, for one whose room is
    /// used again.
    pub fn end(
        &mut self,
        next_top: usize,
        emit: &mut dyn FnMut(Block) -> Result<Block, SegmentError>,
    ) -> Result<(), SegmentError> {
        self.complete = next_top.min(self.sums[0].end());
        loop {
            let n_rows = self.ready_rows();
            if n_rows == 0 {
                break;
            }
            self.enlarge(n_rows)?;
            if self.block.n_rows == self.block_rows || self.next_row == self.plan.image.1 {
                let n_channels = self.keep_probabilities.then_some(self.sums.len());
                let used = emit(std::mem::take(&mut self.block))?;
                let rows = self.next_row..(self.next_row + self.block_rows).min(self.plan.image.1);
                self.block = used.emptied(rows, self.plan.image.0, n_channels);
            }
        }
        let first = self.plan.to_image.first_row(self.next_row).min(self.complete);
        self.sums.iter_mut().for_each(|sums| sums.drop_before(first));
        Ok(())
    }

    /// Rows of the raster for which everything is there, as many as make a step inside the block.
    fn ready_rows(&self) -> usize {
        let block_end = (self.block.top + self.block_rows).min(self.plan.image.1);
        let limit = (self.next_row + STEP_ROWS).min(block_end).min(self.wanted.end);
        let is_ready = |row: &usize| self.plan.to_image.rows(*row).0.end <= self.complete;
        (self.next_row..limit).take_while(is_ready).count()
    }

    /// Brings rows to the raster's resolution and decides them.
    fn enlarge(&mut self, n_rows: usize) -> Result<(), SegmentError> {
        let rows = self.next_row..self.next_row + n_rows;
        let Scratch { row: scratch, narrow, wide } = &mut self.scratch;
        wide.resize_with(self.sums.len(), Vec::new);
        for (sums, wide) in self.sums.iter().zip(&mut *wide) {
            narrow.clear();
            for row in rows.clone() {
                let (from, weights) = self.plan.to_image.rows(row);
                sums.blend(&from, &weights, scratch, narrow);
            }
            wide.resize(n_rows * self.plan.image.0, 0.0);
            self.plan.to_image.columns(narrow, wide)?;
        }
        self.block.append(wide, self.wanted.rows(rows.clone()), self.threshold);
        self.block.n_rows += n_rows;
        self.next_row = rows.end;
        self.wanted.drop_before(rows.end);
        Ok(())
    }
}

/// Which pixels are wanted, of rows to come.
struct Wanted {
    /// The row after the last that was read.
    end: usize,
    /// 255 or 0; `None`: all are, of all rows that were read and are to come.
    rows: Option<RowWindow<u8>>,
}

impl Wanted {
    /// Takes rows that follow on those before; what lies above `next_row` is not asked for any more.
    fn note(&mut self, read: &SceneRows, next_row: usize, width: usize) {
        let from = self.end.max(read.top);
        self.end = self.end.max(read.top + read.n_rows);
        if self.rows.is_none() && read.wanted.is_none() {
            return;
        }
        let window = self.rows.get_or_insert_with(|| RowWindow::new(next_row, width));
        window.fill(from - window.top, 255);
        match &read.wanted {
            Some(wanted) => window.extend(&wanted[(from - read.top).min(read.n_rows) * width..]),
            None => window.fill(self.end - window.top, 255),
        }
    }

    /// `None`: all are.
    fn rows(&self, rows: Range<usize>) -> Option<&[u8]> {
        self.rows.as_ref().map(|window| window.rows(rows))
    }

    fn drop_before(&mut self, row: usize) {
        let Some(window) = &mut self.rows else { return };
        window.drop_before(row);
        if window.values().is_empty() {
            self.rows = None;
        }
    }
}

fn check_channels(n_channels: usize) -> Result<(), SegmentError> {
    if (1..=MAX_CHANNELS).contains(&n_channels) {
        return Ok(());
    }
    let reason = format!("it has {n_channels} channels, and a mask tells apart {MAX_CHANNELS} at most");
    Err(SegmentError::OutputValues { reason })
}

impl Block {
    /// Without rows, in the same room, which is enough for `rows`. `n_channels`: of the probabilities, where they are kept.
    fn emptied(mut self, rows: Range<usize>, width: usize, n_channels: Option<usize>) -> Self {
        (self.top, self.n_rows, self.width) = (rows.start, 0, width);
        for bytes in [&mut self.mask, &mut self.confidence] {
            bytes.clear();
            bytes.reserve_exact(rows.len() * width);
        }
        self.probabilities = n_channels.map(|n_channels| {
            let mut channels = self.probabilities.unwrap_or_default();
            channels.iter_mut().for_each(Vec::clear);
            channels.resize_with(n_channels, Vec::new);
            channels
        });
        self
    }

    fn append(&mut self, channels: &mut [Vec<f32>], wanted: Option<&[u8]>, threshold: f32) {
        let start = self.mask.len();
        let n_pixels = channels[0].len();
        self.mask.resize(start + n_pixels, 0);
        let mask = &mut self.mask[start..];
        let best = if channels.len() == 1 {
            mask.iter_mut().zip(&channels[0]).for_each(|(mask, value)| *mask = u8::from(*value >= threshold));
            Cow::Borrowed(&channels[0])
        } else {
            Cow::Owned(most_probable(channels, mask))
        };
        self.confidence.extend(best.iter().map(|value| u8::from_f32(value * CONFIDENCE_STEPS)));
        drop(best);
        let confidence = &mut self.confidence[start..];
        for (pixel, _) in wanted.unwrap_or_default().iter().enumerate().filter(|(_, wanted)| **wanted == 0) {
            (mask[pixel], confidence[pixel]) = (NODATA, 0);
            channels.iter_mut().for_each(|channel| channel[pixel] = f32::NAN);
        }
        for (kept, channel) in self.probabilities.iter_mut().flatten().zip(channels) {
            kept.extend_from_slice(channel);
        }
    }
}

/// Writes the most probable channel of each pixel to `mask`, which is 0; gives its probability.
fn most_probable(channels: &[Vec<f32>], mask: &mut [u8]) -> Vec<f32> {
    let mut best = channels[0].clone();
    for (channel, values) in channels.iter().enumerate().skip(1) {
        let index = u8::try_from(channel).expect("a stitcher takes at most 255 channels");
        for ((best, mask), value) in best.iter_mut().zip(&mut *mask).zip(values) {
            if value > best {
                (*best, *mask) = (*value, index);
            }
        }
    }
    best
}
