//! A TorchScript archive by itself: converted, deployed, and it answers what torch answered.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{App, Part, fixture};

async fn register(app: &App, name: &str) -> Value {
    let metadata = json!({"name": name.replace('_', "-"), "version": "1.0.0", "framework": "PyTorch"});
    let archive = fixture(&format!("../torchscript/{name}.pt"));
    let parts = [Part::text("metadata", &metadata), Part::file("model.pt", archive)];
    let reply = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn an_archive_is_converted_and_answers_what_torch_answered() {
    let app = App::start().await;
    let registered = register(&app, "mlp").await;
    let names: Vec<_> =
        registered["artifacts"].as_array().unwrap().iter().map(|file| &file["name"]).collect();
    assert_eq!(names, ["model.pt", "model.onnx"], "the archive is kept beside what runs");
    assert!(registered["notes"][0].as_str().unwrap().contains("converted to `model.onnx`"), "{registered}");

    app.deploy("mlp", "1.0.0").await;
    let version = app.get("/api/v1/models/mlp/versions/1.0.0").await.json();
    let input = version["signature"]["inputs"][0]["name"].clone();
    // The two rows of six that torch was asked about, then its two rows of three.
    let bytes = fixture("../torchscript/mlp.bin");
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let (asked, expected) = values.split_at(12);
    let tensor = json!({"name": input, "shape": [2, 6], "datatype": "FP32", "data": asked});
    let answer = app.post("/api/v1/inference/mlp", &json!({"inputs": [tensor]})).await.json();
    let outputs = answer["prediction"].as_object().unwrap().values().next().unwrap();
    let got: Vec<f64> = outputs
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .filter_map(Value::as_f64)
        .collect();
    assert_eq!(got.len(), expected.len(), "{answer}");
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - f64::from(*expected)).abs() < 1e-4, "{got} for {expected}");
    }
}

#[tokio::test]
async fn what_cannot_be_converted_is_kept_with_the_reason_and_refused_at_deployment() {
    let app = App::start().await;
    let registered = register(&app, "refused_dynamic").await;
    let note = registered["notes"][0].as_str().unwrap();
    assert!(note.contains("was not converted") && note.contains("torch.onnx.export"), "{note}");
    let deployment = json!({"modelId": "refused-dynamic", "version": "1.0.0"});
    let refused = app.post("/api/v1/deployments", &deployment).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text());
}
