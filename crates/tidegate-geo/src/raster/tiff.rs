//! GeoTIFF and COG, tiled or stripped, classic or big, of any sample type and number of bands.
//!
//! A strip here is a row of tiles, or as many of the file's strips as make a good step. Overviews are not read: resampling
//! starts from the pixels themselves, so that the result does not depend on how somebody made them.

mod codec;
mod directory;
mod layout;

use std::mem::discriminant;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use directory::{Directory, TiffFile};
use layout::{Layout, SampleKind};

use super::{ByteSource, Georeference, Raster, RasterInfo, Samples, Strip};
use crate::image::ImageError;
use crate::image::geo::GeoTags;

pub struct TiffRaster {
    file: TiffFile,
    main: Layout,
    /// Which pixels are valid, in a directory of its own.
    mask: Option<Layout>,
    info: RasterInfo,
    strip_rows: usize,
}

/// A step of reading: file strips are joined up to it, and uncompressed ones cut.
const STEP_ROWS: usize = 128;

/// Directories looked at for a mask: a full pyramid of images and of masks, and some.
const MAX_DIRECTORIES: usize = 64;

impl TiffRaster {
    /// Reads the directories; no pixel yet.
    pub fn open(source: Arc<dyn ByteSource>) -> Result<Self, ImageError> {
        let (file, first) = TiffFile::open(source)?;
        let directory = file.directory(first)?;
        let main = Layout::read(&file, &directory)?;
        let mask = find_mask(&file, &directory, &main);
        let strip_rows = match (main.is_tiled, main.reads_whole_chunks()) {
            (true, _) => main.chunk_height,
            (false, true) => STEP_ROWS.div_ceil(main.chunk_height) * main.chunk_height,
            (false, false) => STEP_ROWS,
        };
        let info = info(&file, &directory, &main);
        Ok(Self { file, main, mask, info, strip_rows })
    }

    /// In place of what the file says.
    pub fn set_georeference(&mut self, georeference: Georeference) {
        self.info.georeference = georeference;
    }

    /// Samples of a pixel, alpha counted.
    pub fn channels(&self) -> usize {
        self.main.n_samples
    }
}

impl Raster for TiffRaster {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn n_strips(&self) -> usize {
        self.main.height.div_ceil(self.strip_rows)
    }

    fn strip_rows(&self, strip: usize) -> Range<usize> {
        let top = strip * self.strip_rows;
        top..(top + self.strip_rows).min(self.main.height)
    }

    fn read_into(&self, strip: usize, bands: &[usize], target: &mut Strip) -> Result<(), ImageError> {
        let rows = self.strip_rows(strip);
        let mut wanted = bands.to_vec();
        if self.main.has_alpha {
            wanted.push(self.main.n_samples - 1);
        }
        let fill = self.info.nodata.unwrap_or(0.0);
        let Strip { planes, .. } = target;
        read_rows(&self.file, &self.main, &rows, &wanted, fill, planes)?;
        let mut valid = Validity::new(rows.len() * self.main.width);
        if self.main.has_alpha {
            valid.by_alpha(&planes.pop().expect("it was asked for"));
        }
        if let Some(mask) = &self.mask {
            let mut planes = Vec::new();
            read_rows(&self.file, mask, &rows, &[0], 0.0, &mut planes)?;
            valid.by_alpha(&planes[0]);
        }
        valid.by_values(planes, self.info.nodata);
        (target.top, target.n_rows, target.width) = (rows.start, rows.len(), self.main.width);
        target.valid = valid.finish();
        Ok(())
    }
}

/// The transparency mask of the full-size image, where there is one. One that cannot be read counts as absent, as the
/// pixels can be read without it.
fn find_mask(file: &TiffFile, first: &Directory, main: &Layout) -> Option<Layout> {
    let mut next = first.next;
    for _ in 0..MAX_DIRECTORIES {
        let directory = file.directory(next?).ok()?;
        let subfile = file.first(&directory, NEW_SUBFILE_TYPE).ok()?.unwrap_or(0);
        if subfile & SUBFILE_MASK != 0 {
            let layout = Layout::read(file, &directory).ok()?;
            let fits = (layout.width, layout.height) == (main.width, main.height) && layout.n_samples == 1;
            if fits {
                return Some(layout);
            }
        }
        next = directory.next;
    }
    None
}

