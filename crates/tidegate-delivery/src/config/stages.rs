//! What every strategy takes: the stages around its own way of moving traffic, and the limits of a verdict.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::reader::Reader;
use crate::analysis::{MOST_DRIFT, Thresholds};

/// The stages that every strategy shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// Predictions that must succeed before there is traffic.
    pub smoke_test_samples: u32,
    /// How long loading and warming up may take.
    pub warmup_duration: SignedDuration,
    /// How long the new version is watched: after a switch, or on each step.
    pub monitoring_duration: SignedDuration,
    /// How long the previous version stays loaded once the new one has all traffic and is no longer watched.
    pub keep_previous_duration: SignedDuration,
    /// Beyond which the new version is rolled back, whenever that is shown.
    pub thresholds: Thresholds,
}

/// Predictions of the candidate before it may pass a step.
const DEFAULT_MINIMUM_SAMPLES: u64 = 100;

impl Default for Stages {
    fn default() -> Self {
        Self {
            smoke_test_samples: 100,
            warmup_duration: SignedDuration::from_mins(2),
            monitoring_duration: SignedDuration::from_mins(5),
            keep_previous_duration: SignedDuration::from_mins(30),
            thresholds: Thresholds { minimum_samples: DEFAULT_MINIMUM_SAMPLES, ..Thresholds::default() },
        }
    }
}

pub(super) const WEEK: SignedDuration = SignedDuration::from_hours(24 * 7);
pub(super) const MAX_SAMPLES: u64 = 1_000_000_000;
const SHORTEST_WARMUP: SignedDuration = SignedDuration::from_millis(1);
const LONGEST_WARMUP: SignedDuration = SignedDuration::from_hours(1);
const MAX_SMOKE_TEST_SAMPLES: u64 = 100_000;

/// What most strategies call the time for which the previous version stays.
pub(super) const KEEP_PREVIOUS: &str = "keepPreviousDuration";

impl Stages {
    /// `keep_key`: what the strategy calls the time for which the previous version stays.
    pub(super) fn read(reader: &mut Reader<'_>, keep_key: &'static str) -> Self {
        Self::default().overridden(reader, keep_key)
    }

    /// The same defaults for versions that may predict otherwise.
    pub(super) fn without_drift() -> Self {
        let mut stages = Self::default();
        stages.thresholds.drift_score = MOST_DRIFT;
        stages
    }

    /// With what the configuration says instead.
    pub(super) fn overridden(self, reader: &mut Reader<'_>, keep_key: &'static str) -> Self {
        let mut stages = self;
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
        reader.object("rollbackThresholds", |reader| read_thresholds(reader, &mut stages.thresholds));
        stages
    }

    pub(super) fn to_json(&self, keep_key: &str) -> Value {
        json!({
            "smokeTestSamples": self.smoke_test_samples,
            "warmupDuration": self.warmup_duration.to_string(),
            "monitoringDuration": self.monitoring_duration.to_string(),
            keep_key: self.keep_previous_duration.to_string(),
            "rollbackThresholds": {
                "accuracyDrop": self.thresholds.accuracy_drop,
                "latencyIncrease": self.thresholds.latency_increase,
                "errorRateIncrease": self.thresholds.error_rate_increase,
                "driftScore": self.thresholds.drift_score,
                "customMetrics": self.thresholds.custom,
            },
        })
    }
}

fn read_thresholds(reader: &mut Reader<'_>, thresholds: &mut Thresholds) {
    if let Some(drop) = reader.number("accuracyDrop", 0.0, 1.0) {
        thresholds.accuracy_drop = drop;
    }
    if let Some(increase) = reader.number("latencyIncrease", 1.0, 1000.0) {
        thresholds.latency_increase = increase;
    }
    if let Some(increase) = reader.number("errorRateIncrease", 0.0, 1.0) {
        thresholds.error_rate_increase = increase;
    }
    if let Some(score) = reader.number("driftScore", 0.0, MOST_DRIFT) {
        thresholds.drift_score = score;
    }
    if let Some(custom) = reader.get("customMetrics") {
        match serde_json::from_value(custom.clone()) {
            Ok(custom) => thresholds.custom = custom,
            Err(error) => {
                reader.fault("customMetrics", format!("{error}; write {{\"iou\": {{\"drop\": 0.05}}}}"))
            }
        }
    }
}
