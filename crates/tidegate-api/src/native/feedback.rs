//! `POST /api/v1/inference/{requestId}/feedback`: what turned out to be true.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::RequestId;
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::{ApiError, ErrorBody};
use crate::extract::{ApiJson, ApiPath, Principal};
use crate::operations::feedback::{Told, Truth, give};

/// Give `correct` or `groundTruth`, `metrics`, or both.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct FeedbackRequest {
    /// Whether the prediction was right.
    correct: Option<bool>,
    /// What is true; compared with the logged prediction, an object by the keys that it has.
    #[schema(value_type = Option<Object>)]
    ground_truth: Option<Value>,
    /// Numbers that you measured of the prediction, by a name of your choice. A deployment whose `customMetrics` name them
    /// is judged by their means.
    #[serde(default)]
    #[schema(example = json!({"iou": 0.81}))]
    metrics: BTreeMap<String, f64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FeedbackResponse {
    request_id: String,
    /// Null where only metrics were given.
    correct: Option<bool>,
}

/// Says whether a prediction turned out to be right, or what you measured of it, however late; saying it again replaces it.
/// Rollouts are judged by it.
#[utoipa::path(post, path = "/api/v1/inference/{model}/feedback", operation_id = "giveFeedback", tag = "inference",
    params(("model" = String, Path, description = "The requestId of the prediction")),
    request_body = FeedbackRequest,
    responses((status = 200, body = FeedbackResponse), (status = 400, body = ErrorBody),
        (status = 404, description = "The request is not in the log", body = ErrorBody)))]
pub(crate) async fn feedback(
    State(context): State<Context>,
    principal: Principal,
    ApiPath(request_id): ApiPath<String>,
    ApiJson(body): ApiJson<FeedbackRequest>,
) -> Result<Json<FeedbackResponse>, ApiError> {
    let truth = match (body.correct, body.ground_truth) {
        (Some(correct), None) => Some(Truth::Verdict(correct)),
        (None, Some(value)) => Some(Truth::Value(value)),
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("groundTruth", "give `correct` or `groundTruth`, not both"));
        }
        (None, None) if body.metrics.is_empty() => {
            return Err(ApiError::invalid("correct", "missing; give `correct`, `groundTruth` or `metrics`"));
        }
        (None, None) => None,
    };
    let told = Told { truth, metrics: body.metrics };
    let correct = give(&context, RequestId::new(request_id.clone()), told, &principal.0).await?;
    Ok(Json(FeedbackResponse { request_id, correct }))
}
