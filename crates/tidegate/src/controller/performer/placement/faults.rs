//! Versions that should be loaded and do not load: why, and when to try again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tidegate_core::VersionId;
use tokio::time::Instant;

use super::PlaceError;

/// The first try again, and the longest wait after many: loading what cannot be loaded may cost gigabytes each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Faults(Mutex<HashMap<VersionId, Fault>>);

struct Fault {
    reason: String,
    pause: Duration,
    try_again_at: Instant,
}

impl Faults {
    /// Keeps the reason; logged where it is a new one.
    pub(super) fn note(&self, version: &VersionId, error: &PlaceError) {
        let reason = error.to_string();
        let mut faults = self.faults();
        let before = faults.get(version);
        if before.is_none_or(|fault| fault.reason != reason) {
            tracing::error!(%version, reason, "a version that should be loaded does not load; trying again");
        }
        let pause = before.map_or(FIRST_PAUSE, |fault| (fault.pause * 2).min(LONGEST_PAUSE));
        let try_again_at = Instant::now() + pause;
        faults.insert(version.clone(), Fault { reason, pause, try_again_at });
    }

    pub(super) fn forget(&self, version: &VersionId) {
        self.faults().remove(version);
    }

    pub(super) fn is_too_early(&self, version: &VersionId) -> bool {
        self.faults().get(version).is_some_and(|fault| Instant::now() < fault.try_again_at)
    }

    pub(super) fn reason(&self, version: &VersionId) -> Option<String> {
        self.faults().get(version).map(|fault| fault.reason.clone())
    }

    pub(super) fn retain(&self, keep: impl Fn(&VersionId) -> bool) {
        self.faults().retain(|version, _| keep(version));
    }

    fn faults(&self) -> MutexGuard<'_, HashMap<VersionId, Fault>> {
        self.0.lock().expect("never held across a panic")
    }
}