fn info(file: &TiffFile, directory: &Directory, main: &Layout) -> RasterInfo {
    let n_bands = main.n_samples - usize::from(main.has_alpha);
    let nodata = file.text(directory, GDAL_NODATA);
    let nodata = nodata.and_then(|text| text.trim().parse::<f64>().ok());
    let keys = file.unsigned(directory, GEO_KEY_DIRECTORY).ok().flatten().unwrap_or_default();
    let tags = GeoTags {
        pixel_scale: file.doubles(directory, MODEL_PIXEL_SCALE),
        tiepoint: file.doubles(directory, MODEL_TIEPOINT),
        transformation: file.doubles(directory, MODEL_TRANSFORMATION),
        key_directory: keys.into_iter().map(|key| u16::try_from(key).unwrap_or(0)).collect(),
        double_params: file.doubles(directory, GEO_DOUBLE_PARAMS),
        ascii_params: file.text(directory, GEO_ASCII_PARAMS).unwrap_or_default(),
    };
    RasterInfo {
        width: main.width,
        height: main.height,
        n_bands,
        band_names: band_names(&file.text(directory, GDAL_METADATA).unwrap_or_default(), n_bands),
        sample_type: main.kind.name(),
        compression: main.compression.name(),
        nodata,
        georeference: Georeference::of_tags(tags),
    }
}

/// Descriptions of bands in GDAL's metadata: `<Item name="DESCRIPTION" sample="0" role="description">red</Item>`.
fn band_names(metadata: &str, n_bands: usize) -> Vec<Option<String>> {
    let mut names = vec![None; n_bands];
    for item in metadata.split("<Item ").skip(1) {
        let Some((attributes, rest)) = item.split_once('>') else { continue };
        let Some((text, _)) = rest.split_once('<') else { continue };
        let attribute =
            |name: &str| attributes.split_once(&format!("{name}=\""))?.1.split_once('"').map(|(v, _)| v);
        let is_description = attribute("role").is_some_and(|role| role.eq_ignore_ascii_case("description"));
        let sample = attribute("sample").and_then(|sample| sample.parse::<usize>().ok());
        if let (true, Some(name)) = (is_description, sample.and_then(|sample| names.get_mut(sample))) {
            *name = Some(text.to_owned());
        }
    }
    names
}

/// Fills `planes` with those of `samples` (each counted from 0, alpha among them) of the rows; `fill` stands where a sparse
/// file leaves tiles out.
fn read_rows(
    file: &TiffFile,
    layout: &Layout,
    rows: &Range<usize>,
    samples: &[usize],
    fill: f64,
    planes: &mut Vec<Samples>,
) -> Result<(), ImageError> {
    let n_values = rows.len() * layout.width;
    planes.resize_with(samples.len(), || Samples::U8(Vec::new()));
    planes.iter_mut().for_each(|plane| refill(plane, layout.kind, n_values, fill));
    let pieces = pieces(layout, rows, samples)?;
    let mut rest = &pieces[..];
    while !rest.is_empty() {
        let (some, later) = rest.split_at(n_together(rest));
        rest = later;
        let ranges = some.iter().map(|piece| piece.range.clone()).collect::<Vec<_>>();
        let pieces = Mutex::new(some.iter().zip(file.read(&ranges)?));
        let planes = Mutex::new(&mut *planes);
        let decode = || -> Result<(), ImageError> {
            loop {
                let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((Piece { place, .. }, raw)) = next else { return Ok(()) };
                let bytes = codec::decode(layout, raw, place.n_rows)?;
                let mut planes = planes.lock().unwrap_or_else(PoisonError::into_inner);
                for (plane, sample) in planes.iter_mut().zip(samples) {
                    if place.plane.is_none_or(|plane| plane == *sample) {
                        let within = if layout.is_planar { 0 } else { *sample };
                        scatter(layout, &bytes, place, within, rows, plane);
                    }
                }
            }
        };
        // Two are enough to halve the time that everybody waits for the first strip, and leave cores to those who do not.
        std::thread::scope(|scope| {
            let other = (some.len() > 1).then(|| scope.spawn(decode));
            let own = decode();
            let join =
                |other: ScopedJoinHandle<'_, _>| other.join().unwrap_or_else(|panic| resume_unwind(panic));
            own.and(other.map_or(Ok(()), join))
        })?;
    }
    Ok(())
}

