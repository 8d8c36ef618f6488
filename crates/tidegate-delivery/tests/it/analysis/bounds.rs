//! The fewest samples that any method could need, to hold ours against.
//!
//! A method that is wrong with probability alpha at most, whatever the truth, and that decides with certainty, needs on average
//! at least ln(1/alpha) / K samples, where K is the information of one sample against the nearest truth under which the
//! decision would be wrong (Wald 1945, "Sequential tests of statistical hypotheses"; Honda & Takemura 2010, "An
//! asymptotically optimal bandit algorithm for bounded support models", for what is only known to be bounded). Here a sample
//! is one of the candidate with the `ratio` of the running version's that come along.

use statrs::distribution::{ContinuousCDF, Normal};

use super::world::{LATENCY_SIGMA, Values};

const ALPHA: f64 = 0.05;

/// Samples, from the information of one.
pub fn fewest(nats: f64) -> f64 {
    -ALPHA.ln() / nats
}

/// Of two rates against those with `to` = `limit`(`from`), a growing linear function, at most 1 up to `most`.
pub fn two_rates(from: f64, to: f64, ratio: f64, most: f64, limit: impl Fn(f64) -> f64) -> f64 {
    minimum(0.0, most, |p| ratio * kl(from, p) + kl(to, limit(p)))
}

pub fn one_rate(seen: f64, limit: f64) -> f64 {
    kl(seen, limit)
}

/// Of log-normal latencies with medians 1 and `slower`, against a factor of `limit` on some quantile, for a method that
/// knows nothing of their shape.
pub fn latencies(slower: f64, limit: f64, ratio: f64) -> f64 {
    let normal = Normal::new(0.0, 1.0).expect("a normal distribution");
    let below = |ln_x: f64, ln_median: f64| normal.cdf((ln_x - ln_median) / LATENCY_SIGMA);
    [0.5, 0.95].into_iter().fold(0.0, |most, q| {
        let at = |ln_x: f64| ratio * kl(below(ln_x, 0.0), q) + kl(below(ln_x + limit.ln(), slower.ln()), q);
        f64::max(most, minimum(-2.0, 4.0, at))
    })
}

/// Of two normal means, against those with `to` = `limit` x `from`, for a method that knows their deviation.
pub fn normal_means(from: f64, to: f64, limit: f64, ratio: f64) -> f64 {
    (to - limit * from).powi(2) / (2.0 * Values::NORMAL_DEVIATION.powi(2) * (1.0 + limit * limit / ratio))
}

/// Of [`Values::Share`], against means with `to` = `limit` x `from`, for a method that knows only that they are from 0 to 1.
pub fn shares(from: f64, to: f64, limit: f64, ratio: f64) -> f64 {
    const N_VALUES: u32 = 200;
    let values = |mean: f64| {
        (0..N_VALUES)
            .map(|i| Values::share(mean, (f64::from(i) + 0.5) / f64::from(N_VALUES)))
            .collect::<Vec<_>>()
    };
    let (from_values, to_values) = (values(from), values(to));
    minimum(to, from, |mean| ratio * bounded(&from_values, mean) + bounded(&to_values, limit * mean))
}

/// The least divergence of numbers from 0 to 1 from any with this mean.
fn bounded(values: &[f64], mean: f64) -> f64 {
    let is_above = values.iter().sum::<f64>() / values.len() as f64 > mean;
    let (mirror, mean) = if is_above { (1.0, 1.0 - mean) } else { (0.0, mean) };
    let gain = |bet: f64| {
        let sum: f64 = values.iter().map(|x| (1.0 - bet * ((mirror - x).abs() - mean)).ln()).sum();
        -sum / values.len() as f64
    };
    -minimum(0.0, 1.0 / (1.0 - mean), gain)
}

/// Of the shares of two classes, against a drift of `limit`.
pub fn two_classes(from: f64, to: f64, limit: f64, ratio: f64) -> f64 {
    let drifted = |p: f64| match to > from {
        true => drifted(p, limit),
        false => 1.0 - drifted(1.0 - p, limit),
    };
    minimum(1e-9, 1.0 - 1e-9, |p| ratio * kl(from, p) + kl(to, drifted(p)))
}

/// Of predictions that are alike, against a drift of `limit`: the candidate's might be something else altogether now and
/// then.
pub fn no_drift(limit: f64) -> f64 {
    -2.0 * (1.0 - limit / 8.0).ln()
}

/// The larger share with this drift score from `share`; 1 where there is none.
pub fn drifted(share: f64, score: f64) -> f64 {
    let distance = |to: f64| 8.0 * (1.0 - (share * to).sqrt() - ((1.0 - share) * (1.0 - to)).sqrt());
    let (mut low, mut high) = (share, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if distance(middle) >= score { high = middle } else { low = middle }
    }
    high
}

/// Of a trial with probability `p` against `q`.
fn kl(p: f64, q: f64) -> f64 {
    let term = |p: f64, q: f64| if p == 0.0 { 0.0 } else { p * (p / q).ln() };
    term(p, q) + term(1.0 - p, 1.0 - q)
}

/// Of a function with one valley.
fn minimum(mut low: f64, mut high: f64, of: impl Fn(f64) -> f64) -> f64 {
    for _ in 0..60 {
        let (a, b) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if of(a) < of(b) { high = b } else { low = a }
    }
    of(0.5 * (low + high))
}
