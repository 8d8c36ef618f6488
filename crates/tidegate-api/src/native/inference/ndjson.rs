//! `/batch` as a stream: one instance a line, one answer a line, in order, however many there are.
//!
//! A task reads some lines, runs them and writes their answers into a channel that the response reads. The channel is short:
//! a caller that does not read stops the reading of what it sends, and memory holds a few lines of each stream.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{Method, header};
use serde::{Deserialize, Serialize};
use tidegate_core::{Environment, NamedTensor};
use tidegate_serve::Slot;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::{Asked, target, with_version};
use crate::context::Context;
use crate::error::{ApiError, ErrorCode, ErrorContent, OVERLOAD_RETRY_S};
use crate::extract::{Encoding, Line, Lines, json_from_slice, media_type};
use crate::operations::features::Features;
use crate::operations::instances::run_each;
use crate::operations::predict::{Answer, Chosen, PredictError, Target, account, choose, tensors};
use crate::operations::prediction::Prediction;
use crate::trace::TraceId;

/// Streams at a time: each may hold some lines of the largest size, about 20 MiB. More are told to come back.
pub(crate) const MAX_STREAMS: usize = 16;

/// The longest line: an image of 512 x 512 pixels in three bands, as numbers. The limit of bodies, where that is lower.
const MAX_LINE_BYTES: u64 = 8 << 20;

/// Lines that run together, unless they or their answers are large.
const MAX_LINES: usize = 256;
/// The first few: nobody knows yet how large answers are.
const FIRST_LINES: usize = 16;
/// Of the lines, or of the answers, that are worked on together.
const TARGET_BYTES: usize = 1 << 20;

/// While some lines run, the next are read.
const AT_A_TIME: usize = 2;

/// Answers that wait for the caller to read them, each of some lines.
const ANSWERS_WAITING: usize = 1;

/// How long a caller may leave its answers unread: while it does, a version is kept loaded for it.
const READ_PATIENCE: Duration = Duration::from_secs(300);

/// For a stream, whose lines are instances and nothing else.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamParameters {
    version: Option<String>,
    request_id: Option<String>,
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
}

impl StreamParameters {
    pub(super) fn refuse_any(&self) -> Result<(), ApiError> {
        let given = [
            ("version", self.version.is_some()),
            ("requestId", self.request_id.is_some()),
            ("environment", self.environment.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => {
                Err(ApiError::invalid(name, "is for streams (NDJSON); in a JSON request, put it in the body"))
            }
            None => Ok(()),
        }
    }
}

/// One answer: the prediction, or why there is none.
#[derive(Serialize)]
struct AnswerLine<'a> {
    /// Of the line among those that are not blank, from 0.
    index: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<&'a Prediction>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorContent>,
}

pub(super) fn is_ndjson(media_type: &str) -> bool {
    matches!(media_type, "application/x-ndjson" | "application/ndjson" | "application/jsonl")
}

/// Its body is never held as a whole, however long it is.
pub(crate) fn owns(request: &Request) -> bool {
    let path = request.uri().path();
    request.method() == Method::POST
        && path.starts_with("/api/v1/inference/")
        && path.ends_with("/batch")
        && is_ndjson(&media_type(request.headers()))
}

/// Begins to answer; the version is chosen here, for all lines.
pub(super) async fn answer(
    context: Context,
    model: String,
    parameters: StreamParameters,
    request: Request,
    started: std::time::Instant,
) -> Result<Response, ApiError> {
    let trace_id = TraceId::of(&request);
    let (parts, body) = request.into_parts();
    if Encoding::of(&parts.headers, header::CONTENT_ENCODING.as_str())? != Encoding::Identity {
        let message = "a stream is taken as it is; send it without a Content-Encoding";
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, message));
    }
    let StreamParameters { version, request_id, environment } = parameters;
    let target =
        target(&context, model, &parts.headers, Asked { version, request_id, environment, started })?;
    let permit = Arc::clone(&context.inner().batch_streams).try_acquire_owned().map_err(|_| {
        let message = format!("{MAX_STREAMS} streams are at work, and more may not; try again");
        ApiError::new(ErrorCode::ServiceUnavailable, message).with_retry_after(OVERLOAD_RETRY_S)
    })?;
    let chosen = choose(&context, &target).await?;
    let version = chosen.number();
    let max_line_bytes = context.settings.max_request_bytes.min(MAX_LINE_BYTES);
    let lines = Lines::new(body, usize::try_from(max_line_bytes).unwrap_or(usize::MAX));
    let (answers, unread) = mpsc::channel(ANSWERS_WAITING);
    let is_whole = Arc::new(AtomicBool::new(false));
    let work = Work { context, chosen, trace_id, _permit: permit };
    let task = work.run(target, lines, answers, Arc::clone(&is_whole));
    let task = AbortOnDropHandle::new(tokio::spawn(task));
    let body = Body::from_stream(response(unread, is_whole, task));
    let response = ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response();
    Ok(with_version(response, &version))
}