/// How many pieces are read at once: enough to keep a server busy, and few enough that a wide raster does not wait in
/// memory as it was in the file.
fn n_together(pieces: &[Piece]) -> usize {
    const BYTES: u64 = 16 << 20;
    let mut n_bytes = 0;
    let fits = |piece: &&Piece| {
        n_bytes += piece.range.end - piece.range.start;
        n_bytes <= BYTES
    };
    pieces.iter().take_while(fits).count().max(1)
}

/// In the room that the plane has.
fn refill(plane: &mut Samples, kind: SampleKind, n_values: usize, fill: f64) {
    let empty = match kind {
        SampleKind::Bit | SampleKind::U8 => Samples::U8(Vec::new()),
        SampleKind::U16 => Samples::U16(Vec::new()),
        _ => Samples::F32(Vec::new()),
    };
    if discriminant(plane) != discriminant(&empty) {
        *plane = empty;
    }
    fn refill<T: Copy>(values: &mut Vec<T>, n_values: usize, fill: T) {
        values.clear();
        values.resize(n_values, fill);
    }
    match plane {
        Samples::U8(values) => refill(values, n_values, fill as u8),
        Samples::U16(values) => refill(values, n_values, fill as u16),
        Samples::F32(values) => refill(values, n_values, fill as f32),
    }
}

/// A chunk, or some rows of an uncompressed strip.
struct Piece {
    range: Range<u64>,
    place: Place,
}

struct Place {
    left: usize,
    top: usize,
    n_rows: usize,
    /// The one sample that it holds, where samples are not side by side.
    plane: Option<usize>,
}

fn pieces(layout: &Layout, rows: &Range<usize>, samples: &[usize]) -> Result<Vec<Piece>, ImageError> {
    let (across, down) = (layout.chunks_across(), layout.chunks_down());
    let planes: Vec<Option<usize>> = match layout.is_planar {
        true => samples.iter().map(|sample| Some(*sample)).collect(),
        false => vec![None],
    };
    let mut pieces = Vec::new();
    for plane in planes {
        for chunk_row in rows.start / layout.chunk_height..rows.end.div_ceil(layout.chunk_height) {
            for column in 0..across {
                let index = (plane.unwrap_or(0) * down + chunk_row) * across + column;
                let (offset, size) = (layout.offsets[index], layout.sizes[index]);
                let top = chunk_row * layout.chunk_height;
                let left = column * layout.chunk_width;
                if size == 0 && offset == 0 {
                    continue;
                }
                if layout.reads_whole_chunks() {
                    let n_rows = if layout.is_tiled {
                        layout.chunk_height
                    } else {
                        layout.chunk_height.min(layout.height - top)
                    };
                    let place = Place { left, top, n_rows, plane };
                    pieces.push(Piece { range: offset..offset + size, place });
                    continue;
                }
                let from = rows.start.max(top);
                let to = rows.end.min(top + layout.chunk_height);
                let row_bytes = layout.row_bytes() as u64;
                if size < (layout.chunk_height.min(layout.height - top) as u64) * row_bytes {
                    return Err(ImageError::Truncated);
                }
                let start = offset + (from - top) as u64 * row_bytes;
                let range = start..start + (to - from) as u64 * row_bytes;
                pieces.push(Piece { range, place: Place { left, top: from, n_rows: to - from, plane } });
            }
        }
    }
    Ok(pieces)
}

/// Copies one sample of every pixel of a decoded chunk into its plane.
fn scatter(
    layout: &Layout,
    bytes: &[u8],
    place: &Place,
    sample: usize,
    rows: &Range<usize>,
    plane: &mut Samples,
) {
    let n_columns = layout.chunk_width.min(layout.width - place.left);
    let first = rows.start.max(place.top);
    let last = rows.end.min(place.top + place.n_rows);
    let step = layout.samples_per_chunk();
    for row in first..last {
        let line = &bytes[(row - place.top) * layout.row_bytes()..][..layout.row_bytes()];
        let start = (row - rows.start) * layout.width + place.left;
        let target = start..start + n_columns;
        match plane {
            Samples::U8(values) if layout.kind == SampleKind::Bit => {
                for (x, value) in values[target].iter_mut().enumerate() {
                    let bit = x * step + sample;
                    *value = line[bit / 8] >> (7 - bit % 8) & 1;
                }
            }
            Samples::U8(values) if step == 1 => values[target].copy_from_slice(&line[..n_columns]),
            Samples::U8(values) => {
                let line = line[sample..].iter().step_by(step);
                values[target].iter_mut().zip(line).for_each(|(value, byte)| *value = *byte);
            }
            Samples::U16(values) => {
                let line = line.chunks_exact(2).skip(sample).step_by(step);
                let pairs = values[target].iter_mut().zip(line);
                pairs.for_each(|(value, bytes)| *value = u16::from_le_bytes([bytes[0], bytes[1]]));
            }
            Samples::F32(values) => {
                let line = line.chunks_exact(layout.kind.bytes()).skip(sample).step_by(step);
                let pairs = values[target].iter_mut().zip(line);
                pairs.for_each(|(value, bytes)| *value = to_f32(layout.kind, bytes));
            }
        }
    }
}

