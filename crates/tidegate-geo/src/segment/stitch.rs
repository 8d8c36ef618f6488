//! Blending tiles into one map of probabilities, and the map into a mask.

use super::output::Maps;
use super::tiles::{Tile, TilePlan};
use super::{SegmentError, resample};
use crate::image::Image;

/// Collects tiles at the model's resolution.
pub(super) struct Stitcher<'a> {
    plan: &'a TilePlan,
    /// One `height x width` map per channel.
    sums: Vec<Vec<f32>>,
}

/// A mask's pixel is one byte.
const MAX_CHANNELS: usize = 256;

impl<'a> Stitcher<'a> {
    pub fn new(plan: &'a TilePlan, n_channels: usize) -> Result<Self, SegmentError> {
        if n_channels > MAX_CHANNELS {
            let reason =
                format!("it has {n_channels} channels, and a mask tells apart {MAX_CHANNELS} at most");
            return Err(SegmentError::OutputValues { reason });
        }
        let too_large = || SegmentError::TooLarge { width: plan.width, height: plan.height, n_channels };
        let size = plan.width.checked_mul(plan.height).ok_or_else(too_large)?;
        // More channels than memory holds is the model's doing, and no reason to abort the process.
        let plane = || {
            let mut plane = Vec::new();
            plane.try_reserve_exact(size).map_err(|_| too_large())?;
            plane.resize(size, 0f32);
            Ok(plane)
        };
        Ok(Self { plan, sums: (0..n_channels).map(|_| plane()).collect::<Result<_, _>>()? })
    }

    pub fn n_channels(&self) -> usize {
        self.sums.len()
    }

    /// Adds a batch, each tile by its weights.
    pub fn add(&mut self, tiles: &[Tile], maps: &Maps) -> Result<(), SegmentError> {
        if maps.n_channels != self.sums.len() {
            let expected = format!("{} channels as in the batch before", self.sums.len());
            let actual = vec![tiles.len(), maps.n_channels, maps.height, maps.width];
            return Err(SegmentError::OutputShape { actual, expected });
        }
        for (index, tile) in tiles.iter().enumerate() {
            let (column_weights, row_weights) = self.plan.weights(tile);
            for (channel, sums) in self.sums.iter_mut().enumerate() {
                let map = maps.channel(index, channel);
                for (y, row_weight) in row_weights.iter().enumerate() {
                    let target = &mut sums[(tile.top + y) * self.plan.width + tile.left..][..tile.width];
                    let line = &map[y * maps.width..][..tile.width];
                    for ((sum, value), weight) in target.iter_mut().zip(line).zip(column_weights) {
                        *sum += value * weight * row_weight;
                    }
                }
            }
        }
        Ok(())
    }

    /// Channel by channel at the image's own size, 0 where the image is invalid.
    pub fn finish(self, image: &Image) -> Result<Vec<f32>, SegmentError> {
        let size = image.width * image.height;
        let mut probabilities = vec![0f32; size * self.sums.len()];
        let from = (self.plan.width, self.plan.height);
        for (plane, target) in self.sums.into_iter().zip(probabilities.chunks_exact_mut(size)) {
            resample::floats(&plane, from, (image.width, image.height), target)?;
            for (value, valid) in target.iter_mut().zip(image.valid.iter().flatten()) {
                if !valid {
                    *value = 0.0;
                }
            }
        }
        Ok(probabilities)
    }
}

/// One channel: 1 from `threshold` on. Several: the index of the most probable. Invalid pixels are 0.
pub(super) fn mask(probabilities: &[f32], image: &Image, n_channels: usize, threshold: f32) -> Vec<u8> {
    if n_channels == 1 {
        let is_valid = |pixel: usize| image.valid.as_ref().is_none_or(|valid| valid[pixel]);
        let positive = |(pixel, value): (usize, &f32)| u8::from(*value >= threshold && is_valid(pixel));
        return probabilities.iter().enumerate().map(positive).collect();
    }
    let size = image.width * image.height;
    let mut best = probabilities[..size].to_vec();
    let mut mask = vec![0u8; size];
    for (channel, plane) in probabilities.chunks_exact(size).enumerate().skip(1) {
        for ((best, index), value) in best.iter_mut().zip(&mut mask).zip(plane) {
            if value > best {
                *best = *value;
                *index = u8::try_from(channel).expect("a stitcher takes at most 256 channels");
            }
        }
    }
    mask
}
