//! Predicting with what serves now: resolve, convert, run, and account for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::{Caller, Environment, HeaderName, NamedTensor, RequestId, SemVer, Timestamp};
use tidegate_serve::{InferError, InferOptions, Inference, Priority, ResolveError, Resolved, RunError, Slot};
use tidegate_store::{InferenceRecord, JsonText, StoreError};

use super::cache::Key;
use super::facts::VersionFacts;
use super::fault::{Fault, listed};
use super::features::{Features, from_features};
use super::log_policy::Payload;
use super::prediction::{NotFinite, Prediction};
use super::shadow::ShadowCopy;
use crate::context::Context;
use crate::error::{MAX_MESSAGE_CHARS, shortened};

/// Which model a request means, and who it is.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Name or id.
    pub model: String,
    pub environment: Environment,
    /// One loaded version, whatever its weight.
    pub pin: Option<SemVer>,
    pub request_id: RequestId,
    /// Decides between arms where the route goes by it; the request id where the caller gives none.
    pub sticky_key: Option<String>,
    /// Who asks, where the caller says.
    pub principal: Option<String>,
    /// The header that the route goes by, and its value, where the caller gives it.
    pub header: Option<(HeaderName, Vec<u8>)>,
    pub requested_at: Timestamp,
    /// The same moment, for measuring.
    pub started: Instant,
    /// When the caller stops waiting, where it says so.
    pub deadline: Option<Instant>,
    /// Whether somebody waits at all.
    pub priority: Priority,
}

impl Target {
    fn options(&self) -> InferOptions {
        InferOptions { deadline: self.deadline, priority: self.priority, ..InferOptions::default() }
    }
}

/// What a caller wants predicted.
pub(crate) enum Query {
    Features(Features),
    Tensors {
        /// Read already, or what is wrong with them by place in the request's list of inputs.
        inputs: Result<Vec<NamedTensor>, Vec<Fault>>,
        /// Those that the caller names; the model must have them. All are computed.
        outputs: Vec<String>,
    },
}

/// A prediction, and who made it.
pub(crate) struct Predicted {
    pub chosen: Chosen,
    pub prediction: Prediction,
    /// To be held until the answer is written.
    pub copy: Option<ShadowCopy>,
    /// `None` where the model has no cache.
    pub cache: Option<CacheUse>,
}

/// Whether the answer was given before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheUse {
    Hit,
    Miss,
}

