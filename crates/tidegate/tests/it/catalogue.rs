//! The catalogue of models, read by pystac-client.

use std::process::Command;

use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::support::{Installation, fixture, json_of, repository, test_python};

#[tokio::test(flavor = "multi_thread")]
async fn pystac_client_lists_and_searches_the_models() {
    let Some(python) = test_python() else { return };
    let installation = Installation::new();
    let server = installation.start().await;
    let mut item =
        json_of(&std::fs::read(repository().join("examples/refugee-camp/stac_item.json")).unwrap());
    item["properties"]["mlm:name"] = json!("placed");
    item["properties"]["mlm:input"][0]["input"]["shape"] = json!([-1, 3, 32, 32]);
    item["properties"]["mlm:output"][0]["result"]["shape"] = json!([-1, 1, 32, 32]);
    let segmenter = std::fs::read(repository().join("fixtures/segment/binary.onnx")).unwrap();
    item["bbox"] = json!([85.51, 27.62, 85.53, 27.64]);
    item["assets"] =
        json!({"model": {"href": "./model.onnx", "roles": ["mlm:model"], "mlm:artifact_type": "onnx"}});
    for (number, datetime) in [("1.0.0", "2026-02-03T00:00:00Z"), ("1.1.0", "2026-11-22T00:00:00Z")] {
        item["properties"]["version"] = json!(number);
        item["properties"]["datetime"] = json!(datetime);
        let form = Form::new()
            .part("stac", Part::text(item.to_string()).mime_str("application/json").unwrap())
            .part("artifact", Part::bytes(segmenter.clone()).file_name("model.onnx"));
        server.api.post_form("/api/v1/models", form).await.expect(201);
    }
    server.api.register("plain", "3.0.0", "model.onnx", fixture("linear.onnx")).await.expect(201);

    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/catalogue.py");
    let output = Command::new(python).arg(script).arg(server.api.url("/stac")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen = json_of(&output.stdout);
    let everything = json!(["plain-3.0.0", "placed-1.1.0", "placed-1.0.0"]);
    let expected = json!({
        "title": "Models of this Tidegate server",
        "collections": ["placed", "plain"],
        "extent": {
            "spatial": {"bbox": [[85.51, 27.62, 85.53, 27.64]]},
            "temporal": {"interval": [["2026-02-03T00:00:00Z", "2026-11-22T00:00:00Z"]]},
        },
        "items": ["placed-1.1.0", "placed-1.0.0"],
        "collection_of_item": "placed",
        "asset": server.api.url("/api/v1/models/placed/versions/1.0.0/artifacts/model.onnx"),
        "mlm": "placed",
        "all": everything,
        "paged": everything,
        "paged_by_get": everything,
        "by_bbox": ["placed-1.1.0", "placed-1.0.0"],
        "by_datetime": ["placed-1.0.0"],
        "by_ids": ["placed-1.0.0"],
        "by_collection": ["plain-3.0.0"],
        "max_items": ["plain-3.0.0"],
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(seen[key], *value, "{key}");
    }
}
