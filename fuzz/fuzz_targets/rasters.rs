//! Images that are decoded whole, and scenes that are read by strips.

#![no_main]

use std::sync::Arc;

use tidegate_geo::raster::{Raster, TiffRaster};
use tidegate_geo::{ImageLimits, decode};

/// What a small server would allow, so that larger ones show as memory taken.
const MAX_PIXELS: u64 = 1 << 20;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let limits = ImageLimits::with_max_pixels(MAX_PIXELS);
    if let Ok(image) = decode(bytes, &limits) {
        assert_eq!(image.pixels.len(), image.width * image.height * image.n_bands);
        assert!(image.valid.is_none_or(|valid| valid.len() == image.width * image.height));
    }
    let Ok(raster) = TiffRaster::open(Arc::new(bytes.to_vec())) else { return };
    let info = raster.info();
    let bands: Vec<usize> = (0..info.n_bands.min(3)).collect();
    for strip in [0, raster.n_strips() / 2, raster.n_strips().saturating_sub(1)] {
        let rows = raster.strip_rows(strip);
        // Strips may be as large as a file says; those of honest scenes are.
        if rows.is_empty() || (rows.len() as u64).saturating_mul(info.width as u64) > MAX_PIXELS {
            continue;
        }
        if let Ok(read) = raster.read_strip(strip, &bands) {
            assert_eq!((read.top, read.n_rows, read.width), (rows.start, rows.len(), info.width));
            assert_eq!(read.planes.len(), bands.len());
            for plane in &read.planes {
                assert_eq!(plane.len(), read.n_rows * read.width);
            }
        }
    }
});
