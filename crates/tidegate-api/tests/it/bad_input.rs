//! Requests as an attacker and as a tired person would send them.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_api::Phase;

use crate::control::UNLUCKY_PERSON;
use crate::support::{App, request};

#[tokio::test]
async fn every_refusal_has_the_shape_and_names_the_field() {
    let app = App::with(|settings| settings.max_request_bytes = 4096).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let json = "application/json";
    let long = format!("{{\"features\": {{\"x\": [{}1]}}}}", "1,".repeat(4096));
    let deep = "[".repeat(3000);
    let predict = "/api/v1/inference/m";
    let deploy = "/api/v1/deployments";
    let cases: Vec<(Method, &str, &str, &str, u16, &str, &str)> = vec![
        (Method::GET, "/api/v1/modles", "", "", 404, "NOT_FOUND", ""),
        (Method::GET, "/../../etc/passwd", "", "", 404, "NOT_FOUND", ""),
        (Method::PUT, "/api/v1/models", "", "", 405, "METHOD_NOT_ALLOWED", ""),
        (Method::GET, "/api/v1/models/none", "", "", 404, "MODEL_NOT_FOUND", ""),
        (Method::GET, "/api/v1/models/%ff", "", "", 400, "VALIDATION_ERROR", ""),
        (Method::GET, "/api/v1/models?limit=0", "", "", 400, "VALIDATION_ERROR", "limit"),
        (Method::GET, "/api/v1/models?limit=101", "", "", 400, "VALIDATION_ERROR", "limit"),
        (Method::GET, "/api/v1/models?limit=ten", "", "", 400, "VALIDATION_ERROR", "limit"),
        (Method::GET, "/api/v1/models?offset=-1", "", "", 400, "VALIDATION_ERROR", "offset"),
        (Method::GET, "/api/v1/models?framework=Keras", "", "", 400, "VALIDATION_ERROR", "framework"),
        (Method::GET, "/api/v1/models?framwork=ONNX", "", "", 400, "VALIDATION_ERROR", "framwork"),
        (Method::POST, "/api/v1/models", "text/plain", "x", 415, "UNSUPPORTED_MEDIA_TYPE", ""),
        (Method::POST, "/api/v1/models", "multipart/form-data", "x", 400, "VALIDATION_ERROR", "Content-Type"),
        (Method::GET, "/api/v1/deployments/none", "", "", 404, "DEPLOYMENT_NOT_FOUND", ""),
        (Method::GET, "/api/v1/deployments/none/events", "", "", 404, "DEPLOYMENT_NOT_FOUND", ""),
        (Method::POST, "/api/v1/deployments/none/rollback", "", "", 404, "DEPLOYMENT_NOT_FOUND", ""),
        (Method::GET, "/api/v1/deployments?status=Done", "", "", 400, "VALIDATION_ERROR", "status"),
        (Method::POST, deploy, json, "{", 400, "VALIDATION_ERROR", "(body)"),
        (Method::POST, deploy, json, "", 400, "VALIDATION_ERROR", "(body)"),
        (Method::POST, deploy, json, "[]", 400, "VALIDATION_ERROR", "(body)"),
        (Method::POST, deploy, json, "{}", 400, "VALIDATION_ERROR", "modelId"),
        (Method::POST, deploy, "", "{}", 415, "UNSUPPORTED_MEDIA_TYPE", ""),
        (Method::POST, deploy, json, r#"{"modelId": 5}"#, 400, "VALIDATION_ERROR", "modelId"),
        (Method::POST, deploy, json, r#"{"modelId": "m", "modle": 1}"#, 400, "VALIDATION_ERROR", "modle"),
        (Method::POST, deploy, json, r#"{"modelId": "none"}"#, 404, "MODEL_NOT_FOUND", ""),
        (Method::POST, deploy, json, r#"{"modelId": "m", "version": "9.0.0"}"#, 404, "VERSION_NOT_FOUND", ""),
        (
            Method::POST,
            deploy,
            json,
            r#"{"modelId": "m", "version": "v1"}"#,
            400,
            "VALIDATION_ERROR",
            "version",
        ),
        (Method::POST, deploy, json, r#"{"modelId": "m", "versionId": "x"}"#, 404, "VERSION_NOT_FOUND", ""),
        (
            Method::POST,
            deploy,
            json,
            r#"{"modelId": "m", "environment": "Prod"}"#,
            400,
            "VALIDATION_ERROR",
            "environment",
        ),
        (
            Method::POST,
            deploy,
            json,
            r#"{"modelId": "m", "strategy": "Rolling", "strategyConfig": {"batchSize": 0}}"#,
            400,
            "VALIDATION_ERROR",
            "strategyConfig.batchSize",
        ),
        (
            Method::POST,
            deploy,
            json,
            r#"{"modelId": "m", "strategyConfig": {"smokeTests": 1}}"#,
            400,
            "VALIDATION_ERROR",
            "strategyConfig.smokeTests",
        ),
        (Method::POST, predict, json, "{\"features\": {\"x\": NaN}}", 400, "VALIDATION_ERROR", "features.x"),
        (Method::POST, predict, json, &deep, 400, "VALIDATION_ERROR", ""),
        (Method::POST, predict, json, &long, 413, "PAYLOAD_TOO_LARGE", ""),
        (Method::POST, predict, json, "{}", 400, "VALIDATION_ERROR", "features"),
        (Method::POST, predict, json, r#"{"features": {}, "inputs": []}"#, 400, "VALIDATION_ERROR", "inputs"),
        (Method::POST, predict, json, r#"{"features": [1]}"#, 400, "VALIDATION_ERROR", "features"),
        (
            Method::POST,
            predict,
            json,
            r#"{"features": {"x": [1, 2]}}"#,
            400,
            "SCHEMA_VALIDATION_ERROR",
            "features.x",
        ),
        (
            Method::POST,
            predict,
            json,
            r#"{"features": {"x": [1, 2, "3"]}}"#,
            400,
            "SCHEMA_VALIDATION_ERROR",
            "features.x[2]",
        ),
        (
            Method::POST,
            predict,
            json,
            r#"{"features": {"x": [1, 2, 1e39]}}"#,
            400,
            "SCHEMA_VALIDATION_ERROR",
            "features.x[2]",
        ),
        (
            Method::POST,
            predict,
            json,
            r#"{"features": {"y": 1}}"#,
            400,
            "SCHEMA_VALIDATION_ERROR",
            "features.y",
        ),
        (
            Method::POST,
            predict,
            json,
            r#"{"features": {"x": [1,2,3]}, "requestId": ""}"#,
            400,
            "VALIDATION_ERROR",
            "requestId",
        ),
        (
            Method::POST,
            predict,
            json,
            r#"{"features": {"x": [1,2,3]}, "version": "7.0.0"}"#,
            404,
            "VERSION_NOT_FOUND",
            "",
        ),
        (Method::POST, "/api/v1/inference/m?gsd=1", json, "{}", 400, "VALIDATION_ERROR", "gsd"),
        (
            Method::POST,
            predict,
            json,
            r#"{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1, 2, 3]}]}"#,
            400,
            "SCHEMA_VALIDATION_ERROR",
            "inputs.x",
        ),
        (
            Method::POST,
            predict,
            json,
            r#"{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FLOAT", "data": []}]}"#,
            400,
            "VALIDATION_ERROR",
            "inputs[0].datatype",
        ),
        (
            Method::POST,
            predict,
            json,
            r#"{"inputs": [{"name": "x", "shape": [-1, 3], "datatype": "FP32", "data": []}]}"#,
            400,
            "VALIDATION_ERROR",
            "inputs[0].shape[0]",
        ),
        (Method::POST, "/api/v1/inference/none", json, r#"{"features": {}}"#, 404, "MODEL_NOT_FOUND", ""),
        (Method::POST, predict, "text/csv", "1,2,3", 415, "UNSUPPORTED_MEDIA_TYPE", ""),
        (
            Method::POST,
            "/api/v1/inference/m/batch",
            json,
            r#"{"instances": []}"#,
            400,
            "VALIDATION_ERROR",
            "instances",
        ),
        (
            Method::POST,
            "/api/v1/inference/m/batch",
            json,
            r#"{"instances": [{"x": [1, 2, 3]}, {"x": [1, 2]}]}"#,
            400,
            "SCHEMA_VALIDATION_ERROR",
            "instances[1].x",
        ),
    ];
    for (method, path, content_type, body, status, code, field) in cases {
        let shown = format!("{method} {path} {}", &body[..body.len().min(80)]);
        let reply = app.send(request(method, path, content_type, body.to_owned().into())).await;
        let (actual_status, actual_code, fields) = reply.error();
        assert_eq!((actual_status, actual_code.as_str()), (status, code), "{shown}: {}", reply.text());
        assert!(field.is_empty() || fields.iter().any(|f| f == field), "{shown}: {}", reply.text());
    }
}

#[tokio::test]
async fn the_shape_is_the_guides() {
    let app = App::start().await;
    let mut asked = request(Method::GET, "/api/v1/models?limit=500", "", "".into());
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    asked.headers_mut().insert("traceparent", traceparent.parse().unwrap());
    insta::assert_json_snapshot!("error", app.send(asked).await.json());
    assert_eq!(app.get("/health").await.header("x-trace-id").len(), 32, "every response has one");
    assert_eq!(app.send(request(Method::PUT, "/health", "", "".into())).await.header("allow"), "GET,HEAD");
}

#[tokio::test]
async fn a_bad_name_of_the_caller_is_refused() {
    let app = App::start().await;
    app.register("m", "1.0.0", "linear.onnx").await;
    let body = json!({"modelId": "m"}).to_string();
    let mut asked = request(Method::POST, "/api/v1/deployments", "application/json", body.into());
    asked.headers_mut().insert("x-tidegate-user", "a".repeat(256).parse().unwrap());
    app.send(asked).await.check(400, "VALIDATION_ERROR", "X-Tidegate-User");
}

#[tokio::test]
async fn health_and_readiness_say_what_they_mean() {
    let app = App::start().await;
    assert_eq!(app.get("/health").await.json(), json!({"status": "ok"}));
    let ready = |database: &str, routes: &str| json!({"database": database, "routes": routes});
    assert_eq!(app.get("/ready").await.json()["checks"], ready("ok", "ok"));
    app.readiness.set(Phase::Stopping);
    let stopping = app.get("/ready").await;
    assert_eq!(stopping.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(stopping.json()["checks"], ready("ok", "stopping"));
    app.readiness.set(Phase::Starting);
    assert_eq!(app.get("/ready").await.json()["checks"]["routes"], "loading");
    app.readiness.set(Phase::Ready);
    app.store.close().await;
    assert_eq!(app.get("/ready").await.json()["checks"], ready("unreachable", "ok"));
    assert_eq!(app.get("/health").await.status, StatusCode::OK, "the process lives on");
    let broken = app.get("/api/v1/models").await;
    assert!(broken.status.is_server_error());
    let message: Value = broken.json()["error"]["message"].take();
    assert!(!message.to_string().contains("sql"), "no internals: {message}");
}

#[tokio::test]
async fn the_server_says_which_runtime_it_uses_and_why() {
    let app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let server = app.get("/api/v1/server").await.json();
    assert_eq!(server["runtime"]["name"], "rten");
    assert!(server["runtime"]["reason"].as_str().unwrap().contains("runtime"));
    assert_eq!(server["backend"], "SQLite");
    assert_eq!(server["models"][0]["model"], "m");
    assert_eq!(server["models"][0]["state"], "Active");
}

#[tokio::test]
async fn a_panic_is_answered_and_tells_nothing() {
    let app = App::start().await;
    app.register("m", "1.0.0", "linear.onnx").await;
    let body = json!({"modelId": "m"}).to_string();
    let mut asked = request(Method::POST, "/api/v1/deployments", "application/json", body.into());
    asked.headers_mut().insert("x-tidegate-user", UNLUCKY_PERSON.parse().unwrap());
    let reply = app.send(asked).await;
    reply.check(500, "INTERNAL_ERROR", "");
    assert!(reply.message().contains("traceId") && !reply.message().contains("secrets"));
}
