//! A histogram of any numbers or classes, on cells that are the same everywhere, so that what replicas saw adds up exactly.
//!
//! Cells of numbers are 64 to the octave, to both sides of zero (symmetric and logarithmic, cut from the bits of the
//! number, so that every machine cuts alike); classes have cells of their own beside them. How cells are put together into
//! the few bins of a comparison is not decided here.

use serde::{Deserialize, Serialize};

use crate::sparse::SparseCounts;

/// Of a number's bits, those below the sixth of its mantissa: 64 cells to the octave, each 0.8 to 1.6 % wide.
const IGNORED_BITS: u32 = 46;
const CELLS_PER_OCTAVE: u64 = 64;

/// Numbers nearer to zero than 2^-20 (about 1e-6) are zero; those beyond 2^44 (about 2e13) are in the last cell.
const SMALLEST_EXPONENT: u64 = 1023 - 20;
const N_MAGNITUDES: usize = 64 * 64;

/// What is not a number.
const NOT_A_NUMBER: usize = 2 * N_MAGNITUDES + 1;

/// The cell of class 0.
pub const FIRST_CLASS: usize = 3 * N_MAGNITUDES;
/// Classes from the last one on share its cell.
pub const N_CLASSES: usize = 2 * N_MAGNITUDES;
pub const N_CELLS: usize = FIRST_CLASS + N_CLASSES;

/// What a prediction comes down to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Observed {
    Number(f64),
    Class(usize),
}

/// Counts of [`Observed`] by cell. Stored and sent as pairs of cell and count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(usize, u64)>", into = "Vec<(usize, u64)>")]
pub struct ValueHistogram {
    counts: SparseCounts,
}

impl ValueHistogram {
    pub fn record(&mut self, observed: Observed) {
        self.counts.add(cell_of(observed), 1);
    }

    pub fn merge(&mut self, other: &Self) {
        self.counts.merge(&other.counts);
    }

    /// What was recorded after `earlier`, an older state of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        Self { counts: self.counts.since(&earlier.counts) }
    }

    pub fn count(&self) -> u64 {
        self.counts.total()
    }

    /// The cells in use, of [`N_CELLS`], in the order of their values.
    pub fn occupied(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.occupied()
    }
}

fn cell_of(observed: Observed) -> usize {
    match observed {
        Observed::Class(class) => FIRST_CLASS + class.min(N_CLASSES - 1),
        Observed::Number(value) if value.is_nan() => NOT_A_NUMBER,
        Observed::Number(value) => {
            let magnitude = magnitude(value);
            if value < 0.0 { N_MAGNITUDES - magnitude } else { N_MAGNITUDES + magnitude }
        }
    }
}

/// 0 for zero, up to [`N_MAGNITUDES`].
fn magnitude(value: f64) -> usize {
    let steps = (value.abs().to_bits() >> IGNORED_BITS) + 1;
    let below = SMALLEST_EXPONENT * CELLS_PER_OCTAVE;
    usize::try_from(steps.saturating_sub(below)).map_or(N_MAGNITUDES, |cell| cell.min(N_MAGNITUDES))
}

impl From<ValueHistogram> for Vec<(usize, u64)> {
    fn from(histogram: ValueHistogram) -> Self {
        histogram.counts.into_pairs()
    }
}

impl TryFrom<Vec<(usize, u64)>> for ValueHistogram {
    type Error = String;

    fn try_from(pairs: Vec<(usize, u64)>) -> Result<Self, String> {
        Ok(Self { counts: SparseCounts::from_pairs(pairs, N_CELLS, "value")? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cell(value: f64) -> usize {
        cell_of(Observed::Number(value))
    }

    #[test]
    fn numbers_are_in_order_around_zero_and_classes_are_apart() {
        let ascending =
            [f64::NEG_INFINITY, -1e20, -1.0, -0.5, 0.0, 1e-5, 0.5, 0.51, 1.0, 2.0, 3e9, f64::INFINITY];
        let cells = ascending.map(cell);
        assert!(cells.windows(2).all(|pair| pair[0] <= pair[1]), "{cells:?}");
        assert_eq!(cell(0.0), cell(-1e-9), "as good as zero");
        assert_eq!(cell(f64::INFINITY), cell(1e20));
        assert_eq!(cell(2.0) - cell(1.0), 64);
        assert!(cell(f64::NAN) > cell(f64::INFINITY) && cell(f64::NAN) < FIRST_CLASS);
        assert_eq!(cell_of(Observed::Class(3)), FIRST_CLASS + 3);
        assert_eq!(cell_of(Observed::Class(usize::MAX)), N_CELLS - 1);
    }

    #[test]
    fn a_cell_out_of_range_is_refused() {
        assert!(serde_json::from_str::<ValueHistogram>("[[20479,1]]").is_ok());
        assert!(serde_json::from_str::<ValueHistogram>("[[20480,1]]").is_err());
    }

    proptest! {
        #[test]
        fn a_larger_number_is_in_a_later_cell_once_it_is_two_percent_larger(value in 1e-5..1e12f64) {
            prop_assert!(cell(value * 1.02) > cell(value));
            prop_assert!(cell(-value * 1.02) < cell(-value));
            prop_assert!(cell(value * 1.005) <= cell(value) + 1);
        }

        #[test]
        fn merging_is_recording_all(left: Vec<f64>, right: Vec<f64>) {
            let of = |values: &[f64]| {
                let mut histogram = ValueHistogram::default();
                values.iter().for_each(|value| histogram.record(Observed::Number(*value)));
                histogram
            };
            let mut merged = of(&left);
            merged.merge(&of(&right));
            prop_assert_eq!(&merged, &of(&[left.as_slice(), &right].concat()));
            prop_assert_eq!(merged.since(&of(&left)), of(&right));
            let json = serde_json::to_string(&merged).unwrap();
            prop_assert_eq!(serde_json::from_str::<ValueHistogram>(&json).unwrap(), merged);
        }
    }
}
