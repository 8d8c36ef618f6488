//! Which classes a right raster function gives for a block of pixels, by Tidegate's own pipeline.
//!
//! ArcGIS hands over one block after the other, each with its padding, and takes back the part without. A block is cut into
//! tiles whose inner parts cover it, so nothing is blended, and the classes of a tile are what [`segment`](fn@segment) gives
//! for it. This is the contract that `python/raster_function.py` keeps; it is written twice so that each can be held against
//! the other.

use tidegate_core::Tensor;

use crate::image::Image;
use crate::segment::{RunFault, SegmentError, SegmentOptions, segment};
use crate::stac_mlm::ModelItem;

/// The classes of a block without its padding.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockClasses {
    pub rows: usize,
    pub columns: usize,
    /// `rows x columns`; 0 where the imagery is invalid.
    pub classes: Vec<u8>,
    /// `rows x columns`; false where another runtime's rounding may decide otherwise.
    pub certain: Vec<bool>,
    /// `rows x columns` probabilities of a model of one channel; empty for others.
    pub probabilities: Vec<f32>,
}

/// Runtimes add in another order; probabilities differ by less.
const ROUNDING: f32 = 1e-3;

/// The classes of `block`, which has the model's bands in its order, and `padding` pixels around what is asked for. Invalid
/// pixels count as 0 in all bands; beyond the imagery the model sees its mirror image.
pub fn classify_block(
    block: &Image,
    item: &ModelItem,
    padding: usize,
    run: &mut (dyn FnMut(Tensor) -> Result<Tensor, RunFault> + Send),
) -> Result<BlockClasses, SegmentError> {
    let (height, width) = (item.input.height, item.input.width);
    // Every tile is at the model's resolution and is itself the image; its bands need no sorting.
    let mut item = ModelItem { gsd: Some(1.0), ..item.clone() };
    item.input.bands.clear();
    let options = SegmentOptions { gsd_m: Some(1.0), overlap_px: 0, batch: 1, ..SegmentOptions::default() };
    let is_valid = |at: usize| block.valid.as_ref().is_none_or(|valid| valid[at]);
    let seen = mirrored(block);
    let mut classes = vec![0; block.width * block.height];
    let mut certain = vec![true; classes.len()];
    let mut probabilities = vec![0f32; if item.output.channels == Some(1) { classes.len() } else { 0 }];
    for top in starts(block.height, height, padding) {
        for left in starts(block.width, width, padding) {
            let tile = cut(&seen, (top, left), (height, width));
            let in_block = |at: usize| (top + at / tile.width) * block.width + left + at % tile.width;
            if !(0..tile.width * tile.height).any(|at| is_valid(in_block(at))) {
                continue;
            }
            let found = segment(&tile, &item, &options, run, &mut |_| {})?;
            let margins = margins(&found.probabilities, found.n_classes_out, item.output.threshold);
            let (rows, columns) =
                (inner(top, height, padding, block.height), inner(left, width, padding, block.width));
            for y in rows {
                for x in columns.clone() {
                    let (at, from) = (y * block.width + x, (y - top) * tile.width + x - left);
                    classes[at] = found.mask[from];
                    certain[at] = margins[from] > ROUNDING;
                    if let Some(probability) = probabilities.get_mut(at) {
                        *probability = found.probabilities[from];
                    }
                }
            }
        }
    }
    let (rows, columns) = (block.height - 2 * padding, block.width - 2 * padding);
    let asked = (0..rows * columns).map(|at| (at / columns + padding) * block.width + at % columns + padding);
    let asked = asked.collect::<Vec<_>>();
    Ok(BlockClasses {
        rows,
        columns,
        classes: asked.iter().map(|at| if is_valid(*at) { classes[*at] } else { 0 }).collect(),
        certain: asked.iter().map(|at| certain[*at] || !is_valid(*at)).collect(),
        probabilities: asked.iter().filter_map(|at| probabilities.get(*at).copied()).collect(),
    })
}

/// Where tiles begin along an axis. The last ends with the block.
fn starts(length: usize, tile: usize, padding: usize) -> Vec<usize> {
    let last = length.saturating_sub(tile);
    (0..last).step_by(tile - 2 * padding).chain([last]).collect()
}

/// The part of the block that a tile decides: its own without the padding, and with it at the block's rim.
fn inner(start: usize, tile: usize, padding: usize, length: usize) -> std::ops::Range<usize> {
    let end = (start + tile).min(length);
    let from = if start == 0 { 0 } else { start + padding };
    from..if end == length { end } else { end - padding }
}

