//! Runs what is to be answered later: this process's share, while it has time.
//!
//! Requests are claimed in the database, a few at a time, and run as background: one that somebody waits for goes first. A claim
//! is renewed while its request runs, and a result counts only under a claim that holds; a process that dies renews nothing,
//! and another (or the same, started again) runs what it was at.

use std::time::{Duration, Instant};

use jiff::SignedDuration;
use tidegate_core::{SemVer, Timestamp};
use tidegate_serve::Priority;
use tidegate_store::{AsyncOutcome, AsyncResult, Claim, Claimed, JsonText};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::super::{PredictRequest, query};
use crate::Phase;
use crate::context::Context;
use crate::error::{ApiError, ErrorCode};
use crate::extract::json_from_slice;
use crate::operations::predict::{
    Answer, PredictError, Predicted, Target, account, milliseconds, predict_unless,
};
use crate::operations::register::parse_number;
use crate::operations::shadow::ShadowCopy;
use crate::trace::log_error;

/// Requests that one process has at a time: enough that some go together as a batch, few enough that the others find
/// something to do, and of the largest size they take 16 MiB.
const AT_A_TIME: usize = 16;

/// More are claimed when no more than this run: one statement for several.
const REFILL_BELOW: usize = AT_A_TIME / 2;

/// How often to look for what other processes took in, or were lost with.
const POLL: Duration = Duration::from_secs(1);

/// How often expired results are deleted, and how many in one statement: writers wait for no more than that.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
const SWEEP_BATCH: u32 = 1_000;

/// A request whose processes were lost so often is taken for the reason.
const MAX_LOST: u64 = 3;

/// The longest pause before what could not be run is tried again; the first is a second, each next twice as long.
const MAX_PAUSE: SignedDuration = SignedDuration::from_secs(60);

/// A result that the database does not take at once is offered again so often, with a pause between.
const RECORD_ATTEMPTS: u32 = 10;
const RECORD_PAUSE: Duration = Duration::from_millis(500);

/// How long requests that run may take to finish at shutdown; others run them again.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// See the module. [`run`](Self::run) is to be spawned, once.
pub struct AsyncRunner {
    context: Context,
}

impl AsyncRunner {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// Until told to stop; then what is not finished soon is given back.
    pub async fn run(self, stop: CancellationToken) {
        let context = &self.context;
        let mut running = JoinSet::new();
        let mut swept_at: Option<Instant> = None;
        // Before its models are loaded, a process can answer nothing.
        tokio::select! {
            () = context.readiness.started() => {}
            () = stop.cancelled() => return,
        }
        while !stop.is_cancelled() {
            while running.try_join_next().is_some() {}
            if running.len() <= REFILL_BELOW {
                for claimed in self.claim(AT_A_TIME - running.len()).await {
                    running.spawn(answer(context.clone(), claimed));
                }
            }
            if swept_at.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL) {
                swept_at = Some(Instant::now());
                self.sweep().await;
            }
            tokio::select! {
                Some(_) = running.join_next() => {}
                () = context.inner().async_request_came.notified(), if running.len() <= REFILL_BELOW => {}
                () = tokio::time::sleep(POLL) => {}
                () = stop.cancelled() => {}
            }
        }
        let finished = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, finished).await.is_err() {
            running.shutdown().await;
            let requests = &context.store.async_requests;
            if let Err(error) = requests.release(&context.replica.id, context.clock.now()).await {
                tracing::warn!(%error, "failed to give back requests that are answered later; their claims will end");
            }
        }
    }

    async fn claim(&self, n_wanted: usize) -> Vec<Claimed> {
        let context = &self.context;
        if context.readiness.phase() != Phase::Ready {
            return Vec::new();
        }
        let (requests, now) = (&context.store.async_requests, context.clock.now());
        let limit = u32::try_from(n_wanted).unwrap_or(u32::MAX);
        let claimed = async {
            match requests.is_any_due(now).await? {
                true => requests.claim(&context.replica.id, now, lease(context), limit).await,
                false => Ok(Vec::new()),
            }
        };
        claimed.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to look for requests that are answered later");
            Vec::new()
        })
    }

    async fn sweep(&self) {
        let context = &self.context;
        loop {
            match context.store.async_requests.sweep(context.clock.now(), SWEEP_BATCH).await {
                Ok(deleted) if deleted >= u64::from(SWEEP_BATCH) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "failed to delete expired results");
                    return;
                }
            }
        }
    }
}

