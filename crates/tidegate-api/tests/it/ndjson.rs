//! Batches that are streams: a line in, a line out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::support::{App, request};

const PATH: &str = "/api/v1/inference/m/batch";
const NDJSON: &str = "application/x-ndjson";
const PATIENCE: Duration = Duration::from_secs(60);

fn lines(text: &[u8]) -> Vec<Value> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

async fn begin(app: &App, body: Body) -> Response {
    app.router.clone().oneshot(request(Method::POST, PATH, NDJSON, body)).await.unwrap()
}

/// A body that the test writes as it goes.
fn written() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (writer, pieces) = mpsc::unbounded_channel::<Bytes>();
    let pieces = futures::stream::unfold(pieces, async |mut pieces| {
        let piece = pieces.recv().await?;
        Some((Ok::<_, std::io::Error>(piece), pieces))
    });
    (writer, Body::from_stream(pieces))
}

/// A body that never ends, and how many of its lines were taken.
fn endless() -> (Arc<AtomicU64>, Body) {
    let taken = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&taken);
    let lines = futures::stream::repeat_with(move || {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, std::io::Error>(Bytes::from_static(b"{\"x\": [1, 2, 3]}\n"))
    });
    (taken, Body::from_stream(lines))
}

struct Answers {
    body: BodyDataStream,
    buffer: BytesMut,
}

impl Answers {
    fn of(response: Response) -> Self {
        assert_eq!(response.status(), StatusCode::OK);
        Self { body: response.into_body().into_data_stream(), buffer: BytesMut::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Some(serde_json::from_slice(&self.buffer.split_to(end + 1)).unwrap());
            }
            let piece = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("an answer in time");
            self.buffer.extend_from_slice(&piece?.unwrap());
        }
    }
}

#[tokio::test]
async fn each_line_is_answered_in_order_and_a_bad_one_stops_nothing() {
    let mut app = App::with(|settings| settings.max_request_bytes = 500).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let too_long = format!("{{\"x\": [1, 2, {}]}}", "3".repeat(1000));
    let bad = [
        "{\"x\": [1, 2, 3]}",
        "",
        "{\"x\": [1, 2]}\r",
        "not json",
        &too_long,
        "{\"x\": [1e38, 1e38, 3e38]}",
        "   {\"x\": [[4, 5, 6]]} ",
        "[1]",
        "{\"x\": [0, 0, 0]}",
    ];
    let reply = app.post_raw(&format!("{PATH}?requestId=mine"), NDJSON, bad.join("\n")).await;
    assert_eq!((reply.status, reply.header("content-type")), (StatusCode::OK, NDJSON), "{}", reply.text());
    assert_eq!(reply.header("x-tidegate-version"), "1.0.0");
    let mut answers = lines(&reply.body);
    for answer in answers.iter_mut().filter(|answer| !answer["error"].is_null()) {
        assert_eq!(answer["error"]["traceId"], reply.header("x-trace-id"));
        answer["error"]["traceId"] = json!("[trace id]");
    }
    insta::assert_json_snapshot!("lines", answers);
    let record = app.log.recv().await.unwrap();
    assert_eq!((record.request_id.as_str(), record.status.as_str()), ("mine", "Completed"));
    assert!(app.log.try_recv().is_err(), "one request, one row");

    let nothing = app.post_raw(PATH, NDJSON, "\n\n").await;
    assert_eq!((nothing.status, nothing.body.as_slice()), (StatusCode::OK, &b""[..]));
    assert_eq!(app.log.recv().await.unwrap().status, "Completed");
    let reply = app.post_raw(PATH, NDJSON, "1\n2").await;
    assert_eq!(lines(&reply.body).len(), 2);
    assert_eq!(app.log.recv().await.unwrap().status, "Failed", "nothing of it was answered");
}

