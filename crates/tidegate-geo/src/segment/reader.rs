//! Reading a raster as the model wants it: from strips of the file to strips of tiles.
//!
//! Rows are brought to the model's resolution as they are asked for, and every buffer is filled again and again: a wide
//! raster takes one strip of its file, some rows on their way, and the strips of tiles that are at work.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::SegmentError;
use super::plan::Plan;
use super::resample::{Resampling, RowWindow};
use super::tiles::Tile;
use crate::raster::{Raster, Sample, Samples, Strip, strip_of};

/// The rows of one row of tiles, at the model's resolution, in the model's bands.
pub(super) struct WorkStrip {
    pub top: usize,
    pub width: usize,
    pub planes: Vec<Samples>,
    n_rows: usize,
}

/// Some rows of the raster, and which of their pixels are wanted: valid, and inside the area of interest.
pub(crate) struct SceneRows {
    pub top: usize,
    pub n_rows: usize,
    /// 255 or 0; `None`: all are.
    pub wanted: Option<Vec<u8>>,
}

/// Is given rows as they are read, with their samples: 0 where a pixel is not valid.
pub(crate) type See<'a> = dyn FnMut(SceneRows, &[Samples]) -> Result<(), SegmentError> + 'a;

/// Which pixels of a row are asked for.
pub(crate) trait Area: Sync {
    /// Clears what lies outside.
    fn clip(&self, row: usize, wanted: &mut [u8]);
}

pub(super) struct Reader<'a> {
    raster: &'a dyn Raster,
    plan: &'a Plan,
    area: Option<&'a dyn Area>,
    /// What was read last.
    strip: Strip,
    next_strip: usize,
    /// Rows of the strip that are at the model's width already.
    n_narrowed: usize,
    /// Rows of the raster at the model's width, from which those to come are made.
    narrow: Window,
    /// What was given out, the last one last.
    given: VecDeque<Arc<WorkStrip>>,
    /// 255 where a pixel is wanted, of the rows that the tiles to come lie on; `None` before anything was unwanted.
    wanted: Option<RowWindow<u8>>,
    sums: Vec<f32>,
}

/// Planes and validity of the same rows.
struct Window {
    planes: Vec<PlaneWindow>,
    valid: Option<RowWindow<u8>>,
    top: usize,
    end: usize,
    width: usize,
}

enum PlaneWindow {
    U8(RowWindow<u8>),
    U16(RowWindow<u16>),
    F32(RowWindow<f32>),
}

/// Rows that are brought to the model's width in one go: preparing for it takes as long as a dozen rows.
const STEP_ROWS: usize = 128;

impl<'a> Reader<'a> {
    /// Reads for the rows of tiles from the one that begins at `work_row`.
    pub fn new(raster: &'a dyn Raster, plan: &'a Plan, area: Option<&'a dyn Area>, work_row: usize) -> Self {
        let bearing = reach(work_row, 1, plan.work.1, plan.image.1).start;
        let first = plan.to_work.first_row(work_row).min(bearing).min(plan.image.1 - 1);
        let next_strip = strip_of(raster, first);
        let top = raster.strip_rows(next_strip).start;
        Self {
            raster,
            plan,
            area,
            strip: Strip { top, ..Strip::default() },
            next_strip,
            n_narrowed: 0,
            narrow: Window::new(top, plan.work.0),
            given: VecDeque::new(),
            wanted: None,
            sums: Vec::new(),
        }
    }

