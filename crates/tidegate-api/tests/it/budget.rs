//! Bodies of all requests share a budget of memory.

use axum::body::Body;
use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::sync::oneshot;

use crate::support::{App, Part, fixture, request};

/// Bodies of the largest size that the budget takes at once.
const LARGEST_BODIES: usize = 4;

const PATH: &str = "/api/v1/inference/m";

/// A body without a length, that says when it is first read and ends when told (or when the teller is gone).
fn stalled() -> (Body, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (begun, has_begun) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let chunk = |bytes: &'static [u8]| Ok::<_, std::io::Error>(Bytes::from_static(bytes));
    let start = stream::once(async move {
        begun.send(()).unwrap();
        chunk(b"{")
    });
    let rest = stream::once(async move {
        let _ = ended.await;
        chunk(b"}")
    });
    (Body::from_stream(start.chain(rest)), has_begun, end)
}

#[tokio::test]
async fn stalled_bodies_hold_the_budget_and_give_it_back() {
    let app = App::with(|settings| settings.max_request_bytes = 1024).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let features = json!({"features": {"x": [1, 2, 3]}});

    let mut ends = Vec::new();
    let mut replies = Vec::new();
    for _ in 0..LARGEST_BODIES {
        assert_eq!(app.post(PATH, &features).await.status, StatusCode::OK, "there is room yet");
        let (body, has_begun, end) = stalled();
        let asked = request(Method::POST, PATH, "application/json", body);
        let router = app.router.clone();
        replies.push(tokio::spawn(tower::ServiceExt::oneshot(router, asked)));
        has_begun.await.unwrap();
        ends.push(end);
    }
    let refused = app.post(PATH, &features).await;
    refused.check(503, "SERVICE_UNAVAILABLE", "");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(app.get("/ready").await.status, StatusCode::OK, "what has no body needs no budget");
    let too_large = json!({"features": {"x": vec![1; 1024]}});
    app.post(PATH, &too_large).await.check(413, "PAYLOAD_TOO_LARGE", "");
    let metadata = json!({"name": "n", "framework": "ONNX", "version": "1.0.0"});
    let parts = [Part::text("metadata", &metadata), Part::file("m.onnx", fixture("linear.onnx"))];
    let uploaded = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(uploaded.status, StatusCode::CREATED, "uploads are never held: {}", uploaded.text());

    drop(ends.pop());
    let ended = replies.pop().unwrap().await.unwrap().unwrap();
    assert_eq!(ended.status(), StatusCode::BAD_REQUEST, "`{{}}` has no features");
    assert_eq!(app.post(PATH, &features).await.status, StatusCode::OK);
    assert_eq!(app.post_raw(PATH, "application/json", "{}").await.status, StatusCode::BAD_REQUEST);
}

/// A caller who goes away in the middle of a body does not take its share along.
#[tokio::test]
async fn a_caller_that_leaves_gives_its_share_back() {
    let app = App::with(|settings| settings.max_request_bytes = 1024).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let features = json!({"features": {"x": [1, 2, 3]}});
    for _ in 0..=LARGEST_BODIES {
        let (body, has_begun, end) = stalled();
        let asked = request(Method::POST, PATH, "application/json", body);
        let task = tokio::spawn(tower::ServiceExt::oneshot(app.router.clone(), asked));
        has_begun.await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        drop(end);
    }
    assert_eq!(app.post(PATH, &features).await.status, StatusCode::OK);
}
