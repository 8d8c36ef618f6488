//! Cloud-optimised GeoTIFF (OGC 21-026): tiles of 512, overviews, directories first, the smallest overview's data next and
//! the full resolution last.
//!
//! Tiles of every resolution are compressed as rows of them come, into a [`TileSpool`] each; [`write`] makes the file of them
//! in one go, when all sizes are known.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::bufread::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::ifd::{Directory, Value};
use super::spool::{SpoolReader, TileSpool};
use super::trace;
use crate::image::geo::GeoTags;

/// Of a tile, in pixels.
pub(crate) const TILE: usize = 512;

/// A type of sample, how it is compressed and how four pixels become one of an overview.
pub(crate) trait Pixel: Copy + Default + Send {
    const BITS: u16;
    /// 1: unsigned, 3: floating-point.
    const FORMAT: u16;
    /// 1: none, 3: floating-point.
    const PREDICTOR: u16;
    /// What a pixel beyond the edge of the image is.
    const FILL: Self;

    fn bytes_of_row(row: &[Self], bytes: &mut Vec<u8>);
    fn row_of_bytes(bytes: &[u8], row: &mut [Self]);
    fn merge(four: [Self; 4]) -> Self;

    /// Whether all pixels are known to be `one`, at a glance: most of a mask is alike for long.
    fn are_all(_pixels: &[Self], _one: Self) -> bool {
        false
    }
}

/// Classes, 255 where there is none.
impl Pixel for u8 {
    const BITS: u16 = 8;
    const FORMAT: u16 = 1;
    const PREDICTOR: u16 = 1;
    const FILL: Self = crate::segment::NODATA;

    fn bytes_of_row(row: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(row);
    }

    fn row_of_bytes(bytes: &[u8], row: &mut [Self]) {
        row.copy_from_slice(bytes);
    }

    /// The most frequent class; of equally frequent ones the highest, so that what was found does not vanish.
    fn merge(four: [Self; 4]) -> Self {
        if four[1..].iter().all(|value| *value == four[0]) {
            return four[0];
        }
        let count = |value: &u8| four.iter().filter(|other| *other == value).count();
        let found = four.iter().filter(|value| **value != Self::FILL);
        found.max_by_key(|value| (count(value), **value)).copied().unwrap_or(Self::FILL)
    }

    fn are_all(pixels: &[Self], one: Self) -> bool {
        trace::are_all(pixels, one)
    }
}

/// Probabilities, NaN where there is none.
impl Pixel for f32 {
    const BITS: u16 = 32;
    const FORMAT: u16 = 3;
    const PREDICTOR: u16 = 3;
    const FILL: Self = Self::NAN;

    /// Adobe's TIFF Technical Note 3: bytes by significance, differenced.
    fn bytes_of_row(row: &[Self], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        for significance in 0..4 {
            bytes.extend(row.iter().map(|value| value.to_be_bytes()[significance]));
        }
        for at in (start + 1..bytes.len()).rev() {
            bytes[at] = bytes[at].wrapping_sub(bytes[at - 1]);
        }
    }

    fn row_of_bytes(bytes: &[u8], row: &mut [Self]) {
        let mut sum = 0u8;
        let bytes = bytes.iter().map(|byte| {
            sum = sum.wrapping_add(*byte);
            sum
        });
        let bytes = bytes.collect::<Vec<_>>();
        for (at, value) in row.iter_mut().enumerate() {
            *value = Self::from_be_bytes([0, 1, 2, 3].map(|significance| bytes[significance * TILE + at]));
        }
    }

    fn merge(four: [Self; 4]) -> Self {
        let there = four.iter().filter(|value| !value.is_nan());
        let (sum, count) = there.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
        if count == 0.0 { Self::NAN } else { sum / count }
    }
}

/// Compresses a row of tiles of one band: `n_rows` rows of `width` pixels, of which the last tile row may have fewer than
/// a tile has.
pub(crate) fn append_tile_row<P: Pixel>(spool: &mut TileSpool, rows: &[P], width: usize) -> io::Result<()> {
    let mut line = [P::FILL; TILE];
    let mut bytes = Vec::with_capacity(TILE * TILE * usize::from(P::BITS) / 8);
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    for left in (0..width).step_by(TILE) {
        let n_columns = TILE.min(width - left);
        bytes.clear();
        for row in 0..TILE {
            line.fill(P::FILL);
            if let Some(row) = rows.get(row * width + left..row * width + left + n_columns) {
                line[..n_columns].copy_from_slice(row);
            }
            P::bytes_of_row(&line, &mut bytes);
        }
        encoder.write_all(&bytes)?;
        spool.append(&encoder.reset(Vec::new())?)?;
    }
    Ok(())
}

/// Reads the rows of tiles of a spool one after another, band by band.
pub(crate) struct TileRows {
    reader: SpoolReader,
    width: usize,
    height: usize,
    top: usize,
}

