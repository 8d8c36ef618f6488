//! Canary: traffic grows step by step, each step on evidence.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::reader::Reader;
use super::stages::{KEEP_PREVIOUS, MAX_SAMPLES, Stages, WEEK};

/// The new version takes a growing share; it must be shown good enough on each step before the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    pub stages: Stages,
    /// The candidate's share on each step, in percent: growing, the last is 100.
    pub steps: Vec<u32>,
    /// How long a step may go without a verdict before the rollout is rolled back.
    pub progress_deadline: SignedDuration,
}

const DEFAULT_STEPS: [u32; 4] = [10, 25, 50, 100];
const DEFAULT_PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_hours(1);

impl Canary {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut stages = Stages::read(reader, KEEP_PREVIOUS);
        let steps = read_steps(reader);
        let earliest = stages.monitoring_duration;
        let deadline = reader.duration("progressDeadline", earliest, WEEK);
        if let Some(samples) = reader.count("minimumSamples", 1, MAX_SAMPLES) {
            stages.thresholds.minimum_samples = samples;
        }
        // Each step starts counting afresh; the last one is the switch with its watch.
        stages.thresholds.windows = u32::try_from(steps.len()).unwrap_or(u32::MAX).max(1);
        let progress_deadline = deadline.unwrap_or(DEFAULT_PROGRESS_DEADLINE.max(earliest * 2));
        Self { stages, steps, progress_deadline }
    }

    /// The candidate's share of the traffic on a step, in percent; past the last step it is the whole.
    pub fn share_of_step(&self, step: usize) -> u32 {
        self.steps.get(step).copied().unwrap_or(100)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = self.stages.to_json(KEEP_PREVIOUS);
        json["steps"] = json!(self.steps);
        json["progressDeadline"] = json!(self.progress_deadline.to_string());
        json["minimumSamples"] = json!(self.stages.thresholds.minimum_samples);
        json
    }
}

/// `steps`, or `canaryPercentage` (also `initialPercentage`) and `incrementStep`.
fn read_steps(reader: &mut Reader<'_>) -> Vec<u32> {
    let listed = reader.get("steps");
    let named = reader.count("canaryPercentage", 1, 100);
    let alias = reader.count("initialPercentage", 1, 100);
    let increment = reader.count("incrementStep", 1, 100);
    if named.is_some() && alias.is_some() {
        reader.fault("initialPercentage", "the same as canaryPercentage; give one of them");
    }
    let first = named.or(alias);
    if let Some(listed) = listed {
        for (key, given) in [("canaryPercentage", first.is_some()), ("incrementStep", increment.is_some())] {
            if given {
                reader.fault(key, "not beside steps; give one or the other");
            }
        }
        return read_list(reader, listed);
    }
    let first = first.unwrap_or(u64::from(DEFAULT_STEPS[0]));
    let percent = |share: u64| u32::try_from(share.min(100)).unwrap_or(100);
    match increment {
        None => std::iter::once(percent(first))
            .chain(DEFAULT_STEPS.into_iter().filter(|step| u64::from(*step) > first))
            .collect(),
        Some(increment) => {
            let growing = (first..100).step_by(usize::try_from(increment).unwrap_or(usize::MAX));
            growing.map(percent).chain([100]).collect()
        }
    }
}

fn read_list(reader: &mut Reader<'_>, listed: &Value) -> Vec<u32> {
    let percent = |value: &Value| value.as_u64().filter(|share| (1..=100).contains(share));
    let shares: Option<Vec<u64>> = listed
        .as_array()
        .and_then(|list| list.iter().map(percent).collect())
        .filter(|list: &Vec<u64>| !list.is_empty() && list.windows(2).all(|pair| pair[0] < pair[1]));
    let Some(shares) = shares else {
        reader.fault("steps", format!("must be growing whole percentages from 1 to 100, got {listed}"));
        return DEFAULT_STEPS.to_vec();
    };
    let mut steps: Vec<u32> = shares.into_iter().filter_map(|share| u32::try_from(share).ok()).collect();
    if steps.last() != Some(&100) {
        steps.push(100);
    }
    steps
}
