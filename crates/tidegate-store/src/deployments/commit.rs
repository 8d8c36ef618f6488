//! Committing a transition: the one transaction by which a deployment, its log, its route and the standing of the
//! versions change together.

use std::collections::HashSet;

use tidegate_core::{Environment, ModelId, Route, VersionId, VersionStatus};

use super::{DeploymentRecord, EVENTS};
use crate::changes::{Change, Changes};
use crate::db::{Db, Statement, Tx, sql};
use crate::error::StoreError;
use crate::event_log::NewEvent;
use crate::routes;

/// A decided step of a deployment.
///
/// Refused with [`CommitError::Conflict`] when the deployment or the route was changed since it was read, and with
/// [`CommitError::Fenced`] when the controller no longer holds its lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The new content. Its `revision` is the one that was read; what identifies the deployment (model, version,
    /// environment, strategy, initiator, start) is not changed.
    pub record: DeploymentRecord,
    pub events: Vec<NewEvent>,
    /// The new route, its generation one above that of the route that was read (1 for the first). With it follow the
    /// `Deployed` status of versions and, in Production, the model's active version.
    pub route: Option<Route>,
    /// Proof that the caller is the controller; absent for what anyone may do.
    pub fence: Option<Fence>,
}

/// A lease as it was acquired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The lease's name.
    pub lease: String,
    pub holder: String,
    pub generation: u64,
}

/// Why a transition was not committed. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("the deployment or its route was changed meanwhile: read them again")]
    Conflict,
    #[error("the lease is held by another controller")]
    Fenced,
    #[error(transparent)]
    Store(#[from] StoreError),
}

const DOING: &str = "commit a deployment's transition";

/// Locks are taken in one order (lease, deployment, model, its versions), so commits cannot deadlock.
pub(super) async fn commit(db: &Db, changes: &Changes, transition: &Transition) -> Result<u64, CommitError> {
    let record = &transition.record;
    let mut tx = db.begin(DOING).await?;
    if let Some(fence) = &transition.fence
        && tx.first(check(fence)).await?.is_none()
    {
        return Err(CommitError::Fenced);
    }
    if tx.execute(update(record)).await? == 0 {
        return Err(CommitError::Conflict);
    }
    for event in &transition.events {
        tx.execute(EVENTS.append(record.id.as_str(), event)).await?;
    }
    if let Some(route) = &transition.route
        && !apply_route(&mut tx, route, record).await?
    {
        return Err(CommitError::Conflict);
    }
    let announced = changes.announce(&mut tx, what_changes(transition)).await?;
    tx.commit(DOING).await?;
    announced.committed();
    Ok(record.revision + 1)
}

/// The route first: who serves is in more of a hurry than who watches.
fn what_changes(transition: &Transition) -> impl Iterator<Item = Change> {
    let route = transition
        .route
        .as_ref()
        .map(|route| Change::Route { environment: route.environment, model_id: route.model_id.clone() });
    route.into_iter().chain([Change::Deployment { id: transition.record.id.clone() }])
}

/// A row when the lease is still this holder's. On PostgreSQL it also keeps others from taking it over until the
/// transaction ends; on SQLite the write lock does.
fn check(fence: &Fence) -> Statement {
    const CHECK: &str = "SELECT generation FROM leases WHERE name = $1 AND holder = $2 AND generation = $3";
    const CHECK_POSTGRES: &str =
        "SELECT generation FROM leases WHERE name = $1 AND holder = $2 AND generation = $3 FOR SHARE";
    sql("check a lease", CHECK)
        .on_postgres(CHECK_POSTGRES)
        .bind(fence.lease.as_str())
        .bind(fence.holder.as_str())
        .bind(fence.generation)
}

