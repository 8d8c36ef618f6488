//! Do two versions predict alike? The distance of what they predicted, between histograms over the same minutes.
//!
//! The score is eight times the squared Hellinger distance of the two distributions over a few bins, 0 to 8. It is the
//! population stability index where shares change little (to 1 % where no bin's share changes by more than a factor of 2)
//! and always below it, but finite where a bin is empty on one side. So the customary 0.3 means what it is known to mean,
//! and drift beyond 0.3 is drift beyond a PSI of 0.3.
//!
//! Either score alone grows with few samples where nothing moved, by about (bins - 1)(1/n + 1/m). What makes an interval of
//! it is that the square roots of observed shares all have the same noise, 1/(4n), whatever the shares (Bartlett 1936;
//! Freeman & Tukey 1950, "Transformations related to the angular and the square root"): twice the difference of both arms'
//! is the true one, whose squared length is the score, and Gaussian noise of variance 1/n + 1/m in bins - 1 directions. For
//! that there is a confidence sequence, a ball that shrinks: asymptotic, like that of [`super::means`], and with its
//! [`BURN_IN`]. The bins are laid over what both predicted, and settle as it does.

use tidegate_core::ValueHistogram;

use super::evidence::needed;
use super::means::BURN_IN;

/// The score of two distributions that have nothing in common.
pub const MOST: f64 = 8.0;

/// Bins, where what is predicted does not come in lumps: the customary number is ten.
const MOST_BINS: usize = 8;

/// Predictions of the version with fewer of them that a bin has at least where it may speak against a candidate: with less,
/// nearly Gaussian noise is a bold claim.
const FEWEST_IN_BIN: f64 = 10.0;

/// The root of a count around `n` has a variance of about 1/4 (1 + 3/(8n)).
const EXCESS_NOISE: f64 = 1.0 + 3.0 / (8.0 * FEWEST_IN_BIN);

/// The score that the mixture of the evidence has in mind: the ball is smallest when noise is some way below it.
const USUAL_SCORE: f64 = 0.3;

/// How far a version's predictions are from another's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Drift {
    /// Of what was seen, less what chance adds.
    pub score: f64,
    /// Of the true distributions, at least, at level `fail` over all looks, and at most, at level `pass`; from 0 to
    /// [`MOST`] where there are too few predictions to say anything.
    pub interval: (f64, f64),
    /// The population stability index of what was seen, by the same bins: the customary number, with all its bias.
    pub psi: f64,
}

impl Drift {
    /// `None` where one of them has predicted nothing.
    pub fn between(from: &ValueHistogram, to: &ValueHistogram, fail: f64, pass: f64) -> Option<Self> {
        let fewest = from.count().min(to.count());
        if fewest == 0 {
            return None;
        }
        let noise = 1.0 / from.count() as f64 + 1.0 / to.count() as f64;
        let fine = binned(from, to, 0.0);
        let (seen, n_directions) = (fine.0.score(&fine.1), n_directions(&fine.0));
        let interval = match fewest < BURN_IN {
            true => (0.0, MOST),
            false => {
                // Drift over coarser bins is drift over finer ones too; its absence is not.
                let coarse = binned(from, to, FEWEST_IN_BIN / fewest as f64);
                let shown =
                    coarse.0.score(&coarse.1).sqrt() - radius(noise, self::n_directions(&coarse.0), fail);
                let possible = seen.sqrt() + radius(noise, n_directions, pass);
                (shown.max(0.0).powi(2), possible.powi(2).min(MOST))
            }
        };
        Some(Self { score: (seen - n_directions * noise).max(0.0), interval, psi: fine.0.psi(&fine.1) })
    }
}

/// One less than there are bins: shares sum to 1.
fn n_directions(shares: &Shares) -> f64 {
    (shares.counts.len() as f64 - 1.0).max(1.0)
}

/// Of the ball around an estimate with Gaussian noise of this variance in each direction, that holds the truth at all looks
/// with probability 1 - `alpha`: Robbins' mixture, over a normal distribution of truths in each direction.
fn radius(noise: f64, n_directions: f64, alpha: f64) -> f64 {
    let noise = EXCESS_NOISE * noise;
    let usual = USUAL_SCORE / n_directions;
    let growth = (usual / noise).ln_1p();
    (noise * (1.0 + noise / usual) * (2.0 * needed(alpha) + n_directions * growth)).sqrt()
}

