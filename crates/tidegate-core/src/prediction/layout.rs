//! How an output is laid out, and with it what kind of answer it can be.

use std::ops::Range;

use super::numbers::Numbers;
use crate::tensor::Tensor;

/// Of one item of the batch (axis 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One whole number: a class.
    Class,
    /// Whole numbers, more than one: a class for each pixel.
    ClassMap,
    /// `[N, K]`: probabilities of K classes where its numbers are such, else any K numbers.
    Vector,
    /// `[N, 1, H, W]` or `[N, H, W, 1]`: a mask where its numbers are from 0 to 1.
    Map,
    /// `[N, C, H, W]` or `[N, H, W, C]`: for each pixel a score for each class.
    Scores(Channels),
    /// A scalar, boxes, sequences.
    Other,
}

/// Where the scores of one pixel stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Channels {
    pub count: usize,
    pub n_pixels: usize,
    are_last: bool,
}

/// Items, and elements of each; none where there is no element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub n_items: usize,
    pub item_len: usize,
}

impl Batch {
    pub fn of(tensor: &Tensor) -> Self {
        let n_elements = tensor.n_elements();
        let n_items = if n_elements == 0 { 0 } else { tensor.shape().first().copied().unwrap_or(1) };
        Self { n_items, item_len: n_elements.checked_div(n_items).unwrap_or(0) }
    }

    /// The places of an item's elements.
    pub fn item(self, index: usize) -> Range<usize> {
        index * self.item_len..(index + 1) * self.item_len
    }
}

impl Layout {
    pub fn of(tensor: &Tensor, numbers: &Numbers<'_>) -> Self {
        let item_len = Batch::of(tensor).item_len;
        if numbers.are_whole() {
            return if item_len == 1 { Self::Class } else { Self::ClassMap };
        }
        match *tensor.shape() {
            [_, size] if size > 1 => Self::Vector,
            [_, first, _, last] if item_len > 1 => {
                let count = first.min(last);
                let channels = Channels { count, n_pixels: item_len / count, are_last: last < first };
                if count == 1 { Self::Map } else { Self::Scores(channels) }
            }
            _ => Self::Other,
        }
    }
}

impl Channels {
    /// The class with the highest score for a pixel of the item that begins at `start`.
    pub fn class(self, numbers: &Numbers<'_>, start: usize, pixel: usize) -> usize {
        largest(self.count, |channel| {
            numbers.at(match self.are_last {
                true => start + pixel * self.count + channel,
                false => start + channel * self.n_pixels + pixel,
            })
        })
    }
}

/// The place of the largest of `n` numbers, the first of equals; what is no number is not the largest.
pub(super) fn largest(n: usize, at: impl Fn(usize) -> f64) -> usize {
    let better = |place: usize, best: usize| at(place) > at(best) || at(best).is_nan();
    (1..n).fold(0, |best, place| if better(place, best) { place } else { best })
}

/// How far shares may be from 0 to 1, and their sum from 1: half precision is no finer.
const ROUNDING: f64 = 0.01;

pub(super) fn are_shares(numbers: &Numbers<'_>, mut item: Range<usize>) -> bool {
    item.all(|place| (-ROUNDING..=1.0 + ROUNDING).contains(&numbers.at(place)))
}

pub(super) fn are_probabilities(numbers: &Numbers<'_>, item: Range<usize>) -> bool {
    let sum: f64 = item.clone().map(|place| numbers.at(place)).sum();
    (sum - 1.0).abs() <= ROUNDING && are_shares(numbers, item)
}
