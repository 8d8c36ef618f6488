//! A confidence sequence for the ratio of two latency quantiles.
//!
//! "The q-quantile is x" says that trials "at most x?" hit with probability q, whatever the distribution of latencies: so
//! the evidence of [`super::evidence`] against q is evidence against x (Howard & Ramdas 2022, "Sequential estimation of
//! quantiles with applications to A/B testing and best-arm identification"). A ratio of quantiles is given up when the
//! product of both arms' evidence reaches 1/alpha at *every* place where the first quantile could lie. The true place is
//! one of them, so no error is spent on the search. Where both arms answered the same requests ([`Dependence::Paired`]), the
//! product of their evidence promises nothing, but its mean does. Counts below an edge are all that enters: a request that took an hour
//! weighs as much as one just over the line.

use super::evidence::{Beta, Counts, Mixture, ln_sum, needed};
use tidegate_core::latency::{Cumulative, N_BUCKETS, factor};

/// Pseudo-counts around q in half of the mixture: sharpest near a hundred samples of distance, by numerical comparison.
const CONCENTRATION: f64 = 100.0;

/// How the two arms' requests belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dependence {
    /// Each request met one of them, by chance.
    None,
    /// Each request met both.
    Paired,
}

impl Dependence {
    /// ln of the evidence of both, from that of each.
    fn join(self, a: f64, b: f64) -> f64 {
        match self {
            Self::None => a + b,
            Self::Paired => ln_sum(a, b) - std::f64::consts::LN_2,
        }
    }
}

/// An upper bound of quantile `q` of `to` divided by that of `from`, at level `alpha` over all looks; infinite where
/// nothing is known. Rounded up to whole buckets.
pub(crate) fn ratio_at_most(
    from: &Cumulative,
    to: &Cumulative,
    q: f64,
    alpha: f64,
    dependence: Dependence,
) -> f64 {
    let (from, to) = (Arm::new(from, q, Claim::AtLeast), Arm::new(to, q, Claim::AtMost));
    let mut pair = Pair::new(from, to, needed(alpha), dependence);
    let n_buckets = N_BUCKETS as i64;
    if !pair.refuses_from(n_buckets) {
        return f64::INFINITY;
    }
    // What was seen is never refused; beyond it, the first step that is.
    let mut low = pair.to.seen - pair.from.seen;
    let mut high = n_buckets;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if pair.refuses_from(middle) { high = middle } else { low = middle }
    }
    factor(high)
}

/// A lower bound, rounded down; 0 where nothing is known.
pub(crate) fn ratio_at_least(
    from: &Cumulative,
    to: &Cumulative,
    q: f64,
    alpha: f64,
    dependence: Dependence,
) -> f64 {
    1.0 / ratio_at_most(to, from, q, alpha, dependence)
}

struct Pair<'a> {
    from: Arm<'a>,
    to: Arm<'a>,
    needed: f64,
    dependence: Dependence,
    /// Were the quantile of `from` in an earlier bucket, `from` alone would refuse.
    first_of_from: i64,
    /// Were less than q of `to` at most in a later bucket, `to` alone would refuse.
    last_of_to: i64,
    /// Where a claim was last not refused; most likely the next one is not either.
    witness: i64,
}

impl<'a> Pair<'a> {
    fn new(mut from: Arm<'a>, mut to: Arm<'a>, needed: f64, dependence: Dependence) -> Self {
        let (alone_from, alone_to) = match dependence {
            Dependence::None => (needed + to.most_regret(), needed + from.most_regret()),
            Dependence::Paired => (needed + std::f64::consts::LN_2, needed + std::f64::consts::LN_2),
        };
        // Evidence is convex in the hits and not positive at q, so it grows with the distance once it is positive.
        let first_of_from = first_where(-1, from.seen, |j| from.evidence(j) < alone_from);
        let n_buckets = N_BUCKETS as i64;
        let last_of_to = match first_where(to.seen - 1, n_buckets, |j| to.evidence(j) >= alone_to) {
            never if never == n_buckets => i64::MAX / 2,
            first => first - 1,
        };
        let witness = from.seen;
        Self { from, to, needed, dependence, first_of_from, last_of_to, witness }
    }

    /// Whether "the quantile of `to` is `steps` or more buckets above that of `from`" is refused. It then lies in a
    /// bucket at most `steps - 1` above, so the ratio is below `factor(steps)`.
    fn refuses_from(&mut self, steps: i64) -> bool {
        // Were `from` in bucket j: a share of q or more of `from` is at most j, and at most q of `to` is below j + steps.
        let first = self.first_of_from.max(0);
        let last = (self.last_of_to + 1 - steps).min(N_BUCKETS as i64 - 1);
        let witness = Some(self.witness).filter(|j| (first..=last).contains(j));
        let place = witness.into_iter().chain(first..=last).find(|j| !self.refuses_at(*j, steps));
        self.witness = place.unwrap_or(self.witness);
        place.is_none()
    }

    fn refuses_at(&mut self, j: i64, steps: i64) -> bool {
        self.dependence.join(self.from.evidence(j), self.to.evidence(j + steps - 1)) >= self.needed
    }
}

