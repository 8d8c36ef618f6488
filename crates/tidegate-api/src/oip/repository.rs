//! The model repository extension. What serves is decided by deployments: loading is asking for one, unloading what has
//! traffic is refused.

use std::time::{Duration, Instant};

use http::HeaderMap;
use tidegate_core::{DeploymentId, DeploymentStatus, Environment, Model};
use tidegate_delivery::StrategyConfig;
use tidegate_serve::{SlotState, SlotStatus};
use tidegate_store::{ModelFilter, Page};

use crate::context::Context;
use crate::control::NewDeployment;
use crate::error::{ApiError, ErrorCode};
use crate::extract::{ANONYMOUS, Asker};

/// A version that is loaded, or a model of which nothing is.
#[derive(Debug, PartialEq)]
pub(super) struct IndexEntry {
    pub name: String,
    /// Empty where nothing is loaded.
    pub version: String,
    pub is_ready: bool,
    pub reason: String,
}

impl IndexEntry {
    pub(super) fn state(&self) -> &'static str {
        if self.is_ready { "READY" } else { "UNAVAILABLE" }
    }
}

/// Models read at once.
const PAGE: u32 = 100;

/// How long a caller is kept waiting for a deployment: less than clients wait for an answer.
const LOAD_PATIENCE: Duration = Duration::from_secs(50);
const LOAD_POLL: Duration = Duration::from_millis(50);

pub(super) async fn index(
    context: &Context,
    headers: &HeaderMap,
    only_ready: bool,
) -> Result<Vec<IndexEntry>, ApiError> {
    let environment = environment(context, headers)?;
    let mut loaded = context.server.loaded();
    loaded.retain(|status| status.environments.contains(&environment));
    let mut entries: Vec<IndexEntry> = loaded.iter().map(loaded_entry).collect();
    if !only_ready {
        let models = registered(context).await?;
        let rest = models.iter().filter(|model| !loaded.iter().any(|status| status.model == model.name));
        entries.extend(rest.map(|model| IndexEntry {
            name: model.name.to_string(),
            version: String::new(),
            is_ready: false,
            reason: format!("not deployed in {environment}"),
        }));
    }
    Ok(entries)
}

async fn registered(context: &Context) -> Result<Vec<Model>, ApiError> {
    let (mut models, mut offset) = (Vec::new(), 0);
    loop {
        let page = Page { limit: PAGE, offset };
        let items = context.store.models.list(&ModelFilter::default(), page).await?.items;
        let is_last = items.len() < PAGE as usize;
        models.extend(items);
        if is_last {
            return Ok(models);
        }
        offset += PAGE;
    }
}

fn loaded_entry(status: &SlotStatus) -> IndexEntry {
    let reason = match status.state {
        SlotState::Active => "",
        SlotState::Warm | SlotState::Detached => "answers only requests that ask for this version",
    };
    IndexEntry {
        name: status.model.to_string(),
        version: status.version.to_string(),
        is_ready: true,
        reason: reason.to_owned(),
    }
}

/// Makes the model's newest version answer, by a deployment with the default strategy, where nothing of it answers yet.
/// `overrides` names what the caller wants to be loaded otherwise than it was registered.
pub(super) async fn load(
    context: &Context,
    headers: &HeaderMap,
    model: &str,
    overrides: Option<&str>,
) -> Result<(), ApiError> {
    if let Some(name) = overrides {
        let message =
            "models are loaded as they were registered; register a version with POST /api/v1/models";
        return Err(ApiError::invalid(format!("parameters.{name}"), message));
    }
    let asker = Asker::of(headers)?;
    let environment = asker.environment.unwrap_or(context.settings.default_environment);
    let model = find(context, model).await?;
    if answers(context, environment, &model) {
        return Ok(());
    }
    let version = context.store.versions.latest(&model.id).await?;
    let version = version.ok_or_else(|| ApiError::version_not_found(model.name.as_str(), "(latest)"))?;
    let kind = context.settings.default_strategy;
    let strategy = StrategyConfig::parse(kind, &serde_json::Map::new()).map_err(|faults| {
        let fields: Vec<_> = faults.into_iter().map(|fault| fault.field).collect();
        let message = format!(
            "the default strategy {kind} cannot be used without {}; deploy with POST /api/v1/deployments",
            fields.join(", ")
        );
        ApiError::new(ErrorCode::Conflict, message)
    })?;
    let initiated_by = asker.principal.unwrap_or_else(|| ANONYMOUS.to_owned());
    let new = NewDeployment {
        model: model.clone(),
        version,
        environment,
        strategy,
        initiated_by,
        override_reason: None,
    };
    let deployment = context.control.create(new).await?;
    until_it_answers(context, environment, &model, &deployment.id).await
}

async fn until_it_answers(
    context: &Context,
    environment: Environment,
    model: &Model,
    deployment: &DeploymentId,
) -> Result<(), ApiError> {
    let started = Instant::now();
    while !answers(context, environment, model) {
        let record = context.store.deployments.get(deployment).await?;
        let status = record.as_ref().map(|record| record.status);
        let refused =
            |why: String| Err(ApiError::new(ErrorCode::Conflict, format!("deployment {deployment} {why}")));
        match status {
            Some(DeploymentStatus::AwaitingApproval) => {
                return refused(format!(
                    "waits for somebody else's approval: POST /api/v1/deployments/{deployment}/approve"
                ));
            }
            Some(
                status @ (DeploymentStatus::Failed
                | DeploymentStatus::RolledBack
                | DeploymentStatus::Cancelled),
            ) => {
                let why = record.and_then(|record| record.error_message).unwrap_or_default();
                return refused(format!("ended as {status}: {why}"));
            }
            _ if started.elapsed() > LOAD_PATIENCE => {
                return refused(format!("goes on: GET /api/v1/deployments/{deployment} shows how far it is"));
            }
            _ => tokio::time::sleep(LOAD_POLL).await,
        }
    }
    Ok(())
}

/// Nothing to do for what does not answer; what does is taken away by a deployment only.
pub(super) async fn unload(context: &Context, headers: &HeaderMap, model: &str) -> Result<(), ApiError> {
    let environment = environment(context, headers)?;
    let model = find(context, model).await?;
    if !answers(context, environment, &model) {
        return Ok(());
    }
    let message = format!(
        "`{}` has the traffic of {environment}, which only a deployment takes away: roll it back with POST \
         /api/v1/deployments/ID/rollback (`force` leaves nothing serving), or deploy another version",
        model.name
    );
    Err(ApiError::new(ErrorCode::Conflict, message))
}

fn answers(context: &Context, environment: Environment, model: &Model) -> bool {
    let caller = tidegate_core::Caller::unnamed("");
    context.server.resolve(environment, model.id.as_str(), None, &caller).is_ok()
}

async fn find(context: &Context, model: &str) -> Result<Model, ApiError> {
    let found = context.store.models.find(model).await?;
    found.ok_or_else(|| ApiError::model_not_found(model))
}

fn environment(context: &Context, headers: &HeaderMap) -> Result<Environment, ApiError> {
    Ok(Asker::of(headers)?.environment.unwrap_or(context.settings.default_environment))
}