/// What the task writes. Where it ended early the response breaks off, so that nobody takes a part for the whole.
fn response(
    unread: mpsc::Receiver<Bytes>,
    is_whole: Arc<AtomicBool>,
    task: AbortOnDropHandle<()>,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
    futures::stream::unfold(Some((unread, is_whole, task)), |state| async {
        let (mut unread, is_whole, task) = state?;
        match unread.recv().await {
            Some(answer) => Some((Ok(answer), Some((unread, is_whole, task)))),
            None if is_whole.load(Ordering::Acquire) => None,
            None => Some((Err(std::io::Error::other("the answers were left unread for too long")), None)),
        }
    })
}

struct Work {
    context: Context,
    chosen: Chosen,
    trace_id: TraceId,
    _permit: OwnedSemaphorePermit,
}

/// Takes lines from the body, some at a time.
struct Reader {
    lines: Lines,
    /// How many, as the answers before have shown.
    max_lines: Arc<AtomicUsize>,
    next_index: u64,
    shadow: Option<Arc<Slot>>,
    is_over: bool,
}

/// Some lines as they came, from `first_index` on.
struct Chunk {
    first_index: u64,
    lines: Vec<Line>,
    /// What broke the body instead of the line after them.
    fault: Option<ApiError>,
    /// Only the first run is copied.
    shadow: Option<Arc<Slot>>,
}

/// What was answered so far.
#[derive(Default)]
struct Tally {
    n_lines: u64,
    n_failed: u64,
    first_error: Option<String>,
    is_broken: bool,
}

/// Accounts for the stream when it is over, also where its caller went away and the task was dropped.
struct Ledger {
    context: Context,
    target: Target,
    chosen: Chosen,
    tally: Tally,
    /// To the end.
    is_read: bool,
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let error = std::mem::take(&mut self.tally).error(self.is_read);
        let answer = Answer { error, ..Answer::default() };
        account(&self.context, &self.target, Some(&self.chosen), answer);
    }
}

struct Answered {
    text: Vec<u8>,
    tally: Tally,
}

