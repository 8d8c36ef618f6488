//! Confidence sequences for two means of numbers about which nothing is known: asymptotic ones.
//!
//! No interval for a mean is valid for all distributions at any number of samples: one value in a million could be worth
//! a million others. What the central limit theorem is for one look, a strong approximation by Brownian motion is for all
//! looks (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence
//! sequences", Annals of Statistics 52, 2024): the boundary that holds for Brownian motion with the estimated variance
//! holds for the means, the better the later one begins to look. So nothing is said before [`BURN_IN`] values of each.
//!
//! Against "the contrast of the means is 0": with its estimate D and the estimate's variance V, D/V is Brownian motion at
//! time 1/V, also when the arms fill unevenly (for two estimates that follow one another, the covariance is the variance
//! of the later one). The evidence is Robbins' mixture of its likelihood ratios over a half-normal distribution of drifts:
//! one-sided, which costs half of a two-sided one's error.

use statrs::distribution::{ContinuousCDF, Normal};
use tidegate_core::Moments;

use super::evidence::needed;

/// Values of each arm without which nothing is said.
pub(crate) const BURN_IN: u64 = 50;

/// The mixture's width, as the number of samples at which noise and the usual drift are alike; the boundary is lowest at
/// some eight times as many.
const USUAL_SAMPLES: f64 = 25.0;

/// Halvings of a bracket of [`FARTHEST`]: exact to nine digits.
const N_HALVINGS: u32 = 40;

/// No number of standard errors that anybody sees needs to be beyond.
const FARTHEST: f64 = 1000.0;

/// The means of two arms, compared as `to` against `from`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwoMeans {
    from: f64,
    to: f64,
    /// Squared standard errors.
    error_from: f64,
    error_to: f64,
    /// How many times [`USUAL_SAMPLES`] there are.
    time: f64,
}

impl TwoMeans {
    /// `None` where there are too few to say anything.
    pub fn new(from: &Moments, to: &Moments) -> Option<Self> {
        if from.count().min(to.count()) < BURN_IN {
            return None;
        }
        let (n_from, n_to) = (from.count() as f64, to.count() as f64);
        // A skewed metric looks calm while its rare large values stay away: each arm is given the unrest of the other.
        let variance = from.variance()?.max(to.variance()?);
        let harmonic_mean = 2.0 / (1.0 / n_from + 1.0 / n_to);
        Some(Self {
            from: from.mean()?,
            to: to.mean()?,
            error_from: variance / n_from,
            error_to: variance / n_to,
            time: harmonic_mean / USUAL_SAMPLES,
        })
    }

    /// An upper bound of the mean of `to` minus that of `from`, at level `alpha` over all looks.
    pub fn difference_at_most(&self, alpha: f64) -> f64 {
        self.to - self.from + self.n_errors(alpha) * (self.error_from + self.error_to).sqrt()
    }

    pub fn difference_at_least(&self, alpha: f64) -> f64 {
        self.to - self.from - self.n_errors(alpha) * (self.error_from + self.error_to).sqrt()
    }

    /// An upper bound of the mean of `to` divided by that of `from`; infinite where that may be zero or negative.
    pub fn ratio_at_most(&self, alpha: f64) -> f64 {
        self.ratio(alpha).map_or(f64::INFINITY, |(_, high)| high)
    }

    /// A lower bound.
    pub fn ratio_at_least(&self, alpha: f64) -> f64 {
        self.ratio(alpha).map_or(f64::NEG_INFINITY, |(low, _)| low)
    }

    /// The ratios r for which to - r from is not too many of its standard errors from 0 (Fieller 1954, "Some problems in
    /// interval estimation"): a quadratic inequality.
    fn ratio(&self, alpha: f64) -> Option<(f64, f64)> {
        let squared = self.n_errors(alpha).powi(2);
        let leading = self.from * self.from - squared * self.error_from;
        if self.from <= 0.0 || leading <= 0.0 {
            return None;
        }
        let middle = self.from * self.to;
        let root = (squared * (self.error_to * leading + self.error_from * self.to * self.to)).sqrt();
        Some(((middle - root) / leading, (middle + root) / leading))
    }

    /// How many standard errors an estimate must be away for evidence of 1/alpha.
    fn n_errors(&self, alpha: f64) -> f64 {
        let Ok(normal) = Normal::new(0.0, 1.0) else { return f64::INFINITY };
        let shrunk = self.time / (1.0 + self.time);
        let constant = 2f64.ln() - 0.5 * self.time.ln_1p();
        let ln_evidence = |z: f64| constant + 0.5 * z * z * shrunk + normal.cdf(z * shrunk.sqrt()).ln();
        let (mut low, mut high) = (0.0, FARTHEST);
        for _ in 0..N_HALVINGS {
            let middle = 0.5 * (low + high);
            if ln_evidence(middle) >= needed(alpha) { high = middle } else { low = middle }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moments(count: u64, mean: f64, variance: f64) -> Moments {
        Moments::of(count, mean, variance * (count - 1) as f64).unwrap()
    }

    #[test]
    fn too_few_values_say_nothing() {
        let (few, many) = (moments(BURN_IN - 1, 1.0, 0.1), moments(10_000, 1.0, 0.1));
        assert!(TwoMeans::new(&few, &many).is_none());
        assert!(TwoMeans::new(&many, &few).is_none());
        assert!(TwoMeans::new(&many, &many).is_some());
    }

    #[test]
    fn the_boundary_is_a_normal_quantile_and_a_little_more() {
        let means = TwoMeans::new(&moments(200, 0.0, 1.0), &moments(200, 0.0, 1.0)).unwrap();
        let n_errors = means.n_errors(0.05);
        assert!(n_errors > 1.645 && n_errors < 2.8, "{n_errors}");
        assert!((means.difference_at_most(0.05) - n_errors * 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_to_what_may_be_zero_is_unknown() {
        let (nothing, some) = (moments(100, 0.01, 1.0), moments(100, 1.0, 1.0));
        let means = TwoMeans::new(&nothing, &some).unwrap();
        assert_eq!(means.ratio_at_most(0.05), f64::INFINITY);
        assert_eq!(means.ratio_at_least(0.05), f64::NEG_INFINITY);
        let negative = TwoMeans::new(&moments(100, -5.0, 1.0), &some).unwrap();
        assert_eq!(negative.ratio_at_most(0.05), f64::INFINITY);
    }

    proptest! {
        #[test]
        fn bounds_enclose_what_was_seen_and_the_ratio_solves_its_equation(
            n in (50u64..5000, 50u64..5000), means in (5.0..50.0f64, -50.0..50.0f64), variance in 0.0..4.0f64, alpha in 0.001..0.5f64,
        ) {
            let two = TwoMeans::new(&moments(n.0, means.0, variance), &moments(n.1, means.1, variance / 2.0)).unwrap();
            prop_assert!(two.difference_at_least(alpha) <= means.1 - means.0);
            prop_assert!(two.difference_at_most(alpha) >= means.1 - means.0);
            for ratio in [two.ratio_at_least(alpha), two.ratio_at_most(alpha)] {
                let error = (two.error_to + ratio * ratio * two.error_from).sqrt();
                let off = (means.1 - ratio * means.0).abs() - two.n_errors(alpha) * error;
                prop_assert!(off.abs() < 1e-6, "{off}");
            }
        }
    }
}
