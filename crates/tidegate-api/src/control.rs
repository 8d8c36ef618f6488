//! How the API reaches the controller of deployments, which lives in the binary.

use async_trait::async_trait;
use tidegate_core::{DeploymentId, Environment, Model, SemVer, StrategyKind, Version};
use tidegate_delivery::StrategyConfig;
use tidegate_store::{DeploymentRecord, StoreError};

/// A deployment that a caller asks for; model and version belong together and can run.
#[derive(Clone, Debug)]
pub struct NewDeployment {
    pub model: Model,
    pub version: Version,
    pub environment: Environment,
    pub strategy: StrategyConfig,
    pub initiated_by: String,
    /// Why a failed validation shall not stop it.
    pub override_reason: Option<String>,
}

/// Commands to the controller. Each returns once it is durable; the rollout goes on in the background.
#[async_trait]
pub trait DeploymentControl: Send + Sync {
    async fn create(&self, new: NewDeployment) -> Result<DeploymentRecord, CreateDeploymentError>;

    /// Refused when there is no version to go back to, unless `force`: then nothing serves.
    async fn rollback(
        &self,
        id: &DeploymentId,
        by: &str,
        reason: &str,
        force: bool,
    ) -> Result<DeploymentRecord, CommandError>;

    async fn command(
        &self,
        id: &DeploymentId,
        by: &str,
        command: DeploymentCommand,
    ) -> Result<DeploymentRecord, CommandError>;
}

/// What else may be asked of a deployment that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeploymentCommand {
    Cancel {
        reason: String,
    },
    /// By somebody other than the initiator.
    Approve,
    /// Take the next step without waiting for evidence.
    Promote,
    Pause,
    Resume,
}

/// Why a deployment was not created.
#[derive(Debug, thiserror::Error)]
pub enum CreateDeploymentError {
    #[error("deployment {deployment_id} of this model is still in progress in this environment")]
    InProgress { deployment_id: DeploymentId },
    #[error("`{by}` may not override a failed validation; `deployments.admins` lists who may")]
    MayNotOverride { by: String },
    #[error("version {version} already serves in this environment")]
    AlreadyServing { version: SemVer },
    #[error(
        "{strategy} compares with the version that serves, and none does here; deploy the first one by BlueGreen"
    )]
    NothingToCompare { strategy: StrategyKind },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("there is no deployment of this id")]
    NotFound,
    #[error("{reason}")]
    Refused { reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}
