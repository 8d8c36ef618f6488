//! How far the distribution of a feature has moved, between two histograms over the same bins.
//!
//! A score alone grows with few samples even where nothing moved; [`ks_interval`] says how much of it is real.

use super::evidence::Counts;
use super::rates::TwoRates;

/// Population stability index: the sum over bins of (current - reference) ln(current / reference), shares smoothed by
/// half a count so that an empty bin is not infinite. By custom 0.1 is noticeable, 0.25 to 0.3 is drift; without any, it
/// is about (bins - 1)(1/n + 1/m). `None` where a side is empty or the bins differ in number.
pub fn psi(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (n, m) = comparable(reference, current)?;
    let smoothing = 0.5;
    let added = smoothing * reference.len() as f64;
    let share = |count: u64, total: f64| (count as f64 + smoothing) / (total + added);
    let bins = reference.iter().zip(current).map(|(r, c)| (share(*r, n as f64), share(*c, m as f64)));
    Some(bins.map(|(r, c)| (c - r) * (c / r).ln()).sum())
}

/// Kolmogorov-Smirnov distance: the largest difference of the cumulative shares, 0 to 1.
pub fn ks_distance(reference: &[u64], current: &[u64]) -> Option<f64> {
    comparable(reference, current)?;
    edges(reference, current)
        .filter_map(|(r, c)| Some((c.rate()? - r.rate()?).abs()))
        .reduce(f64::max)
        .or(Some(0.0))
}

/// An interval for the true distance, valid at all looks with probability 1 - `alpha`: drift is shown when its lower end
/// is beyond the threshold.
pub fn ks_interval(reference: &[u64], current: &[u64], alpha: f64) -> Option<(f64, f64)> {
    comparable(reference, current)?;
    // The distance is the largest over the edges between bins: all of their intervals must hold together.
    let each = alpha / (reference.len().max(2) - 1) as f64;
    let interval = edges(reference, current).fold((0f64, 0f64), |(low, high), (r, c)| {
        let rates = TwoRates::new(r, c);
        let (least, most) = (rates.difference_at_least(each), rates.difference_at_most(each));
        (low.max(least).max(-most), high.max(most).max(-least))
    });
    Some(interval)
}

/// Totals of both sides.
fn comparable(reference: &[u64], current: &[u64]) -> Option<(u64, u64)> {
    let total = |bins: &[u64]| bins.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
    let (n, m) = (total(reference), total(current));
    (reference.len() == current.len() && n > 0 && m > 0).then_some((n, m))
}

/// At each edge between bins: how many lie below it, of how many.
fn edges(reference: &[u64], current: &[u64]) -> impl Iterator<Item = (Counts, Counts)> {
    let cumulative = |bins: &[u64]| {
        let total = bins.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let below = bins.iter().scan(0u64, |sum, count| {
            *sum = sum.saturating_add(*count);
            Some(*sum)
        });
        below.map(|below| Counts::of(below, total)).take(bins.len().saturating_sub(1)).collect::<Vec<_>>()
    };
    cumulative(reference).into_iter().zip(cumulative(current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_zero_for_the_same_shape_and_grow_with_the_distance() {
        let reference = [100, 200, 300, 200, 100];
        let doubled = reference.map(|count| count * 2);
        assert!(psi(&reference, &doubled).unwrap() < 1e-3);
        assert!(ks_distance(&reference, &doubled).unwrap() < 1e-12);
        let (near, far) = ([100, 180, 300, 220, 100], [0, 100, 200, 300, 300]);
        assert!(psi(&reference, &near).unwrap() < 0.1);
        assert!(psi(&reference, &far).unwrap() > 0.3);
        assert!((ks_distance(&[1, 0], &[0, 1]).unwrap() - 1.0).abs() < 1e-12);
        assert!((ks_distance(&[10, 0, 10], &[5, 5, 10]).unwrap() - 0.25).abs() < 1e-12);
    }

    #[test]
    fn nothing_to_compare_is_no_score() {
        for (reference, current) in [(&[][..], &[][..]), (&[1, 2], &[0, 0]), (&[1, 2], &[1, 2, 3])] {
            assert_eq!(psi(reference, current), None);
            assert_eq!(ks_distance(reference, current), None);
            assert_eq!(ks_interval(reference, current, 0.05), None);
        }
        assert_eq!(ks_distance(&[7], &[3]), Some(0.0), "one bin cannot move");
    }

    #[test]
    fn a_high_score_from_few_samples_is_not_shown_to_be_drift() {
        let (reference, few) = ([1000; 10], [1, 0, 0, 1, 0, 0, 0, 2, 0, 1]);
        assert!(psi(&reference, &few).unwrap() > 0.3, "the score alone would cry wolf");
        let (low, high) = ks_interval(&reference, &few, 0.05).unwrap();
        assert!(low < 0.1 && high > 0.3, "{low} {high}");
        let (low, _) = ks_interval(&[500, 500, 0, 0], &[0, 0, 500, 500], 0.05).unwrap();
        assert!(low > 0.8, "{low}");
    }
}
