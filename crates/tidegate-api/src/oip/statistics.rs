//! The statistics extension: how much each loaded version has answered, and where the time went.

use std::sync::Arc;

use http::HeaderMap;
use tidegate_serve::SlotStatus;

use super::infer::Addressee;
use super::models::view;
use crate::context::Context;
use crate::error::ApiError;
use crate::extract::Asker;
use crate::operations::facts::VersionFacts;

pub(super) struct ModelStatistics {
    pub status: SlotStatus,
    pub facts: Arc<VersionFacts>,
}

/// Of one version, of all loaded versions of a model, or (without a model) of everything loaded in the environment.
pub(super) async fn statistics(
    context: &Context,
    addressee: Addressee,
    headers: &HeaderMap,
) -> Result<Vec<ModelStatistics>, ApiError> {
    let environment = Asker::of(headers)?.environment.unwrap_or(context.settings.default_environment);
    let mut statuses = context.server.loaded();
    statuses.retain(|status| status.environments.contains(&environment));
    if !addressee.model.is_empty() {
        let is_pinned = !addressee.version.is_empty();
        let slot = view(context, addressee, headers).await?.chosen.resolved.slot;
        statuses.retain(|status| status.model == *slot.model_name());
        statuses.retain(|status| !is_pinned || status.version_id == *slot.version_id());
    }
    let mut statistics = Vec::with_capacity(statuses.len());
    for status in statuses {
        if let Some(facts) = context.inner().facts.get(&context.store, &status.version_id).await? {
            statistics.push(ModelStatistics { status, facts });
        }
    }
    Ok(statistics)
}
