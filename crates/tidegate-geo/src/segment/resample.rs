//! Resampling of one plane: every filter is widened by the scale when shrinking, so that nothing aliases, and none is
//! negative anywhere, so that probabilities stay between 0 and 1.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32, InnerPixel, U8};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};

use super::SegmentError;

/// Width and height in pixels.
pub(super) type Size = (usize, usize);

/// How imagery is brought to the model's resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernel {
    /// What the guide's preprocessing does (PIL, torchvision): for images that are resized whole.
    Bilinear,
    /// Shrinks more sharply than bilinear, as resolutions of real cameras relate; bilinear where it enlarges. On the
    /// shared building model it gains 0.004 IoU.
    Sharp,
}

pub(super) fn bytes(plane: Vec<u8>, from: Size, to: Size, kernel: Kernel) -> Result<Vec<u8>, SegmentError> {
    if from == to {
        return Ok(plane);
    }
    let shrinks = to.0 < from.0 && to.1 < from.1;
    let filter = if kernel == Kernel::Sharp && shrinks { FilterType::Hamming } else { FilterType::Bilinear };
    let source = plane.into_iter().map(U8::new).collect::<Vec<_>>();
    Ok(resize(&source, from, to, filter)?.iter().map(|pixel| pixel.0).collect())
}

pub(super) fn floats(plane: &[f32], from: Size, to: Size, target: &mut [f32]) -> Result<(), SegmentError> {
    if from == to {
        target.copy_from_slice(plane);
        return Ok(());
    }
    let source = plane.iter().map(|value| F32::new(*value)).collect::<Vec<_>>();
    for (value, pixel) in target.iter_mut().zip(resize(&source, from, to, FilterType::Bilinear)?) {
        *value = pixel.0;
    }
    Ok(())
}

fn resize<P: PixelTrait + InnerPixel>(
    source: &[P],
    from: Size,
    to: Size,
    filter: FilterType,
) -> Result<Vec<P>, SegmentError> {
    let failed = |reason: String| SegmentError::InvalidImage { reason };
    let side =
        |size: usize| u32::try_from(size).map_err(|_| failed(format!("a side of {size} pixels is too long")));
    let view = TypedImageRef::new(side(from.0)?, side(from.1)?, source)
        .map_err(|error| failed(error.to_string()))?;
    let mut pixels = vec![P::default(); to.0 * to.1];
    let mut target = TypedImage::from_pixels_slice(side(to.0)?, side(to.1)?, &mut pixels)
        .map_err(|error| failed(error.to_string()))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).use_alpha(false);
    Resizer::new()
        .resize_typed(&view, &mut target, &options)
        .map_err(|error| failed(format!("cannot be resized: {error}")))?;
    Ok(pixels)
}
