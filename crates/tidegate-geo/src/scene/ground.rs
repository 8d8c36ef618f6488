//! The scene itself, made small as it passes, and the picture of the result over it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use super::checkpoint::{Begun, Folder, Workshop};
use super::cog::TILE;
use super::{OVERLAY, SceneJob};
use crate::image::Image;
use crate::outputs;
use crate::raster::{RasterInfo, Sample, Samples};
use crate::segment::reader::SceneRows;
use crate::stac_mlm::ModelItem;

/// The longer side of the picture is at most this.
const MAX_SIDE: usize = 2048;

/// Red, green, blue, and the share of pixels that are valid.
const VALUES: usize = 4;

/// Scene pixels per pixel of the picture: a power of two, so that a row of tiles makes whole rows of the picture.
pub(super) fn shrink(width: usize, height: usize) -> usize {
    width.max(height).div_ceil(MAX_SIDE).next_power_of_two().min(TILE)
}

/// What of the picture is there once the scene's first `n_rows` rows have passed, a multiple of a tile's.
pub(super) fn bytes_of(info: &RasterInfo, n_rows: usize) -> u64 {
    let shrink = shrink(info.width, info.height);
    let small_rows = if n_rows < info.height { n_rows / shrink } else { info.height.div_ceil(shrink) };
    (small_rows * info.width.div_ceil(shrink) * VALUES * size_of::<f32>()) as u64
}

/// Writes means over squares of pixels, row by row, as four floats a pixel.
pub(super) struct Ground {
    file: Option<File>,
    shrink: usize,
    width: usize,
    height: usize,
    /// Planes for red, green and blue.
    colors: [usize; 3],
    /// Rows before it are there already.
    first_row: usize,
    sums: Vec<f32>,
    n_rows: usize,
}

impl Ground {
    pub fn new(job: &SceneJob<'_>, workshop: &Workshop<'_>, begun: &Begun) -> io::Result<Self> {
        let info = job.raster.info();
        let shrink = shrink(info.width, info.height);
        let first_row = begun.n_blocks * TILE;
        let small_width = info.width.div_ceil(shrink);
        let file = match job.options.overlay {
            true => {
                let path = workshop.folder().ground();
                let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
                file.set_len(bytes_of(info, first_row))?;
                file.seek(SeekFrom::End(0))?;
                Some(file)
            }
            false => None,
        };
        Ok(Self {
            file,
            shrink,
            width: info.width,
            height: info.height,
            colors: colors(job.item),
            first_row,
            sums: vec![0.0; small_width * VALUES],
            n_rows: 0,
        })
    }

    pub fn see(&mut self, rows: &SceneRows, planes: &[Samples]) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        for row in self.first_row.max(rows.top)..rows.top + rows.n_rows {
            self.add(rows, planes, row - rows.top);
            self.n_rows += 1;
            if self.n_rows == self.shrink || row + 1 == self.height {
                self.write()?;
            }
        }
        self.first_row = self.first_row.max(rows.top + rows.n_rows);
        Ok(())
    }

    fn add(&mut self, rows: &SceneRows, planes: &[Samples], row: usize) {
        let line = row * self.width..(row + 1) * self.width;
        let wanted = rows.wanted.as_ref().map(|wanted| &wanted[line.clone()]);
        for (color, plane) in self.colors.into_iter().enumerate() {
            match &planes[plane.min(planes.len() - 1)] {
                Samples::U8(values) => self.add_color(color, &values[line.clone()], wanted),
                Samples::U16(values) => self.add_color(color, &values[line.clone()], wanted),
                Samples::F32(values) => self.add_color(color, &values[line.clone()], wanted),
            }
        }
        let n_wanted = |wanted: &[u8]| wanted.iter().filter(|wanted| **wanted != 0).count();
        for (small, sums) in self.sums.chunks_exact_mut(VALUES).enumerate() {
            let columns = small * self.shrink..((small + 1) * self.shrink).min(self.width);
            sums[VALUES - 1] += wanted.map_or(columns.len(), |wanted| n_wanted(&wanted[columns])) as f32;
        }
    }

    fn add_color<T: Sample>(&mut self, color: usize, line: &[T], wanted: Option<&[u8]>) {
        let squares = line.chunks(self.shrink).zip(self.sums.chunks_exact_mut(VALUES));
        match wanted {
            None => squares.for_each(|(values, sums)| {
                sums[color] += values.iter().map(|value| value.to_f32()).sum::<f32>();
            }),
            Some(wanted) => squares.zip(wanted.chunks(self.shrink)).for_each(|((values, sums), wanted)| {
                let wanted = values.iter().zip(wanted).filter(|(_, wanted)| **wanted != 0);
                sums[color] += wanted.map(|(value, _)| value.to_f32()).sum::<f32>();
            }),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(self.sums.len() * 4);
        for sums in self.sums.chunks_exact(VALUES) {
            let n_valid = sums[VALUES - 1];
            let mean = |sum: &f32| if n_valid > 0.0 { sum / n_valid } else { 0.0 };
            bytes.extend(sums[..VALUES - 1].iter().map(mean).chain([n_valid]).flat_map(f32::to_le_bytes));
        }
        self.sums.fill(0.0);
        self.n_rows = 0;
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(&bytes))
    }
}