    /// The rows of a row of tiles, which begins inside or at the end of the one before. `see` is given the raster's rows as
    /// they pass.
    pub fn strip(
        &mut self,
        top: usize,
        n_rows: usize,
        see: &mut See<'_>,
    ) -> Result<Arc<WorkStrip>, SegmentError> {
        if let Some(wanted) = &mut self.wanted {
            wanted.drop_before(reach(top, 1, self.plan.work.1, self.plan.image.1).start);
        }
        let mut strip = self.begin_strip(top);
        while strip.n_rows < n_rows {
            let (rows, weights) = self.plan.to_work.rows(top + strip.n_rows);
            while self.narrow.end < rows.end {
                self.narrow.drop_before(rows.start);
                if self.n_narrowed == self.strip.n_rows {
                    self.read_next(see)?;
                }
                self.narrow_some()?;
            }
            strip.append_blend(&self.narrow, &rows, &weights, &mut self.sums);
        }
        let bearing = reach(top, n_rows, self.plan.work.1, self.plan.image.1).end;
        while self.strip.top + self.strip.n_rows < bearing {
            // Few rows: those that only the filters' reach was read for.
            while self.n_narrowed < self.strip.n_rows {
                self.narrow_some()?;
            }
            self.read_next(see)?;
        }
        let strip = Arc::new(strip);
        self.given.push_back(Arc::clone(&strip));
        Ok(strip)
    }

    /// Passes the rows that are left below the last tiles.
    pub fn finish(&mut self, see: &mut See<'_>) -> Result<(), SegmentError> {
        while self.next_strip < self.raster.n_strips() {
            self.read_next(see)?;
        }
        Ok(())
    }

    /// Whether any pixel that bears on the tile is wanted.
    pub fn is_wanted(&self, tile: &Tile) -> bool {
        let Some(wanted) = &self.wanted else { return true };
        let (work, image) = (self.plan.work, self.plan.image);
        let columns = reach(tile.left, tile.width, work.0, image.0);
        let rows = reach(tile.top, tile.height, work.1, image.1);
        let mut rows = rows.start.max(wanted.top)..rows.end.min(wanted.end());
        rows.any(|row| wanted.row(row)[columns.clone()].iter().any(|value| *value != 0))
    }

    /// With the rows that it shares with the one before.
    fn begin_strip(&mut self, top: usize) -> WorkStrip {
        // The last one is read from here; of the others the oldest is filled again, once no tile needs it any more.
        let is_free = self.given.len() > 1 && Arc::strong_count(&self.given[0]) == 1;
        let free = if is_free { self.given.pop_front().and_then(Arc::into_inner) } else { None };
        let width = self.plan.work.0;
        let mut strip = free.unwrap_or_else(|| WorkStrip { top, width, planes: Vec::new(), n_rows: 0 });
        strip.begin(top, self.given.back().map(|strip| &**strip));
        strip
    }

    fn narrow_some(&mut self) -> Result<(), SegmentError> {
        let end = self.strip.n_rows.min(self.n_narrowed + STEP_ROWS);
        self.narrow.append(&self.strip, self.n_narrowed..end, &self.plan.to_work)?;
        self.n_narrowed = end;
        Ok(())
    }

    fn read_next(&mut self, see: &mut See<'_>) -> Result<(), SegmentError> {
        let read = self.raster.read_into(self.next_strip, &self.plan.bands, &mut self.strip);
        read.map_err(SegmentError::Read)?;
        self.next_strip += 1;
        self.n_narrowed = 0;
        if let Some(valid) = &self.strip.valid {
            self.strip.planes.iter_mut().for_each(|plane| clear(plane, valid));
        }
        let rows = self.note_wanted();
        see(rows, &self.strip.planes)
    }

    fn note_wanted(&mut self) -> SceneRows {
        let Strip { top, n_rows, width, .. } = self.strip;
        let mut wanted = self.strip.valid.clone();
        if let Some(area) = self.area {
            let values = wanted.get_or_insert_with(|| vec![255; n_rows * width]);
            values.chunks_exact_mut(width).enumerate().for_each(|(row, values)| area.clip(top + row, values));
            wanted = wanted.filter(|values| values.contains(&0));
        }
        let all_so_far = self.wanted.as_ref().map_or(top, RowWindow::end);
        match (&mut self.wanted, &wanted) {
            (None, None) => {}
            (window, rows) => {
                let window = window.get_or_insert_with(|| RowWindow::new(all_so_far, width));
                match rows {
                    Some(rows) => window.extend(rows),
                    None => window.fill(top + n_rows - window.top, 255),
                }
            }
        }
        SceneRows { top, n_rows, wanted }
    }
}

