//! From a strip at the model's resolution to the model's input: scaling, padding, layout, type; and the orientations of
//! test-time augmentation.

use half::f16;
use tidegate_core::{DType, Tensor};

use super::reader::WorkStrip;
use super::tiles::Tile;
use crate::raster::Samples;
use crate::stac_mlm::{DimOrder, InputSpec};

/// A way to turn a tile; the model should give the same, turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Orientation {
    flip_x: bool,
    flip_y: bool,
    transpose: bool,
}

impl Orientation {
    /// The tile as it is.
    pub const UPRIGHT: Self = Self { flip_x: false, flip_y: false, transpose: false };

    /// All flips, and where tiles are square all quarter turns too.
    pub fn all(is_square: bool) -> Vec<Self> {
        let flips = [(false, false), (true, false), (false, true), (true, true)];
        let transposes: &[bool] = if is_square { &[false, true] } else { &[false] };
        let of =
            |transpose: &bool| flips.map(|(flip_x, flip_y)| Self { flip_x, flip_y, transpose: *transpose });
        transposes.iter().flat_map(of).collect()
    }

    /// Where the pixel in row `y` and column `x` of the turned plane is in the upright one.
    fn source(self, x: usize, y: usize, width: usize, height: usize) -> usize {
        let (x, y) = if self.transpose { (y, x) } else { (x, y) };
        let x = if self.flip_x { width - 1 - x } else { x };
        let y = if self.flip_y { height - 1 - y } else { y };
        y * width + x
    }

    fn turn(self, planes: &mut [f32], width: usize, height: usize) {
        if self == Self::UPRIGHT {
            return;
        }
        for plane in planes.chunks_exact_mut(width * height) {
            let upright = plane.to_vec();
            for (at, value) in plane.iter_mut().enumerate() {
                *value = upright[self.source(at % width, at / width, width, height)];
            }
        }
    }

    /// Adds turned planes to upright ones.
    pub fn add_back(self, turned: &[f32], sums: &mut [f32], width: usize, height: usize) {
        let size = width * height;
        for (turned, sums) in turned.chunks_exact(size).zip(sums.chunks_exact_mut(size)) {
            for (at, value) in turned.iter().enumerate() {
                sums[self.source(at % width, at / width, width, height)] += value;
            }
        }
    }
}

/// Makes tensors for one model.
pub(super) struct TensorMaker<'a> {
    input: &'a InputSpec,
    /// One per band: the scaled value of each byte.
    tables: Vec<Vec<f32>>,
}

impl<'a> TensorMaker<'a> {
    pub fn new(input: &'a InputSpec) -> Self {
        let table = |scaling: &crate::stac_mlm::Scaling| {
            (0..=255).map(|value| scaling.apply(f64::from(value)) as f32).collect()
        };
        Self { input, tables: input.scaling.iter().map(table).collect() }
    }

    /// The tiles as one batch in the model's shape and type, the last tile repeated where the batch is fixed.
    pub fn tensor(&self, strip: &WorkStrip, tiles: &[Tile], orientation: Orientation) -> Tensor {
        let InputSpec { n_bands, height, width, .. } = *self.input;
        let n_batch = self.input.batch.unwrap_or(tiles.len());
        let size = n_bands * height * width;
        let mut values = vec![0f32; n_batch * size];
        for (tile, target) in tiles.iter().zip(values.chunks_exact_mut(size)) {
            self.fill(strip, tile, target);
            orientation.turn(target, width, height);
        }
        let (filled, rest) = values.split_at_mut(tiles.len() * size);
        rest.chunks_exact_mut(size).for_each(|target| target.copy_from_slice(&filled[filled.len() - size..]));
        let shape = match self.input.dim_order {
            DimOrder::Bchw => vec![n_batch, n_bands, height, width],
            DimOrder::Bhwc => {
                values = bands_last(&values, n_bands, height * width);
                vec![n_batch, height, width, n_bands]
            }
        };
        let tensor = match self.input.data_type {
            DType::Fp64 => Tensor::from_vec(shape, values.into_iter().map(f64::from).collect()),
            DType::Fp16 => Tensor::from_vec(shape, values.into_iter().map(f16::from_f32).collect()),
            DType::Uint8 => Tensor::from_vec(shape, values.into_iter().map(|v| v.round() as u8).collect()),
            _ => Tensor::from_vec(shape, values),
        };
        tensor.expect("the vector was made for this shape")
    }

    /// Writes one tile, band by band; beyond the image's edge it is mirrored.
    fn fill(&self, strip: &WorkStrip, tile: &Tile, target: &mut [f32]) {
        let InputSpec { height, width, .. } = *self.input;
        for (band, (plane, target)) in
            strip.planes.iter().zip(target.chunks_exact_mut(height * width)).enumerate()
        {
            for (y, target) in target.chunks_exact_mut(width).enumerate() {
                let start = (tile.top - strip.top + mirror(y, tile.height)) * strip.width + tile.left;
                let (inside, beyond) = target.split_at_mut(tile.width);
                self.scale(band, plane, start, inside);
                for (x, value) in (tile.width..).zip(beyond) {
                    *value = inside[mirror(x, tile.width)];
                }
            }
        }
    }

    fn scale(&self, band: usize, plane: &Samples, start: usize, target: &mut [f32]) {
        let span = start..start + target.len();
        let scaling = self.input.scaling[band];
        match plane {
            Samples::U8(values) => {
                let table = &self.tables[band];
                target.iter_mut().zip(&values[span]).for_each(|(t, v)| *t = table[usize::from(*v)]);
            }
            Samples::U16(values) => {
                let pairs = target.iter_mut().zip(&values[span]);
                pairs.for_each(|(t, v)| *t = scaling.apply(f64::from(*v)) as f32);
            }
            Samples::F32(values) => {
                let pairs = target.iter_mut().zip(&values[span]);
                pairs.for_each(|(t, v)| *t = scaling.apply(f64::from(*v)) as f32);
            }
        }
    }
}

/// `tile x band x pixel` to `tile x pixel x band`.
fn bands_last(values: &[f32], n_bands: usize, n_pixels: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for tile in values.chunks_exact(n_bands * n_pixels) {
        for pixel in 0..n_pixels {
            turned.extend(tile.iter().skip(pixel).step_by(n_pixels));
        }
    }
    turned
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

    #[test]
    fn every_orientation_is_another_and_is_undone() {
        let upright = (0..9).map(|v| v as f32).collect::<Vec<_>>();
        let mut seen = Vec::new();
        for orientation in Orientation::all(true) {
            let mut turned = upright.clone();
            orientation.turn(&mut turned, 3, 3);
            assert!(!seen.contains(&turned), "{orientation:?}");
            let mut back = vec![0.0; 9];
            orientation.add_back(&turned, &mut back, 3, 3);
            assert_eq!(back, upright, "{orientation:?}");
            seen.push(turned);
        }
        assert_eq!(seen.len(), 8);
        assert_eq!(Orientation::all(false).len(), 4);
    }
}
