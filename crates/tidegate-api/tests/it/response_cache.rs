//! Answers that are kept and given again.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_api::Settings;

use crate::support::{App, Reply, request};

const PATH: &str = "/api/v1/inference/m";

fn with_cache(settings: &mut Settings) {
    settings.response_cache_bytes.insert("m".to_owned(), 16 << 10);
}

async fn ask(app: &App, x: [u32; 3]) -> Reply {
    let reply = app.post(PATH, &json!({"features": {"x": x}})).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply
}

async fn cache(app: &App) -> Value {
    app.get("/api/v1/server").await.json()["responseCaches"][0].clone()
}

#[tokio::test]
async fn an_answer_is_given_again_in_every_protocol_and_no_rollout_counts_it() {
    let mut app = App::with(with_cache).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let first = ask(&app, [1, 2, 3]).await;
    assert_eq!(first.header("x-tidegate-cache"), "miss");
    let again = ask(&app, [1, 2, 3]).await;
    assert_eq!((again.header("x-tidegate-cache"), again.header("x-tidegate-version")), ("hit", "1.0.0"));
    assert_eq!(again.json()["prediction"], first.json()["prediction"]);
    let tensor = json!({"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]});
    let by_protocol = app.post("/v2/models/m/infer", &json!({"inputs": [tensor]})).await;
    assert_eq!(by_protocol.header("x-tidegate-cache"), "hit");
    assert_eq!(by_protocol.json()["outputs"][0]["data"], json!([22.5, 27.5]));
    assert_eq!(ask(&app, [3, 2, 1]).await.header("x-tidegate-cache"), "miss");

    let status = cache(&app).await;
    assert_eq!((&status["model"], &status["hits"], &status["misses"]), (&json!("m"), &json!(2), &json!(2)));
    assert_eq!(status["entries"], 2, "{status}");
    let loaded = app.get("/api/v1/server").await.json()["models"].clone();
    assert_eq!(loaded[0]["requests"], 2, "what the version ran");
    let statistics = app.get("/v2/models/m/stats").await.json()["model_stats"][0]["inference_stats"].clone();
    let counts = ["success", "cache_hit", "cache_miss"].map(|name| statistics[name]["count"].clone());
    assert_eq!(counts, [json!(4), json!(2), json!(2)], "{statistics}");
    for _ in 0..4 {
        let record = app.log.recv().await.unwrap();
        assert_eq!(record.status, "Completed");
        assert!(record.prediction.is_some());
    }
}

#[tokio::test]
async fn a_switch_never_gives_another_versions_answer() {
    let app = App::with(with_cache).await;
    for (version, file, y) in [("1.0.0", "version-1.onnx", 1.0), ("2.0.0", "version-2.onnx", 2.0)] {
        app.serve("m", version, file).await;
        for expected in ["miss", "hit"] {
            let reply = app.post(PATH, &json!({"features": {"x": [0]}})).await;
            assert_eq!(reply.header("x-tidegate-cache"), expected);
            assert_eq!(
                (&reply.json()["prediction"]["y"], &reply.json()["version"]),
                (&json!(y), &json!(version))
            );
        }
    }
    // Back again: what the first version answered is still its answer.
    app.deploy("m", "1.0.0").await;
    let reply = app.post(PATH, &json!({"features": {"x": [0]}})).await;
    assert_eq!((reply.header("x-tidegate-cache"), &reply.json()["prediction"]["y"]), ("hit", &json!(1.0)));
}

#[tokio::test]
async fn what_went_wrong_is_not_kept_and_bytes_are_bounded() {
    let app = App::with(with_cache).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    for _ in 0..2 {
        let overflow = app.post(PATH, &json!({"features": {"x": [3e38, 3e38, 3e38]}})).await;
        overflow.check(500, "INFERENCE_ERROR", "prediction.y");
        let misfit = app.post(PATH, &json!({"features": {"x": [1]}})).await;
        misfit.check(400, "SCHEMA_VALIDATION_ERROR", "features.x");
    }
    assert_eq!(cache(&app).await["entries"], 0);
    for number in 0..100 {
        ask(&app, [number, 0, 0]).await;
    }
    let full = cache(&app).await;
    assert!(full["bytes"].as_u64().unwrap() <= 16 << 10, "{full}");
    assert_eq!(full["evictions"].as_u64().unwrap() + full["entries"].as_u64().unwrap(), 100, "{full}");
    assert_eq!(ask(&app, [99, 0, 0]).await.header("x-tidegate-cache"), "hit", "the latest");
    assert_eq!(ask(&app, [0, 0, 0]).await.header("x-tidegate-cache"), "miss", "the oldest");
}

#[tokio::test]
async fn other_models_keep_nothing() {
    let app = App::with(with_cache).await;
    app.serve("other", "1.0.0", "linear.onnx").await;
    let body = json!({"features": {"x": [1, 2, 3]}}).to_string();
    for _ in 0..2 {
        let asked = request(Method::POST, "/api/v1/inference/other", "application/json", body.clone().into());
        assert_eq!(app.send(asked).await.header("x-tidegate-cache"), "");
    }
}