/// Sets invalid pixels to 0: their values mean nothing and must not spread into their neighbours.
fn clear(plane: &mut Samples, valid: &[u8]) {
    fn clear<T: Sample>(values: &mut [T], valid: &[u8]) {
        let invalid = values.iter_mut().zip(valid).filter(|(_, valid)| **valid == 0);
        invalid.for_each(|(value, _)| *value = T::default());
    }
    match plane {
        Samples::U8(values) => clear(values, valid),
        Samples::U16(values) => clear(values, valid),
        Samples::F32(values) => clear(values, valid),
    }
}

/// Image pixels that a span of model pixels was resampled from, with two to spare for the filters.
fn reach(start: usize, span: usize, of: usize, image: usize) -> Range<usize> {
    const SPARE: usize = 2;
    let per_pixel = image as f64 / of as f64;
    let spare = SPARE + per_pixel.ceil() as usize;
    let from = (start as f64 * per_pixel).floor() as usize;
    let to = ((start + span) as f64 * per_pixel).ceil() as usize;
    from.saturating_sub(spare)..(to + spare).min(image)
}

impl WorkStrip {
    /// Forgets its rows; the first ones are taken over from the strip before.
    fn begin(&mut self, top: usize, before: Option<&Self>) {
        fn take_over<T: Copy>(values: &mut Vec<T>, shared: &[T]) {
            values.clear();
            values.extend_from_slice(shared);
        }
        (self.top, self.n_rows) = (top, 0);
        let Some(before) = before else { return };
        self.n_rows = before.top + before.n_rows - top;
        let shared = (top - before.top) * self.width..;
        if self.planes.is_empty() {
            self.planes = before.planes.clone();
        }
        for (plane, before) in self.planes.iter_mut().zip(&before.planes) {
            match (plane, before) {
                (Samples::U8(plane), Samples::U8(before)) => take_over(plane, &before[shared.clone()]),
                (Samples::U16(plane), Samples::U16(before)) => take_over(plane, &before[shared.clone()]),
                (Samples::F32(plane), Samples::F32(before)) => take_over(plane, &before[shared.clone()]),
                _ => unreachable!("a raster's strips are all of one type"),
            }
        }
    }

    /// Appends the weighted sum of some rows of `source`. Where part of the weight fell on invalid pixels, the rest
    /// counts whole.
    fn append_blend(&mut self, source: &Window, rows: &Range<usize>, weights: &[f32], sums: &mut Vec<f32>) {
        if self.planes.is_empty() {
            self.planes = source.planes.iter().map(PlaneWindow::none_like).collect();
        }
        let valid =
            source.valid.as_ref().filter(|valid| any_invalid(valid.rows(rows.clone()))).map(|valid| {
                let mut row = Vec::with_capacity(self.width);
                valid.blend(rows, weights, sums, &mut row);
                row
            });
        let valid = valid.as_deref();
        for (plane, source) in self.planes.iter_mut().zip(&source.planes) {
            match (plane, source) {
                (Samples::U8(plane), PlaneWindow::U8(source)) => {
                    blend_row(plane, source, rows, weights, valid, sums);
                }
                (Samples::U16(plane), PlaneWindow::U16(source)) => {
                    blend_row(plane, source, rows, weights, valid, sums);
                }
                (Samples::F32(plane), PlaneWindow::F32(source)) => {
                    blend_row(plane, source, rows, weights, valid, sums);
                }
                _ => unreachable!("planes keep their type"),
            }
        }
        self.n_rows += 1;
    }
}