impl TileRows {
    pub fn open(path: &Path, width: usize, height: usize) -> io::Result<Self> {
        Ok(Self { reader: SpoolReader::open(path)?, width, height, top: 0 })
    }

    /// The rows of the next row of tiles, one vector for each of `n_bands`; `None` at the end.
    pub fn next<P: Pixel>(&mut self, n_bands: usize) -> io::Result<Option<Vec<Vec<P>>>> {
        let n_rows = TILE.min(self.height - self.top);
        if n_rows == 0 {
            return Ok(None);
        }
        let mut bands = Vec::with_capacity(n_bands);
        let row_bytes = TILE * usize::from(P::BITS) / 8;
        let mut line = [P::default(); TILE];
        for _ in 0..n_bands {
            let mut rows = vec![P::default(); n_rows * self.width];
            for left in (0..self.width).step_by(TILE) {
                let n_columns = TILE.min(self.width - left);
                let mut bytes = Vec::with_capacity(row_bytes * TILE);
                ZlibDecoder::new(&self.reader.tile()?[..]).read_to_end(&mut bytes)?;
                if bytes.len() != row_bytes * TILE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                for (row, bytes) in bytes.chunks_exact(row_bytes).take(n_rows).enumerate() {
                    P::row_of_bytes(bytes, &mut line);
                    rows[row * self.width + left..][..n_columns].copy_from_slice(&line[..n_columns]);
                }
            }
            bands.push(rows);
        }
        self.top += n_rows;
        Ok(Some(bands))
    }
}

/// What a COG says beside its pixels.
pub(crate) struct CogSpec<'a> {
    pub n_bands: usize,
    pub tags: &'a GeoTags,
    pub nodata: &'static str,
    /// GDAL's metadata: one description per band, and items of the whole.
    pub band_names: Vec<String>,
    pub metadata: Vec<(&'static str, String)>,
}

/// One resolution of the image.
pub(super) struct Level {
    path: PathBuf,
    width: usize,
    height: usize,
    /// In the spool's order: for each row of tiles, for each band, from the left.
    sizes: Vec<u64>,
}

impl Level {
    pub fn of(path: PathBuf, (width, height): (usize, usize), n_bands: usize) -> io::Result<Self> {
        let mut reader = SpoolReader::open(&path)?;
        let n_tiles = width.div_ceil(TILE) * height.div_ceil(TILE) * n_bands;
        let sizes = (0..n_tiles).map(|_| Ok(reader.skip()? as u64)).collect::<io::Result<_>>()?;
        Ok(Self { path, width, height, sizes })
    }

    /// Where each tile is when the data begin at `start`, in the file's order: bands one after another.
    fn places(&self, start: u64, n_bands: usize) -> (Vec<u64>, Vec<u64>) {
        let mut at = start;
        let offsets = self.sizes.iter().map(|size| {
            let offset = at;
            at += size;
            offset
        });
        let offsets = offsets.collect::<Vec<_>>();
        let across = self.width.div_ceil(TILE);
        let by_band = |values: &[u64]| {
            let of_band = |band: usize| {
                let rows = values.chunks_exact(across * n_bands);
                rows.flat_map(move |row| row[band * across..][..across].iter().copied())
            };
            (0..n_bands).flat_map(of_band).collect()
        };
        (by_band(&offsets), by_band(&self.sizes))
    }

    fn data_bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }
}

/// Halves rows in both directions, rounded up, and appends them.
pub(crate) fn halve_rows<P: Pixel>(rows: &[P], width: usize, target: &mut Vec<P>) {
    /// Columns that are looked at together; even.
    const STEP: usize = 16;
    for pair in rows.chunks(2 * width) {
        let (upper, lower) = pair.split_at(width);
        // An odd last row or column stands for itself.
        let lower = if lower.is_empty() { upper } else { lower };
        for (upper, lower) in upper.chunks(STEP).zip(lower.chunks(STEP)) {
            if upper.len() == STEP && P::are_all(upper, upper[0]) && P::are_all(lower, upper[0]) {
                target.resize(target.len() + STEP / 2, upper[0]);
                continue;
            }
            for x in (0..upper.len()).step_by(2) {
                let right = (x + 1).min(upper.len() - 1);
                target.push(P::merge([upper[x], upper[right], lower[x], lower[right]]));
            }
        }
    }
}

/// Beyond it offsets of four bytes do not reach.
const CLASSIC_LIMIT_BYTES: u64 = 4_000_000_000;

