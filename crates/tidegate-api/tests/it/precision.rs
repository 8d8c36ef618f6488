//! In which numbers a version computes: declared, read from the file, and changed without another upload.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::{App, Part, Reply, fixture};

async fn register(app: &App, more: Value, file: &str) -> Reply {
    let mut metadata = json!({"name": "m", "framework": "ONNX"});
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let parts = [Part::text("metadata", &metadata), Part::file("model.onnx", fixture(file))];
    app.post_form("/api/v1/models", &parts).await
}

async fn version(app: &App, number: &str) -> Value {
    app.get(&format!("/api/v1/models/m/versions/{number}")).await.json()
}

#[tokio::test]
async fn a_precision_is_what_the_file_says_or_what_is_asked_for() {
    let app = App::start().await;
    let cases = [
        (json!({"version": "1.0.0"}), "classes.onnx", "f32", Value::Null),
        (json!({"version": "1.1.0"}), "classes-int8.onnx", "int8", Value::Null),
        (json!({"version": "1.2.0", "precision": "bf16"}), "classes.onnx", "bf16", Value::Null),
        (json!({"version": "1.3.0", "precision": "f32"}), "classes.onnx", "f32", Value::Null),
        (
            json!({"version": "1.4.0", "precision": "int8", "reference": "1.0.0"}),
            "classes-int8.onnx",
            "int8",
            json!("1.0.0"),
        ),
    ];
    for (more, file, precision, reference) in cases {
        let reply = register(&app, more.clone(), file).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        assert_eq!(reply.json()["precision"], precision, "{more}");
        let version = version(&app, more["version"].as_str().unwrap()).await;
        assert_eq!((&version["precision"], &version["reference"]), (&json!(precision), &reference), "{more}");
    }
    let listed = app.get("/api/v1/models/m").await.json();
    let precisions: Vec<_> =
        listed["versions"].as_array().unwrap().iter().map(|version| version["precision"].clone()).collect();
    assert_eq!(precisions, ["int8", "f32", "bf16", "int8", "f32"]);
}

#[tokio::test]
async fn a_precision_that_the_file_does_not_have_is_refused_with_the_way_out() {
    let app = App::start().await;
    register(&app, json!({"version": "1.0.0"}), "classes.onnx").await;
    let cases = [
        (json!({"precision": "int8"}), "classes.onnx", (422, "precision"), "quantize_static"),
        (json!({"precision": "f32"}), "classes-int8.onnx", (422, "precision"), "leave the precision out"),
        (json!({"precision": "fp16"}), "classes.onnx", (400, "precision"), "bf16"),
        (json!({"reference": "1.0.0"}), "classes.onnx", (422, "reference"), "only a quantised version"),
        (json!({"reference": "7.0.0"}), "classes-int8.onnx", (400, "reference"), "no version 7.0.0"),
        (json!({"reference": "v1"}), "classes-int8.onnx", (400, "reference"), "`1.0.0`"),
        (json!({"from": "1.0.0"}), "classes.onnx", (400, "from"), "not beside uploaded files"),
    ];
    for (mut more, file, (status, field), says) in cases {
        more["version"] = json!("2.0.0");
        let reply = register(&app, more.clone(), file).await;
        let code = if status == 422 { "UNPROCESSABLE_ARTIFACT" } else { "VALIDATION_ERROR" };
        reply.check(status, code, field);
        assert!(reply.text().contains(says), "{more}: {}", reply.text());
    }
    let metadata = json!({"name": "kept", "framework": "PyTorch", "version": "1.0.0", "precision": "bf16"});
    let parts = [Part::text("metadata", &metadata), Part::file("net.pth", b"weights".to_vec())];
    let reply = app.post_form("/api/v1/models", &parts).await;
    reply.check(422, "UNPROCESSABLE_ARTIFACT", "precision");
    assert_eq!(app.stored_keys().await.len(), 1, "nothing is left of what was refused");
}

#[tokio::test]
async fn the_same_files_in_another_precision_are_another_version_and_kept_once() {
    let app = App::start().await;
    let metadata = json!({
        "name": "m", "framework": "ONNX", "type": "Classification", "version": "1.0.0",
        "baseline": {"accuracy": 0.5}, "trainingMetadata": {"epochs": 3}, "outputSchema": {"title": "mine"},
    });
    let row = json!({"features": {"x": [0, 0, 0, 0, 0, 0, 0, 0]}, "label": 1});
    let parts = [
        Part::text("metadata", &metadata),
        Part::file("model.onnx", fixture("classes.onnx")),
        Part {
            name: "validationSample".to_owned(),
            ..Part::file("rows.jsonl", row.to_string().into_bytes())
        },
    ];
    let reply = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let keys = app.stored_keys().await;

    let asked = json!({"name": "m", "from": "1.0.0", "version": "1.1.0", "precision": "bf16"});
    let reply = app.post("/api/v1/models", &asked).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    assert!(reply.text().contains("its files are those of 1.0.0"), "{}", reply.text());
    let (first, second) = (version(&app, "1.0.0").await, version(&app, "1.1.0").await);
    assert_eq!((&first["precision"], &second["precision"]), (&json!("f32"), &json!("bf16")));
    let others = ["version", "versionId", "precision", "createdAt"];
    for (key, value) in first.as_object().unwrap() {
        assert!(others.contains(&key.as_str()) || second[key] == *value, "{key}: {first} {second}");
    }
    assert_eq!(app.stored_keys().await, keys, "nothing was copied");
    let download = app.get("/api/v1/models/m/versions/1.1.0/artifacts/model.onnx").await;
    assert_eq!(download.body, fixture("classes.onnx"));

    // What is refused takes nothing of the source along.
    let refused = [
        (json!({"from": "1.0.0", "precision": "int8"}), (422, "UNPROCESSABLE_ARTIFACT", "precision")),
        (json!({"from": "9.0.0"}), (400, "VALIDATION_ERROR", "from")),
        (json!({"from": "latest"}), (400, "VALIDATION_ERROR", "from")),
        (json!({"from": "1.0.0", "name": "nobody"}), (400, "VALIDATION_ERROR", "name")),
        (json!({"from": "1.0.0", "artifactPath": "file:///m.onnx"}), (400, "VALIDATION_ERROR", "from")),
        (json!({"from": "1.0.0", "version": "1.1.0"}), (409, "CONFLICT", "")),
    ];
    for (more, (status, code, field)) in refused {
        let mut body = json!({"name": "m", "version": "1.2.0"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        app.post("/api/v1/models", &body).await.check(status, code, field);
    }
    assert_eq!(app.stored_keys().await, keys);
}
