//! TIFF and GeoTIFF of 8-bit samples, whole.

use std::sync::Arc;

use super::{Image, ImageError, ImageLimits};
use crate::raster::{Raster, Samples, TiffRaster};

pub(super) fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Image, ImageError> {
    let raster = TiffRaster::open(Arc::new(bytes.to_vec()))?;
    let info = raster.info();
    let (width, height, n_bands) = (info.width, info.height, info.n_bands);
    limits.check(width as u64, height as u64, raster.channels() as u64)?;
    if info.sample_type != "uint8" {
        return Err(ImageError::Unsupported { what: format!("TIFF of {} samples", info.sample_type) });
    }
    let bands = (0..n_bands).collect::<Vec<_>>();
    let mut pixels = vec![0; width * height * n_bands];
    let mut valid = None;
    for strip in 0..raster.n_strips() {
        let strip = raster.read_strip(strip, &bands)?;
        let start = strip.top * width;
        for (band, plane) in strip.planes.iter().enumerate() {
            let Samples::U8(plane) = plane else { continue };
            let target = pixels[start * n_bands..].iter_mut().skip(band).step_by(n_bands);
            target.zip(plane).for_each(|(pixel, value)| *pixel = *value);
        }
        if let Some(rows) = strip.valid {
            let valid = valid.get_or_insert_with(|| vec![true; width * height]);
            valid[start..].iter_mut().zip(rows).for_each(|(valid, value)| *valid = value != 0);
        }
    }
    let geo = info.georeference.north_up();
    Ok(Image { width, height, n_bands, pixels, valid, geo })
}
