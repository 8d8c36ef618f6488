//! The serving processes that share the database.

use std::collections::HashMap;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tidegate_core::{Environment, ModelId, Timestamp};
use tidegate_store::{AppliedRoute, LoadState, ReplicaRecord, VersionReport};
use utoipa::ToSchema;

use super::deployments::view::Names;
use crate::context::Context;
use crate::error::ApiError;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplicaList {
    /// The oldest first.
    replicas: Vec<ReplicaView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReplicaView {
    /// Names one life of a process: after a restart it is another.
    replica_id: String,
    /// Where it says that it can be reached.
    address: String,
    #[schema(example = "0.1.0")]
    version: String,
    state: ReplicaState,
    /// Whether this is the process that answers.
    is_this: bool,
    started_at: Timestamp,
    heartbeat_at: Timestamp,
    /// Routes of which it does not hold the newest generation yet; 0: it is up to date.
    routes_behind: usize,
    routes: Vec<RouteView>,
    versions: Vec<VersionView>,
}

#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
enum ReplicaState {
    Live,
    /// Gave no sign of life for three heartbeats, and did not say goodbye.
    Lost,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RouteView {
    #[schema(value_type = String, example = "Production")]
    environment: Environment,
    model_name: Option<String>,
    /// What requests meet there; grows by one with each change of the route.
    generation: u64,
    /// What they shall meet.
    newest_generation: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct VersionView {
    version_id: String,
    model_name: Option<String>,
    version: Option<String>,
    /// `Loaded`, `Loading` or `Failed`.
    state: &'static str,
    /// Why it does not load. It is tried again.
    reason: Option<String>,
}

/// Who serves: every process on this database, what it has applied and loaded, and how far behind it is.
#[utoipa::path(get, path = "/api/v1/replicas",
    operation_id = "listReplicas", tag = "server",
    responses((status = 200, body = ReplicaList)))]
pub(crate) async fn list(State(context): State<Context>) -> Result<Json<ReplicaList>, ApiError> {
    let routes = context.store.routes.list().await?;
    let newest = routes.into_iter().map(|route| ((route.environment, route.model_id), route.generation));
    let newest: HashMap<_, _> = newest.collect();
    let mut names = Names::default();
    let mut replicas = Vec::new();
    for record in context.store.replicas.list().await? {
        replicas.push(ReplicaView::of(&context, record, &newest, &mut names).await?);
    }
    Ok(Json(ReplicaList { replicas }))
}

impl ReplicaView {
    async fn of(
        context: &Context,
        record: ReplicaRecord,
        newest: &HashMap<(Environment, ModelId), u64>,
        names: &mut Names,
    ) -> Result<Self, ApiError> {
        let applied: HashMap<_, _> = record.report.routes.iter().map(applied_generation).collect();
        let is_behind =
            |(key, generation): &(&_, &u64)| applied.get(*key).copied().unwrap_or(0) < **generation;
        let routes_behind = newest.iter().filter(is_behind).count();
        let mut routes = Vec::new();
        for AppliedRoute { environment, model_id, generation } in record.report.routes {
            let model_name = names.model(context, &model_id).await?;
            let newest_generation = newest.get(&(environment, model_id)).copied().unwrap_or(generation);
            routes.push(RouteView { environment, model_name, generation, newest_generation });
        }
        let mut versions = Vec::new();
        for report in record.report.versions {
            versions.push(VersionView::of(context, report, names).await?);
        }
        let oldest_sign = context.clock.now().saturating_sub(context.replica.time_to_live);
        let is_lost = record.heartbeat_at < oldest_sign.unwrap_or(Timestamp::MIN);
        Ok(Self {
            is_this: record.id == context.replica.id,
            state: if is_lost { ReplicaState::Lost } else { ReplicaState::Live },
            replica_id: record.id.to_string(),
            address: record.address,
            version: record.binary_version,
            started_at: record.started_at,
            heartbeat_at: record.heartbeat_at,
            routes_behind,
            routes,
            versions,
        })
    }
}

fn applied_generation(route: &AppliedRoute) -> ((Environment, ModelId), u64) {
    ((route.environment, route.model_id.clone()), route.generation)
}

impl VersionView {
    async fn of(context: &Context, report: VersionReport, names: &mut Names) -> Result<Self, ApiError> {
        let (state, reason) = match report.state {
            LoadState::Loading => ("Loading", None),
            LoadState::Loaded { .. } => ("Loaded", None),
            LoadState::Failed { reason } => ("Failed", Some(reason)),
        };
        let version = context.store.versions.get(&report.version_id).await?;
        let model_name = match &version {
            Some(version) => names.model(context, &version.model_id).await?,
            None => None,
        };
        let version = version.map(|version| version.version.to_string());
        Ok(Self { version_id: report.version_id.to_string(), model_name, version, state, reason })
    }
}
