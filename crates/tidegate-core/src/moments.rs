//! Count, mean and spread of a number that somebody measures, in a form that adds up.

use serde::{Deserialize, Serialize};

/// Values further from zero than this are not measurements, and their squares would overflow.
const LARGEST: f64 = 1e100;

/// Of numbers that come one by one (Welford 1962), from replicas (Chan, Golub & LeVeque 1983, "Algorithms for computing the
/// sample variance") and that are to be told apart by when they came ([`Moments::since`]): never a difference of two large
/// sums of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Moments {
    count: u64,
    mean: f64,
    /// Sum of squared deviations from the mean.
    squares: f64,
}

impl Moments {
    /// `squares` is the sum of squared deviations from the mean; `None` for what no numbers can have.
    pub fn of(count: u64, mean: f64, squares: f64) -> Option<Self> {
        if count == 0 {
            return Some(Self::default());
        }
        let possible = Self::accepts(mean) && squares.is_finite() && squares >= 0.0;
        possible.then_some(Self { count, mean, squares })
    }

    /// Whether a value can be counted: it is a number, and not beyond 1e100.
    pub fn accepts(value: f64) -> bool {
        value.abs() <= LARGEST
    }

    /// Counts a value, unless it is not one ([`Moments::accepts`]).
    pub fn record(&mut self, value: f64) {
        if Self::accepts(value) {
            self.merge(&Self { count: 1, mean: value, squares: 0.0 });
        }
    }

    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        let count = self.count.saturating_add(other.count);
        let (n, n_other) = (count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.mean += apart * (n_other / n);
        self.squares += other.squares + apart * apart * (self.count as f64 / n) * n_other;
        self.count = count;
    }

    /// What came after `earlier`, an older state of the same moments. The mean of the few that are left is off by about
    /// 1e-16 of the whole mean for each value that is taken away per one that is left.
    pub fn since(&self, earlier: &Self) -> Self {
        let count = self.count.saturating_sub(earlier.count);
        if count == 0 || earlier.count == 0 {
            return if count == 0 { Self::default() } else { *self };
        }
        let (n, n_earlier) = (count as f64, earlier.count as f64);
        let mean = self.mean + (self.mean - earlier.mean) * (n_earlier / n);
        let apart = mean - earlier.mean;
        let between = apart * apart * (n_earlier / self.count as f64) * n;
        Self { count, mean, squares: (self.squares - earlier.squares - between).max(0.0) }
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    /// `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// Unbiased; `None` for fewer than two values.
    pub fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| self.squares / (self.count - 1) as f64)
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    count: u64,
    mean: f64,
    squares: f64,
}

impl From<Moments> for Written {
    fn from(Moments { count, mean, squares }: Moments) -> Self {
        Self { count, mean, squares }
    }
}

impl TryFrom<Written> for Moments {
    type Error = String;

    fn try_from(Written { count, mean, squares }: Written) -> Result<Self, String> {
        Self::of(count, mean, squares)
            .ok_or_else(|| format!("no values have a mean of {mean} and a sum of squares of {squares}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Moments {
        let mut moments = Moments::default();
        values.iter().for_each(|value| moments.record(*value));
        moments
    }

    #[track_caller]
    fn check(moments: Moments, values: &[f64]) {
        let n = values.len() as f64;
        let scale = values.iter().fold(1e-9f64, |scale, value| scale.max(value.abs()));
        assert_eq!(moments.count(), values.len() as u64);
        let mean = values.iter().sum::<f64>() / n;
        let off = moments.mean().map_or(0.0, |seen| (seen - mean).abs());
        assert!(off < 1e-12 * scale, "mean {moments:?}, {mean}");
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let off = moments.variance().map_or(0.0, |seen| (seen - squares / (n - 1.0)).abs());
        assert!(off < 1e-10 * scale * scale, "variance {moments:?}, {}", squares / (n - 1.0));
    }

    /// Where sums of squares would have lost every digit.
    #[test]
    fn a_small_spread_on_a_large_mean_is_not_lost() {
        let values: Vec<f64> = (0..1000).map(|i| 1e9 + f64::from(i % 2)).collect();
        let variance = of(&values).variance().unwrap();
        assert!((variance - 0.25 * 1000.0 / 999.0).abs() < 1e-6, "{variance}");
        let (early, late) = values.split_at(900);
        let mut whole = of(early);
        whole.merge(&of(late));
        let late = whole.since(&of(early));
        assert!((late.mean().unwrap() - 1e9 - 0.5).abs() < 1e-3, "{late:?}");
        assert!((late.variance().unwrap() - 0.25).abs() < 0.01, "{late:?}");
    }

    #[test]
    fn what_is_no_number_is_not_counted_and_impossible_moments_are_refused() {
        assert_eq!(of(&[f64::NAN, f64::INFINITY, 1e300]), Moments::default());
        assert_eq!(of(&[7.0]).variance(), None);
        assert_eq!(Moments::of(3, 1.0, -1.0), None);
        assert_eq!(Moments::of(0, f64::NAN, f64::NAN), Some(Moments::default()));
        let json = serde_json::to_string(&of(&[1.0, 3.0])).unwrap();
        assert_eq!(json, r#"{"count":2,"mean":2.0,"squares":2.0}"#);
        assert_eq!(serde_json::from_str::<Moments>(&json).unwrap(), of(&[1.0, 3.0]));
        assert!(serde_json::from_str::<Moments>(r#"{"count":2,"mean":2.0,"squares":-2.0}"#).is_err());
    }

    proptest! {
        #[test]
        fn merging_and_taking_away_are_recording(
            early in prop::collection::vec(-1e6..1e6f64, 0..50), late in prop::collection::vec(-1e6..1e6f64, 0..50),
        ) {
            let mut whole = of(&early);
            whole.merge(&of(&late));
            check(whole, &[early.as_slice(), &late].concat());
            check(whole.since(&of(&early)), &late);
            prop_assert_eq!(of(&early).since(&whole), Moments::default());
        }
    }
}