#[tokio::test]
async fn a_long_stream_is_answered_like_its_lines() {
    for model in ["linear.onnx", "fixed-batch.onnx"] {
        let app = App::start().await;
        app.serve("m", "1.0.0", model).await;
        let is_fixed = model == "fixed-batch.onnx";
        let row = |i: usize| if is_fixed { json!([[i, 0, 0], [i, 0, 0]]) } else { json!([i, 0, 0]) };
        let text: String = (0..1500).map(|i| format!("{}\n", json!({"x": row(i)}))).collect();
        let pieces = text.as_bytes().chunks(1000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
        let body = Body::from_stream(futures::stream::iter(pieces.collect::<Vec<_>>()));
        let reply = app.post_raw(PATH, NDJSON, body).await;
        let answers = lines(&reply.body);
        assert_eq!(answers.len(), 1500);
        for (i, answer) in answers.iter().enumerate() {
            let (i, number) = (i as u64, i as f64);
            let expected = if is_fixed {
                json!([[2.0 * number, 0.0, 0.0], [2.0 * number, 0.0, 0.0]])
            } else {
                json!([number + 0.5, 2.0 * number - 0.5])
            };
            assert_eq!(*answer, json!({"index": i, "prediction": {"y": expected}}));
        }
    }
}

#[tokio::test]
async fn a_stream_is_whole_on_one_version() {
    let app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    let (writer, body) = written();
    let mut answers = Answers::of(begin(&app, body).await);
    let line = Bytes::from_static(b"{\"x\": [0]}\n");
    writer.send(line.clone()).unwrap();
    assert_eq!(answers.next().await.unwrap(), json!({"index": 0, "prediction": {"y": 1.0}}));
    app.serve("m", "2.0.0", "version-2.onnx").await;
    let now = app.post("/api/v1/inference/m", &json!({"features": {"x": [0]}})).await;
    assert_eq!(now.json()["version"], "2.0.0");
    for index in 1..4 {
        writer.send(line.clone()).unwrap();
        assert_eq!(answers.next().await.unwrap(), json!({"index": index, "prediction": {"y": 1.0}}));
    }
    // An unfinished line is one, when the body ends there.
    writer.send(Bytes::from_static(b"{\"x\": [0]}")).unwrap();
    drop(writer);
    assert_eq!(answers.next().await.unwrap()["index"], 4);
    assert_eq!(answers.next().await, None);
}

#[tokio::test]
async fn who_does_not_read_is_not_read_from() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let (taken, body) = endless();
    let mut answers = Answers::of(begin(&app, body).await);
    for index in 0..2_000u64 {
        assert_eq!(answers.next().await.unwrap()["index"], index);
    }
    // What runs, what was read beside it, what waits in the channel and what the reader has not looked at yet: chunks of 256.
    let mut before = u64::MAX;
    let deadline = Instant::now() + PATIENCE;
    while taken.load(Ordering::Relaxed) != before {
        assert!(Instant::now() < deadline, "the body is read on and on");
        before = taken.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(before < 2_000 + 6 * 256, "{before} lines were taken");
    drop(answers);
    let record = tokio::time::timeout(PATIENCE, app.log.recv()).await.unwrap().unwrap();
    assert_eq!(record.status, "Failed", "{record:?}");
}

#[tokio::test]
async fn streams_are_counted_and_a_body_that_breaks_says_so() {
    let app = App::start().await;
    app.post_raw(PATH, NDJSON, "{}").await.check(404, "MODEL_NOT_FOUND", "");
    app.serve("m", "1.0.0", "linear.onnx").await;
    app.post_raw(&format!("{PATH}?version=2"), NDJSON, "{}").await.check(400, "VALIDATION_ERROR", "version");
    let in_query = app.post(&format!("{PATH}?requestId=x"), &json!({"instances": [{"x": [1, 2, 3]}]})).await;
    in_query.check(400, "VALIDATION_ERROR", "requestId");
    let mut squeezed = request(Method::POST, PATH, NDJSON, Body::from("{}"));
    squeezed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    app.send(squeezed).await.check(415, "UNSUPPORTED_MEDIA_TYPE", "");

    let mut open = Vec::new();
    for _ in 0..16 {
        let (writer, body) = written();
        writer.send(Bytes::from_static(b"{\"x\": [1, 2, 3]}\n")).unwrap();
        let mut answers = Answers::of(begin(&app, body).await);
        answers.next().await.unwrap();
        open.push((writer, answers));
    }
    app.post_raw(PATH, NDJSON, "{}").await.check(503, "SERVICE_UNAVAILABLE", "");
    open.clear();
    let deadline = Instant::now() + PATIENCE;
    while app.post_raw(PATH, NDJSON, "").await.status != StatusCode::OK {
        assert!(Instant::now() < deadline, "the places of streams that are gone are free");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let pieces = [Ok(Bytes::from_static(b"{\"x\": [1, 2, 3]}\n{\"x\"")), Err(std::io::Error::other("gone"))];
    let reply = app.post_raw(PATH, NDJSON, Body::from_stream(futures::stream::iter(pieces))).await;
    let answers = lines(&reply.body);
    assert_eq!((answers.len(), &answers[0]["index"]), (2, &json!(0)), "{}", reply.text());
    assert_eq!(answers[1]["error"]["code"], "VALIDATION_ERROR");
}