impl CacheUse {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// Why there is no prediction.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PredictError {
    #[error("there is no model `{model}`")]
    NoSuchModel { model: String },
    #[error("model `{model}` has no version {version}")]
    NoSuchVersion { model: String, version: SemVer },
    #[error("model `{model}` is not deployed in {environment}")]
    NotDeployed { model: String, environment: Environment },
    #[error(
        "version {version} of model `{model}` is not loaded in {environment}; loaded: {}",
        numbers(loaded)
    )]
    NotLoaded { model: String, version: SemVer, environment: Environment, loaded: Vec<SemVer> },
    /// The features or tensors do not fit the model.
    #[error("{}", listed(.0))]
    Misfit(Vec<Fault>),
    #[error("the server is overloaded")]
    Overloaded { retry_after: Duration },
    #[error("the deadline of the request passed before it was answered")]
    DeadlineExceeded,
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("{0}")]
    Failed(String),
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) fn numbers(versions: &[SemVer]) -> String {
    let texts: Vec<_> = versions.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// The slot that answers, and what is known of its version.
#[derive(Clone)]
pub(crate) struct Chosen {
    pub resolved: Resolved,
    pub facts: Arc<VersionFacts>,
}

impl Chosen {
    pub(crate) fn model_name(&self) -> String {
        self.resolved.slot.model_name().to_string()
    }

    pub(crate) fn number(&self) -> String {
        self.resolved.slot.number().to_string()
    }
}

/// One request from choosing who answers to accounting for it, whatever came of it.
pub(crate) async fn predict(
    context: &Context,
    target: &Target,
    query: Query,
) -> Result<Predicted, PredictError> {
    predict_unless(context, target, query, |_| false).await
}

/// The same, but an error that `is_put_off` is not the end of the request and is not accounted for.
pub(crate) async fn predict_unless(
    context: &Context,
    target: &Target,
    query: Query,
    is_put_off: impl Fn(&PredictError) -> bool,
) -> Result<Predicted, PredictError> {
    let chosen = match resolve(context, target).await {
        Err(error) if is_put_off(&error) => return Err(error),
        chosen => chosen_or_accounted(context, target, chosen)?,
    };
    let (features, inputs) = inputs(&chosen, query);
    let result = match inputs {
        Ok(inputs) => cached_or_run(context, &chosen, inputs, target.options()).await,
        Err(misfit) => Err(misfit),
    };
    let result = match result {
        Err(error) if is_put_off(&error) => return Err(error),
        result => result,
    };
    let answer =
        Answer::of(context, target, features.as_ref(), result.as_ref().map(|(prediction, _, _)| prediction));
    account(context, target, Some(&chosen), answer);
    context.inner().traces.record(target.request_id.as_str(), &chosen, milliseconds(target.started));
    let (prediction, copy, cache) = result?;
    Ok(Predicted { chosen, prediction, copy, cache })
}

/// Finds who answers; where nobody does, the request is accounted for as failed.
pub(crate) async fn choose(context: &Context, target: &Target) -> Result<Chosen, PredictError> {
    chosen_or_accounted(context, target, resolve(context, target).await)
}

fn chosen_or_accounted(
    context: &Context,
    target: &Target,
    chosen: Result<Chosen, PredictError>,
) -> Result<Chosen, PredictError> {
    if let Err(error) = &chosen {
        account(context, target, None, Answer::failed(context, error));
    }
    chosen
}

/// Asks the store only where nobody answers, to say why.
pub(crate) async fn resolve(context: &Context, target: &Target) -> Result<Chosen, PredictError> {
    let caller = Caller {
        request_id: target.request_id.as_str(),
        key: target.sticky_key.as_deref(),
        principal: target.principal.as_deref(),
        header: target.header.as_ref().map(|(name, value)| (name, value.as_slice())),
    };
    let resolved = context.server.resolve(target.environment, &target.model, target.pin.as_ref(), &caller);
    let resolved = match resolved {
        Ok(resolved) => resolved,
        Err(error) => return Err(explain(context, target, error).await?),
    };
    let version_id = resolved.slot.version_id();
    let facts = context.inner().facts.get(&context.store, version_id).await?;
    let facts = facts
        .ok_or_else(|| PredictError::Failed(format!("version {version_id} is loaded but not stored")))?;
    Ok(Chosen { resolved, facts })
}

async fn explain(
    context: &Context,
    target: &Target,
    error: ResolveError,
) -> Result<PredictError, StoreError> {
    let (model, environment) = (target.model.clone(), target.environment);
    let Some(known) = context.store.models.find(&model).await? else {
        return Ok(PredictError::NoSuchModel { model });
    };
    if let Some(version) = target.pin.clone()
        && context.store.versions.by_number(&known.id, &version).await?.is_none()
    {
        return Ok(PredictError::NoSuchVersion { model, version });
    }
    Ok(match error {
        ResolveError::VersionNotLoaded { asked, loaded } => {
            PredictError::NotLoaded { model, version: asked, environment, loaded }
        }
        ResolveError::NotRouted { .. } | ResolveError::NothingActive => {
            PredictError::NotDeployed { model, environment }
        }
    })
}

/// What the query means to the version, and the features where it came as such.
pub(crate) fn inputs(
    chosen: &Chosen,
    query: Query,
) -> (Option<Features>, Result<Vec<NamedTensor>, PredictError>) {
    match query {
        Query::Features(features) => {
            let inputs = tensors(chosen, &features, "features");
            (Some(features), inputs)
        }
        Query::Tensors { inputs, outputs } => {
            let inputs = checked(chosen, inputs, "inputs");
            (None, check_outputs(chosen, &outputs).and(inputs))
        }
    }
}

/// The tensors of one prediction. `field` is what the features are called in the request: `features`, `instances[3]`.
pub(crate) fn tensors(
    chosen: &Chosen,
    features: &Features,
    field: &str,
) -> Result<Vec<NamedTensor>, PredictError> {
    let signature = chosen.resolved.slot.signature();
    let tensors = from_features(features, signature, &chosen.facts.input_schema);
    checked(chosen, tensors, field)
}

fn checked(
    chosen: &Chosen,
    tensors: Result<Vec<NamedTensor>, Vec<Fault>>,
    field: &str,
) -> Result<Vec<NamedTensor>, PredictError> {
    let within = |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.within(field)).collect();
    let tensors = tensors.map_err(|faults| PredictError::Misfit(within(faults)))?;
    chosen.resolved.slot.signature().check_inputs(&tensors).map_err(|mismatch| {
        PredictError::Misfit(vec![Fault::new(format!("{field}.{}", mismatch.tensor), mismatch.reason)])
    })?;
    Ok(tensors)
}