/// Lays bins over what both predicted, each arm weighing half, so that each has about as much and at least `fewest`; one
/// number or class that has more has a bin of its own. Given are the shares of both by bin.
fn binned(from: &ValueHistogram, to: &ValueHistogram, fewest: f64) -> (Shares, Shares) {
    let (n_from, n_to) = (from.count() as f64, to.count() as f64);
    let share = |bin: (f64, f64)| 0.5 * (bin.0 / n_from + bin.1 / n_to);
    let mut cells: Vec<(usize, f64, f64)> =
        from.occupied().map(|(cell, count)| (cell, count as f64, 0.0)).collect();
    cells.extend(to.occupied().map(|(cell, count)| (cell, 0.0, count as f64)));
    cells.sort_unstable_by_key(|(cell, ..)| *cell);

    let mut bins: Vec<(f64, f64)> = Vec::with_capacity(MOST_BINS + 1);
    let mut is_full = true;
    for same_cell in cells.chunk_by(|(a, ..), (b, ..)| a == b) {
        if is_full {
            bins.push((0.0, 0.0));
        }
        let Some(bin) = bins.last_mut() else { continue };
        same_cell.iter().for_each(|(_, of_from, of_to)| *bin = (bin.0 + of_from, bin.1 + of_to));
        is_full = share(*bin) >= fewest.max(1.0 / MOST_BINS as f64);
    }
    if let [.., before, last] = bins.as_mut_slice()
        && share(*last) < fewest
    {
        *before = (before.0 + last.0, before.1 + last.1);
        bins.pop();
    }
    let (from, to) = bins.into_iter().unzip();
    (Shares { counts: from, total: n_from }, Shares { counts: to, total: n_to })
}

/// What one arm predicted, by bin.
struct Shares {
    counts: Vec<f64>,
    total: f64,
}

impl Shares {
    fn score(&self, other: &Self) -> f64 {
        self.pairs(other, 0.0).map(|(a, b)| 4.0 * (a.sqrt() - b.sqrt()).powi(2)).sum()
    }

    /// The sum over bins of (current - reference) ln(current / reference), shares smoothed by half a count so that an empty
    /// bin is not infinite. By custom 0.1 is noticeable, 0.25 to 0.3 is drift.
    fn psi(&self, other: &Self) -> f64 {
        self.pairs(other, 0.5).map(|(a, b)| (b - a) * (b / a).ln()).sum()
    }

