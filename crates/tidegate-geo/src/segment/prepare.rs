//! From the image to the model's input: bands, resolution, scaling, padding, tensors.

use half::f16;
use tidegate_core::{DType, Tensor};

use super::SegmentError;
use super::resample::{self, Kernel, Size};
use super::tiles::Tile;
use crate::image::Image;
use crate::stac_mlm::{DimOrder, InputSpec, ModelItem};

/// The image at the model's resolution, in the model's bands, ready to be cut.
pub(super) struct Source<'a> {
    image: &'a Image,
    input: &'a InputSpec,
    width: usize,
    height: usize,
    /// One per band of the model: `height x width` raw values.
    planes: Vec<Vec<u8>>,
    /// One per band of the model: the scaled value of each raw one.
    scaled: Vec<Vec<f32>>,
}

impl<'a> Source<'a> {
    /// Resamples `image` to `size`, width and height. Notes say what had to be assumed.
    pub fn new(
        image: &'a Image,
        item: &'a ModelItem,
        (width, height): Size,
        kernel: Kernel,
        notes: &mut Vec<String>,
    ) -> Result<Self, SegmentError> {
        let input = &item.input;
        if !matches!(input.data_type, DType::Fp32 | DType::Fp64 | DType::Fp16 | DType::Uint8) {
            return Err(SegmentError::Unsupported {
                what: format!("input of data type {}", input.data_type),
            });
        }
        let mut planes = Vec::with_capacity(input.n_bands);
        for band in select_bands(image, item, notes)? {
            let plane = image.pixels.iter().skip(band).step_by(image.n_bands).copied().collect();
            planes.push(resample::bytes(plane, (image.width, image.height), (width, height), kernel)?);
        }
        let scaled = input
            .scaling
            .iter()
            .map(|scaling| (0..=255).map(|v| scaling.apply(f64::from(v)) as f32).collect());
        Ok(Self { image, input, width, height, planes, scaled: scaled.collect() })
    }

    /// Whether any pixel of the image that bears on the tile is valid.
    pub fn has_valid(&self, tile: &Tile) -> bool {
        let Some(valid) = &self.image.valid else { return true };
        let columns = reach(tile.left, tile.width, self.width, self.image.width);
        let mut rows = reach(tile.top, tile.height, self.height, self.image.height);
        rows.any(|row| valid[row * self.image.width..][columns.clone()].contains(&true))
    }

    /// The tiles as one batch in the model's shape and type, the last tile repeated where the batch is fixed.
    pub fn tensor(&self, tiles: &[Tile], fixed_batch: Option<usize>) -> Tensor {
        let InputSpec { n_bands, height, width, .. } = *self.input;
        let n_batch = fixed_batch.unwrap_or(tiles.len());
        let size = n_bands * height * width;
        let mut values = vec![0f32; n_batch * size];
        let repeated = tiles.iter().chain(std::iter::repeat(&tiles[tiles.len() - 1]));
        for (tile, target) in repeated.zip(values.chunks_exact_mut(size)) {
            self.fill(tile, target);
        }
        let shape = match self.input.dim_order {
            DimOrder::Bchw => vec![n_batch, n_bands, height, width],
            DimOrder::Bhwc => vec![n_batch, height, width, n_bands],
        };
        let tensor = match self.input.data_type {
            DType::Fp64 => Tensor::from_vec(shape, values.into_iter().map(f64::from).collect()),
            DType::Fp16 => Tensor::from_vec(shape, values.into_iter().map(f16::from_f32).collect()),
            DType::Uint8 => Tensor::from_vec(shape, values.into_iter().map(|v| v.round() as u8).collect()),
            _ => Tensor::from_vec(shape, values),
        };
        tensor.expect("the vector was made for this shape")
    }

    /// Writes one tile; beyond the image's edge it is mirrored.
    fn fill(&self, tile: &Tile, target: &mut [f32]) {
        let InputSpec { n_bands, height, width, dim_order, .. } = *self.input;
        let columns = (0..width).map(|x| tile.left + mirror(x, tile.width)).collect::<Vec<_>>();
        for (band, (plane, scaled)) in self.planes.iter().zip(&self.scaled).enumerate() {
            for y in 0..height {
                let line = &plane[(tile.top + mirror(y, tile.height)) * self.width..][..self.width];
                let (start, step) = match dim_order {
                    DimOrder::Bchw => ((band * height + y) * width, 1),
                    DimOrder::Bhwc => (y * width * n_bands + band, n_bands),
                };
                for (value, x) in target[start..].iter_mut().step_by(step).zip(&columns) {
                    *value = scaled[usize::from(line[*x])];
                }
            }
        }
    }
}

/// Image pixels that a span of model pixels was resampled from, with two to spare for the filters.
fn reach(start: usize, span: usize, of: usize, image: usize) -> std::ops::Range<usize> {
    const SPARE: usize = 2;
    let per_pixel = image as f64 / of as f64;
    let spare = SPARE + per_pixel.ceil() as usize;
    let from = (start as f64 * per_pixel).floor() as usize;
    let to = ((start + span) as f64 * per_pixel).ceil() as usize;
    from.saturating_sub(spare)..(to + spare).min(image)
}

/// Reflects an index into `0..n` without repeating the edge: 0 1 2 1 0 1 ...
fn mirror(index: usize, n: usize) -> usize {
    if index < n {
        return index;
    }
    if n == 1 {
        return 0;
    }
    let period = 2 * (n - 1);
    let folded = index % period;
    if folded < n { folded } else { period - folded }
}

/// The image's band for each band of the model.
///
/// By colour name where the image is RGB and the model's bands are red, green and blue in some order; otherwise by
/// position. A grey image stands for all three colours.
fn select_bands(
    image: &Image,
    item: &ModelItem,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, SegmentError> {
    let n_bands = item.input.n_bands;
    if image.n_bands == 1 && n_bands == 3 {
        notes.push("the image is grey; its one band stands for all three of the model".to_owned());
        return Ok(vec![0; 3]);
    }
    if image.n_bands != n_bands {
        let names =
            if item.input.bands.is_empty() { "unnamed".to_owned() } else { item.input.bands.join(", ") };
        return Err(SegmentError::BandMismatch { image: image.n_bands, model: n_bands, names });
    }
    let by_color = || item.input.bands.iter().map(|name| color_index(item, name)).collect::<Option<Vec<_>>>();
    match by_color() {
        Some(order) if n_bands == 3 && (0..3).all(|color| order.contains(&color)) => {
            if order != [0, 1, 2] {
                notes.push(format!("the image's bands were reordered to {}", item.input.bands.join(", ")));
            }
            Ok(order)
        }
        _ => Ok((0..n_bands).collect()),
    }
}

/// 0, 1, 2 for the bands called red, green, blue, or commonly known so.
fn color_index(item: &ModelItem, name: &str) -> Option<usize> {
    let index =
        |name: &str| ["red", "green", "blue"].iter().position(|color| color.eq_ignore_ascii_case(name));
    let band = item.bands.iter().find(|band| band.name == name);
    band.and_then(|band| index(band.common_name.as_deref()?)).or_else(|| index(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirroring_stays_inside_and_does_not_repeat_the_edge() {
        let reflected = |n: usize| (0..7).map(|index| mirror(index, n)).collect::<Vec<_>>();
        assert_eq!(reflected(1), [0; 7]);
        assert_eq!(reflected(2), [0, 1, 0, 1, 0, 1, 0]);
        assert_eq!(reflected(3), [0, 1, 2, 1, 0, 1, 2]);
    }
}