fn check_outputs(chosen: &Chosen, names: &[String]) -> Result<(), PredictError> {
    let known = &chosen.resolved.slot.signature().outputs;
    let is_unknown = |name: &&String| !known.iter().any(|spec| spec.name == **name);
    let fault = |name: &String| {
        let known = known.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
        Fault::new(format!("outputs.{name}"), format!("the model has no such output; it gives {known}"))
    };
    let faults: Vec<_> = names.iter().filter(is_unknown).map(fault).collect();
    if faults.is_empty() { Ok(()) } else { Err(PredictError::Misfit(faults)) }
}

/// Looks whether the answer was given before, where the model has a cache. Such an answer is no evidence of how the version
/// does: the slot does not count it, and no shadow is given a copy.
async fn cached_or_run(
    context: &Context,
    chosen: &Chosen,
    inputs: Vec<NamedTensor>,
    options: InferOptions,
) -> Result<(Prediction, Option<ShadowCopy>, Option<CacheUse>), PredictError> {
    let slot = &chosen.resolved.slot;
    let cache = context.inner().caches.of(slot.model_name().as_str()).filter(|_| slot.is_repeatable());
    let Some(cache) = cache else {
        let (prediction, copy) = run(context, chosen, inputs, options).await?;
        return Ok((prediction, copy, None));
    };
    let started = Instant::now();
    let key = Key::new(slot.version_id(), &inputs);
    let served = &chosen.facts.served;
    if let Some(prediction) = cache.get(&key) {
        served.answered_from_cache(started.elapsed(), context.clock.now());
        return Ok((prediction, None, Some(CacheUse::Hit)));
    }
    served.cache_miss.add(started.elapsed());
    let (prediction, copy) = run(context, chosen, inputs, options).await?;
    cache.put(key, &prediction);
    Ok((prediction, copy, Some(CacheUse::Miss)))
}

/// Runs one request on the slot.
async fn run(
    context: &Context,
    chosen: &Chosen,
    inputs: Vec<NamedTensor>,
    options: InferOptions,
) -> Result<(Prediction, Option<ShadowCopy>), PredictError> {
    let shadow = chosen.resolved.shadow.as_ref();
    let (inference, copy) = infer(context, chosen, shadow, inputs, options).await?;
    Ok((prediction(chosen, inference.outputs)?, copy))
}

/// The outputs, and what they took, counted.
pub(super) async fn infer(
    context: &Context,
    chosen: &Chosen,
    shadow: Option<&Arc<Slot>>,
    inputs: Vec<NamedTensor>,
    options: InferOptions,
) -> Result<(Inference, Option<ShadowCopy>), PredictError> {
    let started = Instant::now();
    // Copies wait until workers have time to spare, which shows only where requests are with workers too.
    let on_worker = options.on_worker || shadow.is_some();
    let options = InferOptions { standing: chosen.resolved.standing(), on_worker, ..options };
    let n_rows = inputs.first().and_then(|input| input.tensor.shape().first()).copied().unwrap_or(1);
    let for_shadow = shadow.map(|shadow| (shadow, inputs.clone()));
    let outcome = context.server.infer_with(&chosen.resolved.slot, inputs, options).await;
    let (served, took) = (&chosen.facts.served, started.elapsed());
    match outcome {
        Ok(inference) => {
            served.succeeded(n_rows, took, inference.queue, inference.run, context.clock.now());
            let copy = for_shadow
                .map(|(shadow, inputs)| ShadowCopy::new(context, shadow, inputs, inference.clone()));
            Ok((inference, copy))
        }
        Err(error) => {
            served.failed(took);
            Err(error.into())
        }
    }
}

