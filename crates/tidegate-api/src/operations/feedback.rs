//! Feedback: whether a prediction turned out to be right. Ground truth may come seconds or weeks after the prediction.

use std::time::Duration;

use serde_json::Value;
use tidegate_core::RequestId;
use tidegate_store::{FeedbackRecord, InferenceRecord, StoreError};
use tokio::time::Instant;

use crate::context::Context;
use crate::operations::fault::Fault;

/// The inference log is written a moment behind the answer, on a busy disk several; feedback that comes sooner waits.
const LOG_PATIENCE: Duration = Duration::from_secs(3);
const LOG_POLL: Duration = Duration::from_millis(25);

/// How far a number may be off and still be the same, relative to the larger.
const TOLERANCE: f64 = 1e-6;

/// What the caller says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Truth {
    Verdict(bool),
    /// Compared with the logged prediction.
    Value(Value),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedbackError {
    #[error("request `{0}` is not in the inference log")]
    UnknownRequest(RequestId),
    #[error("the feedback does not fit")]
    Invalid(Fault),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores a label and gives whether the prediction was right.
pub(crate) async fn give(
    context: &Context,
    request_id: RequestId,
    truth: Truth,
    by: &str,
) -> Result<bool, FeedbackError> {
    let request = logged(context, &request_id).await?;
    let (is_correct, ground_truth) = match truth {
        Truth::Verdict(is_correct) => (is_correct, None),
        Truth::Value(value) => {
            let prediction = request.prediction.as_ref().ok_or_else(|| {
                let message = "the prediction was not kept in the log, so it cannot be compared; send `correct` instead";
                FeedbackError::Invalid(Fault::new("groundTruth", message))
            })?;
            (agrees(&value, prediction), Some(value))
        }
    };
    let feedback = FeedbackRecord {
        request_id,
        deployment_id: request.deployment_id,
        version: request.version,
        requested_at: request.requested_at,
        is_correct,
        ground_truth,
        given_by: by.to_owned(),
        given_at: context.clock.now(),
    };
    context.store.feedback.record(&feedback).await?;
    Ok(is_correct)
}

async fn logged(context: &Context, request_id: &RequestId) -> Result<InferenceRecord, FeedbackError> {
    let deadline = Instant::now() + LOG_PATIENCE;
    loop {
        if let Some(request) = context.store.inferences.get(request_id).await? {
            return Ok(request);
        }
        if Instant::now() >= deadline {
            return Err(FeedbackError::UnknownRequest(request_id.clone()));
        }
        tokio::time::sleep(LOG_POLL).await;
    }
}

/// Whether the prediction says what is true: an object is compared by the keys that it has; anything else with the
/// model's only output, or with its output `label`.
fn agrees(truth: &Value, prediction: &Value) -> bool {
    match (truth, prediction) {
        (Value::Object(truth), Value::Object(prediction)) => {
            !truth.is_empty()
                && truth.iter().all(|(key, value)| prediction.get(key).is_some_and(|said| same(value, said)))
        }
        (truth, Value::Object(prediction)) => {
            let only = prediction.values().next().filter(|_| prediction.len() == 1);
            prediction.get("label").or(only).is_some_and(|said| same(truth, said))
        }
        (truth, prediction) => same(truth, prediction),
    }
}

fn same(truth: &Value, said: &Value) -> bool {
    match (truth, said) {
        (Value::Number(truth), Value::Number(said)) => {
            let (Some(truth), Some(said)) = (truth.as_f64(), said.as_f64()) else { return truth == said };
            (truth - said).abs() <= TOLERANCE * truth.abs().max(said.abs())
        }
        (Value::Array(truth), Value::Array(said)) => {
            truth.len() == said.len() && truth.iter().zip(said).all(|(truth, said)| same(truth, said))
        }
        (truth, said) => truth == said,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ground_truth_is_compared_with_what_it_is_about() {
        let tabular = json!({"label": 1, "probabilities": [0.2, 0.8]});
        let cases = [
            (json!(1), &tabular, true),
            (json!(1.0), &tabular, true),
            (json!(0), &tabular, false),
            (json!({"label": 1}), &tabular, true),
            (json!({"label": 1, "probabilities": [0.2, 0.8000000001]}), &tabular, true),
            (json!({"label": 1, "colour": "red"}), &tabular, false),
            (json!({}), &tabular, false),
            (json!("cat"), &json!({"class": "cat"}), true),
            (json!([1, 2]), &json!({"y": [1.0, 2.0]}), true),
            (json!([1, 2]), &json!({"y": [1.0]}), false),
        ];
        for (truth, prediction, expected) in cases {
            assert_eq!(agrees(&truth, prediction), expected, "{truth} against {prediction}");
        }
    }
}
