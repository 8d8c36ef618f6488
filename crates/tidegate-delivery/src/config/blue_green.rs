//! BlueGreen: all traffic at once, the previous version warm beside it.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Stages;
use super::reader::Reader;

/// The new version is tested without traffic, then takes all of it at once; the previous one stays warm for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlueGreen {
    pub stages: Stages,
}

const SHORTEST_WARMUP: SignedDuration = SignedDuration::from_millis(1);
const LONGEST_WARMUP: SignedDuration = SignedDuration::from_hours(1);
pub(super) const WEEK: SignedDuration = SignedDuration::from_hours(24 * 7);
const MAX_SMOKE_TEST_SAMPLES: u64 = 100_000;

impl BlueGreen {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { stages: Stages::read(reader, "keepBlueDuration") }
    }

    pub(super) fn to_json(self) -> Value {
        self.stages.to_json("keepBlueDuration")
    }
}

impl Stages {
    /// `keep_key`: what the strategy calls the time for which the previous version stays.
    pub(super) fn read(reader: &mut Reader<'_>, keep_key: &'static str) -> Self {
        let mut stages = Self::default();
        if let Some(samples) = reader.count("smokeTestSamples", 0, MAX_SMOKE_TEST_SAMPLES) {
            stages.smoke_test_samples = u32::try_from(samples).unwrap_or(u32::MAX);
        }
        let fields = [
            ("warmupDuration", SHORTEST_WARMUP, LONGEST_WARMUP, &mut stages.warmup_duration),
            ("monitoringDuration", SignedDuration::ZERO, WEEK, &mut stages.monitoring_duration),
            (keep_key, SignedDuration::ZERO, WEEK, &mut stages.keep_previous_duration),
        ];
        for (key, min, max, field) in fields {
            if let Some(duration) = reader.duration(key, min, max) {
                *field = duration;
            }
        }
        stages
    }

    pub(super) fn to_json(self, keep_key: &str) -> Value {
        json!({
            "smokeTestSamples": self.smoke_test_samples,
            "warmupDuration": self.warmup_duration.to_string(),
            "monitoringDuration": self.monitoring_duration.to_string(),
            keep_key: self.keep_previous_duration.to_string(),
        })
    }
}
