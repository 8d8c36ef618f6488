//! Feedback: whether a prediction turned out to be right, and what was measured of it, seconds or weeks afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tidegate_core::{Moments, RequestId};
use tidegate_store::{FeedbackRecord, InferenceRecord, JsonText, Label, StoreError};
use tokio::time::Instant;

use crate::context::Context;
use crate::operations::fault::Fault;
use crate::operations::log_policy::is_redacted;

/// The inference log is written a moment behind the answer, on a busy disk several; feedback that comes sooner waits.
const LOG_PATIENCE: Duration = Duration::from_secs(3);
const LOG_POLL: Duration = Duration::from_millis(25);

/// How far a number may be off and still be the same, relative to the larger.
const TOLERANCE: f64 = 1e-6;

/// Of one request; names are keys in every summary of a version.
const MAX_METRICS: usize = 32;
const MAX_NAME_CHARS: usize = 64;

/// What the caller says: one of the two at least.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub truth: Option<Truth>,
    /// By name.
    pub metrics: BTreeMap<String, f64>,
}

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
    /// The log is a sample, and this request is not in it.
    #[error("request `{0}` was not kept")]
    NotKept(RequestId),
    #[error("the feedback does not fit")]
    Invalid(Fault),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores what the caller says, and gives whether the prediction was right, where that was said.
pub(crate) async fn give(
    context: &Context,
    request_id: RequestId,
    told: Told,
    by: &str,
) -> Result<Option<bool>, FeedbackError> {
    check_metrics(&told.metrics).map_err(FeedbackError::Invalid)?;
    if !context.settings.log.keeps(&request_id) {
        return Err(FeedbackError::NotKept(request_id));
    }
    let request = logged(context, &request_id).await?;
    let label = told.truth.map(|truth| label(truth, &request)).transpose()?;
    let is_correct = label.as_ref().map(|label| label.is_correct);
    let feedback = FeedbackRecord {
        request_id,
        // A pinned request met no arm: it says nothing of what a version does with the traffic that it is given.
        deployment_id: request.deployment_id.filter(|_| request.arm.is_some()),
        version: request.version,
        requested_at: request.requested_at,
        label,
        metrics: told.metrics,
        given_by: by.to_owned(),
        given_at: context.clock.now(),
    };
    context.store.feedback.record(&feedback).await?;
    Ok(is_correct)
}

fn label(truth: Truth, request: &InferenceRecord) -> Result<Label, FeedbackError> {
    Ok(match truth {
        Truth::Verdict(is_correct) => Label { is_correct, ground_truth: None },
        Truth::Value(value) => {
            let prediction = request.prediction.as_ref().map(JsonText::value);
            let prediction = prediction.filter(|prediction| !is_redacted(prediction)).ok_or_else(|| {
                let message = "the prediction was not kept in the log, so it cannot be compared; send `correct` instead";
                FeedbackError::Invalid(Fault::new("groundTruth", message))
            })?;
            Label { is_correct: agrees(&value, &prediction), ground_truth: Some(value) }
        }
    })
}

fn check_metrics(metrics: &BTreeMap<String, f64>) -> Result<(), Fault> {
    if metrics.len() > MAX_METRICS {
        let message = format!("give at most {MAX_METRICS} of a request, got {}", metrics.len());
        return Err(Fault::new("metrics", message));
    }
    for (name, value) in metrics {
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
            let message =
                format!("a name has 1 to {MAX_NAME_CHARS} characters, none of them a control character");
            return Err(Fault::new("metrics", message));
        }
        if !Moments::accepts(*value) {
            return Err(Fault::new(format!("metrics.{name}"), "give a number between -1e100 and 1e100"));
        }
    }
    Ok(())
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

pub(crate) fn same(truth: &Value, said: &Value) -> bool {
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