/// Which of the model's bands are shown as red, green and blue: those called so, or else the first three.
fn colors(item: &ModelItem) -> [usize; 3] {
    let named = ["red", "green", "blue"].map(|color| {
        item.input.bands.iter().position(|name| {
            let band = item.bands.iter().find(|band| band.name == *name);
            let common = band.and_then(|band| band.common_name.as_deref());
            name.eq_ignore_ascii_case(color)
                || common.is_some_and(|common| common.eq_ignore_ascii_case(color))
        })
    });
    match named {
        [Some(red), Some(green), Some(blue)] => [red, green, blue],
        _ if item.input.n_bands < 3 => [0, 0, 0],
        _ => [0, 1, 2],
    }
}

/// Draws the picture.
pub(super) fn overlay(
    item: &ModelItem,
    folder: &Folder,
    info: &RasterInfo,
    mask: &[u8],
    n_channels: usize,
) -> io::Result<()> {
    let shrink = shrink(info.width, info.height);
    let (width, height) = (info.width.div_ceil(shrink), info.height.div_ceil(shrink));
    let n_pixels = width * height;
    if fs::metadata(folder.ground())?.len() != bytes_of(info, info.height) || mask.len() != n_pixels {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the small picture of the scene is incomplete",
        ));
    }
    let stretch = match info.sample_type {
        "uint8" => Stretch { low: 0.0, high: 255.0 },
        _ => Stretch::of(pixels(folder, n_pixels)?)?,
    };
    let mut shown = Vec::with_capacity(n_pixels * 3);
    let mut valid = Vec::with_capacity(n_pixels);
    for pixel in pixels(folder, n_pixels)? {
        let [colors @ .., n_valid] = pixel?;
        shown.extend(colors.map(|color| stretch.apply(color)));
        valid.push(n_valid > 0.0);
    }
    let image = Image {
        width,
        height,
        n_bands: 3,
        pixels: shown,
        valid: valid.contains(&false).then_some(valid),
        geo: None,
    };
    let mask = mask
        .iter()
        .map(|value| if *value == crate::segment::NODATA { 0 } else { *value })
        .collect::<Vec<_>>();
    let png = outputs::overlay_png(&image, &mask, item, n_channels).map_err(io::Error::other)?;
    fs::write(folder.file(OVERLAY), png)
}

/// What [`Ground`] has written: read twice rather than held, since it is several times the picture.
fn pixels(
    folder: &Folder,
    n_pixels: usize,
) -> io::Result<impl Iterator<Item = io::Result<[f32; VALUES]>> + use<>> {
    let mut file = BufReader::new(File::open(folder.ground())?);
    let next = move |_| {
        let mut bytes = [0; VALUES * size_of::<f32>()];
        file.read_exact(&mut bytes)?;
        let (values, _) = bytes.as_chunks();
        Ok(std::array::from_fn(|value| f32::from_le_bytes(values[value])))
    };
    Ok((0..n_pixels).map(next))
}

/// From samples of any type to bytes that can be seen: bytes stay what they are.
struct Stretch {
    low: f32,
    high: f32,
}

impl Stretch {
    /// From the second to the 98th percentile.
    fn of(pixels: impl Iterator<Item = io::Result<[f32; VALUES]>>) -> io::Result<Self> {
        let mut seen = Vec::new();
        for pixel in pixels {
            let [colors @ .., n_valid] = pixel?;
            if n_valid > 0.0 {
                seen.extend(colors);
            }
        }
        seen.sort_by(f32::total_cmp);
        let at = |share: f64| seen.get((seen.len() as f64 * share) as usize).copied();
        let (low, high) = (at(0.02).unwrap_or(0.0), at(0.98).unwrap_or(1.0));
        Ok(Self { low, high: if high > low { high } else { low + 1.0 } })
    }

    fn apply(&self, value: f32) -> u8 {
        ((value - self.low) / (self.high - self.low) * 255.0).round().clamp(0.0, 255.0) as u8
    }
}