/// Writes the file from its levels, the finest first.
pub(super) fn write<P: Pixel>(spec: &CogSpec<'_>, levels: &[Level], target: &Path) -> io::Result<()> {
    let data_bytes = levels.iter().map(Level::data_bytes).sum::<u64>();
    let is_big = data_bytes > CLASSIC_LIMIT_BYTES;
    let header_bytes: u64 = if is_big { 16 } else { 8 };
    let directories = |starts: &[u64]| {
        let of_level = |(index, (level, start)): (usize, (&Level, &u64))| {
            directory::<P>(spec, level, index > 0, level.places(*start, spec.n_bands))
        };
        levels.iter().zip(starts).enumerate().map(of_level).collect::<Vec<_>>()
    };
    // The size of a directory does not depend on where the data are.
    let nowhere = vec![0; levels.len()];
    let directories_bytes =
        directories(&nowhere).iter().map(|directory| directory.size_bytes(is_big)).sum::<u64>();
    let mut at = header_bytes + directories_bytes;
    let mut starts = nowhere;
    for (level, start) in levels.iter().zip(&mut starts).rev() {
        *start = at;
        at += level.data_bytes();
    }

    let mut file = BufWriter::with_capacity(1 << 20, File::create(target)?);
    let mut header = b"II".to_vec();
    if is_big {
        header.extend_from_slice(&[43, 0, 8, 0, 0, 0]);
        header.extend_from_slice(&header_bytes.to_le_bytes());
    } else {
        header.extend_from_slice(&[42, 0]);
        header.extend_from_slice(&(header_bytes as u32).to_le_bytes());
    }
    file.write_all(&header)?;
    let mut at = header_bytes;
    let directories = directories(&starts);
    for (index, directory) in directories.iter().enumerate() {
        let is_last = index + 1 == directories.len();
        file.write_all(&directory.bytes(at, is_big, is_last))?;
        at += directory.size_bytes(is_big);
    }
    for level in levels.iter().rev() {
        let mut reader = SpoolReader::open(&level.path)?;
        for _ in &level.sizes {
            file.write_all(&reader.tile()?)?;
        }
    }
    file.flush()?;
    file.get_ref().sync_all()
}

fn directory<P: Pixel>(
    spec: &CogSpec<'_>,
    level: &Level,
    is_overview: bool,
    (offsets, sizes): (Vec<u64>, Vec<u64>),
) -> Directory {
    let n_bands = spec.n_bands as u16;
    let repeated = |value: u16| Value::Short(vec![value; spec.n_bands]);
    let mut directory = Directory::default();
    directory.set(254, Value::Long(vec![u32::from(is_overview)]));
    directory.set(256, Value::Long(vec![level.width as u32]));
    directory.set(257, Value::Long(vec![level.height as u32]));
    directory.set(258, repeated(P::BITS));
    directory.set(259, Value::Short(vec![8]));
    // Black is zero.
    directory.set(262, Value::Short(vec![1]));
    directory.set(277, Value::Short(vec![n_bands]));
    directory.set(284, Value::Short(vec![if n_bands > 1 { 2 } else { 1 }]));
    directory.set(317, Value::Short(vec![P::PREDICTOR]));
    directory.set(322, Value::Short(vec![TILE as u16]));
    directory.set(323, Value::Short(vec![TILE as u16]));
    directory.set(324, Value::Offsets(offsets));
    directory.set(325, Value::Long(sizes.iter().map(|size| *size as u32).collect()));
    if n_bands > 1 {
        // The others are plain data, not alpha.
        directory.set(338, Value::Short(vec![0; spec.n_bands - 1]));
    }
    directory.set(339, repeated(P::FORMAT));
    directory.set(42_113, Value::Ascii(spec.nodata.to_owned()));
    if is_overview {
        return directory;
    }
    let GeoTags { pixel_scale, tiepoint, transformation, key_directory, double_params, ascii_params } =
        spec.tags;
    for (tag, values) in
        [(33_550, pixel_scale), (33_922, tiepoint), (34_264, transformation), (34_736, double_params)]
    {
        if !values.is_empty() {
            directory.set(tag, Value::Double(values.clone()));
        }
    }
    if !key_directory.is_empty() {
        directory.set(34_735, Value::Short(key_directory.clone()));
    }
    if !ascii_params.is_empty() {
        directory.set(34_737, Value::Ascii(ascii_params.clone()));
    }
    directory.set(42_112, Value::Ascii(gdal_metadata(spec)));
    directory
}

fn gdal_metadata(spec: &CogSpec<'_>) -> String {
    let mut xml = "<GDALMetadata>\n".to_owned();
    for (name, value) in &spec.metadata {
        xml += &format!("  <Item name=\"{name}\">{}</Item>\n", escaped(value));
    }
    for (sample, name) in spec.band_names.iter().enumerate() {
        let name = escaped(name);
        xml +=
            &format!("  <Item name=\"DESCRIPTION\" sample=\"{sample}\" role=\"description\">{name}</Item>\n");
    }
    xml + "</GDALMetadata>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
