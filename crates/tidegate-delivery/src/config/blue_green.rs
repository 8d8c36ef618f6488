//! BlueGreen: all traffic at once, the previous version warm beside it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::reader::Reader;
use super::stages::Stages;

/// What BlueGreen calls the time for which the previous version stays.
const KEEP_BLUE: &str = "keepBlueDuration";

/// The new version is tested without traffic, then takes all of it at once; the previous one stays warm for a while.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BlueGreen {
    pub stages: Stages,
}

impl BlueGreen {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self { stages: Stages::read(reader, KEEP_BLUE) }
    }

    pub(super) fn to_json(&self) -> Value {
        self.stages.to_json(KEEP_BLUE)
    }
}