/// A model that answers NaN has failed its caller, and is judged by that.
pub(super) fn prediction(chosen: &Chosen, outputs: Vec<NamedTensor>) -> Result<Prediction, PredictError> {
    let slot = &chosen.resolved.slot;
    Prediction::new(outputs, slot.signature()).map_err(|fault| {
        slot.report_unusable(chosen.resolved.standing());
        fault.into()
    })
}

impl From<InferError> for PredictError {
    fn from(error: InferError) -> Self {
        match error {
            InferError::Mismatch(mismatch) => {
                Self::Misfit(vec![Fault::new(mismatch.tensor.clone(), mismatch.reason)])
            }
            InferError::Run(RunError::Input { name, reason }) => Self::Misfit(vec![Fault::new(name, reason)]),
            InferError::Run(error) => Self::Failed(error.to_string()),
            InferError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            InferError::DeadlineExceeded => Self::DeadlineExceeded,
            InferError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

/// What came of a request, for the log.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub features: Option<JsonText>,
    pub prediction: Option<JsonText>,
    pub confidence: Option<f64>,
    /// `None`: it was answered.
    pub error: Option<String>,
}

impl Answer {
    pub(crate) fn failed(context: &Context, error: &PredictError) -> Self {
        Self { error: Some(context.settings.log.error(error)), ..Self::default() }
    }

    fn of(
        context: &Context,
        target: &Target,
        features: Option<&Features>,
        result: Result<&Prediction, &PredictError>,
    ) -> Self {
        let log = &context.settings.log;
        if !log.keeps(&target.request_id) {
            return Self::default();
        }
        let features =
            features.and_then(|features| log.kept(Payload::Features, features.n_leaves(), features));
        let prediction = result.ok();
        Self {
            features,
            prediction: prediction
                .and_then(|prediction| log.kept(Payload::Prediction, prediction.n_elements(), prediction)),
            confidence: prediction.and_then(Prediction::confidence),
            error: result.err().map(|error| log.error(error)),
        }
    }
}

/// Accounts for a request, failed or not.
pub(crate) fn account(context: &Context, target: &Target, chosen: Option<&Chosen>, answer: Answer) {
    if !context.settings.log.keeps(&target.request_id) {
        return;
    }
    let resolved = chosen.map(|chosen| &chosen.resolved);
    context.log_inference(InferenceRecord {
        request_id: target.request_id.clone(),
        // The name, also where the caller gave the id.
        model_name: resolved
            .map_or_else(|| unknown_name(target), |resolved| resolved.slot.model_name().to_string()),
        version: resolved.map(|resolved| resolved.slot.number().clone()),
        environment: Some(target.environment),
        deployment_id: resolved.map(|resolved| resolved.deployment_id.clone()),
        arm: resolved.and_then(|resolved| u32::try_from(resolved.arm?).ok()),
        features: answer.features,
        prediction: answer.prediction,
        confidence: answer.confidence,
        latency_ms: Some(milliseconds(target.started)),
        status: if answer.error.is_some() { "Failed" } else { "Completed" }.to_owned(),
        error_message: answer.error.map(|error| shortened(error, MAX_MESSAGE_CHARS)),
        requested_at: target.requested_at,
        completed_at: Some(context.clock.now()),
    });
}

/// What the caller wrote where no model has that name; registered names are never longer.
fn unknown_name(target: &Target) -> String {
    shortened(target.model.clone(), MAX_UNKNOWN_NAME_CHARS)
}

const MAX_UNKNOWN_NAME_CHARS: usize = 128;

pub(crate) fn milliseconds(since: Instant) -> f64 {
    // To the microsecond; more digits are noise.
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}
