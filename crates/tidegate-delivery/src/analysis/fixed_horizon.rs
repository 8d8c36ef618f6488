//! The customary tests, for people who expect to see them. They hold for one look at a sample size fixed beforehand, not
//! for the best of many looks, so nothing here decides anything.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};

use tidegate_core::Moments;

use super::evidence::Counts;

/// A test of "no difference at all", two-sided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FixedHorizon {
    /// `welch-t` (of means; of latency from bucket middles) or `chi-square` (of two rates, without continuity correction).
    pub test: &'static str,
    pub statistic: f64,
    pub p_value: f64,
}

/// Welch's t-test (Welch 1947, "The generalization of Student's problem when several different population variances are
/// involved"); `None` for fewer than two samples in an arm or where nothing varies.
pub(super) fn welch(from: &Moments, to: &Moments) -> Option<FixedHorizon> {
    let (n_from, n_to) = (from.count() as f64, to.count() as f64);
    let (error_from, error_to) = (from.variance()? / n_from, to.variance()? / n_to);
    let statistic = (to.mean()? - from.mean()?) / (error_from + error_to).sqrt();
    let freedom = (error_from + error_to).powi(2)
        / (error_from.powi(2) / (n_from - 1.0) + error_to.powi(2) / (n_to - 1.0));
    if !statistic.is_finite() || !freedom.is_finite() {
        return None;
    }
    let distribution = StudentsT::new(0.0, 1.0, freedom).ok()?;
    let p_value = 2.0 * distribution.cdf(-statistic.abs());
    Some(FixedHorizon { test: "welch-t", statistic, p_value })
}

/// Pearson's chi-square test of a two-by-two table; `None` where a row or column of it is empty.
pub(super) fn chi_square(from: Counts, to: Counts) -> Option<FixedHorizon> {
    let all = from.plus(to);
    let margins = from.trials() * to.trials() * all.hits * all.misses;
    let statistic = all.trials() * (from.hits * to.misses - from.misses * to.hits).powi(2) / margins;
    if !statistic.is_finite() {
        return None;
    }
    let distribution = ChiSquared::new(1.0).ok()?;
    Some(FixedHorizon { test: "chi-square", statistic, p_value: distribution.sf(statistic) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against `scipy.stats.chi2_contingency(..., correction=False)`.
    #[test]
    fn chi_square_agrees_with_the_textbook() {
        let test = chi_square(Counts::of(10, 100), Counts::of(25, 100)).unwrap();
        assert!((test.statistic - 7.792_207_8).abs() < 1e-6, "{test:?}");
        assert!((test.p_value - 0.005_247).abs() < 1e-5, "{test:?}");
        assert_eq!(chi_square(Counts::of(0, 10), Counts::of(0, 10)), None, "no failures, no table");
        assert_eq!(chi_square(Counts::of(0, 0), Counts::of(1, 10)), None);
    }

    #[test]
    fn welch_sees_a_shift_and_refuses_what_does_not_vary() {
        let of = |values: &[f64]| {
            let mut moments = Moments::default();
            values.iter().for_each(|value| moments.record(*value));
            moments
        };
        let (slow, fast) = (of(&[2048.0, 4096.0, 8192.0, 4096.0]), of(&[1024.0, 2048.0, 4096.0, 2048.0]));
        let test = welch(&fast, &slow).unwrap();
        assert!(test.statistic > 0.0 && test.p_value > 0.05 && test.p_value < 0.2, "{test:?}");
        assert_eq!(welch(&fast, &slow).map(|t| t.p_value), welch(&slow, &fast).map(|t| t.p_value));
        assert_eq!(welch(&of(&[5.0, 5.0]), &of(&[5.0, 5.0])), None);
        assert_eq!(welch(&of(&[5.0]), &slow), None);
    }
}