/// What an arm holds evidence against.
#[derive(Clone, Copy)]
enum Claim {
    /// "A share of q or more is in bucket j or below."
    AtLeast,
    /// "A share of q or less is."
    AtMost,
}

/// One arm's evidence about where its quantile lies.
struct Arm<'a> {
    claim: Claim,
    q: f64,
    mixture: Mixture<2>,
    latencies: &'a Cumulative,
    /// The bucket of the observed quantile.
    seen: i64,
    /// By bucket; 0 until it is asked for, and most never are.
    evidence: Vec<f64>,
}

impl<'a> Arm<'a> {
    fn new(latencies: &'a Cumulative, q: f64, claim: Claim) -> Self {
        let needed = q * latencies.count as f64;
        let seen = latencies.at_most.partition_point(|below| (*below as f64) < needed) as i64;
        let around_q = Beta { hits: CONCENTRATION * q, misses: CONCENTRATION * (1.0 - q) };
        let mixture = Mixture::new([Beta { hits: 0.5, misses: 0.5 }, around_q], latencies.count as f64);
        Self { claim, q, mixture, latencies, seen, evidence: vec![0.0; N_BUCKETS] }
    }

    /// ln-evidence against the claim for bucket `j`, which may lie outside of the histogram.
    fn evidence(&mut self, j: i64) -> f64 {
        let bucket = match usize::try_from(j) {
            Ok(bucket) => bucket.min(N_BUCKETS - 1),
            Err(_) => return self.evidence_of(Counts::of(0, self.latencies.count)),
        };
        if self.evidence[bucket] == 0.0 {
            let counts = Counts::of(self.latencies.at_most[bucket], self.latencies.count);
            self.evidence[bucket] = self.evidence_of(counts);
        }
        self.evidence[bucket]
    }

    /// The mixture against the likeliest share that the claim allows.
    fn evidence_of(&self, counts: Counts) -> f64 {
        let Some(seen) = counts.rate() else { return 0.0 };
        let likeliest = match self.claim {
            Claim::AtLeast => seen.max(self.q),
            Claim::AtMost => seen.min(self.q),
        };
        self.mixture.ln_likelihood(counts) - counts.ln_likelihood(likeliest)
    }

    /// By how much evidence can fall below zero: the regret of Jeffreys' mixture is at most ln(n)/2 + ln 2 (Krichevsky &
    /// Trofimov 1981, "The performance of universal encoding"), and it is half of ours.
    fn most_regret(&self) -> f64 {
        let doubled = 2.0 * std::f64::consts::LN_2;
        match self.latencies.count {
            0 => 0.0,
            count => 0.5 * (count as f64).ln() + doubled,
        }
    }
}

/// The first of `low..high` from which a monotone condition holds, or `high`.
fn first_where(mut low: i64, mut high: i64, mut holds: impl FnMut(i64) -> bool) -> i64 {
    while low < high {
        let middle = low + (high - low).div_euclid(2);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::LatencyHistogram;
    use super::*;

    fn of(durations_us: &[u64]) -> Cumulative {
        let mut histogram = LatencyHistogram::default();
        durations_us.iter().for_each(|us| histogram.record(*us));
        histogram.cumulative()
    }

    #[test]
    fn too_few_samples_bound_nothing() {
        let many = of(&[1000; 10_000]);
        for few in [&[][..], &[1000], &[1000; 3], &[900_000_000; 3]] {
            assert_eq!(
                ratio_at_most(&many, &of(few), 0.95, 0.05, Dependence::None),
                f64::INFINITY,
                "{few:?}"
            );
            assert!(ratio_at_least(&of(few), &many, 0.95, 0.05, Dependence::None) < 1e-3, "{few:?}");
        }
        assert_eq!(ratio_at_most(&of(&[]), &of(&[]), 0.5, 0.05, Dependence::None), f64::INFINITY);
    }

    #[test]
    fn a_shift_by_whole_buckets_is_enclosed_to_the_bucket() {
        let (fast, slow) = (of(&[1 << 10; 5000]), of(&[1 << 11; 500]));
        let (low, high) = (
            ratio_at_least(&fast, &slow, 0.5, 0.05, Dependence::None),
            ratio_at_most(&fast, &slow, 0.5, 0.05, Dependence::None),
        );
        assert!(low < 2.0 && 2.0 < high && high / low < factor(3), "{low} {high}");
    }

    proptest! {
        /// Skipping the places where one arm alone refuses changes nothing.
        #[test]
        fn the_band_is_all_that_matters(
            from in prop::collection::vec(1u64..5000, 0..60),
            to in prop::collection::vec(1u64..5000, 0..60),
            repeat in 1usize..30,
            q in prop::sample::select(vec![0.5, 0.95]),
            steps in -200i64..400,
            dependence in prop::sample::select(vec![Dependence::None, Dependence::Paired]),
        ) {
            let (from, to) = (of(&from.repeat(repeat)), of(&to.repeat(repeat)));
            let (from, to) = (Arm::new(&from, q, Claim::AtLeast), Arm::new(&to, q, Claim::AtMost));
            let mut pair = Pair::new(from, to, needed(0.05), dependence);
            let everywhere = (0..N_BUCKETS as i64).all(|j| pair.refuses_at(j, steps));
            prop_assert_eq!(pair.refuses_from(steps), everywhere);
        }
    }
}
