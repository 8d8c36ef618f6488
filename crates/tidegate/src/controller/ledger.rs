//! What the controller remembers: deployments, routes and leases. The database, and in the simulation a map.

use async_trait::async_trait;
use jiff::SignedDuration;
use tidegate_core::{DeploymentId, Environment, ModelId, Route, Timestamp};
use tidegate_delivery::Look;
use tidegate_store::{
    CommitError, CreateError, DeploymentFilter, DeploymentRecord, NewEvent, Page, Store, StoreError,
    Transition,
};

#[async_trait]
pub trait Ledger: Send + Sync {
    async fn deployment(&self, id: &DeploymentId) -> Result<Option<DeploymentRecord>, StoreError>;

    /// Every deployment that somebody still has to attend to, oldest first.
    async fn unsettled(&self) -> Result<Vec<DeploymentRecord>, StoreError>;

    /// The newest deployment of a model in an environment.
    async fn newest(
        &self,
        model: &ModelId,
        environment: Environment,
    ) -> Result<Option<DeploymentRecord>, StoreError>;

    async fn route(&self, environment: Environment, model: &ModelId) -> Result<Option<Route>, StoreError>;

    async fn create(&self, record: &DeploymentRecord, first: &[NewEvent]) -> Result<(), CreateError>;

    /// All of the transition or nothing; see [`Transition`] for what is refused.
    async fn commit(&self, transition: &Transition) -> Result<(), CommitError>;

    /// For people who watch; an older look than the one that is there is dropped.
    async fn keep_look(&self, id: &DeploymentId, look: &Look) -> Result<(), StoreError>;

    /// Takes or renews a lease; its generation, or `None` while another holds it.
    async fn acquire(
        &self,
        lease: &str,
        holder: &str,
        now: Timestamp,
        ttl: SignedDuration,
    ) -> Result<Option<u64>, StoreError>;

    async fn release(&self, lease: &str, holder: &str, generation: u64) -> Result<(), StoreError>;
}

#[async_trait]
impl Ledger for Store {
    async fn deployment(&self, id: &DeploymentId) -> Result<Option<DeploymentRecord>, StoreError> {
        self.deployments.get(id).await
    }

    async fn unsettled(&self) -> Result<Vec<DeploymentRecord>, StoreError> {
        self.deployments.unsettled().await
    }

    async fn newest(
        &self,
        model: &ModelId,
        environment: Environment,
    ) -> Result<Option<DeploymentRecord>, StoreError> {
        let filter = DeploymentFilter {
            model_id: Some(model.clone()),
            environment: Some(environment),
            ..DeploymentFilter::default()
        };
        let page = Page { limit: 1, offset: 0 };
        Ok(self.deployments.list(&filter, page).await?.items.into_iter().next())
    }

    async fn route(&self, environment: Environment, model: &ModelId) -> Result<Option<Route>, StoreError> {
        self.routes.get(environment, model).await
    }

    async fn create(&self, record: &DeploymentRecord, first: &[NewEvent]) -> Result<(), CreateError> {
        self.deployments.create(record, first).await
    }

    async fn commit(&self, transition: &Transition) -> Result<(), CommitError> {
        self.deployments.commit(transition).await.map(drop)
    }

    async fn keep_look(&self, id: &DeploymentId, look: &Look) -> Result<(), StoreError> {
        let json = serde_json::to_value(look).expect("a look is plain data with string keys");
        self.deployments.keep_look(id, look.at, &json).await
    }

    async fn acquire(
        &self,
        lease: &str,
        holder: &str,
        now: Timestamp,
        ttl: SignedDuration,
    ) -> Result<Option<u64>, StoreError> {
        self.leases.acquire(lease, holder, now, ttl).await
    }

    async fn release(&self, lease: &str, holder: &str, generation: u64) -> Result<(), StoreError> {
        self.leases.release(lease, holder, generation).await
    }
}
