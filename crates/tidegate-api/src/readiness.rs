//! Whether this process should get traffic. Set by the binary, shown by `/ready`.

use std::sync::atomic::{AtomicU8, Ordering};

/// Starts out as not ready.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

/// What stands between the process and traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The models that the routes name are still loading.
    Starting,
    Ready,
    /// Requests in flight finish; no new ones, please.
    Stopping,
}

impl Readiness {
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            phase if phase == Phase::Ready as u8 => Phase::Ready,
            phase if phase == Phase::Stopping as u8 => Phase::Stopping,
            _ => Phase::Starting,
        }
    }
}
