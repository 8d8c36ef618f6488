//! `deployments.validation`: what a version must show before it gets traffic.

use anyhow::bail;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ValidationConfig {
    /// The largest file that may be deployed, in MiB.
    pub max_artifact_mib: u64,
    /// The most that a loaded version may take, in MiB.
    pub max_memory_mib: u64,
    /// Factor on the running version's latency on the validation sample.
    pub max_latency_ratio: f64,
    /// Share of the running version's accuracy on the validation sample.
    pub min_accuracy_ratio: f64,
    /// Share of the decisions that a version in another precision may change.
    pub max_changed_decisions: f64,
    /// How far a version in another precision may move numbers, relative to them.
    pub max_relative_rms: f64,
    /// How long the sample may take, in seconds; what has run by then is judged.
    pub max_duration_s: u64,
}

impl Default for ValidationConfig {
    fn default() -> Self {
        Self {
            max_artifact_mib: 2048,
            max_memory_mib: 4096,
            max_latency_ratio: 1.2,
            min_accuracy_ratio: 0.95,
            max_changed_decisions: 0.01,
            max_relative_rms: 0.05,
            max_duration_s: 120,
        }
    }
}

impl ValidationConfig {
    /// Refuses numbers that make no sense, by key.
    pub fn check(&self) -> anyhow::Result<()> {
        let ranges = [
            ("max_artifact_mib", self.max_artifact_mib as f64, 1.0, 1024.0 * 1024.0),
            ("max_memory_mib", self.max_memory_mib as f64, 1.0, 1024.0 * 1024.0),
            ("max_latency_ratio", self.max_latency_ratio, 1.0, 1000.0),
            ("min_accuracy_ratio", self.min_accuracy_ratio, 0.0, 1.0),
            ("max_changed_decisions", self.max_changed_decisions, 0.0, 1.0),
            ("max_relative_rms", self.max_relative_rms, 0.0, 1000.0),
            ("max_duration_s", self.max_duration_s as f64, 1.0, 86_400.0),
        ];
        for (key, value, min, max) in ranges {
            if !(min..=max).contains(&value) {
                bail!("configuration key `deployments.validation.{key}` is {value}; give {min} to {max}");
            }
        }
        Ok(())
    }
}
