//! Whether there is room for the new version beside the one that serves.

use tidegate_core::Version;
use tidegate_delivery::Check;
use tidegate_serve::{Slot, memory};

use super::{Performer, at_most, mebibytes};

impl Performer {
    /// Before it is loaded: a model takes at least the size of its file. Better refused than killed by the system, which
    /// would take the running version along.
    pub(super) fn has_room_for(&self, version: &Version) -> Result<(), String> {
        if self.server.slot(&version.id).is_some() {
            return Ok(());
        }
        self.has_room("the version's file", version.primary.size_bytes)
    }

    /// For one more model from a file of that size; `what` it is, in words.
    pub(super) fn has_room(&self, what: &str, file: u64) -> Result<(), String> {
        let limit = self.limits.memory_limit_bytes;
        let (Some(limit), Some(resident)) = (limit, memory::resident_bytes()) else { return Ok(()) };
        if resident.saturating_add(file) <= limit {
            return Ok(());
        }
        Err(format!(
            "this server holds {} and {what} has {}, so they do not fit into {} \
             (runtime.memory_limit_mib); retire what is no longer needed, or give the server more",
            mebibytes(resident),
            mebibytes(file),
            mebibytes(limit)
        ))
    }

    /// Once it is loaded.
    pub(super) fn check_memory(&self, slot: &Slot) -> Check {
        let Some(bytes) = slot.resident_bytes() else {
            return Check::new("memory", Ok("not measured: this system does not say".to_owned()));
        };
        let check = at_most("memory", "the loaded version", bytes, self.limits.max_memory_bytes);
        match (self.limits.memory_limit_bytes, memory::resident_bytes()) {
            (Some(limit), Some(resident)) if resident > limit => {
                let fault = format!(
                    "with it loaded, this server holds {} of at most {} (runtime.memory_limit_mib): the two versions \
                     do not fit",
                    mebibytes(resident),
                    mebibytes(limit)
                );
                Check { passed: false, detail: fault, ..check }
            }
            _ => check,
        }
    }
}