fn lease(context: &Context) -> SignedDuration {
    context.settings.async_requests.lease
}

/// Runs one request and records what came of it, as long as its claim holds.
async fn answer(context: Context, claimed: Claimed) {
    let span = tracing::info_span!("request", trace_id = claimed.request.trace_id);
    let work = async {
        match attempt(&context, &claimed).await {
            Attempt::Done(result, copy) => {
                record(&context, &claimed.claim, &result).await;
                drop(copy);
            }
            Attempt::PutOff(until) => {
                if let Err(error) = context.store.async_requests.put_off(&claimed.claim, until).await {
                    tracing::warn!(%error, "failed to put off a request; its claim will end");
                }
            }
        }
    };
    tokio::select! {
        () = work.instrument(span) => {}
        () = lost(&context, &claimed.claim) => {
            tracing::warn!(request_id = %claimed.request.request_id, "another process has taken over a request");
        }
    }
}

/// Renews the claim, and ends when it does not hold any more.
async fn lost(context: &Context, claim: &Claim) {
    let lease = lease(context);
    loop {
        tokio::time::sleep(lease.unsigned_abs() / 3).await;
        match context.store.async_requests.renew(claim, context.clock.now(), lease).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => tracing::warn!(%error, "failed to renew a claim"),
        }
    }
}

async fn record(context: &Context, claim: &Claim, result: &AsyncResult) {
    for attempt in 1..=RECORD_ATTEMPTS {
        match context.store.async_requests.complete(claim, result).await {
            Ok(true) => return,
            Ok(false) => return tracing::warn!(request_id = %claim.request_id, "a result came too late"),
            Err(error) => tracing::warn!(%error, attempt, "failed to record the result of a request"),
        }
        tokio::time::sleep(RECORD_PAUSE).await;
    }
}

#[expect(clippy::large_enum_variant, reason = "one at a time, on its way to the caller")]
enum Attempt {
    /// The copy for a shadow is to be held until the result is recorded.
    Done(AsyncResult, Option<ShadowCopy>),
    PutOff(Timestamp),
}

async fn attempt(context: &Context, claimed: &Claimed) -> Attempt {
    let settings = &context.settings.async_requests;
    let (started, now) = (Instant::now(), context.clock.now());
    let waited = now.duration_since(claimed.request.requested_at);
    let outcome = predict(context, claimed, started, waited >= settings.max_wait).await;
    let (outcome, version, copy) = match outcome {
        Ok(Predicted { chosen, prediction, copy, .. }) => {
            let outcome = completed(context, claimed, &prediction);
            (outcome, Some(chosen.resolved.slot.number().clone()), copy)
        }
        Err(Failure::PutOff(pause)) => {
            return Attempt::PutOff(now.saturating_add(pause).unwrap_or(Timestamp::MAX));
        }
        Err(Failure::Final(error)) => (failed(context, claimed, &error), None, None),
    };
    Attempt::Done(result(context, outcome, version, started), copy)
}

fn result(
    context: &Context,
    outcome: AsyncOutcome,
    version: Option<SemVer>,
    started: Instant,
) -> AsyncResult {
    let completed_at = context.clock.now();
    let retention = context.settings.async_requests.retention;
    AsyncResult {
        outcome,
        version,
        latency_ms: milliseconds(started),
        completed_at,
        expires_at: completed_at.saturating_add(retention).unwrap_or(Timestamp::MAX),
    }
}