/// Changes no row when the revision is not the one that was read.
fn update(record: &DeploymentRecord) -> Statement {
    const UPDATE: &str = "UPDATE deployments SET previous_version_id = $3, strategy_config = $4, status = $5,
            progress_percentage = $6, traffic_percentage = $7, completed_at = $8, is_rolled_back = $9,
            rolled_back_at = $10, error_message = $11, validation_result = $12, state = $13, is_settled = $14,
            revision = revision + 1
        WHERE deployment_id = $1 AND revision = $2";
    sql(DOING, UPDATE)
        .bind(record.id.as_str())
        .bind(record.revision)
        .bind(record.previous_version_id.as_ref().map(VersionId::as_str))
        .bind(&record.strategy_config)
        .bind(record.status.as_str())
        .bind(record.progress_percentage)
        .bind(record.traffic_percentage)
        .bind(record.completed_at)
        .bind(record.rolled_back_at.is_some())
        .bind(record.rolled_back_at)
        .bind(record.error_message.as_deref())
        .bind(record.validation_result.as_ref())
        .bind(&record.state)
        .bind(record.is_settled)
}

/// Writes the route, then what follows from all routes of the model. False when the route is not the next one.
async fn apply_route(tx: &mut Tx, route: &Route, record: &DeploymentRecord) -> Result<bool, StoreError> {
    lock_model(tx, &record.model_id).await?;
    if !routes::replace(tx, route).await? {
        return Ok(false);
    }
    mark_deployed(tx, &record.model_id).await?;
    if route.environment == Environment::Production {
        set_active_version(tx, route).await?;
    }
    Ok(true)
}

/// Two environments of a model may change at the same time, and each marks versions by the routes of both; so they take
/// turns. SQLite has one writer anyway.
async fn lock_model(tx: &mut Tx, model: &ModelId) -> Result<(), StoreError> {
    const LOCK: &str = "SELECT model_id FROM models WHERE model_id = $1";
    const LOCK_POSTGRES: &str = "SELECT model_id FROM models WHERE model_id = $1 FOR NO KEY UPDATE";
    tx.all(sql("lock a model", LOCK).on_postgres(LOCK_POSTGRES).bind(model.as_str())).await.map(drop)
}

/// A version is `Deployed` while an arm of any route names it, and `Validated` again afterwards.
async fn mark_deployed(tx: &mut Tx, model: &ModelId) -> Result<(), StoreError> {
    const SET: &str = "UPDATE model_versions SET status = $2 WHERE version_id = $1";
    const DEPLOYED: &str = "SELECT version_id FROM model_versions WHERE model_id = $1 AND status = $2";
    let deployed = VersionStatus::Deployed.as_str();
    let mut is_answering = HashSet::new();
    for route in routes::of_model(tx, model).await? {
        is_answering.extend(route.arms.into_iter().map(|arm| arm.version_id));
    }
    let rows = tx.all(sql("list deployed versions", DEPLOYED).bind(model.as_str()).bind(deployed)).await?;
    let was_deployed = rows
        .iter()
        .map(|row| row.text("version_id").map(VersionId::new))
        .collect::<Result<HashSet<_>, _>>()?;
    let set =
        |version: &VersionId, status| sql("set a version's status", SET).bind(version.as_str()).bind(status);
    for version in was_deployed.difference(&is_answering) {
        tx.execute(set(version, VersionStatus::Validated.as_str())).await?;
    }
    for version in is_answering.difference(&was_deployed) {
        tx.execute(set(version, deployed)).await?;
    }
    Ok(())
}

/// The number of the version that leads; none when nothing answers.
async fn set_active_version(tx: &mut Tx, route: &Route) -> Result<(), StoreError> {
    const SET: &str = "UPDATE models SET active_version =
            (SELECT version FROM model_versions WHERE version_id = $2)
        WHERE model_id = $1";
    let set = sql("set a model's active version", SET)
        .bind(route.model_id.as_str())
        .bind(route.leader().map(|arm| arm.version_id.as_str()));
    tx.execute(set).await.map(drop)
}