/// The block with nothing where it is invalid, and mirrored at the rim of what is valid.
fn mirrored(block: &Image) -> Image {
    let is_valid = |at: usize| block.valid.as_ref().is_none_or(|valid| valid[at]);
    let row_has = |y: &usize| (0..block.width).any(|x| is_valid(y * block.width + x));
    let column_has = |x: &usize| (0..block.height).any(|y| is_valid(y * block.width + x));
    let rows = span((0..block.height).filter(row_has));
    let columns = span((0..block.width).filter(column_has));
    let mut pixels = Vec::with_capacity(block.pixels.len());
    for y in 0..block.height {
        for x in 0..block.width {
            let at = reflected(y, &rows) * block.width + reflected(x, &columns);
            let samples = &block.pixels[at * block.n_bands..][..block.n_bands];
            pixels.extend(samples.iter().map(|sample| if is_valid(at) { *sample } else { 0 }));
        }
    }
    Image { pixels, valid: None, ..block.clone() }
}

/// From the first to the last; nothing where there is none.
fn span(mut indices: impl Iterator<Item = usize>) -> std::ops::Range<usize> {
    let first = indices.next();
    first.map_or(0..0, |first| first..indices.last().unwrap_or(first) + 1)
}

/// The index within the range that an index beyond it mirrors, the edge itself not repeated.
fn reflected(index: usize, range: &std::ops::Range<usize>) -> usize {
    if range.len() < 2 {
        return range.start;
    }
    let (start, n) = (range.start as i64, range.len() as i64);
    let folded = (index as i64 - start).rem_euclid(2 * (n - 1));
    (start + if folded < n { folded } else { 2 * (n - 1) - folded }) as usize
}

/// The part of an image at `(top, left)`, of the given height and width at most.
fn cut(image: &Image, (top, left): (usize, usize), (height, width): (usize, usize)) -> Image {
    let (height, width) = (height.min(image.height - top), width.min(image.width - left));
    let row = |y: usize| &image.pixels[(y * image.width + left) * image.n_bands..][..width * image.n_bands];
    let pixels = (top..top + height).flat_map(|y| row(y).iter().copied()).collect();
    Image { width, height, n_bands: image.n_bands, pixels, valid: None, geo: None }
}

/// The image at `scale` of its size, as ArcGIS resamples to a cell size: what is bilinear, and the nearest of masks.
pub fn resampled(image: &Image, scale: f64) -> Image {
    let side = |length: usize| ((length as f64 * scale).round() as usize).max(1);
    let (width, height) = (side(image.width), side(image.height));
    let back = |at: usize, to: usize, from: usize| {
        ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, from as f64 - 1.0)
    };
    let mut pixels = Vec::with_capacity(width * height * image.n_bands);
    let mut valid = image.valid.as_ref().map(|_| Vec::with_capacity(width * height));
    for y in 0..height {
        let v = back(y, height, image.height);
        for x in 0..width {
            let u = back(x, width, image.width);
            pixels.extend((0..image.n_bands).map(|band| bilinear(image, band, u, v)));
            if let (Some(valid), Some(source)) = (&mut valid, &image.valid) {
                valid.push(source[v.round() as usize * image.width + u.round() as usize]);
            }
        }
    }
    Image { width, height, n_bands: image.n_bands, pixels, valid, geo: None }
}

fn bilinear(image: &Image, band: usize, u: f64, v: f64) -> u8 {
    let (x, y) = (u as usize, v as usize);
    let (right, below) = ((x + 1).min(image.width - 1), (y + 1).min(image.height - 1));
    let at = |x: usize, y: usize| f64::from(image.pixels[(y * image.width + x) * image.n_bands + band]);
    let (along, down) = (u - x as f64, v - y as f64);
    let upper = at(x, y) * (1.0 - along) + at(right, y) * along;
    let lower = at(x, below) * (1.0 - along) + at(right, below) * along;
    (upper * (1.0 - down) + lower * down).round() as u8
}

/// How far each pixel is from another class: from the threshold, or the best score from the second.
fn margins(probabilities: &[f32], n_channels: usize, threshold: f32) -> Vec<f32> {
    let n_pixels = probabilities.len() / n_channels;
    if n_channels == 1 {
        return probabilities.iter().map(|probability| (probability - threshold).abs()).collect();
    }
    let margin = |pixel: usize| {
        let scores = probabilities[pixel..].iter().step_by(n_pixels);
        let (best, second) = scores.fold((f32::MIN, f32::MIN), |(best, second), score| match *score {
            score if score > best => (score, best),
            score => (best, second.max(score)),
        });
        best - second
    };
    (0..n_pixels).map(margin).collect()
}
