//! What the inference log keeps of requests.

use http::StatusCode;
use serde_json::json;

use crate::support::{App, LOG_CAPACITY};

const PATH: &str = "/api/v1/inference/m";

#[tokio::test]
async fn what_is_to_be_kept_out_is_replaced_before_it_is_written() {
    let mut app = App::with(|settings| {
        settings.log.redact = ["features.x[1]", "y"].map(|text| text.parse().unwrap()).into();
    })
    .await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let reply = app.post(PATH, &json!({"features": {"x": [1, 2, 3]}, "requestId": "r"})).await;
    assert_eq!(reply.json()["prediction"]["y"], json!([22.5, 27.5]), "the caller gets all of it");
    let record = app.log.recv().await.unwrap();
    assert_eq!(record.features.as_ref().unwrap().value(), json!({"x": [1, "[redacted]", 3]}));
    assert_eq!(record.prediction.as_ref().unwrap().value(), json!({"y": "[redacted]"}));
    let misfit = app.post(PATH, &json!({"features": {"x": [1, "secret", 3]}})).await;
    misfit.check(400, "SCHEMA_VALIDATION_ERROR", "features.x[1]");
    let error = app.log.recv().await.unwrap().error_message.unwrap();
    assert_eq!(error, "`features.x[1]`: does not fit the model");

    app.store.inferences.record(&[record]).await.unwrap();
    let path = "/api/v1/inference/r/feedback";
    app.post(path, &json!({"groundTruth": [22.5, 27.5]})).await.check(400, "VALIDATION_ERROR", "groundTruth");
    assert_eq!(app.post(path, &json!({"correct": true})).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_sample_keeps_some_rows_and_all_counts() {
    let mut app = App::with(|settings| settings.log.share = 0.5).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let n_requests = LOG_CAPACITY;
    for index in 0..n_requests {
        let body = json!({"features": {"x": [1, 2, 3]}, "requestId": format!("r{index}")});
        assert_eq!(app.post(PATH, &body).await.status, StatusCode::OK);
    }
    let server = app.get("/api/v1/server").await.json();
    assert_eq!(server["models"][0]["requests"], n_requests);
    assert_eq!(server["inferenceLogShed"], 0);
    let mut kept = Vec::new();
    while let Ok(record) = app.log.try_recv() {
        kept.push(record.request_id.to_string());
    }
    assert!(!kept.is_empty() && kept.len() < n_requests, "{kept:?}");
    let left_out = (0..n_requests).map(|index| format!("r{index}")).find(|id| !kept.contains(id)).unwrap();
    let feedback =
        app.post(&format!("/api/v1/inference/{left_out}/feedback"), &json!({"correct": true})).await;
    feedback.check(404, "REQUEST_NOT_FOUND", "");
    assert!(feedback.message().contains("inference_log.share"), "{}", feedback.message());
}

#[tokio::test]
async fn what_is_larger_than_may_be_is_left_out() {
    let mut app = App::with(|settings| settings.log.max_payload_bytes = 20).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    for (x, is_kept) in [(json!([1, 2, 3]), true), (json!([1.0625, 2.0625, 3.0625]), false)] {
        app.post(PATH, &json!({"features": {"x": x}})).await;
        let record = app.log.recv().await.unwrap();
        assert_eq!(record.features.is_some(), is_kept, "{x}");
        assert!(record.prediction.is_some() || !is_kept);
        assert!(record.latency_ms.is_some());
    }
}
