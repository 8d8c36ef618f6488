//! Shadow: the new version runs copies of requests; callers never meet it.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::route::BUCKETS;

use super::reader::Reader;
use super::stages::{KEEP_PREVIOUS, MAX_SAMPLES, Stages, WEEK};
use crate::analysis::ShadowConfig;

/// The new version answers copies, and its answers are compared with those that callers were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shadowing {
    pub stages: Stages,
    /// How many of the requests are copied, in percent.
    pub percentage: u32,
    /// Compared predictions before it may pass.
    pub comparison_samples: u64,
    /// The share of predictions that may differ.
    pub prediction_difference_threshold: f64,
    /// Whether a version that passed takes the traffic without being asked.
    pub auto_promote: bool,
    /// How long it may go without a verdict, and afterwards without a person's promotion.
    pub progress_deadline: SignedDuration,
}

const DEFAULT_COMPARISON_SAMPLES: u64 = 10_000;
const DEFAULT_DIFFERENCE: f64 = 0.1;
const DEFAULT_PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_hours(24);
const SHORTEST_DEADLINE: SignedDuration = SignedDuration::from_millis(1);

impl Shadowing {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let percentage = reader.count("shadowPercentage", 1, 100).unwrap_or(100);
        let deadline = reader.duration("progressDeadline", SHORTEST_DEADLINE, WEEK);
        Self {
            stages: Stages::read(reader, KEEP_PREVIOUS),
            percentage: u32::try_from(percentage).unwrap_or(100),
            comparison_samples: reader
                .count("comparisonSamples", 1, MAX_SAMPLES)
                .unwrap_or(DEFAULT_COMPARISON_SAMPLES),
            prediction_difference_threshold: reader
                .number("predictionDifferenceThreshold", 0.0, 1.0)
                .unwrap_or(DEFAULT_DIFFERENCE),
            auto_promote: reader.truth("autoPromote").unwrap_or(false),
            progress_deadline: deadline.unwrap_or(DEFAULT_PROGRESS_DEADLINE),
        }
    }

    /// Of [`BUCKETS`].
    pub fn weight(&self) -> u32 {
        self.percentage * (BUCKETS / 100)
    }

    /// How far its answers may be from those of the running version.
    pub fn limits(&self) -> ShadowConfig {
        let thresholds = &self.stages.thresholds;
        ShadowConfig {
            comparison_samples: self.comparison_samples,
            prediction_difference_threshold: self.prediction_difference_threshold,
            latency_increase: thresholds.latency_increase,
            error_rate_increase: thresholds.error_rate_increase,
            alpha: thresholds.alpha,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = self.stages.to_json(KEEP_PREVIOUS);
        json["shadowPercentage"] = json!(self.percentage);
        json["comparisonSamples"] = json!(self.comparison_samples);
        json["predictionDifferenceThreshold"] = json!(self.prediction_difference_threshold);
        json["autoPromote"] = json!(self.auto_promote);
        json["progressDeadline"] = json!(self.progress_deadline.to_string());
        json
    }
}
