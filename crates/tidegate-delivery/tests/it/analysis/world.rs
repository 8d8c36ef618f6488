//! A seeded stream of requests to two versions, looked at again and again.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use tidegate_delivery::{ArmSummary, Thresholds};

/// How a version behaves.
#[derive(Clone, Copy)]
pub struct Behaviour {
    pub error_rate: f64,
    pub accuracy: f64,
    /// Of a log-normal latency with sigma 0.5: the 95th percentile is 2.3 times as long. 0 where nobody asks for it.
    pub median_us: f64,
}

/// A service as they are, with the accuracy (IoU) of the banepa model.
pub const USUAL: Behaviour = Behaviour { error_rate: 0.01, accuracy: 0.777, median_us: 20_000.0 };

#[derive(Clone, Copy)]
pub struct World {
    pub baseline: Behaviour,
    pub candidate: Behaviour,
    /// The candidate's part of the traffic.
    pub share: f64,
    /// Whether ground truth arrives.
    pub labels: bool,
}

/// Thresholds with only one metric judged, that one being the least favourable case of a world.
pub fn only(limit: impl FnOnce(&mut Thresholds)) -> Thresholds {
    let mut thresholds = Thresholds {
        accuracy_drop: 1.0,
        error_rate_increase: 1.0,
        latency_increase: f64::INFINITY,
        minimum_samples: 1,
        ..Thresholds::default()
    };
    limit(&mut thresholds);
    thresholds
}

/// Sends `horizon` requests and looks after `first`, and whenever there are `growth` times as many as at the last look,
/// until `look` breaks off.
pub fn watch(
    world: &World,
    seed: u64,
    (first, growth, horizon): (u64, f64, u64),
    mut look: impl FnMut(&ArmSummary, &ArmSummary) -> Option<()>,
) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut baseline, mut candidate) = (ArmSummary::default(), ArmSummary::default());
    let mut next_look = first;
    for sent in 1..=horizon {
        let (arm, behaviour) = match rng.random::<f64>() < world.share {
            true => (&mut candidate, world.candidate),
            false => (&mut baseline, world.baseline),
        };
        answer(arm, behaviour, world.labels, &mut rng);
        if sent == next_look {
            next_look = (sent + 1).max((sent as f64 * growth) as u64);
            if look(&baseline, &candidate).is_none() {
                return;
            }
        }
    }
}

fn answer(arm: &mut ArmSummary, behaviour: Behaviour, labels: bool, rng: &mut Xoshiro256PlusPlus) {
    arm.requests += 1;
    if rng.random::<f64>() < behaviour.error_rate {
        arm.failures += 1;
        return;
    }
    if behaviour.median_us > 0.0 {
        // Box and Muller: a normal deviate from two uniform ones.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * rng.random::<f64>()).cos();
        arm.latency.record((behaviour.median_us * (0.5 * normal).exp()) as u64);
    }
    if labels {
        arm.labelled += 1;
        arm.correct += u64::from(rng.random::<f64>() < behaviour.accuracy);
    }
}
