//! Models and versions: registering, listing, looking at, downloading, archiving.

use http::{Method, StatusCode};
use serde_json::json;
use tidegate_core::Sha256Digest;

use crate::support::{App, Part, example, fixture, request};

#[tokio::test]
async fn a_model_is_registered_listed_read_and_downloaded() {
    let app = App::start().await;
    let metadata = json!({
        "name": "adder", "description": "Adds.", "framework": "ONNX", "type": "Regression", "version": "1.0.0",
        "owner": "anna", "tags": ["sum", "a, b"], "trainingMetadata": {"samples": 3},
    });
    let parts = [Part::text("metadata", &metadata), Part::file("model.onnx", fixture("add.onnx"))];
    let reply = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let location = reply.header("location").to_owned();
    insta::assert_json_snapshot!("registered", reply.redacted());

    insta::assert_json_snapshot!("version", app.get(&location).await.redacted());
    insta::assert_json_snapshot!("model_list", app.get("/api/v1/models").await.redacted());
    insta::assert_json_snapshot!("model", app.get("/api/v1/models/adder").await.redacted());
    let by_id = format!("/api/v1/models/{}", reply.json()["modelId"].as_str().unwrap());
    assert_eq!(app.get(&by_id).await.json(), app.get("/api/v1/models/adder").await.json());

    let download = app.get(&format!("{location}/artifacts/model.onnx")).await;
    assert_eq!(download.body, fixture("add.onnx"));
    let etag = format!("\"{}\"", Sha256Digest::of(&fixture("add.onnx")));
    assert_eq!(download.header("etag"), etag);
    let mut again = request(Method::GET, &format!("{location}/artifacts/model.onnx"), "", "".into());
    again.headers_mut().insert("if-none-match", etag.parse().unwrap());
    assert_eq!(app.send(again).await.status, StatusCode::NOT_MODIFIED);
    app.get(&format!("{location}/artifacts/other.onnx")).await.check(404, "NOT_FOUND", "");
    app.get(&format!("{location}/stac")).await.check(404, "NOT_FOUND", "");
}

#[tokio::test]
async fn listings_filter_and_page() {
    let app = App::start().await;
    for (name, framework, tag) in [("a", "ONNX", "x"), ("b", "PyTorch", "x"), ("c", "ONNX", "y")] {
        let metadata = json!({"name": name, "framework": framework, "version": "1.0.0", "tags": [tag]});
        let parts = [Part::text("metadata", &metadata), Part::file("m.onnx", fixture("linear.onnx"))];
        assert_eq!(app.post_form("/api/v1/models", &parts).await.status, StatusCode::CREATED);
    }
    let cases = [
        ("", 3, 3),
        ("?framework=onnx", 2, 2),
        ("?tag=x", 2, 2),
        ("?framework=ONNX&tag=y", 1, 1),
        ("?owner=anonymous", 3, 3),
        ("?owner=bob", 0, 0),
        ("?type=Other&limit=2", 2, 3),
        ("?limit=2&offset=2", 1, 3),
    ];
    for (query, n_models, total) in cases {
        let list = app.get(&format!("/api/v1/models{query}")).await.json();
        assert_eq!(list["models"].as_array().unwrap().len(), n_models, "{query}");
        assert_eq!(list["total"], total, "{query}");
    }
}

#[tokio::test]
async fn a_number_is_registered_once_whoever_comes_first() {
    let app = App::start().await;
    let metadata = json!({"name": "race", "framework": "ONNX", "version": "1.0.0"});
    let parts = || [Part::text("metadata", &metadata), Part::file("m.onnx", fixture("linear.onnx"))];
    let clients = (0..6).map(|_| {
        let parts = parts();
        let app = &app;
        async move { app.post_form("/api/v1/models", &parts).await }
    });
    let replies = futures::future::join_all(clients).await;
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == StatusCode::CREATED);
    assert_eq!(won.len(), 1);
    for reply in lost {
        reply.check(409, "CONFLICT", "versionId");
        let details = reply.json()["error"]["details"].take();
        let of_winner =
            details.as_array().unwrap().iter().any(|d| d["message"] == won[0].json()["versionId"]);
        assert!(of_winner, "the conflict names the version that exists: {details}");
    }
    assert_eq!(app.stored_keys().await.len(), 1, "the losers' files are gone");
}