fn completed(
    context: &Context,
    claimed: &Claimed,
    prediction: &crate::operations::prediction::Prediction,
) -> AsyncOutcome {
    let max_bytes = context.settings.async_requests.max_result_bytes;
    match JsonText::within(prediction, max_bytes) {
        Some(json) => AsyncOutcome::Completed { prediction: json, confidence: prediction.confidence() },
        None => {
            let message = format!(
                "the prediction is larger than the {max_bytes} bytes that are kept; send the request without \
                 `Prefer: respond-async`"
            );
            failed(context, claimed, &ApiError::new(ErrorCode::PayloadTooLarge, message))
        }
    }
}

fn failed(context: &Context, claimed: &Claimed, error: &ApiError) -> AsyncOutcome {
    log_error(error);
    let content = error.content(&claimed.request.trace_id, context.clock.now());
    AsyncOutcome::Failed { error: JsonText::of(&content).expect("an error is texts") }
}

/// Why there is no prediction.
enum Failure {
    /// It may go well after a while.
    PutOff(SignedDuration),
    Final(ApiError),
}

async fn predict(
    context: &Context,
    claimed: &Claimed,
    started: Instant,
    is_last: bool,
) -> Result<Predicted, Failure> {
    let request = &claimed.request;
    let body: PredictRequest = json_from_slice(request.body.as_bytes()).map_err(Failure::Final)?;
    let pin = body.version.map(|text| parse_number("version", &text)).transpose();
    let target = Target {
        model: request.model.clone(),
        environment: request.environment,
        pin: pin.map_err(|fault| Failure::Final(fault.into()))?,
        request_id: request.request_id.clone(),
        sticky_key: request.sticky_key.clone(),
        principal: request.principal.clone(),
        // Where the route goes by another one by now, the request's id decides.
        header: request.sticky_header.clone(),
        requested_at: request.requested_at,
        started,
        deadline: None,
        priority: Priority::Background,
    };
    if claimed.n_lost >= MAX_LOST {
        let reason =
            format!("each of {} processes that ran it was lost; it is not tried again", claimed.n_lost);
        let error = PredictError::Failed(reason);
        account(context, &target, None, Answer::failed(context, &error));
        return Err(Failure::Final(error.into()));
    }
    let query = query(body.features, body.inputs).map_err(Failure::Final)?;
    let predicted = predict_unless(context, &target, query, |error| passes(error) && !is_last).await;
    predicted.map_err(|error| match error {
        error if !passes(&error) => Failure::Final(error.into()),
        error if is_last => Failure::Final(given_up(context, error)),
        PredictError::Overloaded { .. } | PredictError::ShuttingDown => Failure::PutOff(pause(0)),
        _ => Failure::PutOff(pause(claimed.n_put_off)),
    })
}

/// Whether it passes by itself, or by what somebody does to the server.
fn passes(error: &PredictError) -> bool {
    match error {
        PredictError::Overloaded { .. }
        | PredictError::ShuttingDown
        | PredictError::NotDeployed { .. }
        | PredictError::NotLoaded { .. } => true,
        PredictError::Store(error) => error.retryable(),
        PredictError::NoSuchModel { .. }
        | PredictError::NoSuchVersion { .. }
        | PredictError::Misfit(_)
        | PredictError::DeadlineExceeded
        | PredictError::Failed(_)
        | PredictError::NotFinite(_) => false,
    }
}

fn given_up(context: &Context, error: PredictError) -> ApiError {
    let mut error = ApiError::from(error);
    let seconds = context.settings.async_requests.max_wait.as_secs();
    error.message = format!("given up after {seconds} seconds of waiting: {}", error.message);
    error
}

fn pause(n_put_off: u64) -> SignedDuration {
    let seconds = 1i64.checked_shl(u32::try_from(n_put_off).unwrap_or(u32::MAX)).unwrap_or(i64::MAX);
    if seconds <= 0 { MAX_PAUSE } else { SignedDuration::from_secs(seconds).min(MAX_PAUSE) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        let seconds: Vec<_> = [0, 1, 5, 6, 40, 63, 64, u64::MAX].map(|n| pause(n).as_secs()).into();
        assert_eq!(seconds, [1, 2, 32, 60, 60, 60, 60, 60]);
    }
}
