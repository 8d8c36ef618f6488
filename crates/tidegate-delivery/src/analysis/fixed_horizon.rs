//! The customary tests, for people who expect to see them. They hold for one look at a sample size fixed beforehand, not
//! for the best of many looks, so nothing here decides anything.

use serde::Serialize;
use statrs::distribution::{ChiSquared, ContinuousCDF, StudentsT};

use super::LatencyHistogram;
use super::evidence::Counts;

/// A test of "no difference at all", two-sided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FixedHorizon {
    /// `welch-t` (of mean latency, from bucket middles) or `chi-square` (of two rates, without continuity correction).
    pub test: &'static str,
    pub statistic: f64,
    pub p_value: f64,
}

/// Welch's t-test (Welch 1947, "The generalization of Student's problem when several different population variances are
/// involved"); `None` for fewer than two samples in an arm or where nothing varies.
pub(super) fn welch(from: &LatencyHistogram, to: &LatencyHistogram) -> Option<FixedHorizon> {
    let ((mean_from, variance_from), (mean_to, variance_to)) = (from.moments()?, to.moments()?);
    let (n_from, n_to) = (from.count() as f64, to.count() as f64);
    let (error_from, error_to) = (variance_from / n_from, variance_to / n_to);
    let statistic = (mean_to - mean_from) / (error_from + error_to).sqrt();
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
    let [a, b, c, d] = [from.hits, from.misses, to.hits, to.misses].map(|count| count as f64);
    let margins =
        [from.trials(), to.trials(), all.hits, all.misses].iter().map(|count| *count as f64).product::<f64>();
    let statistic = all.trials() as f64 * (a * d - b * c).powi(2) / margins;
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
        let of = |durations_us: &[u64]| {
            let mut histogram = LatencyHistogram::default();
            durations_us.iter().for_each(|us| histogram.record(*us));
            histogram
        };
        let (slow, fast) = (of(&[2048, 4096, 8192, 4096]), of(&[1024, 2048, 4096, 2048]));
        let test = welch(&fast, &slow).unwrap();
        assert!(test.statistic > 0.0 && test.p_value > 0.05 && test.p_value < 0.2, "{test:?}");
        assert_eq!(welch(&fast, &slow).map(|t| t.p_value), welch(&slow, &fast).map(|t| t.p_value));
        assert_eq!(welch(&of(&[5, 5]), &of(&[5, 5])), None);
        assert_eq!(welch(&of(&[5]), &slow), None);
    }
}
