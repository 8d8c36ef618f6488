//! Whether this process should get traffic. Set by the binary, shown by `/ready`.

use tokio::sync::watch;

/// Starts out as not ready.
#[derive(Debug)]
pub struct Readiness(watch::Sender<Phase>);

/// What stands between the process and traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The models that the routes name are still loading.
    Starting,
    Ready,
    /// Requests in flight finish; no new ones, please.
    Stopping,
}

impl Default for Readiness {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl Readiness {
    pub fn set(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    /// Waits until the models that the routes name are loaded (or the process is about to end).
    pub(crate) async fn started(&self) {
        let _ = self.0.subscribe().wait_for(|phase| *phase != Phase::Starting).await;
    }

    /// Waits until the process is about to end: what has no end of its own must end then.
    pub(crate) async fn stopping(&self) {
        // The sender is this one, so it cannot go away meanwhile.
        let _ = self.0.subscribe().wait_for(|phase| *phase == Phase::Stopping).await;
    }
}
