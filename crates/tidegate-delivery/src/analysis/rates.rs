//! Confidence sequences for two rates: how much larger one is, as a difference and as a ratio.
//!
//! The evidence against a pair (p of one arm, p of the other) is the likelihood of both arms' counts under a fixed mixture,
//! divided by their likelihood under the pair ([`super::evidence`]). The pairs against which it stays below 1/alpha are a
//! confidence set for all times at once; its largest difference or ratio bounds the true one, at every look, with
//! probability 1 - alpha. Taking the set's extreme, rather than one interval per arm and the union of their errors, is
//! what makes a small canary beside a large baseline cheap (Turner & Grünwald 2023, "Exact anytime-valid confidence
//! intervals for contingency tables and beyond"; the maximised denominator is the universal inference of Wasserman,
//! Ramdas & Balakrishnan 2020).
//!
//! Half of the mixture lets both arms have the same rate. That is the usual truth, and it learns one number, not two: a
//! version that is as good as the running one passes with a third fewer samples.

use super::evidence::{Beta, Counts, Mixture, ln_sum, needed};

/// Rates of services are near 0 (errors), near 1 (accuracy) or anywhere (Jeffreys' prior). Any choice is valid; this one
/// decides sooner where rates usually lie.
const MIXTURE: [Beta; 3] =
    [Beta { hits: 0.5, misses: 0.5 }, Beta { hits: 0.5, misses: 20.0 }, Beta { hits: 20.0, misses: 0.5 }];

/// Halvings of a bracket: the bound is then exact to about nine digits.
const N_HALVINGS: u32 = 40;

/// Doublings until a bracket is given up and the bound taken for the trivial one.
const N_DOUBLINGS: u32 = 100;

/// The counts of two arms, compared as `to` against `from`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwoRates {
    from: Counts,
    to: Counts,
    /// ln of the likelihood of both under the mixture.
    ln_mixture: f64,
}

impl TwoRates {
    pub fn new(from: Counts, to: Counts) -> Self {
        let ln_mixture = |counts: Counts| Mixture::new(MIXTURE, counts.trials()).ln_likelihood(counts);
        let apart = ln_mixture(from) + ln_mixture(to);
        let together = ln_mixture(from.plus(to));
        Self { from, to, ln_mixture: ln_sum(apart, together) - 2f64.ln() }
    }

    /// An upper bound of p(to) - p(from), at level `alpha` over all looks; 1 where nothing is known.
    pub fn difference_at_most(&self, alpha: f64) -> f64 {
        let needed = needed(alpha);
        // Along the edge of the convex confidence set, the pair with the steepest pull `m` towards a larger difference.
        let pair = |m: f64| (pulled(self.from, -m), pulled(self.to, m));
        let outside = |m: f64| self.ln_evidence(pair(m)) >= needed;
        let Some(m) = first_outside(outside, 0.0, 1.0) else { return 1.0 };
        let (from, to) = pair(m);
        to - from
    }

    /// A lower bound of p(to) - p(from); -1 where nothing is known.
    pub fn difference_at_least(&self, alpha: f64) -> f64 {
        -self.swapped().difference_at_most(alpha)
    }

    /// An upper bound of p(to) / p(from); infinite where nothing is known.
    pub fn ratio_at_most(&self, alpha: f64) -> f64 {
        let needed = needed(alpha);
        if self.from.hits == 0.0 {
            return f64::INFINITY;
        }
        let outside = |ratio: f64| self.ln_evidence(self.likeliest_with(ratio)) >= needed;
        let seen = self.to.rate().unwrap_or(0.0) / self.from.rate().unwrap_or(1.0);
        first_outside(outside, seen, seen.max(1e-3)).unwrap_or(f64::INFINITY)
    }

    /// A lower bound of p(to) / p(from); 0 where nothing is known.
    pub fn ratio_at_least(&self, alpha: f64) -> f64 {
        1.0 / self.swapped().ratio_at_most(alpha)
    }

    fn swapped(&self) -> Self {
        Self { from: self.to, to: self.from, ln_mixture: self.ln_mixture }
    }

    fn ln_evidence(&self, (from, to): (f64, f64)) -> f64 {
        self.ln_mixture - self.from.ln_likelihood(from) - self.to.ln_likelihood(to)
    }

    /// The likeliest pair with p(to) = ratio p(from): the smaller root of the quadratic that its score equation is
    /// (Koopman 1984, "Confidence intervals for the ratio of two binomial proportions").
    fn likeliest_with(&self, ratio: f64) -> (f64, f64) {
        let (from, to) = (self.from, self.to);
        let all = from.plus(to);
        let hits = all.hits;
        let b = hits * (1.0 + ratio) + from.misses + ratio * to.misses;
        let root = (b * b - 4.0 * ratio * all.trials() * hits).max(0.0).sqrt();
        let p = (2.0 * hits / (b + root)).min(1.0);
        (p, (ratio * p).min(1.0))
    }
}

/// An interval for one rate, each end at level `alpha` over all looks; 0 to 1 where nothing is known.
pub(crate) fn rate_within(counts: Counts, alpha: f64) -> (f64, f64) {
    let (high, low) = (rate_at_most(counts, alpha), rate_at_most(counts.mirrored(), alpha));
    (1.0 - low, high)
}

fn rate_at_most(counts: Counts, alpha: f64) -> f64 {
    let ln_mixture = Mixture::new(MIXTURE, counts.trials()).ln_likelihood(counts);
    let (mut low, mut high) = (counts.rate().unwrap_or(1.0), 1.0);
    for _ in 0..N_HALVINGS {
        let middle = low + (high - low) / 2.0;
        if ln_mixture - counts.ln_likelihood(middle) >= needed(alpha) { high = middle } else { low = middle }
    }
    high
}