/// Whether any pixel is invalid, or was resampled from one that is.
fn any_invalid(valid: &[u8]) -> bool {
    valid.iter().any(|value| *value != 255)
}

fn blend_row<T: Sample>(
    plane: &mut Vec<T>,
    source: &RowWindow<T>,
    rows: &Range<usize>,
    weights: &[f32],
    valid: Option<&[u8]>,
    sums: &mut Vec<f32>,
) {
    let start = plane.len();
    source.blend(rows, weights, sums, plane);
    for (value, valid) in plane[start..].iter_mut().zip(valid.unwrap_or_default()) {
        if (1..255).contains(valid) {
            *value = T::from_f32(value.to_f32() * 255.0 / f32::from(*valid));
        }
    }
}

impl Window {
    fn new(top: usize, width: usize) -> Self {
        Self { planes: Vec::new(), valid: None, top, end: top, width }
    }

    /// Appends some rows of a strip, counted from its first, at this width.
    fn append(
        &mut self,
        strip: &Strip,
        rows: Range<usize>,
        resampling: &Resampling,
    ) -> Result<(), SegmentError> {
        if self.planes.is_empty() {
            let (top, width) = (self.end, self.width);
            self.planes = strip.planes.iter().map(|plane| PlaneWindow::new(plane, top, width)).collect();
        }
        let n_rows = rows.len();
        let span = rows.start * strip.width..rows.end * strip.width;
        for (window, plane) in self.planes.iter_mut().zip(&strip.planes) {
            match (window, plane) {
                (PlaneWindow::U8(window), Samples::U8(values)) => {
                    resampling.columns(&values[span.clone()], window.grow(n_rows))?;
                }
                (PlaneWindow::U16(window), Samples::U16(values)) => {
                    resampling.columns(&values[span.clone()], window.grow(n_rows))?;
                }
                (PlaneWindow::F32(window), Samples::F32(values)) => {
                    resampling.columns(&values[span.clone()], window.grow(n_rows))?;
                }
                _ => unreachable!("a raster's strips are all of one type"),
            }
        }
        let n_kept = self.end + n_rows - self.top;
        if strip.valid.is_some() || self.valid.is_some() {
            let window = self.valid_window();
            match &strip.valid {
                Some(valid) => resampling.columns(&valid[span], window.grow(n_rows))?,
                None => window.fill(n_kept, 255),
            }
        }
        self.end += n_rows;
        Ok(())
    }

    /// All valid up to here, where nothing else was said.
    fn valid_window(&mut self) -> &mut RowWindow<u8> {
        let (top, end, width) = (self.top, self.end, self.width);
        self.valid.get_or_insert_with(|| {
            let mut window = RowWindow::new(top, width);
            window.fill(end - top, 255);
            window
        })
    }

    fn drop_before(&mut self, row: usize) {
        let row = row.clamp(self.top, self.end);
        for plane in &mut self.planes {
            match plane {
                PlaneWindow::U8(window) => window.drop_before(row),
                PlaneWindow::U16(window) => window.drop_before(row),
                PlaneWindow::F32(window) => window.drop_before(row),
            }
        }
        if let Some(valid) = &mut self.valid {
            valid.drop_before(row);
            if !any_invalid(valid.values()) {
                self.valid = None;
            }
        }
        self.top = row;
    }
}

impl PlaneWindow {
    fn new(like: &Samples, top: usize, width: usize) -> Self {
        match like {
            Samples::U8(_) => Self::U8(RowWindow::new(top, width)),
            Samples::U16(_) => Self::U16(RowWindow::new(top, width)),
            Samples::F32(_) => Self::F32(RowWindow::new(top, width)),
        }
    }

    /// No samples, of this type.
    fn none_like(&self) -> Samples {
        match self {
            Self::U8(_) => Samples::U8(Vec::new()),
            Self::U16(_) => Samples::U16(Vec::new()),
            Self::F32(_) => Samples::F32(Vec::new()),
        }
    }
}
