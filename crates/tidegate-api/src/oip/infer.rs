//! The path of an inference request, whichever way it came.

use std::time::{Duration, Instant};

use http::HeaderMap;
use tidegate_core::{NamedTensor, RequestId, SemVer};
use tidegate_serve::Priority;

use super::classification::classify;
use crate::context::Context;
use crate::error::ApiError;
use crate::extract::{Asker, is_key, sticky_header};
use crate::operations::fault::Fault;
use crate::operations::predict::{self, CacheUse, PredictError, Predicted, Query, Target};
use crate::operations::register::parse_number;
use crate::operations::shadow::ShadowCopy;

/// Whom a request is for.
pub(crate) struct Addressee {
    pub model: String,
    /// Empty: whichever the route says.
    pub version: String,
}

/// An inference request, read.
pub(crate) struct InferRequest {
    /// Empty: none was given.
    pub id: String,
    /// Or what is wrong with them, by place.
    pub inputs: Result<Vec<NamedTensor>, Vec<Fault>>,
    /// Empty: all outputs of the model.
    pub outputs: Vec<RequestedOutput>,
    /// How long the caller waits, from the beginning of the request.
    pub timeout: Option<Duration>,
}

pub(crate) struct RequestedOutput {
    pub name: String,
    /// How many classes to name instead of giving the values; 0 gives the values.
    pub n_classes: usize,
}

pub(super) struct InferAnswer {
    /// The caller's, or the one that was made up: feedback can be given under it.
    pub id: String,
    pub model: String,
    pub version: String,
    /// Those that were asked for, in that order.
    pub outputs: Vec<NamedTensor>,
    pub cache: Option<CacheUse>,
    /// Held until the answer is written.
    pub _copy: Option<ShadowCopy>,
}

/// Runs the request and accounts for it, as every protocol does.
pub(super) async fn infer(
    context: &Context,
    addressee: Addressee,
    headers: &HeaderMap,
    request: InferRequest,
    started: Instant,
) -> Result<InferAnswer, ApiError> {
    let mut target = target(context, addressee, headers, &request.id, started)?;
    target.deadline = request.timeout.and_then(|timeout| started.checked_add(timeout));
    let outputs = request.outputs.iter().map(|output| output.name.clone()).collect();
    let query = Query::Tensors { inputs: request.inputs, outputs };
    let Predicted { chosen, prediction, copy, cache } = predict::predict(context, &target, query).await?;
    let id = if request.id.is_empty() { target.request_id.to_string() } else { request.id };
    Ok(InferAnswer {
        id,
        model: chosen.model_name(),
        version: chosen.number(),
        outputs: select(prediction.into_outputs(), request.outputs)?,
        cache,
        _copy: copy,
    })
}

/// The id is the caller's where it can be kept; callers may write any text.
pub(super) fn target(
    context: &Context,
    addressee: Addressee,
    headers: &HeaderMap,
    id: &str,
    started: Instant,
) -> Result<Target, ApiError> {
    let requested_at = context.clock.now();
    let request_id = match is_key(id) {
        true => RequestId::new(id),
        false => context.ids.next(requested_at),
    };
    let asker = Asker::of(headers)?;
    let pin: Option<SemVer> = match addressee.version.as_str() {
        "" => None,
        version => Some(parse_number("version", version)?),
    };
    let environment = asker.environment.unwrap_or(context.settings.default_environment);
    Ok(Target {
        header: sticky_header(&context.server, environment, &addressee.model, headers),
        model: addressee.model,
        environment,
        pin,
        request_id,
        sticky_key: asker.key,
        principal: asker.principal,
        requested_at,
        started,
        deadline: None,
        priority: Priority::Request,
    })
}

fn select(
    mut outputs: Vec<NamedTensor>,
    requested: Vec<RequestedOutput>,
) -> Result<Vec<NamedTensor>, ApiError> {
    if requested.is_empty() {
        return Ok(outputs);
    }
    let mut selected = Vec::with_capacity(requested.len());
    for RequestedOutput { name, n_classes } in requested {
        let found = outputs.iter().position(|output| output.name == name);
        let output = found.map(|index| outputs.swap_remove(index));
        // That the model has it was checked before the run.
        let output = output.ok_or_else(|| misfit(&name, "asked for twice"))?;
        selected.push(match n_classes {
            0 => output,
            _ => NamedTensor {
                tensor: classify(&output.tensor, n_classes)
                    .ok_or_else(|| misfit(&name, "has no values that could be ranked"))?,
                name,
            },
        });
    }
    Ok(selected)
}

fn misfit(output: &str, message: &str) -> ApiError {
    PredictError::Misfit(vec![Fault::new(format!("outputs.{output}"), message)]).into()
}
