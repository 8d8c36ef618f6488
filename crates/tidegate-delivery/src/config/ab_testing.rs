//! ABTesting: two versions side by side until one has won, or the time is up.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tidegate_core::route::BUCKETS;
use tidegate_core::{HeaderName, InvalidStickyBy, StickyBy};

use super::reader::Reader;
use super::stages::{KEEP_PREVIOUS, MAX_SAMPLES, Stages};
use crate::analysis::ab::{AbConfig, AbMetric};

/// Callers are assigned to a version and stay there; the better version takes everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AbTesting {
    pub stages: Stages,
    /// The candidate's share, of [`BUCKETS`].
    pub weight: u32,
    /// What makes a winner.
    pub comparison: AbConfig,
    /// After which there is no winner, and the previous version stays.
    pub duration: SignedDuration,
    pub sticky_by: StickyBy,
}

const DEFAULT_DURATION: SignedDuration = SignedDuration::from_hours(24 * 7);
const SHORTEST_DURATION: SignedDuration = SignedDuration::from_millis(1);
const LONGEST_DURATION: SignedDuration = SignedDuration::from_hours(24 * 90);

impl AbTesting {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        // Versions that predict otherwise are what such a test is for, and the answers to one caller have much in common.
        let mut stages = Stages::without_drift().overridden(reader, KEEP_PREVIOUS);
        // The comparison, and the watch after the switch.
        stages.thresholds.windows = 2;
        let mut comparison = AbConfig::default();
        if let Some(samples) = reader.count("minimumSamples", 1, MAX_SAMPLES) {
            comparison.minimum_samples = samples;
        }
        if let Some(level) = reader.number("significanceLevel", 0.0001, 0.5) {
            comparison.significance_level = level;
        }
        if let Some(metric) = reader.word("primaryMetric", &["accuracy", "latency"]) {
            comparison.metric = if metric == "latency" { AbMetric::Latency } else { AbMetric::Accuracy };
        }
        Self {
            stages,
            weight: weight(reader.number("splitRatio", 0.01, 0.99).unwrap_or(0.5)),
            comparison,
            duration: reader
                .duration("duration", SHORTEST_DURATION, LONGEST_DURATION)
                .unwrap_or(DEFAULT_DURATION),
            sticky_by: read_sticky_by(reader).unwrap_or_default(),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = self.stages.to_json(KEEP_PREVIOUS);
        json["splitRatio"] = json!(f64::from(self.weight) / f64::from(BUCKETS));
        json["minimumSamples"] = json!(self.comparison.minimum_samples);
        json["significanceLevel"] = json!(self.comparison.significance_level);
        json["primaryMetric"] = json!(self.comparison.metric);
        json["duration"] = json!(self.duration.to_string());
        json["stickyBy"] = json!(self.sticky_by.to_string().to_lowercase());
        json
    }
}

/// A word, or a header's name: `"header:x-user"` or `{"header": "x-user"}`.
fn read_sticky_by(reader: &mut Reader<'_>) -> Option<StickyBy> {
    let value = reader.get("stickyBy")?;
    let read = match value.as_str() {
        Some(word) => word.parse(),
        None => {
            match value.as_object().filter(|object| object.len() == 1).and_then(|one| one.get("header")) {
                Some(Value::String(name)) => HeaderName::parse(name).map(StickyBy::Header),
                _ => Err(InvalidStickyBy::Unknown(value.to_string())),
            }
        }
    };
    read.map_err(|fault| reader.fault("stickyBy", fault.to_string())).ok()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a ratio below 1 of ten thousand"
)]
fn weight(ratio: f64) -> u32 {
    (ratio * f64::from(BUCKETS)).round() as u32
}
