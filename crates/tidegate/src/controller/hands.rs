//! What the controller has done for it. Models and traffic, and in the simulation a script.

use async_trait::async_trait;
use tidegate_core::{DeploymentId, Environment, ModelId};
use tidegate_delivery::{Outcome, Work};
use tokio::sync::mpsc;

/// The work of a phase. Doing it twice is harmless, and is done after a crash.
#[derive(Clone, Debug)]
pub struct Job {
    pub deployment: DeploymentId,
    pub work: Work,
}

/// Where the outcomes of one job go.
#[derive(Clone)]
pub struct Reports {
    epoch: u64,
    outbox: mpsc::Sender<(u64, Outcome)>,
}

impl Reports {
    pub fn new(epoch: u64, outbox: mpsc::Sender<(u64, Outcome)>) -> Self {
        Self { epoch, outbox }
    }

    /// False where nobody listens any more: the driver is gone, and another one does the work again.
    pub async fn send(&self, outcome: Outcome) -> bool {
        self.outbox.send((self.epoch, outcome)).await.is_ok()
    }
}

#[async_trait]
pub trait Hands: Send + Sync {
    /// Performs a job and reports its outcome, or goes on reporting what it sees. Dropped when the phase changes.
    async fn perform(&self, job: Job, reports: Reports);

    /// Brings this process in line with a route that was just committed.
    async fn follow(&self, environment: Environment, model: &ModelId);

    /// Forgets what is kept loaded for a deployment between its phases.
    fn let_go(&self, deployment: &DeploymentId);
}
