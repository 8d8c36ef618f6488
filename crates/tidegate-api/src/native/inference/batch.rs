//! `POST /api/v1/inference/{model}/batch`: many instances on one version.

use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tidegate_core::Environment;
use utoipa::ToSchema;

use super::ndjson::{self, StreamParameters};
use super::{Asked, target, with_version};
use crate::context::Context;
use crate::error::{ApiError, ErrorBody};
use crate::extract::{ApiJson, ApiPath, ApiQuery, media_type};
use crate::operations::features::Features;
use crate::operations::instances::run_batch;
use crate::operations::predict::{Answer, Chosen, PredictError, account, choose, milliseconds, tensors};
use crate::operations::prediction::Prediction;
use crate::operations::shadow::ShadowCopy;

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// Each as `features` of a single request.
    #[schema(value_type = Vec<Object>)]
    instances: Vec<Features>,
    version: Option<String>,
    request_id: Option<String>,
    #[schema(value_type = Option<String>, example = "Production")]
    environment: Option<Environment>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchResponse {
    request_id: String,
    model_name: String,
    version: String,
    /// In the order of the instances.
    #[schema(value_type = Vec<Object>)]
    predictions: Vec<Prediction>,
    total_latency_ms: f64,
}

/// Predicts for many instances; all are answered by one version.
///
/// As NDJSON, one instance a line, there may be any number: each is answered by a line with its `index` and its `prediction` or
/// `error`, in order, while the rest still comes.
#[utoipa::path(post, path = "/api/v1/inference/{model}/batch",
    operation_id = "predictBatch", tag = "inference",
    params(("model" = String, Path, description = "Id or name"), StreamParameters),
    request_body(content((BatchRequest = "application/json"), (String = "application/x-ndjson"))),
    responses((status = 200, content((BatchResponse = "application/json"), (String = "application/x-ndjson")),
            headers(("X-Tidegate-Version" = String))),
        (status = 400, description = "An instance does not fit; the field names its index", body = ErrorBody),
        (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub(crate) async fn batch(
    State(context): State<Context>,
    ApiPath(model): ApiPath<String>,
    ApiQuery(parameters): ApiQuery<StreamParameters>,
    request: Request,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    if ndjson::is_ndjson(&media_type(request.headers())) {
        return ndjson::answer(context, model, parameters, request, started).await;
    }
    parameters.refuse_any()?;
    let headers = request.headers().clone();
    let ApiJson::<BatchRequest>(body) = ApiJson::from_request(request, &context).await?;
    let max = context.settings.max_batch_instances;
    if body.instances.is_empty() || body.instances.len() > max {
        let message = format!("give 1 to {max} instances, got {}", body.instances.len());
        return Err(ApiError::invalid("instances", message));
    }
    let asked =
        Asked { version: body.version, request_id: body.request_id, environment: body.environment, started };
    let target = target(&context, model, &headers, asked)?;
    let chosen = choose(&context, &target).await?;
    let result = predict_all(&context, &chosen, body.instances).await;
    let answer = result.as_ref().err().map(|error| Answer::failed(&context, error));
    account(&context, &target, Some(&chosen), answer.unwrap_or_default());
    let (predictions, _held) = result?;
    let version = chosen.number();
    let response = BatchResponse {
        request_id: target.request_id.to_string(),
        model_name: chosen.model_name(),
        version: version.clone(),
        predictions,
        total_latency_ms: milliseconds(target.started),
    };
    Ok(with_version(Json(response).into_response(), &version))
}

async fn predict_all(
    context: &Context,
    chosen: &Chosen,
    instances: Vec<Features>,
) -> Result<(Vec<Prediction>, Option<ShadowCopy>), PredictError> {
    let instances = instances.into_iter().enumerate();
    let inputs =
        instances.map(|(index, features)| tensors(chosen, &features, &format!("instances[{index}]")));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    run_batch(context, chosen, inputs).await
}
