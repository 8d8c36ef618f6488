//! Reading a raster as the model wants it: from strips of the file to strips of tiles, a window at a time.

use std::sync::Arc;

use super::SegmentError;
use super::plan::Plan;
use super::resample::RowWindow;
use super::tiles::Tile;
use crate::raster::{Raster, Sample, Samples, Strip, strip_of};

/// The rows of one row of tiles, at the model's resolution, in the model's bands.
pub(super) struct WorkStrip {
    pub top: usize,
    pub width: usize,
    pub planes: Vec<Samples>,
}

/// Some rows of the raster, and which of their pixels are wanted: valid, and inside the area of interest.
pub(crate) struct SceneRows {
    pub top: usize,
    pub n_rows: usize,
    /// 255 or 0; `None`: all are.
    pub wanted: Option<Vec<u8>>,
    /// The samples, where somebody looks at them: for a picture.
    pub planes: Vec<Samples>,
}

/// Which pixels of a row are asked for.
pub(crate) trait Area: Sync {
    /// Clears what lies outside.
    fn clip(&self, row: usize, wanted: &mut [u8]);
}

pub(super) struct Reader<'a> {
    raster: &'a dyn Raster,
    plan: &'a Plan,
    area: Option<&'a dyn Area>,
    next_strip: usize,
    /// Rows of the raster, already at the model's width.
    narrow: Window,
    work: Window,
    /// 255 where a pixel is wanted, of the rows that the tiles to come lie on; `None` before anything was unwanted.
    wanted: Option<RowWindow<u8>>,
    scene_end: usize,
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
            next_strip,
            narrow: Window::new(top, plan.work.0),
            work: Window::new(work_row, plan.work.0),
            wanted: None,
            scene_end: top,
        }
    }

    /// The rows of a row of tiles; rows before it are forgotten. `seen` gets the raster's rows as they pass.
    pub fn strip(
        &mut self,
        top: usize,
        n_rows: usize,
        seen: &mut dyn FnMut(SceneRows) -> Result<(), SegmentError>,
    ) -> Result<Arc<WorkStrip>, SegmentError> {
        self.work.drop_before(top);
        if let Some(wanted) = &mut self.wanted {
            wanted.drop_before(reach(top, 1, self.plan.work.1, self.plan.image.1).start);
        }
        let bearing = reach(top, n_rows, self.plan.work.1, self.plan.image.1).end;
        while self.work.end < top + n_rows || self.scene_end < bearing {
            self.read_next(seen)?;
        }
        let planes = self.work.planes.iter().map(|plane| plane.copy(top..top + n_rows)).collect();
        Ok(Arc::new(WorkStrip { top, width: self.plan.work.0, planes }))
    }

    /// Passes the rows that are left below the last tiles.
    pub fn finish(
        &mut self,
        seen: &mut dyn FnMut(SceneRows) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        while self.next_strip < self.raster.n_strips() {
            self.read_next(seen)?;
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

    fn read_next(
        &mut self,
        seen: &mut dyn FnMut(SceneRows) -> Result<(), SegmentError>,
    ) -> Result<(), SegmentError> {
        let strip = self.raster.read_strip(self.next_strip, &self.plan.bands).map_err(SegmentError::Read)?;
        self.next_strip += 1;
        self.scene_end = strip.top + strip.n_rows;
        self.narrow_down(&strip)?;
        self.resample_rows();
        let rows = self.note_wanted(strip);
        seen(rows)
    }

    /// Brings a strip to the model's width and appends it.
    fn narrow_down(&mut self, strip: &Strip) -> Result<(), SegmentError> {
        let valid = strip.valid.as_deref();
        let planes = strip.planes.iter().map(|plane| {
            let cleared = valid.map(|valid| cleared(plane, valid));
            self.plan.to_work.columns(cleared.as_ref().unwrap_or(plane))
        });
        let planes = planes.collect::<Result<Vec<_>, _>>()?;
        let valid = valid.map(|valid| self.plan.to_work.byte_columns(valid)).transpose()?;
        self.narrow.append(planes, valid, strip.n_rows);
        Ok(())
    }

    /// Makes every row at the model's resolution for which all is there.
    fn resample_rows(&mut self) {
        let mut sums = Vec::new();
        while self.work.end < self.plan.work.1 {
            let row = self.work.end;
            let (rows, weights) = self.plan.to_work.rows(row);
            if rows.end > self.narrow.end {
                break;
            }
            self.work.append_blend(&self.narrow, &rows, &weights, &mut sums);
        }
        self.narrow.drop_before(self.plan.to_work.first_row(self.work.end));
    }

    fn note_wanted(&mut self, strip: Strip) -> SceneRows {
        let Strip { top, n_rows, width, planes, valid } = strip;
        let mut wanted = valid;
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
        SceneRows { top, n_rows, wanted, planes }
    }
}

/// The plane with 0 at invalid pixels, whose values mean nothing and must not spread into their neighbours.
fn cleared(plane: &Samples, valid: &[u8]) -> Samples {
    fn clear<T: Sample>(values: &[T], valid: &[u8]) -> Vec<T> {
        values
            .iter()
            .zip(valid)
            .map(|(value, valid)| if *valid == 0 { T::default() } else { *value })
            .collect()
    }
    match plane {
        Samples::U8(values) => Samples::U8(clear(values, valid)),
        Samples::U16(values) => Samples::U16(clear(values, valid)),
        Samples::F32(values) => Samples::F32(clear(values, valid)),
    }
}

/// Image pixels that a span of model pixels was resampled from, with two to spare for the filters.
fn reach(start: usize, span: usize, of: usize, image: usize) -> std::ops::Range<usize> {
    const SPARE: usize = 2;
    let per_pixel = image as f64 / of as f64;
    let spare = SPARE + per_pixel.ceil() as usize;
    let from = (start as f64 * per_pixel).floor() as usize;
    let to = ((start + span) as f64 * per_pixel).ceil() as usize;
    from.saturating_sub(spare)..(to + spare).min(image)
}

impl Window {
    fn new(top: usize, width: usize) -> Self {
        Self { planes: Vec::new(), valid: None, top, end: top, width }
    }

    fn append(&mut self, planes: Vec<Samples>, valid: Option<Vec<u8>>, n_rows: usize) {
        self.make_planes(&planes);
        for (window, plane) in self.planes.iter_mut().zip(planes) {
            match (window, plane) {
                (PlaneWindow::U8(window), Samples::U8(values)) => window.extend(&values),
                (PlaneWindow::U16(window), Samples::U16(values)) => window.extend(&values),
                (PlaneWindow::F32(window), Samples::F32(values)) => window.extend(&values),
                _ => unreachable!("a raster's strips are all of one type"),
            }
        }
        let n_kept = self.end + n_rows - self.top;
        if valid.is_some() || self.valid.is_some() {
            let window = self.valid_window();
            match valid {
                Some(valid) => window.extend(&valid),
                None => window.fill(n_kept, 255),
            }
        }
        self.end += n_rows;
    }

    fn make_planes(&mut self, like: &[Samples]) {
        if self.planes.is_empty() {
            let (top, width) = (self.end, self.width);
            let window = |plane: &Samples| match plane {
                Samples::U8(_) => PlaneWindow::U8(RowWindow::new(top, width)),
                Samples::U16(_) => PlaneWindow::U16(RowWindow::new(top, width)),
                Samples::F32(_) => PlaneWindow::F32(RowWindow::new(top, width)),
            };
            self.planes = like.iter().map(window).collect();
        }
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

    /// Appends the weighted sum of some rows of `source`. Where part of the weight fell on invalid pixels, the rest
    /// counts whole.
    fn append_blend(
        &mut self,
        source: &Window,
        rows: &std::ops::Range<usize>,
        weights: &[f32],
        sums: &mut Vec<f32>,
    ) {
        if self.planes.is_empty() {
            let empty = |plane: &PlaneWindow| match plane {
                PlaneWindow::U8(_) => Samples::U8(Vec::new()),
                PlaneWindow::U16(_) => Samples::U16(Vec::new()),
                PlaneWindow::F32(_) => Samples::F32(Vec::new()),
            };
            self.make_planes(&source.planes.iter().map(empty).collect::<Vec<_>>());
        }
        let valid =
            source.valid.as_ref().filter(|valid| any_invalid(valid.rows(rows.clone()))).map(|valid| {
                let mut row = Vec::with_capacity(self.width);
                valid.blend(rows, weights, sums, &mut row);
                row
            });
        for (window, plane) in self.planes.iter_mut().zip(&source.planes) {
            match (window, plane) {
                (PlaneWindow::U8(window), PlaneWindow::U8(plane)) => {
                    blend_row(window, plane, rows, weights, valid.as_deref(), sums);
                }
                (PlaneWindow::U16(window), PlaneWindow::U16(plane)) => {
                    blend_row(window, plane, rows, weights, valid.as_deref(), sums);
                }
                (PlaneWindow::F32(window), PlaneWindow::F32(plane)) => {
                    blend_row(window, plane, rows, weights, valid.as_deref(), sums);
                }
                _ => unreachable!("planes keep their type"),
            }
        }
        self.end += 1;
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

/// Whether any pixel is invalid, or was resampled from one that is.
fn any_invalid(valid: &[u8]) -> bool {
    valid.iter().any(|value| *value != 255)
}

fn blend_row<T: Sample>(
    window: &mut RowWindow<T>,
    source: &RowWindow<T>,
    rows: &std::ops::Range<usize>,
    weights: &[f32],
    valid: Option<&[u8]>,
    sums: &mut Vec<f32>,
) {
    let mut row = Vec::with_capacity(window.width);
    source.blend(rows, weights, sums, &mut row);
    for (value, valid) in row.iter_mut().zip(valid.unwrap_or_default()) {
        if (1..255).contains(valid) {
            *value = T::from_f32(value.to_f32() * 255.0 / f32::from(*valid));
        }
    }
    window.extend(&row);
}

impl PlaneWindow {
    fn copy(&self, rows: std::ops::Range<usize>) -> Samples {
        match self {
            Self::U8(window) => Samples::U8(window.rows(rows).to_vec()),
            Self::U16(window) => Samples::U16(window.rows(rows).to_vec()),
            Self::F32(window) => Samples::F32(window.rows(rows).to_vec()),
        }
    }
}
