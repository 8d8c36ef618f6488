//! Latencies in fixed buckets, so that what replicas measured can be added up exactly.
//!
//! The edges are powers of 2^(1/32), the same everywhere: merging is adding counts, and a step of `m` buckets is a factor
//! of 2^(m/32) wherever it is taken, which is what `analysis::quantiles` in delivery stands on.

use serde::{Deserialize, Serialize};

use crate::moments::Moments;
use crate::sparse::SparseCounts;

/// 32 buckets per doubling: a reported quantile is within 1.1 % of the recorded one.
const BUCKETS_PER_OCTAVE: f64 = 32.0;

/// Up to 1,000 s: 32 x log2(10^9), rounded up, and bucket 0 for what takes 1 us or less.
pub const N_BUCKETS: usize = 958;

/// Counts of latencies. Bucket `i` holds (2^((i-1)/32), 2^(i/32)] us; what is longer than 1,000 s is in the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(usize, u64)>", into = "Vec<(usize, u64)>")]
pub struct LatencyHistogram {
    /// Some hundred buckets in use. Stored and sent as pairs of bucket and count.
    counts: SparseCounts,
}

/// A histogram summed up from below.
pub struct Cumulative {
    /// For each of the [`N_BUCKETS`], how many are in it or below.
    pub at_most: Vec<u64>,
    pub count: u64,
}

impl LatencyHistogram {
    pub fn record(&mut self, duration_us: u64) {
        self.counts.add(bucket_of(duration_us), 1);
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

    /// The latency in us that a share `q` (0 to 1) of requests did not exceed, within 1.1 %; `None` without any.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let needed = (q.clamp(0.0, 1.0) * self.count() as f64).max(f64::MIN_POSITIVE);
        let mut seen = 0u64;
        let (bucket, _) = self.occupied().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen as f64 >= needed
        })?;
        Some(midpoint_us(bucket))
    }

    /// How many were certainly at most `us`: those in the buckets that end there or before.
    pub fn counts_at_most(&self, us: f64) -> u64 {
        self.occupied()
            .take_while(|(bucket, _)| upper_edge_us(*bucket) <= us)
            .fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// In us, from the middle of each bucket.
    pub fn moments(&self) -> Moments {
        let n = self.count() as f64;
        let mean = self.occupied().map(|(bucket, count)| midpoint_us(bucket) * count as f64).sum::<f64>() / n;
        let squares = self
            .occupied()
            .map(|(bucket, count)| (midpoint_us(bucket) - mean).powi(2) * count as f64)
            .sum::<f64>();
        Moments::of(self.count(), mean, squares).unwrap_or_default()
    }

    /// The buckets in use, in order.
    pub fn occupied(&self) -> impl Iterator<Item = (usize, u64)> {
        self.counts.occupied()
    }

    pub fn cumulative(&self) -> Cumulative {
        let mut at_most = Vec::with_capacity(N_BUCKETS);
        let mut sum = 0u64;
        for (bucket, count) in self.occupied() {
            at_most.resize(bucket, sum);
            sum = sum.saturating_add(count);
        }
        at_most.resize(N_BUCKETS, sum);
        Cumulative { at_most, count: sum }
    }
}

/// The factor between bucket edges that are `steps` apart.
pub fn factor(steps: i64) -> f64 {
    (steps as f64 / BUCKETS_PER_OCTAVE).exp2()
}

fn bucket_of(duration_us: u64) -> usize {
    let position = (duration_us.max(1) as f64).log2() * BUCKETS_PER_OCTAVE;
    (position.ceil() as usize).min(N_BUCKETS - 1)
}

fn upper_edge_us(bucket: usize) -> f64 {
    (bucket as f64 / BUCKETS_PER_OCTAVE).exp2()
}

fn midpoint_us(bucket: usize) -> f64 {
    match bucket {
        0 => 1.0,
        _ => ((bucket as f64 - 0.5) / BUCKETS_PER_OCTAVE).exp2(),
    }
}

impl From<LatencyHistogram> for Vec<(usize, u64)> {
    fn from(histogram: LatencyHistogram) -> Self {
        histogram.counts.into_pairs()
    }
}

impl TryFrom<Vec<(usize, u64)>> for LatencyHistogram {
    type Error = String;

    fn try_from(pairs: Vec<(usize, u64)>) -> Result<Self, String> {
        Ok(Self { counts: SparseCounts::from_pairs(pairs, N_BUCKETS, "latency")? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(durations_us: &[u64]) -> LatencyHistogram {
        let mut histogram = LatencyHistogram::default();
        durations_us.iter().for_each(|us| histogram.record(*us));
        histogram
    }

    #[test]
    fn the_extremes_have_a_bucket() {
        let histogram = of(&[0, 1, 2, 1_000_000_000, u64::MAX]);
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.counts_at_most(1.0), 2);
        assert_eq!(histogram.counts_at_most(2.0), 3, "a power of two ends a bucket");
        assert_eq!(histogram.counts_at_most(0.5), 0);
        assert_eq!(LatencyHistogram::default().quantile(0.5), None);
        assert_eq!(bucket_of(1_000_000_000), N_BUCKETS - 1);
    }

    #[test]
    fn it_is_stored_sparse_and_a_bucket_out_of_range_is_refused() {
        let histogram = of(&[1, 1, 4]);
        let json = serde_json::to_string(&histogram).unwrap();
        assert_eq!(json, "[[0,2],[64,1]]");
        assert_eq!(serde_json::from_str::<LatencyHistogram>(&json).unwrap(), histogram);
        assert!(serde_json::from_str::<LatencyHistogram>("[[958,1]]").is_err());
    }

    proptest! {
        #[test]
        fn quantiles_are_within_two_percent(mut us in prop::collection::vec(1u64..1_000_000_000, 1..200), q in 0.0..1.0f64) {
            let reported = of(&us).quantile(q).unwrap();
            us.sort_unstable();
            let rank = ((q * us.len() as f64).ceil() as usize).max(1);
            let exact = us[rank - 1] as f64;
            prop_assert!((reported / exact - 1.0).abs() < 0.02, "{reported} for {exact}");
        }

        #[test]
        fn merging_is_recording_all(left: Vec<u64>, right: Vec<u64>) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            prop_assert_eq!(&merged, &of(&[left.as_slice(), &right].concat()));
            prop_assert_eq!(merged.since(&of(&left)), of(&right));
        }
    }
}
