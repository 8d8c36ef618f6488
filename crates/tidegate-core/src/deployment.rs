//! The words of a deployment that everyone shares. What happens in one is decided in `tidegate-delivery`.

use serde::{Deserialize, Serialize};

use crate::model::text_enum;

text_enum! {
    /// Where a version serves. Each model has its own route in each environment.
    Environment { Development, Staging, Production }
}

text_enum! {
    /// How a deployment moves traffic.
    StrategyKind { Canary, BlueGreen, ABTesting, Shadow, Rolling }
}

text_enum! {
    /// Where a deployment stands, as callers see it.
    DeploymentStatus {
        Pending, Validating, AwaitingApproval, Deploying, Active, Failed, RolledBack, Cancelled,
    }
}

impl DeploymentStatus {
    /// Whether the deployment still holds the (model, environment): the next one must wait.
    pub fn in_progress(self) -> bool {
        matches!(self, Self::Pending | Self::Validating | Self::AwaitingApproval | Self::Deploying)
    }
}
