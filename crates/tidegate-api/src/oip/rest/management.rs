//! The extensions around inference: repository, statistics, trace and log settings.

use axum::Json;
use axum::extract::{Request, State};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::error::ApiError;
use crate::extract::{Asker, json_from_slice, read_body};
use crate::oip::MAX_SMALL_BYTES;
use crate::oip::infer::Addressee;
use crate::oip::repository;
use crate::oip::settings::{Values, log_settings, update_log_settings};
use crate::oip::statistics::{self, ModelStatistics};
use crate::operations::served::Counter;

#[derive(Default, Deserialize)]
struct IndexJson {
    #[serde(default)]
    ready: bool,
}

pub(super) async fn index(State(context): State<Context>, request: Request) -> Result<Json<Value>, ApiError> {
    let (headers, body): (_, IndexJson) = read(&context, request).await?;
    let entries = repository::index(&context, &headers, body.ready).await?;
    let entry = |entry: repository::IndexEntry| {
        let state = entry.state();
        json!({"name": entry.name, "version": entry.version, "state": state, "reason": entry.reason})
    };
    Ok(Json(entries.into_iter().map(entry).collect()))
}

#[derive(Default, Deserialize)]
struct LoadJson {
    parameters: Option<Map<String, Value>>,
}

pub(super) async fn load(
    State(context): State<Context>,
    addressee: Addressee,
    request: Request,
) -> Result<(), ApiError> {
    let (headers, body): (_, LoadJson) = read(&context, request).await?;
    let parameters = body.parameters.unwrap_or_default();
    let overrides = parameters.keys().next().map(String::as_str);
    repository::load(&context, &headers, &addressee.model, overrides).await
}

pub(super) async fn unload(
    State(context): State<Context>,
    addressee: Addressee,
    headers: HeaderMap,
) -> Result<(), ApiError> {
    repository::unload(&context, &headers, &addressee.model).await
}

pub(super) async fn statistics(
    State(context): State<Context>,
    addressee: Addressee,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let statistics = statistics::statistics(&context, addressee, &headers).await?;
    Ok(Json(json!({"model_stats": statistics.iter().map(model_statistics).collect::<Value>()})))
}

fn model_statistics(of: &ModelStatistics) -> Value {
    let served = &of.facts.served;
    let counter = |counter: &Counter| json!({"count": counter.count(), "ns": counter.ns()});
    let none = || json!({"count": 0, "ns": 0});
    json!({
        "name": of.status.model,
        "version": of.status.version.to_string(),
        "last_inference": served.last_ms(),
        "inference_count": served.rows(),
        "execution_count": served.infer.count(),
        "inference_stats": {
            "success": counter(&served.success),
            "fail": counter(&served.fail),
            "queue": counter(&served.queue),
            // Inputs are borrowed and outputs handed over: there is no step to measure.
            "compute_input": none(),
            "compute_infer": counter(&served.infer),
            "compute_output": none(),
            "cache_hit": counter(&served.cache_hit),
            "cache_miss": counter(&served.cache_miss),
        },
        "response_stats": {},
        "batch_stats": [],
        "memory_usage": of.status.resident_bytes.map(|bytes| json!([{"type": "CPU", "id": 0, "byte_size": bytes}]))
            .unwrap_or_else(|| json!([])),
    })
}

pub(super) async fn trace(State(context): State<Context>, addressee: Addressee) -> Json<Value> {
    Json(trace_json(&context.inner().traces.get(&addressee.model)))
}

pub(super) async fn update_trace(
    State(context): State<Context>,
    addressee: Addressee,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (headers, changes): (_, Map<String, Value>) = read(&context, request).await?;
    Asker::of(&headers)?;
    let traces = &context.inner().traces;
    Ok(Json(trace_json(&traces.update(&addressee.model, &values_of(changes)?)?)))
}

pub(super) async fn log() -> Json<Value> {
    Json(log_json(&log_settings()))
}

pub(super) async fn update_log(
    State(context): State<Context>,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let (_, changes): (_, Map<String, Value>) = read(&context, request).await?;
    Ok(Json(log_json(&update_log_settings(&values_of(changes)?)?)))
}

/// The levels are a list, the rest single texts.
fn trace_json(values: &Values) -> Value {
    let json = |(name, values): (&String, &Vec<String>)| {
        let value = if name == "trace_level" { json!(values) } else { json!(values.first()) };
        (name.clone(), value)
    };
    Value::Object(values.iter().map(json).collect())
}

/// Numbers and truth values are such, not texts.
fn log_json(values: &Values) -> Value {
    let json = |(name, values): (&String, &Vec<String>)| {
        let text = values.first().cloned().unwrap_or_default();
        let value = match name.as_str() {
            "log_file" | "log_format" => Value::String(text),
            _ => serde_json::from_str(&text).unwrap_or(Value::Null),
        };
        (name.clone(), value)
    };
    Value::Object(values.iter().map(json).collect())
}

/// Null clears; clients write numbers as such or as texts.
fn values_of(changes: Map<String, Value>) -> Result<Values, ApiError> {
    let text = |name: &str, value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Bool(_) => Ok(value.to_string()),
        _ => Err(ApiError::invalid(name, "give a text, a number, a list of texts, or null")),
    };
    let values = |(name, value): (String, Value)| {
        let values = match value {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                items.into_iter().map(|item| text(&name, item)).collect::<Result<_, _>>()?
            }
            single => vec![text(&name, single)?],
        };
        Ok((name, values))
    };
    changes.into_iter().map(values).collect()
}

/// Headers and JSON body; clients leave the body out where it would be empty.
async fn read<T: Default + for<'de> Deserialize<'de>>(
    context: &Context,
    request: Request,
) -> Result<(HeaderMap, T), ApiError> {
    let (parts, body) = request.into_parts();
    let limit_bytes = context.settings.max_request_bytes.min(MAX_SMALL_BYTES);
    let bytes = read_body(&parts.headers, body, limit_bytes).await?;
    let body = if bytes.is_empty() { T::default() } else { json_from_slice(&bytes)? };
    Ok((parts.headers, body))
}
