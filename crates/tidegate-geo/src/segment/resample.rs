//! Resampling of one plane: area-aware going down (no aliasing), bilinear going up, edges clamped.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32, InnerPixel, U8};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::SegmentError;

/// Width and height in pixels.
pub(super) type Size = (usize, usize);

pub(super) fn bytes(plane: Vec<u8>, from: Size, to: Size) -> Result<Vec<u8>, SegmentError> {
    if from == to {
        return Ok(plane);
    }
    let source = plane.into_iter().map(U8::new).collect::<Vec<_>>();
    Ok(resize(&source, from, to)?.iter().map(|pixel| pixel.0).collect())
}

pub(super) fn floats(plane: &[f32], from: Size, to: Size, target: &mut [f32]) -> Result<(), SegmentError> {
    if from == to {
        target.copy_from_slice(plane);
        return Ok(());
    }
    let source = plane.iter().map(|value| F32::new(*value)).collect::<Vec<_>>();
    for (value, pixel) in target.iter_mut().zip(resize(&source, from, to)?) {
        *value = pixel.0;
    }
    Ok(())
}

/// The triangle filter, widened by the scale when shrinking.
fn resize<P: PixelTrait + InnerPixel>(source: &[P], from: Size, to: Size) -> Result<Vec<P>, SegmentError> {
    let failed = |reason: String| SegmentError::InvalidImage { reason };
    let side =
        |size: usize| u32::try_from(size).map_err(|_| failed(format!("a side of {size} pixels is too long")));
    let view = TypedImageRef::new(side(from.0)?, side(from.1)?, source)
        .map_err(|error| failed(error.to_string()))?;
    let mut pixels = vec![P::default(); to.0 * to.1];
    let mut target = TypedImage::from_pixels_slice(side(to.0)?, side(to.1)?, &mut pixels)
        .map_err(|error| failed(error.to_string()))?;
    let options =
        ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    Resizer::new()
        .resize_typed(&view, &mut target, &options)
        .map_err(|error| failed(format!("cannot be resized: {error}")))?;
    Ok(pixels)
}