    /// The shares of both by bin, with so much added to each count.
    fn pairs(&self, other: &Self, added: f64) -> impl Iterator<Item = (f64, f64)> {
        let n_bins = self.counts.len() as f64;
        let share = move |count: f64, total: f64| (count + added) / (total + added * n_bins);
        let pairs = self.counts.iter().zip(&other.counts);
        pairs.map(move |(a, b)| (share(*a, self.total), share(*b, other.total)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_core::values::Observed;

    use super::*;

    fn numbers(values: impl IntoIterator<Item = f64>) -> ValueHistogram {
        let mut histogram = ValueHistogram::default();
        values.into_iter().for_each(|value| histogram.record(Observed::Number(value)));
        histogram
    }

    /// As many of each class as given.
    fn classes(counts: &[usize]) -> ValueHistogram {
        let mut histogram = ValueHistogram::default();
        for (class, count) in counts.iter().enumerate() {
            (0..*count).for_each(|_| histogram.record(Observed::Class(class)));
        }
        histogram
    }

    fn drift(from: &ValueHistogram, to: &ValueHistogram) -> Drift {
        Drift::between(from, to, 0.05, 0.05).unwrap()
    }

    #[test]
    fn nothing_to_compare_is_no_drift_to_speak_of() {
        let (nothing, some) = (ValueHistogram::default(), classes(&[3, 4]));
        assert_eq!(Drift::between(&nothing, &some, 0.05, 0.05), None);
        assert_eq!(Drift::between(&some, &nothing, 0.05, 0.05), None);
    }

    #[test]
    fn bins_are_laid_where_the_predictions_are() {
        let check = |histogram: ValueHistogram, n_bins| {
            let (shares, _) = binned(&histogram, &histogram, 0.0);
            assert_eq!(shares.counts.len(), n_bins, "{:?}", shares.counts);
            assert_eq!(shares.counts.iter().sum::<f64>(), histogram.count() as f64);
            shares.counts
        };
        assert_eq!(check(classes(&[99, 1]), 2), [99.0, 1.0], "a rare class has what is left");
        assert_eq!(check(classes(&[50, 30, 20]), 3), [50.0, 30.0, 20.0]);
        check(classes(&[10; 100]), 8);
        check(numbers(std::iter::repeat_n(0.25, 50)), 1);
        // Around zero too, where the cells are smallest.
        let even = check(numbers((-500..=500).map(f64::from)), 8);
        assert!(even.iter().all(|count| (90.0..150.0).contains(count)), "{even:?}");
    }

    #[test]
    fn a_high_score_from_few_samples_is_not_shown_to_be_drift() {
        let seen = drift(&classes(&[1000; 8]), &classes(&[1, 0, 0, 1, 0, 0, 0, 2]));
        assert!(seen.psi > 0.3, "the customary score alone would cry wolf: {seen:?}");
        assert_eq!(seen.interval, (0.0, MOST), "too few to say anything");
        let seen = drift(&classes(&[1000; 4]), &classes(&[20, 8, 19, 13]));
        assert!(seen.psi > 0.1 && seen.score < seen.psi - 0.04, "{seen:?}");
        assert!(seen.interval.0 == 0.0 && seen.interval.1 > 0.3, "{seen:?}");
    }

    /// Five in a hundred instead of none of a class are not enough to fail a version, and too many to pass it.
    #[test]
    fn a_rare_class_neither_fails_nor_is_overlooked() {
        let seen = drift(&classes(&[1000]), &classes(&[95, 5]));
        assert!(seen.interval.0 == 0.0 && seen.interval.1 > 0.5, "{seen:?}");
        let seen = drift(&classes(&[10_000]), &classes(&[750, 250]));
        assert!(seen.interval.0 > 0.3, "{seen:?}");
    }

    #[test]
    fn drift_is_shown_and_so_is_its_absence() {
        let (was, is) = (classes(&[700, 300]), classes(&[300, 700]));
        let moved = drift(&was, &is);
        assert!(moved.interval.0 > 0.3 && moved.score < moved.psi, "{moved:?}");
        let alike = drift(&classes(&[7000, 3000]), &classes(&[701, 299]));
        assert!(alike.interval.1 < 0.1 && alike.score < 0.01, "{alike:?}");
        let ramp = |from: f64| numbers((0..1500).map(move |i| from + f64::from(i) / 1500.0));
        assert!(drift(&ramp(1.0), &ramp(1.0)).interval.1 < 0.3);
        assert!(drift(&ramp(1.0), &ramp(1.8)).interval.0 > 0.3);
        let apart = drift(&numbers([0.5; 200]), &numbers([f64::NAN; 200]));
        assert!(apart.score > 7.8 && apart.interval.0 > 1.0, "{apart:?}");
    }

    /// The score is the population stability index where that is small, and below it always.
    #[test]
    fn the_score_is_a_cautious_stability_index() {
        let (was, is) = (classes(&[40_000, 30_000, 30_000]), classes(&[50_000, 25_000, 25_000]));
        let seen = drift(&was, &is);
        assert!((seen.score / seen.psi - 1.0).abs() < 0.02, "{seen:?}");
        let gone = drift(&classes(&[50_000, 50_000]), &classes(&[95_000, 5_000]));
        assert!(gone.score < gone.psi, "{gone:?}");
    }

    proptest! {
        #[test]
        fn the_interval_encloses_what_was_seen(from in prop::collection::vec(0usize..50, 1..12), to in prop::collection::vec(0usize..50, 1..12)) {
            if let Some(drift) = Drift::between(&classes(&from), &classes(&to), 0.05, 0.01) {
                prop_assert!(drift.interval.0 <= drift.score + 1e-9 || drift.score == 0.0);
                prop_assert!(drift.interval.0 <= drift.interval.1 && drift.interval.1 <= MOST && drift.psi.is_finite());
            }
        }
    }
}
