//! PNG, JPEG and WebP.

use std::io::{Cursor, ErrorKind};

use ::image::error::UnsupportedErrorKind;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::{Image, ImageError, ImageLimits};

pub(super) fn decode(bytes: &[u8], format: ImageFormat, limits: &ImageLimits) -> Result<Image, ImageError> {
    if format == ImageFormat::Jpeg && !has_end_of_image(bytes) {
        return Err(ImageError::Truncated);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(memory_limit(MAX_METADATA_BYTES));
    let mut decoder = reader.into_decoder().map_err(convert)?;
    let (width, height) = decoder.dimensions();
    let channels = u64::from(decoder.color_type().channel_count());
    limits.check(width.into(), height.into(), channels)?;
    // Samples of up to 16 bits, and rows and tables beside them.
    let max_bytes = limits.max_bytes.saturating_mul(2).saturating_add(MAX_METADATA_BYTES);
    decoder.set_limits(memory_limit(max_bytes)).map_err(convert)?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(convert)?;
    Ok(convert_pixels(decoded))
}

/// Rows, colour profiles and texts: what a decoder unpacks before it gives the size, whatever it claims.
const MAX_METADATA_BYTES: u64 = 64 * 1024 * 1024;

fn memory_limit(max_bytes: u64) -> ::image::Limits {
    let mut limits = ::image::Limits::no_limits();
    limits.max_alloc = Some(max_bytes);
    limits
}

/// Grey or RGB, with alpha made validity; samples of 16 bits are brought to 8.
fn convert_pixels(decoded: DynamicImage) -> Image {
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let (n_bands, pixels, valid) = match (decoded.color().has_color(), decoded.color().has_alpha()) {
        (false, false) => (1, decoded.into_luma8().into_raw(), None),
        (true, false) => (3, decoded.into_rgb8().into_raw(), None),
        (false, true) => split_alpha(&decoded.into_luma_alpha8().into_raw(), 1),
        (true, true) => split_alpha(&decoded.into_rgba8().into_raw(), 3),
    };
    Image { width, height, n_bands, pixels, valid, geo: None }
}

/// Parts the bands from the alpha behind them: (bands, pixels, validity).
fn split_alpha(samples: &[u8], n_bands: usize) -> (usize, Vec<u8>, Option<Vec<bool>>) {
    let texels = samples.chunks_exact(n_bands + 1);
    let mut pixels = Vec::with_capacity(texels.len() * n_bands);
    let mut valid = Vec::with_capacity(texels.len());
    for texel in texels {
        pixels.extend_from_slice(&texel[..n_bands]);
        valid.push(texel[n_bands] != 0);
    }
    let any_invalid = valid.contains(&false);
    (n_bands, pixels, any_invalid.then_some(valid))
}

/// Whether an end-of-image marker follows the last scan. The decoder fills in what is missing with grey, and a model
/// would find something there.
fn has_end_of_image(bytes: &[u8]) -> bool {
    let last = |marker: u8| bytes.windows(2).rposition(|pair| pair == [0xFF, marker]);
    match (last(0xDA), last(0xD9)) {
        (Some(scan), Some(end)) => scan < end,
        _ => false,
    }
}

fn convert(error: ::image::ImageError) -> ImageError {
    match error {
        ::image::ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            ImageError::Truncated
        }
        ::image::ImageError::Unsupported(error) => ImageError::Unsupported {
            what: match error.kind() {
                UnsupportedErrorKind::Color(color) => format!("the colour type {color:?}"),
                _ => error.to_string(),
            },
        },
        error => {
            let what = error.to_string();
            // PNG and WebP report the end of the data as a format error.
            match what.to_ascii_lowercase() {
                text if text.contains("unexpected end") || text.contains("eof") => ImageError::Truncated,
                _ => ImageError::Damaged { what },
            }
        }
    }
}
