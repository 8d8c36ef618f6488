//! From the model's output to probabilities: shape checked, activation applied exactly when the item says so.

use half::f16;
use tidegate_core::{DType, Tensor};

use super::SegmentError;
use crate::stac_mlm::{Activation, DimOrder, ModelItem};

/// Probabilities of a batch of tiles.
pub(super) struct Maps {
    pub n_channels: usize,
    pub height: usize,
    pub width: usize,
    /// `batch x n_channels x height x width`
    pub values: Vec<f32>,
}

impl Maps {
    /// Reads the first `n_tiles` of a batch.
    pub fn read(output: &Tensor, item: &ModelItem, n_tiles: usize) -> Result<Maps, SegmentError> {
        let (n_channels, order) = check_shape(output, item, n_tiles)?;
        let (height, width) = (item.input.height, item.input.width);
        let mut values = to_floats(output)?;
        values.truncate(n_tiles * n_channels * height * width);
        if order == DimOrder::Bhwc && n_channels > 1 {
            values = channels_first(&values, n_channels, height * width);
        }
        let mut maps = Maps { n_channels, height, width, values };
        maps.activate(item.output.activation);
        maps.check_probabilities(item.output.activation)?;
        Ok(maps)
    }

    /// The `height x width` map of one channel of one tile.
    pub fn channel(&self, tile: usize, channel: usize) -> &[f32] {
        let size = self.height * self.width;
        &self.values[(tile * self.n_channels + channel) * size..][..size]
    }

    fn activate(&mut self, activation: Activation) {
        match activation {
            Activation::AlreadyProbability => {}
            Activation::Sigmoid => {
                self.values.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp()))
            }
            Activation::Softmax => {
                let size = self.height * self.width;
                for tile in self.values.chunks_exact_mut(self.n_channels * size) {
                    softmax(tile, size);
                }
            }
        }
    }

    /// A model that says it gives probabilities and does not would be thresholded wrongly without anyone noticing.
    fn check_probabilities(&self, activation: Activation) -> Result<(), SegmentError> {
        // Quantised and 16-bit models miss the ends by a little.
        const SLACK: f32 = 0.02;
        if let Some(value) = self.values.iter().find(|value| !value.is_finite()) {
            return Err(SegmentError::OutputValues { reason: format!("it contains {value}") });
        }
        let outside = self.values.iter().find(|value| !(-SLACK..=1.0 + SLACK).contains(*value));
        match outside {
            Some(value) if activation == Activation::AlreadyProbability => Err(SegmentError::OutputValues {
                reason: format!(
                    "{value} is not a probability; if the model gives logits, name `sigmoid` or `softmax` in the item's \
                     post_processing_function"
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// The number of channels and the order of the axes.
fn check_shape(output: &Tensor, item: &ModelItem, n_tiles: usize) -> Result<(usize, DimOrder), SegmentError> {
    let (height, width) = (item.input.height, item.input.width);
    let order = item.output.dim_order.unwrap_or(DimOrder::Bchw);
    let (batch, n_channels, rows, columns) = match (output.shape(), order) {
        ([batch, rows, columns], _) => (*batch, 1, *rows, *columns),
        ([batch, channels, rows, columns], DimOrder::Bchw) => (*batch, *channels, *rows, *columns),
        ([batch, rows, columns, channels], DimOrder::Bhwc) => (*batch, *channels, *rows, *columns),
        _ => (0, 0, 0, 0),
    };
    let expected_batch = item.input.batch.unwrap_or(n_tiles);
    let expected_channels = item.output.channels.filter(|_| item.output.dim_order.is_some());
    let fits = batch == expected_batch
        && (rows, columns) == (height, width)
        && n_channels > 0
        && expected_channels.is_none_or(|expected| expected == n_channels);
    if fits {
        return Ok((n_channels, order));
    }
    let channels = expected_channels.map_or("channels".to_owned(), |n| n.to_string());
    let expected = match order {
        DimOrder::Bchw => format!("[{expected_batch}, {channels}, {height}, {width}]"),
        DimOrder::Bhwc => format!("[{expected_batch}, {height}, {width}, {channels}]"),
    };
    Err(SegmentError::OutputShape { actual: output.shape().to_vec(), expected })
}

fn to_floats(output: &Tensor) -> Result<Vec<f32>, SegmentError> {
    let wide = || Some(output.values::<f64>()?.iter().map(|value| *value as f32).collect());
    let narrow = || Some(output.values::<f16>()?.iter().map(|value| value.to_f32()).collect());
    let values = match output.dtype() {
        DType::Fp32 => output.values::<f32>().map(|values| values.into_owned()),
        DType::Fp64 => wide(),
        DType::Fp16 => narrow(),
        _ => None,
    };
    values.ok_or_else(|| SegmentError::OutputValues {
        reason: format!("its data type is {}, expected floating-point probabilities", output.dtype()),
    })
}

/// `tile x pixel x channel` to `tile x channel x pixel`.
fn channels_first(values: &[f32], n_channels: usize, n_pixels: usize) -> Vec<f32> {
    let mut turned = Vec::with_capacity(values.len());
    for tile in values.chunks_exact(n_channels * n_pixels) {
        for channel in 0..n_channels {
            turned.extend(tile.iter().skip(channel).step_by(n_channels));
        }
    }
    turned
}

/// Over the channels of one tile, each `size` long; shifted by the maximum, so that nothing overflows.
fn softmax(tile: &mut [f32], size: usize) {
    for pixel in 0..size {
        let channels = || (pixel..tile.len()).step_by(size);
        let max = channels().map(|at| tile[at]).fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for at in (pixel..tile.len()).step_by(size) {
            tile[at] = (tile[at] - max).exp();
            sum += tile[at];
        }
        for at in (pixel..tile.len()).step_by(size) {
            tile[at] /= sum;
        }
    }
}
