//! Requests that are answered later.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{App, Reply, request};

const PATH: &str = "/api/v1/inference/m";

/// How long anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn hand_in(app: &App, body: &Value) -> Reply {
    let mut asked = request(Method::POST, PATH, "application/json", body.to_string().into());
    asked.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    app.send(asked).await
}

async fn status(app: &App, id: &str) -> Reply {
    app.get(&format!("/api/v1/inference/{id}/status")).await
}

/// Asks until it is neither queued nor running.
pub async fn done(app: &App, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = status(app, id).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        if !["Queued", "Running"].contains(&reply.json()["status"].as_str().unwrap()) {
            assert_eq!(reply.header("retry-after"), "", "there is nothing to wait for");
            return reply.json();
        }
        assert_eq!(reply.header("retry-after"), "1");
        assert!(Instant::now() < deadline, "{}", reply.text());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

pub fn run(app: &mut App) -> Running {
    let stop = CancellationToken::new();
    let runner = app.async_runner.take().unwrap();
    Running { task: tokio::spawn(runner.run(stop.clone())), stop }
}

#[tokio::test]
async fn what_is_taken_in_is_answered_and_logged() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let taken = hand_in(&app, &json!({"features": {"x": [1, 2, 3]}, "requestId": "a/b"})).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.text());
    let url = "/api/v1/inference/a%2Fb/status";
    assert_eq!((taken.header("location"), taken.header("retry-after")), (url, "1"));
    assert_eq!(taken.header("preference-applied"), "respond-async");
    assert_eq!(taken.json(), json!({"requestId": "a/b", "status": "Queued", "statusUrl": url}));
    insta::assert_json_snapshot!("queued", app.get(url).await.json());

    let running = run(&mut app);
    insta::assert_json_snapshot!("completed", done(&app, "a%2Fb").await, {".latencyMs" => "[latency]"});
    let record = app.log.recv().await.unwrap();
    assert_eq!((record.request_id.as_str(), record.status.as_str()), ("a/b", "Completed"));
    assert_eq!(record.features.unwrap().value(), json!({"x": [1, 2, 3]}));

    let by_key = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}], "async": true});
    let taken = app.post(PATH, &by_key).await;
    assert_eq!(taken.status, StatusCode::ACCEPTED, "{}", taken.text());
    let answered = done(&app, taken.json()["requestId"].as_str().unwrap()).await;
    assert_eq!(answered["prediction"], json!({"y": [22.5, 27.5]}));
    let loaded = app.get("/api/v1/server").await.json()["models"].clone();
    assert_eq!(loaded[0]["requests"], 2, "counted as any other: {loaded}");
    running.stop.cancel();
    running.task.await.unwrap();
}

#[tokio::test]
async fn who_answers_is_decided_when_it_is_run_unless_pinned() {
    // Nothing is waited for: what cannot be run at once has failed.
    let mut app = App::with(|settings| settings.async_requests.max_wait = jiff::SignedDuration::ZERO).await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    for (id, version) in [("routed", None), ("pinned", Some("1.0.0"))] {
        let body = json!({"features": {"x": [0]}, "requestId": id, "version": version});
        assert_eq!(hand_in(&app, &body).await.status, StatusCode::ACCEPTED);
    }
    app.serve("m", "2.0.0", "version-2.onnx").await;
    let _running = run(&mut app);
    let routed = done(&app, "routed").await;
    assert_eq!((&routed["version"], &routed["prediction"]["y"]), (&json!("2.0.0"), &json!(2.0)), "{routed}");
    let pinned = done(&app, "pinned").await;
    assert_eq!(
        (&pinned["status"], &pinned["error"]["code"]),
        (&json!("Failed"), &json!("CONFLICT")),
        "{pinned}"
    );
    let message = pinned["error"]["message"].as_str().unwrap();
    assert!(message.contains("given up after 0 seconds") && message.contains("2.0.0"), "{message}");
}

