//! Rasters of any size, read strip by strip: samples of the bands that are asked for, and which pixels are valid.
//!
//! A strip is a run of whole rows, as high as one row of the file's own tiles, so that nothing is decoded twice. Knows no
//! model and no network: bytes come from a [`ByteSource`], of which a file is one.
//!
//! Start reading at [`Raster`]; [`tiff`] reads GeoTIFF and COG, [`memory`] stands in for images that are decoded whole.

mod bytes;
mod georeference;
mod memory;
mod samples;
mod tiff;
mod world_file;

use std::ops::Range;

pub use bytes::{ByteSource, FileSource};
pub use georeference::{Affine, Georeference};
pub use memory::MemoryRaster;
pub use samples::{Sample, Samples, Strip};
pub use tiff::TiffRaster;
pub use world_file::{parse_world_file, world_file_names};

use crate::image::ImageError;

/// A raster that is read by strips, from the top to the bottom or from anywhere.
pub trait Raster: Send + Sync {
    fn info(&self) -> &RasterInfo;

    fn n_strips(&self) -> usize;

    /// The rows of a strip. Strips follow each other without a gap.
    fn strip_rows(&self, strip: usize) -> Range<usize>;

    /// Fills `target` with one plane for each of `bands` (counted from 0, alpha not among them), in that order. What was in
    /// it is gone, and its room used again.
    fn read_into(&self, strip: usize, bands: &[usize], target: &mut Strip) -> Result<(), ImageError>;

    /// The same in room of its own.
    fn read_strip(&self, strip: usize, bands: &[usize]) -> Result<Strip, ImageError> {
        let mut target = Strip::default();
        self.read_into(strip, bands, &mut target).map(|()| target)
    }
}

/// What a raster says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct RasterInfo {
    pub width: usize,
    pub height: usize,
    /// An alpha channel is not one of them: it says which pixels are valid.
    pub n_bands: usize,
    /// As the file names them: `n_bands` entries.
    pub band_names: Vec<Option<String>>,
    /// In words: `uint8`.
    pub sample_type: &'static str,
    /// In words: `deflate`.
    pub compression: &'static str,
    pub nodata: Option<f64>,
    pub georeference: Georeference,
}

/// The strip that holds a row.
pub fn strip_of(raster: &dyn Raster, row: usize) -> usize {
    let (mut low, mut high) = (0, raster.n_strips().saturating_sub(1));
    while low < high {
        let middle = low.midpoint(high);
        if raster.strip_rows(middle).end <= row { low = middle + 1 } else { high = middle }
    }
    low
}
