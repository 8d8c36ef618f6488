//! PNG encoding of masks and overlays.

use png::{BitDepth, ColorType, Compression, Encoder, EncodingError};

use super::palette::ClassColors;
use crate::segment::Segmentation;

/// Grey 0 and 255 for a binary model; a palette of class colours over channel indices otherwise.
pub(super) fn mask(segmentation: &Segmentation, colors: &ClassColors) -> Result<Vec<u8>, EncodingError> {
    let Segmentation { width, height, n_classes_out, ref mask, .. } = *segmentation;
    if n_classes_out == 1 {
        let grey = mask.iter().map(|value| if *value == 0 { 0 } else { 255 }).collect::<Vec<_>>();
        return encode(width, height, ColorType::Grayscale, None, &grey);
    }
    let palette = colors.colors.iter().flatten().copied().collect::<Vec<_>>();
    encode(width, height, ColorType::Indexed, Some(palette), mask)
}

/// Eight-bit samples, as `color` arranges them.
pub(super) fn encode(
    width: usize,
    height: usize,
    color: ColorType,
    palette: Option<Vec<u8>>,
    samples: &[u8],
) -> Result<Vec<u8>, EncodingError> {
    let side = |size: usize| u32::try_from(size).map_err(|_| EncodingError::LimitsExceeded);
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side(width)?, side(height)?);
    encoder.set_color(color);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    if let Some(palette) = palette {
        encoder.set_palette(palette);
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(samples)?;
    writer.finish()?;
    Ok(bytes)
}
