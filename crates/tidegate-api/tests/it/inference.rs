//! Predictions from features, tensors and batches.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{App, LOG_CAPACITY, Part, fixture, request};

/// y = x W + b of `linear.onnx`.
fn linear(x: [f64; 3]) -> Value {
    json!([x[0] + 3.0 * x[1] + 5.0 * x[2] + 0.5, 2.0 * x[0] + 4.0 * x[1] + 6.0 * x[2] - 0.5])
}

#[tokio::test]
async fn features_and_tensors_give_the_same_prediction() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let path = "/api/v1/inference/m";
    let reply = app.post(path, &json!({"features": {"x": [1, 2, 3]}, "requestId": "req-mine"})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("x-tidegate-version"), "1.0.0");
    insta::assert_json_snapshot!("prediction", reply.json(), {".latencyMs" => "[latency]"});
    let inputs = json!({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]});
    assert_eq!(app.post(path, &inputs).await.json()["prediction"], reply.json()["prediction"]);
    assert_eq!(reply.json()["prediction"]["y"], linear([1.0, 2.0, 3.0]));

    let record = app.log.recv().await.unwrap();
    assert_eq!((record.request_id.as_str(), record.status.as_str()), ("req-mine", "Completed"));
    assert_eq!(record.features.unwrap().value(), json!({"x": [1, 2, 3]}));
    assert_eq!(record.version.unwrap().to_string(), "1.0.0");
    assert!(record.latency_ms.unwrap() > 0.0);
}

#[tokio::test]
async fn named_scalars_are_packed_by_the_registered_schema() {
    let app = App::start().await;
    let metadata = json!({"name": "m", "framework": "ONNX", "version": "1.0.0", "inputSchema": {
        "type": "object",
        "properties": {"amount": {"type": "number"}, "age": {"type": "integer"}, "abroad": {"type": "boolean"}},
    }});
    let parts = [Part::text("metadata", &metadata), Part::file("m.onnx", fixture("linear.onnx"))];
    assert_eq!(app.post_form("/api/v1/models", &parts).await.status, StatusCode::CREATED);
    app.deploy("m", "1.0.0").await;
    let features = json!({"abroad": true, "amount": 0.5, "age": 30});
    let reply = app.post("/api/v1/inference/m", &json!({"features": features})).await;
    assert_eq!(reply.json()["prediction"]["y"], linear([0.5, 30.0, 1.0]));
    let bad = json!({"features": {"abroad": "yes", "amount": 0.5, "agee": 30}});
    let refused = app.post("/api/v1/inference/m", &bad).await;
    for field in ["features.agee", "features.age", "features.abroad"] {
        refused.check(400, "SCHEMA_VALIDATION_ERROR", field);
    }
}

#[tokio::test]
async fn a_batch_is_answered_in_order_stacked_or_not() {
    let app = App::start().await;
    app.serve("dynamic", "1.0.0", "linear.onnx").await;
    app.serve("fixed", "1.0.0", "fixed-batch.onnx").await;
    let rows: Vec<_> = (0..5).map(|i| [f64::from(i), 1.0, 2.0]).collect();
    let instances: Vec<_> = rows.iter().map(|row| json!({"x": row})).collect();
    let reply = app.post("/api/v1/inference/dynamic/batch", &json!({"instances": instances})).await;
    let expected: Vec<_> = rows.iter().map(|row| json!({"y": linear(*row)})).collect();
    assert_eq!(reply.json()["predictions"], json!(expected), "{}", reply.text());
    assert!(reply.json()["totalLatencyMs"].as_f64().unwrap() > 0.0);

    let pair = |k: f64| json!({"x": [[k, k, k], [k, k, k]]});
    let reply =
        app.post("/api/v1/inference/fixed/batch", &json!({"instances": [pair(1.0), pair(2.0)]})).await;
    let double = |k: f64| json!({"y": [[2.0 * k, 2.0 * k, 2.0 * k], [2.0 * k, 2.0 * k, 2.0 * k]]});
    assert_eq!(reply.json()["predictions"], json!([double(1.0), double(2.0)]), "{}", reply.text());
}

#[tokio::test]
async fn a_pin_asks_for_a_version_that_is_loaded() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    app.register("m", "2.0.0", "version-2.onnx").await;
    let ask = |version: &str| json!({"features": {"x": [0]}, "version": version});
    let reply = app.post("/api/v1/inference/m", &ask("1.0.0")).await;
    assert_eq!(reply.json()["prediction"]["y"], 1.0, "{}", reply.text());
    let reply = app.post("/api/v1/inference/m", &ask("2.0.0")).await;
    reply.check(409, "CONFLICT", "version");
    assert!(reply.message().contains("1.0.0"), "says which are loaded: {}", reply.message());
    app.deploy("m", "2.0.0").await;
    assert_eq!(app.post("/api/v1/inference/m", &ask("2.0.0")).await.json()["prediction"]["y"], 2.0);
    assert_eq!(app.log.recv().await.unwrap().status, "Completed");
    let failed = app.log.recv().await.unwrap();
    assert_eq!(failed.status, "Failed", "also what is refused is on the record");
}