fn to_f32(kind: SampleKind, bytes: &[u8]) -> f32 {
    let two = || [bytes[0], bytes[1]];
    let four = || [bytes[0], bytes[1], bytes[2], bytes[3]];
    match kind {
        SampleKind::I8 => f32::from(bytes[0] as i8),
        SampleKind::I16 => f32::from(i16::from_le_bytes(two())),
        SampleKind::U32 => u32::from_le_bytes(four()) as f32,
        SampleKind::I32 => i32::from_le_bytes(four()) as f32,
        SampleKind::F16 => half::f16::from_le_bytes(two()).to_f32(),
        SampleKind::F32 => f32::from_le_bytes(four()),
        SampleKind::F64 => f64::from_le_bytes(bytes.try_into().expect("eight bytes")) as f32,
        SampleKind::Bit | SampleKind::U8 => f32::from(bytes[0]),
        SampleKind::U16 => f32::from(u16::from_le_bytes(two())),
    }
}

/// Which pixels are valid, gathered from everything that says so.
struct Validity {
    n_pixels: usize,
    /// 255 or 0; absent as long as nothing is invalid.
    valid: Option<Vec<u8>>,
}

impl Validity {
    fn new(n_pixels: usize) -> Self {
        Self { n_pixels, valid: None }
    }

    fn invalidate(&mut self, pixel: usize) {
        self.valid.get_or_insert_with(|| vec![255; self.n_pixels])[pixel] = 0;
    }

    /// Invalid where alpha, or a mask, is 0.
    fn by_alpha(&mut self, alpha: &Samples) {
        match alpha {
            Samples::U8(values) => {
                (0..values.len()).filter(|at| values[*at] == 0).for_each(|at| self.invalidate(at))
            }
            other => (0..other.len()).filter(|at| other.at(*at) == 0.0).for_each(|at| self.invalidate(at)),
        }
    }

    /// Invalid where every band is `nodata` (any band, of floats), or where a float is no number; such floats become 0,
    /// so that they cannot spread.
    fn by_values(&mut self, planes: &mut [Samples], nodata: Option<f64>) {
        let floats = matches!(planes.first(), Some(Samples::F32(_)));
        if floats {
            let nodata = nodata.map(|nodata| nodata as f32);
            for plane in planes {
                let Samples::F32(values) = plane else { continue };
                for (pixel, value) in values.iter_mut().enumerate() {
                    if !value.is_finite() || Some(*value) == nodata {
                        *value = 0.0;
                        self.invalidate(pixel);
                    }
                }
            }
            return;
        }
        let Some(nodata) = nodata else { return };
        if nodata.fract() != 0.0 || !(0.0..=65_535.0).contains(&nodata) {
            return;
        }
        let nodata = nodata as u16;
        for pixel in 0..self.n_pixels {
            let is_nodata = |plane: &Samples| match plane {
                Samples::U8(values) => u16::from(values[pixel]) == nodata,
                Samples::U16(values) => values[pixel] == nodata,
                Samples::F32(_) => false,
            };
            if planes.iter().all(is_nodata) {
                self.invalidate(pixel);
            }
        }
    }

    fn finish(self) -> Option<Vec<u8>> {
        self.valid
    }
}

// Tags of TIFF 6.0, GeoTIFF (OGC 19-008r4) and GDAL.
const NEW_SUBFILE_TYPE: u16 = 254;
const SUBFILE_MASK: u64 = 4;
const MODEL_PIXEL_SCALE: u16 = 33_550;
const MODEL_TIEPOINT: u16 = 33_922;
const MODEL_TRANSFORMATION: u16 = 34_264;
const GEO_KEY_DIRECTORY: u16 = 34_735;
const GEO_DOUBLE_PARAMS: u16 = 34_736;
const GEO_ASCII_PARAMS: u16 = 34_737;
const GDAL_METADATA: u16 = 42_112;
const GDAL_NODATA: u16 = 42_113;
