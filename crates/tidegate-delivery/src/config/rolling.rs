//! Rolling: replica by replica, each batch looked at before the next.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::reader::Reader;
use super::stages::{KEEP_PREVIOUS, Stages, WEEK};

/// The replicas move to the new version in batches; a batch must be healthy before the next one moves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rolling {
    pub stages: Stages,
    /// Replicas that move at once.
    pub batch_size: u32,
    /// How long a batch serves before it is looked at.
    pub wait_duration: SignedDuration,
    /// Looks that may find a replica unhealthy; one more rolls back.
    pub max_failures: u32,
    /// How long a batch may take to become healthy.
    pub progress_deadline: SignedDuration,
}

const DEFAULT_WAIT: SignedDuration = SignedDuration::from_mins(1);
const DEFAULT_MAX_FAILURES: u64 = 2;
const DEFAULT_PROGRESS_DEADLINE: SignedDuration = SignedDuration::from_hours(1);
const MAX_BATCH: u64 = 1000;
const MAX_FAILURES: u64 = 1000;

impl Rolling {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        let mut stages = Stages::read(reader, KEEP_PREVIOUS);
        // The replicas, and the watch after the last.
        stages.thresholds.windows = 2;
        let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        let wait_duration =
            reader.duration("waitDuration", SignedDuration::ZERO, WEEK).unwrap_or(DEFAULT_WAIT);
        let deadline = reader.duration("progressDeadline", wait_duration, WEEK);
        Self {
            stages,
            batch_size: small(reader.count("batchSize", 1, MAX_BATCH).unwrap_or(1)),
            wait_duration,
            max_failures: small(reader.count("maxFailures", 0, MAX_FAILURES).unwrap_or(DEFAULT_MAX_FAILURES)),
            progress_deadline: deadline.unwrap_or(DEFAULT_PROGRESS_DEADLINE.max(wait_duration * 2)),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut json = self.stages.to_json(KEEP_PREVIOUS);
        json["batchSize"] = json!(self.batch_size);
        json["waitDuration"] = json!(self.wait_duration.to_string());
        json["maxFailures"] = json!(self.max_failures);
        json["progressDeadline"] = json!(self.progress_deadline.to_string());
        json
    }
}