#[tokio::test]
async fn nothing_deployed_and_a_failing_model_are_told_apart() {
    let app = App::start().await;
    app.register("m", "1.0.0", "linear.onnx").await;
    let reply = app.post("/api/v1/inference/m", &json!({"features": {"x": [1, 2, 3]}})).await;
    reply.check(503, "SERVICE_UNAVAILABLE", "");
    assert!(!reply.header("retry-after").is_empty());
    assert!(reply.message().contains("/api/v1/deployments"));

    app.deploy("m", "1.0.0").await;
    let elsewhere = json!({"features": {"x": [1, 2, 3]}, "environment": "Staging"});
    app.post("/api/v1/inference/m", &elsewhere).await.check(503, "SERVICE_UNAVAILABLE", "");

    // The sum of two large numbers is no finite float32.
    app.serve("sum", "1.0.0", "add.onnx").await;
    let overflow = json!({"features": {"a": [3e38, 1], "b": [3e38, 1]}});
    let reply = app.post("/api/v1/inference/sum", &overflow).await;
    reply.check(500, "INFERENCE_ERROR", "prediction.y");
    let loaded = app.get("/api/v1/server").await.json()["models"].clone();
    let sum = loaded.as_array().unwrap().iter().find(|model| model["model"] == "sum").unwrap();
    assert_eq!(sum["errors"], 1, "a rollout would be judged by it: {sum}");

    // What the caller sent is no failure of the model: this runtime has no such integers.
    app.serve("identity", "1.0.0", "identity-int64.onnx").await;
    let too_large = json!({"features": {"x": [5_000_000_000_i64, 0, 0]}});
    app.post("/api/v1/inference/identity", &too_large).await.check(400, "SCHEMA_VALIDATION_ERROR", "x");
    let loaded = app.get("/api/v1/server").await.json()["models"].clone();
    let identity = loaded.as_array().unwrap().iter().find(|model| model["model"] == "identity").unwrap();
    assert_eq!(identity["errors"], 0, "{identity}");
}

#[tokio::test]
async fn what_the_caller_writes_is_neither_echoed_nor_logged_at_length() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let long = "a".repeat(100_000);
    let cases = [
        ("/api/v1/inference/m", json!({"features": {long.as_str(): [1, 2, 3]}})),
        ("/api/v1/inference/m", json!({"features": {"x": [long, "b", "c"]}})),
        ("/api/v1/inference/m", json!({long.as_str(): 1})),
        (&format!("/api/v1/inference/{}", &long[..5000]), json!({"features": {"x": [1, 2, 3]}})),
    ];
    for (path, body) in cases {
        let reply = app.post(path, &body).await;
        assert!(reply.status.is_client_error(), "{}", reply.text());
        assert!(reply.body.len() < 8000, "{} bytes", reply.body.len());
    }
    app.log.close();
    let mut n_logged = 0;
    while let Some(record) = app.log.recv().await {
        assert_eq!(record.status, "Failed");
        assert_eq!(record.features, None);
        assert!(record.error_message.unwrap().chars().count() <= 1001);
        assert!(record.model_name.chars().count() <= 129);
        n_logged += 1;
    }
    assert_eq!(n_logged, 3, "what is not JSON of a request is asked of no model");
}

#[tokio::test]
async fn the_sticky_key_is_checked() {
    let app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    let body = json!({"features": {"x": [0]}}).to_string();
    let mut asked = request(Method::POST, "/api/v1/inference/m", "application/json", body.into());
    asked.headers_mut().insert("x-tidegate-key", "user-7".parse().unwrap());
    assert_eq!(app.send(asked).await.status, StatusCode::OK);
    let body = json!({"features": {"x": [0]}}).to_string();
    let mut asked = request(Method::POST, "/api/v1/inference/m", "application/json", body.into());
    asked.headers_mut().insert("x-tidegate-key", "two words".parse().unwrap());
    app.send(asked).await.check(400, "VALIDATION_ERROR", "X-Tidegate-Key");
}

#[tokio::test]
async fn every_datatype_travels_there_and_back() {
    let app = App::start().await;
    let values = [
        ("bool", json!([true, false, true])),
        ("uint8", json!([0, 1, 255])),
        ("int8", json!([-128, 0, 127])),
        ("int32", json!([i32::MIN, 0, i32::MAX])),
        ("fp32", json!([0.1, -1.5, 3e38])),
    ];
    let mut n_served = 0;
    for (name, row) in values {
        let parts = [
            Part::text("metadata", &json!({"name": name, "framework": "ONNX", "version": "1.0.0"})),
            Part::file("m.onnx", fixture(&format!("identity-{name}.onnx"))),
        ];
        let registered = app.post_form("/api/v1/models", &parts).await;
        if registered.status == StatusCode::UNPROCESSABLE_ENTITY {
            // The built-in runtime has fewer types than the protocol.
            registered.check(422, "UNPROCESSABLE_ARTIFACT", "artifact");
            continue;
        }
        app.deploy(name, "1.0.0").await;
        let reply = app.post(&format!("/api/v1/inference/{name}"), &json!({"features": {"x": row}})).await;
        assert_eq!(reply.json()["prediction"]["y"], row, "{name}: {}", reply.text());
        n_served += 1;
    }
    assert!(n_served >= 2, "float and int32 run on every runtime");
}

#[tokio::test]
async fn a_full_log_sheds_rows_and_counts_them() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    let body = json!({"features": {"x": [0]}});
    for _ in 0..LOG_CAPACITY + 3 {
        assert_eq!(app.post("/api/v1/inference/m", &body).await.status, StatusCode::OK);
    }
    assert_eq!(app.get("/api/v1/server").await.json()["inferenceLogShed"], 3);
    app.log.close();
    let mut n_logged = 0;
    while app.log.recv().await.is_some() {
        n_logged += 1;
    }
    assert_eq!(n_logged, LOG_CAPACITY);
}
