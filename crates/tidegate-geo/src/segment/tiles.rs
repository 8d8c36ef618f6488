//! Where tiles lie, and how much each of them says about each pixel.

use std::ops::Range;

/// The tiles over a `width x height` image at the model's resolution: a grid of columns and rows.
pub(crate) struct TilePlan {
    columns: Axis,
    rows: Axis,
}

/// One axis of the grid.
struct Axis {
    /// Pixels of a tile that lie inside the image.
    span: usize,
    starts: Vec<usize>,
    /// One list of `span` weights per start. Over all starts they sum to one at every pixel.
    weights: Vec<Vec<f32>>,
}

/// One tile: its first pixel, its extent inside the image, and its place in the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
    column: usize,
    row: usize,
}

impl TilePlan {
    /// `tile` is height and width. An image smaller than a tile gets one, which the caller pads.
    pub fn new(width: usize, height: usize, tile: [usize; 2], overlap: usize) -> Self {
        Self { columns: Axis::new(width, tile[1], overlap), rows: Axis::new(height, tile[0], overlap) }
    }

    pub fn len(&self) -> usize {
        self.n_rows() * self.n_columns()
    }

    /// Rows of tiles.
    pub fn n_rows(&self) -> usize {
        self.rows.starts.len()
    }

    pub fn n_columns(&self) -> usize {
        self.columns.starts.len()
    }

    /// The pixel rows of a row of tiles.
    pub fn row(&self, row: usize) -> Range<usize> {
        let top = self.rows.starts[row];
        top..top + self.rows.span
    }

    /// The tiles of a row, from the left.
    pub fn tiles_of(&self, row: usize) -> impl Iterator<Item = Tile> + '_ {
        let top = self.rows.starts[row];
        self.columns.starts.iter().enumerate().map(move |(column, left)| Tile {
            left: *left,
            top,
            width: self.columns.span,
            height: self.rows.span,
            column,
            row,
        })
    }

    /// The weights of a tile's columns and of its rows; a pixel's weight is their product.
    pub fn weights(&self, tile: &Tile) -> (&[f32], &[f32]) {
        (&self.columns.weights[tile.column], &self.rows.weights[tile.row])
    }
}

impl Axis {
    fn new(length: usize, tile: usize, overlap: usize) -> Self {
        let span = tile.min(length);
        let starts = starts(length, span, overlap);
        let weights = weights(length, span, overlap, &starts);
        Self { span, starts, weights }
    }
}

/// The fewest tiles that cover `length` with at least `overlap` shared, spread evenly, the last one ending at the end.
fn starts(length: usize, span: usize, overlap: usize) -> Vec<usize> {
    let slack = length - span;
    if slack == 0 {
        return vec![0];
    }
    let step = span.saturating_sub(overlap).max(1);
    let n_steps = slack.div_ceil(step);
    (0..=n_steps).map(|index| index * slack / n_steps).collect()
}

/// Rises smoothly over the overlap from each inner edge, then is normalised over the tiles that share a pixel. At the
/// image's own edges a tile has the last word.
fn weights(length: usize, span: usize, overlap: usize, starts: &[usize]) -> Vec<Vec<f32>> {
    let rise = |distance: usize| {
        let t = (distance as f64 + 0.5) / overlap as f64;
        if t < 1.0 { t * t * (3.0 - 2.0 * t) } else { 1.0 }
    };
    let raw = starts.iter().map(|start| {
        let at = |position: usize| {
            let from_left = if *start == 0 { usize::MAX } else { position };
            let from_right = if start + span == length { usize::MAX } else { span - 1 - position };
            let nearest = from_left.min(from_right);
            if nearest >= overlap { 1.0 } else { rise(nearest) }
        };
        (0..span).map(at).collect::<Vec<f64>>()
    });
    let mut raw = raw.collect::<Vec<_>>();
    let mut sums = vec![0.0; length];
    for (start, weights) in starts.iter().zip(&raw) {
        for (sum, weight) in sums[*start..].iter_mut().zip(weights) {
            *sum += weight;
        }
    }
    for (start, weights) in starts.iter().zip(&mut raw) {
        for (weight, sum) in weights.iter_mut().zip(&sums[*start..]) {
            *weight /= sum;
        }
    }
    raw.into_iter().map(|weights| weights.into_iter().map(|weight| weight as f32).collect()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tiles_are_few_even_and_inside() {
        let cases = [
            (1, 256, 32, vec![0]),
            (256, 256, 32, vec![0]),
            (257, 256, 32, vec![0, 1]),
            (480, 256, 32, vec![0, 224]),
            (481, 256, 32, vec![0, 112, 225]),
            (512, 256, 0, vec![0, 256]),
        ];
        for (length, tile, overlap, expected) in cases {
            assert_eq!(starts(length, tile.min(length), overlap), expected, "{length} by {tile}");
        }
    }

    proptest! {
        /// Every pixel of any image is covered, by weights that sum to one.
        #[test]
        fn weights_sum_to_one_everywhere(
            width in 1usize..600,
            height in 1usize..600,
            tile_width in 1usize..300,
            tile_height in 1usize..300,
            overlap in 0usize..200,
        ) {
            let overlap = overlap.min(tile_width.min(tile_height) / 2);
            let plan = TilePlan::new(width, height, [tile_height, tile_width], overlap);
            for (length, axis, tile) in [(width, &plan.columns, tile_width), (height, &plan.rows, tile_height)] {
                let mut sums = vec![0f32; length];
                for (start, weights) in axis.starts.iter().zip(&axis.weights) {
                    prop_assert!(start + weights.len() <= length);
                    prop_assert_eq!(weights.len(), tile.min(length));
                    for (sum, weight) in sums[*start..].iter_mut().zip(weights) {
                        prop_assert!(*weight > 0.0);
                        *sum += weight;
                    }
                }
                prop_assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5));
                prop_assert!(axis.starts.windows(2).all(|pair| pair[0] + axis.span >= pair[1] + overlap));
            }
        }
    }
}
