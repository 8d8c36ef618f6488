//! The extensions around inference: repository, statistics, trace and log settings.

use axum::extract::State;
use http::HeaderMap;

use super::exchange::{Reply, Unary};
use super::messages::{
    Empty, InferStatistics, LogChoice, LogSettings, LogValue, MemoryUsage, ModelIndex, ModelRequest,
    ModelStatistics, ModelStatisticsResponse, RepositoryIndexRequest, RepositoryIndexResponse,
    RepositoryModelRequest, StatisticDuration, TraceSettings, TraceValue,
};
use crate::context::Context;
use crate::error::ApiError;
use crate::oip::settings::{Values, log_settings as settings, update_log_settings};
use crate::oip::{repository, statistics};
use crate::operations::served::Counter;

pub(super) async fn repository_index(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<RepositoryIndexRequest>,
) -> Result<Reply<RepositoryIndexResponse>, ApiError> {
    let entries = repository::index(&context, &headers, request.ready).await?;
    let models = entries.into_iter().map(|entry| ModelIndex {
        state: entry.state().to_owned(),
        name: entry.name,
        version: entry.version,
        reason: entry.reason,
    });
    Ok(Reply(RepositoryIndexResponse { models: models.collect() }))
}

pub(super) async fn load(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<RepositoryModelRequest>,
) -> Result<Reply<Empty>, ApiError> {
    let overrides = request.parameters.keys().next().map(String::as_str);
    repository::load(&context, &headers, &request.model_name, overrides).await?;
    Ok(Reply(Empty {}))
}

pub(super) async fn unload(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<RepositoryModelRequest>,
) -> Result<Reply<Empty>, ApiError> {
    repository::unload(&context, &headers, &request.model_name).await?;
    Ok(Reply(Empty {}))
}

pub(super) async fn model_statistics(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<ModelRequest>,
) -> Result<Reply<ModelStatisticsResponse>, ApiError> {
    let all = statistics::statistics(&context, request.into(), &headers).await?;
    let model_stats = all.iter().map(|of| {
        let served = &of.facts.served;
        let counter =
            |counter: &Counter| Some(StatisticDuration { count: counter.count(), ns: counter.ns() });
        let memory = |byte_size| MemoryUsage { r#type: "CPU".to_owned(), id: 0, byte_size };
        ModelStatistics {
            name: of.status.model.to_string(),
            version: of.status.version.to_string(),
            last_inference: served.last_ms(),
            inference_count: served.rows(),
            execution_count: served.infer.count(),
            inference_stats: Some(InferStatistics {
                success: counter(&served.success),
                fail: counter(&served.fail),
                queue: counter(&served.queue),
                // Inputs are borrowed and outputs handed over: there is no step to measure.
                compute_input: Some(StatisticDuration::default()),
                compute_infer: counter(&served.infer),
                compute_output: Some(StatisticDuration::default()),
                cache_hit: counter(&served.cache_hit),
                cache_miss: counter(&served.cache_miss),
            }),
            memory_usage: of.status.resident_bytes.map(memory).into_iter().collect(),
        }
    });
    Ok(Reply(ModelStatisticsResponse { model_stats: model_stats.collect() }))
}

/// Clients ask for the settings by changing none.
pub(super) async fn trace_setting(
    State(context): State<Context>,
    Unary(request, _held): Unary<TraceSettings>,
) -> Result<Reply<TraceSettings>, ApiError> {
    let changes: Values = request.settings.into_iter().map(|(name, value)| (name, value.value)).collect();
    let traces = &context.inner().traces;
    let values = match changes.is_empty() {
        true => traces.get(&request.model_name),
        false => traces.update(&request.model_name, &changes)?,
    };
    let settings = values.into_iter().map(|(name, value)| (name, TraceValue { value }));
    Ok(Reply(TraceSettings { settings: settings.collect(), model_name: String::new() }))
}

pub(super) async fn log_settings(
    Unary(request, _held): Unary<LogSettings>,
) -> Result<Reply<LogSettings>, ApiError> {
    let text = |value: LogValue| match value.choice {
        Some(LogChoice::Bool(value)) => vec![value.to_string()],
        Some(LogChoice::Uint32(value)) => vec![value.to_string()],
        Some(LogChoice::String(value)) => vec![value],
        None => Vec::new(),
    };
    let changes: Values = request.settings.into_iter().map(|(name, value)| (name, text(value))).collect();
    let values = if changes.is_empty() { settings() } else { update_log_settings(&changes)? };
    let settings = values.into_iter().map(|(name, values)| {
        let text = values.into_iter().next().unwrap_or_default();
        let choice = match name.as_str() {
            "log_file" | "log_format" => LogChoice::String(text),
            "log_verbose_level" => LogChoice::Uint32(text.parse().unwrap_or(0)),
            _ => LogChoice::Bool(text == "true"),
        };
        (name, LogValue { choice: Some(choice) })
    });
    Ok(Reply(LogSettings { settings: settings.collect() }))
}
