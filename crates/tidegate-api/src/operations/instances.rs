//! Many instances on one version: together in one run where the model can, else one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::NamedTensor;
use tidegate_serve::{InferOptions, Inference, Slot};

use super::predict::{Chosen, PredictError, infer, prediction};
use super::prediction::Prediction;
use super::shadow::ShadowCopy;
use super::stack::{split, stack};
use crate::context::Context;

/// Runs all, or says why one could not be. The shadow is given a copy of the first run: comparisons are to be of requests that
/// have nothing to do with each other.
pub(crate) async fn run_batch(
    context: &Context,
    chosen: &Chosen,
    instances: Vec<Vec<NamedTensor>>,
) -> Result<(Vec<Prediction>, Option<ShadowCopy>), PredictError> {
    let slot = &chosen.resolved.slot;
    let options = InferOptions::default();
    let mut shadow = chosen.resolved.shadow.as_ref();
    let mut copy = None;
    if let Some(stacked) = stacked(slot, &instances) {
        let (inference, copied) = infer(context, chosen, shadow.take(), stacked, options).await?;
        copy = copied;
        if let Some(rows) = split(&inference.outputs, instances.len()) {
            let predictions = rows.into_iter().map(|row| prediction(chosen, row));
            return Ok((predictions.collect::<Result<_, _>>()?, copy));
        }
    }
    let mut predictions = Vec::with_capacity(instances.len());
    for inputs in instances {
        let (inference, copied) = infer(context, chosen, shadow.take(), inputs, options).await?;
        copy = copy.or(copied);
        predictions.push(prediction(chosen, inference.outputs)?);
    }
    Ok((predictions, copy))
}

/// What became of each; one that fails takes none of the others with it. A full queue is waited for: whoever sends a stream
/// has time, and goes on when others have been answered.
pub(crate) async fn run_each(
    context: &Context,
    chosen: &Chosen,
    mut shadow: Option<&Arc<Slot>>,
    instances: Vec<Vec<NamedTensor>>,
) -> (Vec<Result<Prediction, PredictError>>, Option<ShadowCopy>) {
    let slot = &chosen.resolved.slot;
    let mut copy = None;
    if let Some(stacked) = stacked(slot, &instances)
        && let Ok((inference, copied)) = infer_patiently(context, chosen, shadow.take(), stacked).await
    {
        copy = copied;
        if let Some(rows) = split(&inference.outputs, instances.len()) {
            return (rows.into_iter().map(|row| prediction(chosen, row)).collect(), copy);
        }
    }
    let mut outcomes = Vec::with_capacity(instances.len());
    for inputs in instances {
        let outcome = infer_patiently(context, chosen, shadow.take(), inputs).await;
        outcomes.push(outcome.and_then(|(inference, copied)| {
            copy = copy.take().or(copied);
            prediction(chosen, inference.outputs)
        }));
    }
    (outcomes, copy)
}

fn stacked(slot: &Slot, instances: &[Vec<NamedTensor>]) -> Option<Vec<NamedTensor>> {
    if slot.has_independent_rows() { stack(instances) } else { None }
}

/// How long a stream waits for a place in the queue; longer, and the server has other troubles.
const QUEUE_PATIENCE: Duration = Duration::from_secs(60);

/// Between two tries, at most: the queue moves faster than it says when requests are given up.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);

async fn infer_patiently(
    context: &Context,
    chosen: &Chosen,
    shadow: Option<&Arc<Slot>>,
    inputs: Vec<NamedTensor>,
) -> Result<(Inference, Option<ShadowCopy>), PredictError> {
    let started = Instant::now();
    loop {
        match infer(context, chosen, shadow, inputs.clone(), InferOptions::default()).await {
            Err(PredictError::Overloaded { retry_after }) if started.elapsed() < QUEUE_PATIENCE => {
                tokio::time::sleep(retry_after.min(QUEUE_PAUSE)).await;
            }
            outcome => return outcome,
        }
    }
}
