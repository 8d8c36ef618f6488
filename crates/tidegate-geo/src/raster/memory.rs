//! A raster that is in memory whole: a PNG, JPEG or WebP.

use std::borrow::Cow;
use std::ops::Range;

use super::{Georeference, Raster, RasterInfo, Samples, Strip};
use crate::image::{Image, ImageError};

pub struct MemoryRaster<'a> {
    image: Cow<'a, Image>,
    info: RasterInfo,
}

/// Rows of a strip: enough to be worth a step, few enough to be small.
const STRIP_ROWS: usize = 256;

impl<'a> MemoryRaster<'a> {
    /// An image with its own georeference.
    pub fn of_image(image: &'a Image) -> Self {
        let georeference = image.geo.as_ref().map_or_else(Georeference::default, Georeference::of_north_up);
        Self::of(Cow::Borrowed(image), georeference)
    }

    /// `image` with the georeference that came beside it.
    pub fn new(image: Image, georeference: Georeference) -> Self {
        Self::of(Cow::Owned(image), georeference)
    }

    fn of(image: Cow<'a, Image>, georeference: Georeference) -> Self {
        let info = RasterInfo {
            width: image.width,
            height: image.height,
            n_bands: image.n_bands,
            band_names: vec![None; image.n_bands],
            sample_type: "uint8",
            compression: "image",
            nodata: None,
            georeference,
        };
        Self { image, info }
    }
}

impl Raster for MemoryRaster<'_> {
    fn info(&self) -> &RasterInfo {
        &self.info
    }

    fn n_strips(&self) -> usize {
        self.image.height.div_ceil(STRIP_ROWS)
    }

    fn strip_rows(&self, strip: usize) -> Range<usize> {
        let top = strip * STRIP_ROWS;
        top..(top + STRIP_ROWS).min(self.image.height)
    }

    fn read_into(&self, strip: usize, bands: &[usize], target: &mut Strip) -> Result<(), ImageError> {
        let Image { width, n_bands, ref pixels, ref valid, .. } = *self.image;
        let rows = self.strip_rows(strip);
        let pixels = &pixels[rows.start * width * n_bands..rows.end * width * n_bands];
        let plane = |band: &usize| Samples::U8(pixels.iter().skip(*band).step_by(n_bands).copied().collect());
        let valid = valid.as_ref().map(|valid| {
            let rows = &valid[rows.start * width..rows.end * width];
            rows.iter().map(|valid| if *valid { 255 } else { 0 }).collect::<Vec<u8>>()
        });
        *target = Strip {
            top: rows.start,
            n_rows: rows.len(),
            width,
            planes: bands.iter().map(plane).collect(),
            valid: valid.filter(|valid| valid.contains(&0)),
        };
        Ok(())
    }
}
