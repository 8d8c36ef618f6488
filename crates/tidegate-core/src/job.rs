//! The words of a job: work that takes longer than a caller waits, such as a whole scene.

use serde::{Deserialize, Serialize};

use crate::model::text_enum;

text_enum! {
    /// Where a job stands. The last three are for good.
    JobStatus { Queued, Running, Succeeded, Failed, Cancelled }
}

impl JobStatus {
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}
