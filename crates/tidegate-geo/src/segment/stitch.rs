//! Blending tiles into rows of probabilities at the model's resolution, and those into blocks of the raster's own rows.

use super::SegmentError;
use super::output::Maps;
use super::plan::Plan;
use super::reader::SceneRows;
use super::resample::RowWindow;
use super::tiles::Tile;

/// Rows of a result, block by block from the top.
#[derive(Clone, Debug, PartialEq)]
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
const STEP_ROWS: usize = 16;

pub(super) struct Stitcher<'a> {
    plan: &'a Plan,
    threshold: f32,
    keep_probabilities: bool,
    /// Of the row of tiles at work, one per channel; incomplete.
    sums: Vec<RowWindow<f32>>,
    /// Complete rows that are still needed.
    done: Vec<RowWindow<f32>>,
    /// Which pixels are wanted, of rows to come.
    wanted: RowWindow<u8>,
    /// Whether the number of channels is known, by the item or by a first output.
    channels_known: bool,
    next_row: usize,
    block: Block,
    block_rows: usize,
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
        let planes = || (0..n_channels).map(|_| RowWindow::new(work_row, plan.work.0)).collect();
        let next_row = first_block * block_rows;
        Ok(Self {
            plan,
            threshold,
            keep_probabilities,
            sums: planes(),
            done: planes(),
            wanted: RowWindow::new(next_row, plan.image.0),
            channels_known,
            next_row,
            block: Block::empty(next_row, plan.image.0, n_channels, keep_probabilities),
            block_rows,
        })
    }

    /// Makes room for a row of tiles.
    pub fn begin(&mut self, top: usize, n_rows: usize) {
        for sums in &mut self.sums {
            debug_assert_eq!(sums.top, top, "rows of tiles follow each other");
            sums.values.resize(n_rows * sums.width, 0.0);
        }
    }

    /// Rows of the raster that were read.
    pub fn note(&mut self, rows: &SceneRows) {
        let width = self.plan.image.0;
        let skipped = self.wanted.end().saturating_sub(rows.top).min(rows.n_rows);
        match &rows.wanted {
            Some(wanted) => self.wanted.values.extend_from_slice(&wanted[skipped * width..]),
            None => {
                let n_values = (rows.n_rows - skipped) * width;
                self.wanted.values.resize(self.wanted.values.len() + n_values, 255);
            }
        }
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
                    let target = &mut sums.values[start..][..tile.width];
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
        self.done.resize(n_channels, self.done[0].clone());
        if let Some(probabilities) = &mut self.block.probabilities {
            probabilities.resize(n_channels, probabilities[0].clone());
        }
    }

    /// Ends a row of tiles: no later one reaches above `next_top`. Gives every block that is complete.
    pub fn end(
        &mut self,
        next_top: usize,
        emit: &mut dyn FnMut(Block) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        for (sums, done) in self.sums.iter_mut().zip(&mut self.done) {
            let complete = next_top.min(sums.end());
            done.values.extend_from_slice(sums.rows(sums.top..complete));
            sums.drop_before(complete);
        }
        let first = self.plan.to_image.first_row(self.next_row);
        self.done.iter_mut().for_each(|done| done.drop_before(first));
        loop {
            let n_rows = self.ready_rows();
            if n_rows == 0 {
                return Ok(());
            }
            self.enlarge(n_rows)?;
            if self.block.n_rows == self.block_rows || self.next_row == self.plan.image.1 {
                let width = self.plan.image.0;
                let next = Block::empty(self.next_row, width, self.done.len(), self.keep_probabilities);
                emit(std::mem::replace(&mut self.block, next))?;
            }
        }
    }

    /// Rows of the raster for which everything is there, as many as make a step inside the block.
    fn ready_rows(&self) -> usize {
        let block_end = (self.block.top + self.block_rows).min(self.plan.image.1);
        let limit = (self.next_row + STEP_ROWS).min(block_end).min(self.wanted.end());
        let is_ready = |row: &usize| self.plan.to_image.rows(*row).0.end <= self.done[0].end();
        (self.next_row..limit).take_while(is_ready).count()
    }

    /// Brings rows to the raster's resolution and decides them.
    fn enlarge(&mut self, n_rows: usize) -> Result<(), SegmentError> {
        let rows = self.next_row..self.next_row + n_rows;
        let mut sums = Vec::new();
        let mut channels = Vec::with_capacity(self.done.len());
        for done in &self.done {
            let mut narrow = Vec::with_capacity(n_rows * done.width);
            for row in rows.clone() {
                let (from, weights) = self.plan.to_image.rows(row);
                done.blend(&from, &weights, &mut sums, &mut narrow);
            }
            channels.push(self.plan.to_image.float_columns(&narrow)?);
        }
        self.block.append(channels, self.wanted.rows(rows.clone()), self.threshold);
        self.block.n_rows += n_rows;
        self.next_row = rows.end;
        self.wanted.drop_before(rows.end);
        Ok(())
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
    fn empty(top: usize, width: usize, n_channels: usize, keep_probabilities: bool) -> Self {
        Self {
            top,
            n_rows: 0,
            width,
            mask: Vec::new(),
            confidence: Vec::new(),
            probabilities: keep_probabilities.then(|| vec![Vec::new(); n_channels]),
        }
    }

    fn append(&mut self, mut channels: Vec<Vec<f32>>, wanted: &[u8], threshold: f32) {
        let mut best = channels[0].clone();
        let mut mask = vec![0u8; best.len()];
        if channels.len() == 1 {
            mask.iter_mut().zip(&best).for_each(|(mask, value)| *mask = u8::from(*value >= threshold));
        }
        for (channel, values) in channels.iter().enumerate().skip(1) {
            let index = u8::try_from(channel).expect("a stitcher takes at most 255 channels");
            for ((best, mask), value) in best.iter_mut().zip(&mut mask).zip(values) {
                if value > best {
                    (*best, *mask) = (*value, index);
                }
            }
        }
        let confidence = best.iter().map(|value| (value * CONFIDENCE_STEPS).round() as u8);
        let mut confidence = confidence.collect::<Vec<_>>();
        for (pixel, wanted) in wanted.iter().enumerate() {
            if *wanted == 0 {
                (mask[pixel], confidence[pixel]) = (NODATA, 0);
                channels.iter_mut().for_each(|channel| channel[pixel] = f32::NAN);
            }
        }
        self.mask.extend(mask);
        self.confidence.extend(confidence);
        for (kept, channel) in self.probabilities.iter_mut().flatten().zip(channels) {
            kept.extend(channel);
        }
    }
}
