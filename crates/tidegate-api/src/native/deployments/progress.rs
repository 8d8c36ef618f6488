//! A deployment for people who watch it: what is going on in words, until when, who answers whom, and what was seen last.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use tidegate_core::route::BUCKETS;
use tidegate_core::{DeploymentId, Route, Timestamp};
use tidegate_delivery::Rollout;
use utoipa::ToSchema;

use super::find;
use super::view::{DeploymentView, Names};
use crate::context::Context;
use crate::error::{ApiError, ErrorBody};
use crate::extract::ApiPath;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProgressView {
    deployment: DeploymentView,
    /// What is going on now; null where a newer release keeps a state that this one cannot read.
    #[schema(example = "step 2 of 4: compared at 25 % of the traffic")]
    description: Option<String>,
    /// Since when both versions are compared, where they are.
    since: Option<Timestamp>,
    /// Before which the phase does not end well by itself.
    not_before: Option<Timestamp>,
    /// At which it ends in any case.
    deadline: Option<Timestamp>,
    /// Who answers for the model in this environment now, whatever deployment decided it.
    traffic: Vec<ArmView>,
    /// What both versions had answered when they were last compared, with a verdict on each metric; null before the first
    /// look. It decides nothing: what decisions rest on is in the event log.
    #[schema(value_type = Option<Object>)]
    last_look: Option<Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ArmView {
    version: Option<String>,
    /// Of the requests. While a deployment goes over the servers, of those that have not moved yet.
    percentage: f64,
}

/// How a deployment goes: what its phase does and until when, the share of each version, and what was seen last.
#[utoipa::path(get, path = "/api/v1/deployments/{id}/progress",
    operation_id = "getDeploymentProgress", tag = "deployments",
    params(("id" = String, Path)),
    responses((status = 200, body = ProgressView), (status = 404, body = ErrorBody)))]
pub(crate) async fn progress(
    State(context): State<Context>,
    ApiPath(id): ApiPath<String>,
) -> Result<Json<ProgressView>, ApiError> {
    let record = find(&context, &DeploymentId::new(id)).await?;
    let rollout: Option<Rollout> = serde_json::from_value(record.state.clone()).ok();
    let outlook = rollout.as_ref().map(Rollout::outlook);
    let route = context.store.routes.get(record.environment, &record.model_id).await?;
    let last_look = context.store.deployments.last_look(&record.id).await?;
    let mut names = Names::default();
    let traffic = traffic(&context, route.as_ref(), &mut names).await?;
    let deployment = DeploymentView::of(&context, record, &mut names).await?;
    Ok(Json(ProgressView {
        deployment,
        since: outlook.as_ref().and_then(|outlook| outlook.since),
        not_before: outlook.as_ref().and_then(|outlook| outlook.not_before),
        deadline: outlook.as_ref().and_then(|outlook| outlook.deadline),
        description: outlook.map(|outlook| outlook.description),
        traffic,
        last_look,
    }))
}

async fn traffic(
    context: &Context,
    route: Option<&Route>,
    names: &mut Names,
) -> Result<Vec<ArmView>, ApiError> {
    let mut traffic = Vec::new();
    for arm in route.map_or(&[][..], |route| &route.arms) {
        let percentage = f64::from(arm.weight) * 100.0 / f64::from(BUCKETS);
        traffic.push(ArmView { version: names.number(context, &arm.version_id).await?, percentage });
    }
    Ok(traffic)
}
