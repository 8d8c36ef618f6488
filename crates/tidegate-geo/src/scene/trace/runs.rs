//! A row of a mask as runs of pixels that are alike: most of a mask is alike for long.

use std::ops::Range;

/// Stretches of a row that are all of one value, from the left.
pub(in crate::scene) fn equal_runs(row: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let value = *row.get(start)?;
        let end = start + n_leading(&row[start..], value);
        Some(std::mem::replace(&mut start, end)..end)
    })
}

/// How many bytes in front are `one`, eight of them at a time.
fn n_leading(bytes: &[u8], one: u8) -> usize {
    let (words, rest) = bytes.as_chunks::<8>();
    let eight = u64::from_le_bytes([one; 8]);
    let difference = |word: &[u8; 8]| u64::from_le_bytes(*word) ^ eight;
    match words.iter().position(|word| difference(word) != 0) {
        Some(index) => 8 * index + difference(&words[index]).trailing_zeros() as usize / 8,
        None => 8 * words.len() + rest.iter().take_while(|byte| **byte == one).count(),
    }
}

/// Whether all bytes are `one`, eight of them at a time.
pub(in crate::scene) fn are_all(bytes: &[u8], one: u8) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let eight = u64::from_ne_bytes([one; 8]);
    let differences = words.iter().fold(0, |all, word| all | (u64::from_ne_bytes(*word) ^ eight));
    differences == 0 && rest.iter().all(|byte| *byte == one)
}

/// Pixels of one class beside each other.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub start: usize,
    pub end: usize,
    pub class: u8,
    /// Of the shape that they belong to.
    pub label: u32,
}

/// Columns where a run of either row begins or ends, from the left: only there are corners.
pub(super) fn bounds(above: &[Run], below: &[Run]) -> impl Iterator<Item = usize> {
    fn ends(runs: &[Run]) -> impl Iterator<Item = usize> {
        runs.iter().flat_map(|run| [run.start, run.end])
    }
    let (mut above, mut below) = (ends(above).peekable(), ends(below).peekable());
    std::iter::from_fn(move || {
        let column = match (above.peek(), below.peek()) {
            (Some(one), Some(other)) => *one.min(other),
            (one, other) => *one.or(other)?,
        };
        while above.next_if_eq(&column).is_some() {}
        while below.next_if_eq(&column).is_some() {}
        Some(column)
    })
}

/// What is where in a row, for columns that are asked from the left.
pub(super) struct Labels<'a>(&'a [Run]);

impl<'a> Labels<'a> {
    pub fn of(runs: &'a [Run]) -> Self {
        Self(runs)
    }

    /// The labels of the pixels left and right of a column's edge; 0 is background.
    pub fn around(&mut self, column: usize) -> (u32, u32) {
        while let [run, rest @ ..] = self.0
            && run.end < column
        {
            self.0 = rest;
        }
        let label = |pixel: Range<usize>| {
            let runs = self.0.iter().take(2);
            let mut over = runs.filter(|run| run.start <= pixel.start && pixel.end <= run.end);
            over.next().map_or(0, |run| run.label)
        };
        (column.checked_sub(1).map_or(0, |left| label(left..column)), label(column..column + 1))
    }
}