#[tokio::test]
async fn versions_are_found_by_number_and_id_and_listed_highest_first() {
    let app = App::start().await;
    app.register("m", "1.9.0", "version-1.onnx").await;
    let id = app.register("m", "1.10.0", "version-2.onnx").await["versionId"].as_str().unwrap().to_owned();
    app.register("other", "3.0.0", "version-3.onnx").await;
    let list = app.get("/api/v1/models/m/versions").await.json();
    let numbers: Vec<_> = list["versions"].as_array().unwrap().iter().map(|v| v["version"].clone()).collect();
    assert_eq!(numbers, ["1.10.0", "1.9.0"]);
    assert_eq!(app.get(&format!("/api/v1/models/m/versions/{id}")).await.json()["version"], "1.10.0");
    app.get("/api/v1/models/m/versions/3.0.0").await.check(404, "VERSION_NOT_FOUND", "");
    app.get(&format!("/api/v1/models/other/versions/{id}")).await.check(404, "VERSION_NOT_FOUND", "");
}

#[tokio::test]
async fn an_archived_model_frees_its_name_but_not_while_it_serves() {
    let app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    let refused = app.delete("/api/v1/models/m").await;
    refused.check(409, "CONFLICT", "environment");
    assert!(refused.message().contains("Production") && refused.message().contains("/rollback"));
    let deployments = app.get("/api/v1/deployments").await.json();
    let id = deployments["deployments"][0]["deploymentId"].as_str().unwrap().to_owned();
    assert_eq!(
        app.post(&format!("/api/v1/deployments/{id}/rollback"), &json!({})).await.status,
        StatusCode::OK
    );

    assert_eq!(app.delete("/api/v1/models/m").await.status, StatusCode::NO_CONTENT);
    app.get("/api/v1/models/m").await.check(404, "MODEL_NOT_FOUND", "");
    assert_eq!(app.get("/api/v1/models").await.json()["total"], 0);
    assert_eq!(app.get("/api/v1/models?includeArchived=true").await.json()["total"], 1);
    app.register("m", "1.0.0", "version-2.onnx").await;
}

#[tokio::test]
async fn a_stac_item_brings_what_the_metadata_lacks() {
    let app = App::start().await;
    let (item, files) = example();
    let parts: Vec<_> = [Part::text("stac", &item)].into_iter().chain(files).collect();
    let reply = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let registered = reply.json();
    assert_eq!(registered["name"], item["properties"]["mlm:name"]);
    assert_eq!(registered["version"], item["properties"]["version"]);
    assert_eq!(registered["artifacts"].as_array().unwrap().len(), item["assets"].as_object().unwrap().len());
    let version = app.get(reply.header("location")).await.json();
    assert_eq!(version["format"], "Onnx", "the artifact that runs is the primary one");
    assert_eq!(version["hasStacItem"], true);
    let stac = app.get(&format!("{}/stac", reply.header("location"))).await;
    assert_eq!((stac.header("content-type"), stac.json()), ("application/geo+json", item));
}

#[tokio::test]
async fn a_file_below_an_import_root_is_registered_by_its_path() {
    let app = App::start().await;
    let path = app.folder.path().join("import/model.onnx");
    std::fs::write(&path, fixture("linear.onnx")).unwrap();
    let body = json!({
        "name": "linear", "framework": "ONNX", "version": "1.0.0",
        "artifactPath": format!("file://{}", path.display()),
        "checksum": format!("sha256:{}", Sha256Digest::of(&fixture("linear.onnx"))),
        "inputSchema": "{\"type\":\"object\",\"properties\":{}}",
    });
    let reply = app.post("/api/v1/models", &body).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let version = app.get(reply.header("location")).await.json();
    assert_eq!(version["inputSchema"], json!({"type": "object", "properties": {}}));
    assert_eq!(version["outputSchema"]["properties"]["y"]["x-shape"], json!([-1, 2]));
}

#[tokio::test]
async fn what_cannot_run_yet_is_registered_and_refused_when_deployed() {
    let app = App::start().await;
    let metadata = json!({"name": "net", "framework": "PyTorch", "version": "1.0.0"});
    let parts = [Part::text("metadata", &metadata), Part::file("net.pth", b"weights".to_vec())];
    let registered = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(registered.status, StatusCode::CREATED, "{}", registered.text());
    let refused = app.post("/api/v1/deployments", &json!({"modelId": "net"})).await;
    refused.check(422, "UNPROCESSABLE_ARTIFACT", "version");
    assert!(refused.message().contains("StateDict") && refused.message().contains("ONNX"));
}
