//! A seeded stream of requests to two versions, looked at again and again.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use tidegate_core::values::Observed;
use tidegate_delivery::{ArmSummary, Thresholds};

/// How a version behaves.
#[derive(Clone, Copy)]
pub struct Behaviour {
    pub error_rate: f64,
    pub accuracy: f64,
    /// Of a log-normal latency with sigma 0.5: the 95th percentile is 2.3 times as long. 0 where nobody asks for it.
    pub median_us: f64,
    /// What the user measures of each answer.
    pub metric: Values,
    pub predicts: Predicts,
}

/// A service as they are, with the accuracy (IoU) of the banepa model.
pub const USUAL: Behaviour = Behaviour {
    error_rate: 0.01,
    accuracy: 0.777,
    median_us: 20_000.0,
    metric: Values::None,
    predicts: Predicts::Nothing,
};

/// Distributions of a user's metric, by their mean.
#[derive(Clone, Copy)]
pub enum Values {
    None,
    /// From 0 to 1, as an IoU is: a power of a uniform number.
    Share(f64),
    /// With a standard deviation of a fifth of 1.
    Normal(f64),
    /// Nothing in 19 of 20 cases, otherwise log-normal with sigma 1: as orders are.
    Orders(f64),
}

/// Distributions of predictions.
#[derive(Clone, Copy)]
pub enum Predicts {
    Nothing,
    /// Class 1 in this share, class 0 otherwise.
    Class1(f64),
    /// Numbers spread evenly over two octaves in this share, over the next two otherwise.
    LowerHalf(f64),
}

#[derive(Clone, Copy)]
pub struct World {
    pub baseline: Behaviour,
    pub candidate: Behaviour,
    /// The candidate's part of the traffic.
    pub share: f64,
    /// Whether ground truth arrives.
    pub labels: bool,
}

pub type Rng = Xoshiro256PlusPlus;

/// The metric of [`Behaviour::metric`], and the output of [`Behaviour::predicts`].
pub const METRIC: &str = "metric";
pub const OUTPUT: &str = "output";

/// Thresholds with only one metric judged, that one being the least favourable case of a world.
pub fn only(limit: impl FnOnce(&mut Thresholds)) -> Thresholds {
    let mut thresholds = Thresholds {
        accuracy_drop: 1.0,
        error_rate_increase: 1.0,
        latency_increase: f64::INFINITY,
        drift_score: 8.0,
        minimum_samples: 1,
        ..Thresholds::default()
    };
    limit(&mut thresholds);
    thresholds
}

/// Looks after `first`, and whenever there are `growth` times as many as at the last look, up to `horizon`.
#[derive(Clone, Copy)]
pub struct Looks {
    pub first: u64,
    pub growth: f64,
    pub horizon: u64,
}

impl Looks {
    /// Sends one request after the other and looks, until `look` breaks off.
    pub fn at<S>(self, state: &mut S, mut send: impl FnMut(&mut S), mut look: impl FnMut(&S) -> Option<()>) {
        let mut next_look = self.first;
        for sent in 1..=self.horizon {
            send(state);
            if sent == next_look {
                next_look = (sent + 1).max((sent as f64 * self.growth) as u64);
                if look(state).is_none() {
                    return;
                }
            }
        }
    }
}

/// Sends requests and looks at both arms.
pub fn watch(
    world: &World,
    seed: u64,
    looks: Looks,
    mut look: impl FnMut(&ArmSummary, &ArmSummary) -> Option<()>,
) {
    let mut rng = Rng::seed_from_u64(seed);
    let mut arms = (ArmSummary::default(), ArmSummary::default());
    let send = |arms: &mut (ArmSummary, ArmSummary)| {
        let (arm, behaviour) = match rng.random::<f64>() < world.share {
            true => (&mut arms.1, world.candidate),
            false => (&mut arms.0, world.baseline),
        };
        answer(arm, behaviour, world.labels, &mut rng);
    };
    looks.at(&mut arms, send, |(baseline, candidate)| look(baseline, candidate));
}

fn answer(arm: &mut ArmSummary, behaviour: Behaviour, labels: bool, rng: &mut Rng) {
    arm.requests += 1;
    if rng.random::<f64>() < behaviour.error_rate {
        arm.failures += 1;
        return;
    }
    if behaviour.median_us > 0.0 {
        arm.latency.record(latency_us(behaviour.median_us, rng));
    }
    if labels {
        arm.labelled += 1;
        arm.correct += u64::from(rng.random::<f64>() < behaviour.accuracy);
    }
    if let Some(value) = behaviour.metric.draw(rng) {
        arm.metrics.entry(METRIC.to_owned()).or_default().record(value);
    }
    if let Some(observed) = behaviour.predicts.draw(rng) {
        arm.predictions.outputs.entry(OUTPUT.to_owned()).or_default().record(observed);
    }
}

pub const LATENCY_SIGMA: f64 = 0.5;

pub fn latency_us(median_us: f64, rng: &mut Rng) -> u64 {
    (median_us * (LATENCY_SIGMA * normal(rng)).exp()) as u64
}

/// Box and Muller: a normal deviate from two uniform ones.
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}

impl Values {
    pub const NORMAL_DEVIATION: f64 = 0.2;
    const SHARE_OF_ORDERS: f64 = 0.05;

    fn draw(self, rng: &mut Rng) -> Option<f64> {
        Some(match self {
            Self::None => return None,
            Self::Share(mean) => Self::share(mean, rng.random()),
            Self::Normal(mean) => mean + Self::NORMAL_DEVIATION * normal(rng),
            Self::Orders(mean) => match rng.random::<f64>() < Self::SHARE_OF_ORDERS {
                true => mean / Self::SHARE_OF_ORDERS * (normal(rng) - 0.5).exp(),
                false => 0.0,
            },
        })
    }

    /// The value below which a share `u` lies.
    pub fn share(mean: f64, u: f64) -> f64 {
        u.powf((1.0 - mean) / mean)
    }
}

impl Predicts {
    fn draw(self, rng: &mut Rng) -> Option<Observed> {
        Some(match self {
            Self::Nothing => return None,
            Self::Class1(share) => Observed::Class(usize::from(rng.random::<f64>() < share)),
            Self::LowerHalf(share) => {
                let half = if rng.random::<f64>() < share { 0.0 } else { 2.0 };
                Observed::Number((half + 2.0 * rng.random::<f64>()).exp2())
            }
        })
    }
}