/// The p that maximises `m` p + ln-likelihood: the observed rate for m = 0, drawn towards 1 or 0 by the sign of `m`.
fn pulled(counts: Counts, m: f64) -> f64 {
    if m < 0.0 {
        return 1.0 - pulled(counts.mirrored(), -m);
    }
    // The larger root of m p^2 + (n - m) p - hits = 0, in the form that does not cancel.
    let (hits, n) = (counts.hits, counts.trials());
    let b = n - m;
    let root = (b * b + 4.0 * m * hits).sqrt();
    match b > 0.0 {
        true => 2.0 * hits / (b + root),
        false if m > 0.0 => (root - b) / (2.0 * m),
        false => 0.5,
    }
}

/// Where a monotone condition begins to hold, from above, searched from `inside` in steps that double; `None` where it
/// never does.
fn first_outside(outside: impl Fn(f64) -> bool, inside: f64, step: f64) -> Option<f64> {
    let mut low = inside;
    let mut high = inside + step;
    let mut doublings = 0;
    while !outside(high) {
        doublings += 1;
        if doublings > N_DOUBLINGS {
            return None;
        }
        low = high;
        high = inside + (high - inside) * 2.0;
    }
    for _ in 0..N_HALVINGS {
        let middle = low + (high - low) / 2.0;
        if outside(middle) { high = middle } else { low = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn two(from: (u64, u64), to: (u64, u64)) -> TwoRates {
        TwoRates::new(Counts::of(from.0, from.1), Counts::of(to.0, to.1))
    }

    /// The same bounds by brute force over a grid of pairs.
    fn by_grid(rates: &TwoRates, alpha: f64, value: impl Fn(f64, f64) -> f64) -> f64 {
        let grid = || (1..500).map(|i| f64::from(i) / 500.0);
        grid()
            .flat_map(|from| grid().map(move |to| (from, to)))
            .filter(|pair| rates.ln_evidence(*pair) < needed(alpha))
            .map(|(from, to)| value(from, to))
            .fold(f64::NEG_INFINITY, f64::max)
    }

    #[test]
    fn the_closed_forms_agree_with_a_grid_of_pairs() {
        let check = |name: &str, closed: f64, grid: f64| {
            assert!(
                closed > grid - 1e-9 && closed < grid + 0.02 * grid.abs() + 4e-3,
                "{name}: {closed}, grid {grid}"
            );
        };
        for (from, to) in [((5, 40), (9, 20)), ((300, 400), (3, 40)), ((30, 30), (7, 9)), ((40, 90), (0, 10))]
        {
            let rates = two(from, to);
            let difference = by_grid(&rates, 0.05, |from, to| to - from);
            check("difference", rates.difference_at_most(0.05), difference);
            let ratio = by_grid(&rates, 0.05, |from, to| to / from);
            check("ratio", rates.ratio_at_most(0.05), ratio);
        }
    }

    #[test]
    fn without_trials_every_bound_is_the_trivial_one() {
        let nothing = two((0, 0), (0, 0));
        assert_eq!(nothing.difference_at_most(0.05), 1.0);
        assert_eq!(nothing.difference_at_least(0.05), -1.0);
        assert_eq!(nothing.ratio_at_most(0.05), f64::INFINITY);
        assert_eq!(nothing.ratio_at_least(0.05), 0.0);
        let one_sided = two((0, 0), (50, 50));
        assert!(one_sided.difference_at_least(0.05) <= 0.0, "an unseen baseline may have been as bad");
    }

    #[test]
    fn one_rate_is_enclosed_from_both_sides() {
        assert_eq!(rate_within(Counts::of(0, 0), 0.05), (0.0, 1.0));
        let (low, high) = rate_within(Counts::of(30, 1000), 0.05);
        assert!(low > 0.012 && low < 0.03 && high > 0.03 && high < 0.055, "{low} {high}");
        let (low, high) = rate_within(Counts::of(0, 1000), 0.05);
        assert!(low == 0.0 && high < 0.012, "{low} {high}");
        let (low, high) = rate_within(Counts::of(50, 50), 0.05);
        assert!(low > 0.85 && high == 1.0, "{low} {high}");
    }

    proptest! {
        #[test]
        fn bounds_enclose_what_was_seen_and_tighten_with_alpha(
            from in (0u64..500, 0u64..500), to in (0u64..500, 0u64..500), alpha in 0.001..0.5f64,
        ) {
            let rates = TwoRates::new(
                Counts::of(from.0, from.0 + from.1),
                Counts::of(to.0, to.0 + to.1),
            );
            if let (Some(from), Some(to)) = (rates.from.rate(), rates.to.rate()) {
                prop_assert!(rates.difference_at_least(alpha) <= to - from + 1e-9);
                prop_assert!(rates.difference_at_most(alpha) >= to - from - 1e-9);
                if from > 0.0 {
                    prop_assert!(rates.ratio_at_most(alpha) >= to / from - 1e-9);
                    prop_assert!(rates.ratio_at_least(alpha) <= to / from + 1e-9);
                }
            }
            prop_assert!(rates.difference_at_most(alpha / 2.0) >= rates.difference_at_most(alpha) - 1e-9);
            prop_assert!(rates.ratio_at_most(alpha / 2.0) >= rates.ratio_at_most(alpha) - 1e-9);
        }

        /// Counts that only broken bookkeeping could give still give numbers.
        #[test]
        fn no_count_is_too_large(a: u64, b: u64, c: u64, d: u64) {
            let rates = two((a, b), (c, d));
            prop_assert!(!rates.difference_at_most(0.05).is_nan());
            prop_assert!(!rates.ratio_at_most(0.05).is_nan());
        }
    }
}
