//! Evidence against a claimed probability that may be looked at as often as one likes.
//!
//! For Bernoulli trials with probability `p`, the likelihood of what was seen under a mixture of other probabilities,
//! divided by its likelihood under `p`, is a non-negative martingale that starts at 1 (Robbins 1970, "Statistical methods
//! related to the law of the iterated logarithm"). By Ville's inequality (1939) it ever reaches 1/alpha with probability
//! at most alpha, however often and for whatever reason one looks. Mixed over beta distributions it has a closed form
//! that depends on the counts alone, so a look needs no memory of earlier looks.
//!
//! The product of the martingales of two independent arms is a martingale again, in whatever order their trials arrive.
//! [`super::rates`] and [`super::quantiles`] are made of such products.

use statrs::function::beta::ln_beta;
use statrs::function::gamma::ln_gamma;
use tidegate_core::{ArmSummary, Moments};

/// Bernoulli trials, or numbers from 0 to 1 of which each is that part of a hit: the evidence is valid for their mean, since
/// the likelihood ratio of a trial is convex in its hits, so that between 0 and 1 it is at most what a trial with the same
/// mean would have in expectation (Hoeffding 1963). Exact up to 2^53.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counts {
    pub hits: f64,
    pub misses: f64,
}

impl Counts {
    /// More hits than trials are taken for as many.
    pub fn of(hits: u64, trials: u64) -> Self {
        let hits = hits.min(trials);
        Self { hits: hits as f64, misses: (trials - hits) as f64 }
    }

    /// Of numbers from 0 to `maximum`; a mean outside is taken for the nearer end.
    pub fn of_mean(moments: &Moments, maximum: f64) -> Self {
        let trials = moments.count() as f64;
        let hits = trials * (moments.mean().unwrap_or(0.0) / maximum).clamp(0.0, 1.0);
        Self { hits, misses: trials - hits }
    }

    /// Failures as hits.
    pub fn of_errors(arm: &ArmSummary) -> Self {
        Self::of(arm.failures, arm.requests)
    }

    /// Right predictions as hits.
    pub fn of_accuracy(arm: &ArmSummary) -> Self {
        Self::of(arm.correct, arm.labelled)
    }

    pub fn trials(self) -> f64 {
        self.hits + self.misses
    }

    /// The share of hits; `None` without trials.
    pub fn rate(self) -> Option<f64> {
        (self.trials() > 0.0).then(|| self.hits / self.trials())
    }

    pub fn plus(self, other: Self) -> Self {
        Self { hits: self.hits + other.hits, misses: self.misses + other.misses }
    }

    pub fn mirrored(self) -> Self {
        Self { hits: self.misses, misses: self.hits }
    }

    /// ln p^hits (1-p)^misses, with 0 ln 0 = 0.
    pub fn ln_likelihood(self, p: f64) -> f64 {
        times_ln(self.hits, p) + times_ln(self.misses, 1.0 - p)
    }
}

/// A beta distribution, by its pseudo-counts (both above zero).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beta {
    pub hits: f64,
    pub misses: f64,
}

/// An even mixture of beta distributions, made ready for one number of trials.
#[derive(Clone, Debug)]
pub(crate) struct Mixture<const N: usize> {
    /// Each with what of its likelihood does not depend on the hits.
    parts: [(Beta, f64); N],
}

impl<const N: usize> Mixture<N> {
    pub fn new(parts: [Beta; N], trials: f64) -> Self {
        let constant = |beta: Beta| {
            let whole = beta.hits + beta.misses;
            -ln_beta(beta.hits, beta.misses) - ln_gamma(whole + trials) - (N as f64).ln()
        };
        Self { parts: parts.map(|beta| (beta, constant(beta))) }
    }

    /// ln of the likelihood of the counts, averaged over the mixture. They must be of the number of trials given.
    pub fn ln_likelihood(&self, counts: Counts) -> f64 {
        let terms = self.parts.iter().map(|(beta, constant)| {
            ln_gamma(beta.hits + counts.hits) + ln_gamma(beta.misses + counts.misses) + constant
        });
        terms.fold(f64::NEG_INFINITY, ln_sum)
    }
}

/// ln(e^a + e^b), without overflow.
pub(crate) fn ln_sum(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// What ln-evidence must reach before a claim is given up at level `alpha`.
pub(crate) fn needed(alpha: f64) -> f64 {
    -alpha.ln()
}

fn times_ln(weight: f64, x: f64) -> f64 {
    if weight == 0.0 { 0.0 } else { weight * x.ln() }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::*;

    const MIXTURE: [Beta; 2] = [Beta { hits: 0.5, misses: 0.5 }, Beta { hits: 2.0, misses: 30.0 }];

    /// A martingale's mean stays where it began: summed over all outcomes of n trials, weighted by their probability.
    #[test]
    fn the_mixture_is_a_probability_so_the_expected_evidence_is_one() {
        for n in [1u64, 2, 7, 40] {
            let mixture = Mixture::new(MIXTURE, n as f64);
            let mut binomial = 1.0;
            let mut total = 0.0;
            for hits in 0..=n {
                total += binomial * mixture.ln_likelihood(Counts::of(hits, n)).exp();
                binomial *= (n - hits) as f64 / (hits + 1) as f64;
            }
            assert!((total - 1.0).abs() < 1e-9, "{n} trials: {total}");
        }
    }

    /// Sharply, that is: looked at after each of 1,000 trials, the truth is refused in less than 5 % of runs, but not in so
    /// much less that samples are wasted.
    #[test]
    fn the_truth_is_refused_as_rarely_as_promised() {
        let (p, alpha, n_trials) = (0.5, 0.05, 1000u64);
        let around_p = [Beta { hits: 100.0 * p, misses: 100.0 * (1.0 - p) }];
        let mixtures: Vec<_> = (0..=n_trials).map(|n| Mixture::new(around_p, n as f64)).collect();
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut refused = |_: &u32| {
            let mut hits = 0;
            (1..=n_trials).any(|n| {
                hits += u64::from(rng.random::<f64>() < p);
                let counts = Counts::of(hits, n);
                mixtures[n as usize].ln_likelihood(counts) - counts.ln_likelihood(p) >= needed(alpha)
            })
        };
        let share = (0..1000).filter(|run| refused(run)).count() as f64 / 1000.0;
        assert!(share <= alpha && share > 0.01, "{share}");
    }

    #[test]
    fn nothing_seen_is_no_evidence_and_impossible_counts_do_no_harm() {
        let nothing = Counts::of(0, 0);
        assert_eq!(nothing.ln_likelihood(0.0), 0.0);
        assert!(Mixture::new(MIXTURE, 0.0).ln_likelihood(nothing).abs() < 1e-12);
        assert_eq!(Counts::of(9, 3), Counts { hits: 3.0, misses: 0.0 });
        assert_eq!(Counts::of(1, 2).ln_likelihood(0.0), f64::NEG_INFINITY);
    }
}