impl Reader {
    async fn next(mut self) -> Option<(Chunk, Self)> {
        if self.is_over {
            return None;
        }
        let few = self.lines.next_few(self.max_lines.load(Ordering::Relaxed), TARGET_BYTES).await;
        let (lines, fault) = match few {
            Ok(few) => (few?, None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        let chunk = Chunk { first_index: self.next_index, lines, fault, shadow: self.shadow.take() };
        self.next_index += chunk.lines.len() as u64;
        self.is_over = chunk.fault.is_some();
        Some((chunk, self))
    }
}

impl Work {
    async fn run(
        self,
        target: Target,
        lines: Lines,
        answers: mpsc::Sender<Bytes>,
        is_whole: Arc<AtomicBool>,
    ) {
        let max_lines = Arc::new(AtomicUsize::new(FIRST_LINES));
        let reader = Reader {
            lines,
            max_lines: Arc::clone(&max_lines),
            next_index: 0,
            shadow: self.chosen.resolved.shadow.clone(),
            is_over: false,
        };
        let chunks = futures::stream::unfold(reader, Reader::next);
        let mut answered = pin!(chunks.map(|chunk| self.answer(chunk)).buffered(AT_A_TIME));
        let mut ledger = Ledger {
            context: self.context.clone(),
            target,
            chosen: self.chosen.clone(),
            tally: Tally::default(),
            is_read: false,
        };
        while let Some(Answered { text, tally: more }) = answered.next().await {
            let bytes_per_line = text.len() / usize::try_from(more.n_lines.max(1)).unwrap_or(usize::MAX);
            max_lines.store((TARGET_BYTES / bytes_per_line.max(1)).clamp(1, MAX_LINES), Ordering::Relaxed);
            ledger.tally.add(more);
            if answers.send_timeout(text.into(), READ_PATIENCE).await.is_err() {
                return;
            }
        }
        is_whole.store(true, Ordering::Release);
        ledger.is_read = true;
    }

    async fn answer(&self, chunk: Chunk) -> Answered {
        let mut inputs = Vec::with_capacity(chunk.lines.len());
        let mut outcomes: Vec<Option<Result<Prediction, ApiError>>> = Vec::with_capacity(chunk.lines.len());
        for (line, index) in chunk.lines.into_iter().zip(chunk.first_index..) {
            match self.inputs(line, index) {
                Ok(tensors) => {
                    inputs.push(tensors);
                    outcomes.push(None);
                }
                Err(error) => outcomes.push(Some(Err(error))),
            }
        }
        let (ran, _copy) = run_each(&self.context, &self.chosen, chunk.shadow.as_ref(), inputs).await;
        let mut ran = ran.into_iter();
        let mut answered = Answered { text: Vec::new(), tally: Tally::default() };
        for (outcome, index) in outcomes.into_iter().zip(chunk.first_index..) {
            let outcome = outcome.or_else(|| ran.next().map(|outcome| outcome.map_err(of_one)));
            answered.write(self, index, outcome.expect("each line was refused or run"));
        }
        if let Some(fault) = chunk.fault {
            answered.write(self, chunk.first_index, Err(fault));
            answered.tally.is_broken = true;
        }
        answered
    }

    fn inputs(&self, line: Line, index: u64) -> Result<Vec<NamedTensor>, ApiError> {
        let Line::Whole(text) = line else {
            let max_bytes = self.context.settings.max_request_bytes.min(MAX_LINE_BYTES);
            let message = format!("the line is longer than the {max_bytes} bytes that one instance may have");
            return Err(ApiError::new(ErrorCode::PayloadTooLarge, message));
        };
        let features: Features = json_from_slice(&text)?;
        tensors(&self.chosen, &features, &format!("instances[{index}]")).map_err(ApiError::from)
    }
}

/// The words that a caller would get for one request.
fn of_one(error: PredictError) -> ApiError {
    error.into()
}

impl Answered {
    fn write(&mut self, work: &Work, index: u64, outcome: Result<Prediction, ApiError>) {
        self.tally.n_lines += 1;
        let line = match &outcome {
            Ok(prediction) => AnswerLine { index, prediction: Some(prediction), error: None },
            Err(error) => {
                self.tally.n_failed += 1;
                // Words may quote what is to be kept out of the log.
                let is_open = work.context.settings.log.redact.is_empty();
                let words = || if is_open { error.message.clone() } else { format!("{:?}", error.code) };
                self.tally.first_error.get_or_insert_with(words);
                let content = error.content(work.trace_id.as_str(), work.context.clock.now());
                AnswerLine { index, prediction: None, error: Some(content) }
            }
        };
        serde_json::to_writer(&mut self.text, &line).expect("memory takes what is written");
        self.text.push(b'\n');
    }
}

impl Tally {
    fn add(&mut self, more: Self) {
        self.n_lines += more.n_lines;
        self.n_failed += more.n_failed;
        self.first_error = self.first_error.take().or(more.first_error);
        self.is_broken |= more.is_broken;
    }

    /// A stream of which something was answered went well, unless it broke off.
    fn error(self, is_read: bool) -> Option<String> {
        if !is_read {
            return Some("the caller stopped reading its answers".to_owned());
        }
        let is_failed = self.is_broken || self.n_failed > 0 && self.n_failed == self.n_lines;
        self.first_error.filter(|_| is_failed)
    }
}