#[tokio::test]
async fn what_could_not_be_answered_now_is_not_taken_in() {
    let mut app = App::with(|settings| {
        settings.async_requests.max_request_bytes = 200;
        settings.async_requests.max_waiting = 1;
    })
    .await;
    hand_in(&app, &json!({"features": {"x": [1, 2, 3]}})).await.check(404, "MODEL_NOT_FOUND", "");
    app.register("m", "1.0.0", "linear.onnx").await;
    hand_in(&app, &json!({"features": {"x": [1, 2, 3]}})).await.check(503, "SERVICE_UNAVAILABLE", "");
    app.deploy("m", "1.0.0").await;
    let misfit = hand_in(&app, &json!({"features": {"x": [1, 2]}})).await;
    misfit.check(400, "SCHEMA_VALIDATION_ERROR", "features.x");
    hand_in(&app, &json!({"features": {"x": vec![1; 200]}})).await.check(413, "PAYLOAD_TOO_LARGE", "");
    hand_in(&app, &json!({})).await.check(400, "VALIDATION_ERROR", "features");
    for _ in 0..3 {
        assert_eq!(app.log.recv().await.unwrap().status, "Failed");
    }
    assert!(app.log.try_recv().is_err(), "what could be of no model is not logged");

    let body = json!({"features": {"x": [1, 2, 3]}, "requestId": "mine"});
    assert_eq!(hand_in(&app, &body).await.status, StatusCode::ACCEPTED);
    hand_in(&app, &body).await.check(409, "CONFLICT", "requestId");
    let full = hand_in(&app, &json!({"features": {"x": [1, 2, 3]}})).await;
    full.check(503, "SERVICE_UNAVAILABLE", "");
    assert_eq!(full.header("retry-after"), "10");
    assert_eq!(app.post(PATH, &json!({"features": {"x": [1, 2, 3]}})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_failure_is_told_in_the_native_shape() {
    let mut app = App::with(|settings| settings.async_requests.max_result_bytes = 8).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let mut asked = request(
        Method::POST,
        PATH,
        "application/json",
        json!({"features": {"x": [1e38, 1e38, 3e38]}, "requestId": "infinite"}).to_string().into(),
    );
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    asked.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    asked.headers_mut().insert("traceparent", format!("00-{trace_id}-00f067aa0ba902b7-01").parse().unwrap());
    assert_eq!(app.send(asked).await.status, StatusCode::ACCEPTED);
    hand_in(&app, &json!({"features": {"x": [1, 2, 3]}, "requestId": "large"})).await;
    let _running = run(&mut app);
    let failed = done(&app, "infinite").await;
    assert_eq!((&failed["status"], &failed["prediction"]), (&json!("Failed"), &Value::Null));
    assert_eq!(failed["error"]["code"], "INFERENCE_ERROR");
    assert_eq!(failed["error"]["details"][0]["field"], "prediction.y");
    assert_eq!(failed["error"]["traceId"], trace_id);
    let large = done(&app, "large").await;
    assert_eq!(large["error"]["code"], "PAYLOAD_TOO_LARGE", "{large}");
}

#[tokio::test]
async fn what_is_gone_is_told_from_what_never_was() {
    let mut app = App::with(|settings| settings.async_requests.retention = jiff::SignedDuration::ZERO).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    status(&app, "nobody").await.check(404, "REQUEST_NOT_FOUND", "");
    let answered = app.post(PATH, &json!({"features": {"x": [1, 2, 3]}, "requestId": "now"})).await;
    assert_eq!(answered.status, StatusCode::OK);
    let record = app.log.recv().await.unwrap();
    app.store.inferences.record(&[record]).await.unwrap();
    status(&app, "now").await.check(410, "RESULT_EXPIRED", "");

    hand_in(&app, &json!({"features": {"x": [1, 2, 3]}, "requestId": "later"})).await;
    let _running = run(&mut app);
    let deadline = Instant::now() + PATIENCE;
    while status(&app, "later").await.status == StatusCode::OK {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    status(&app, "later").await.check(410, "RESULT_EXPIRED", "");
}
