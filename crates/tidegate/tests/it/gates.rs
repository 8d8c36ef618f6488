//! The gates before traffic: what a version must show on its validation sample, and who may say otherwise.

use std::path::Path;

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tidegate_geo::ImageLimits;

use crate::lifecycle::{MODEL, answered_version, register_versions};
use crate::support::{Answer, Api, Installation, fixture, run, shared_data};

/// Registers a version with more parts than a model file.
async fn register(api: &Api, metadata: &Value, files: &[(&str, &str, Vec<u8>)]) -> Answer {
    let json =
        |value: &Value| Part::text(value.to_string()).mime_str("application/json").expect("a MIME type");
    let mut form = Form::new().part("metadata", json(metadata));
    for (part, name, bytes) in files {
        let file = Part::bytes(bytes.clone()).file_name((*name).to_owned());
        form = form.part((*part).to_owned(), file);
    }
    api.post_form("/api/v1/models", form).await
}

/// Deploys and gives the deployment once validation is over.
async fn validated(api: &Api, body: &Value) -> Value {
    let created = api.post("/api/v1/deployments", body).await.expect(202);
    let path = format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap());
    let is_over = |answer: &Answer| {
        let status = answer.body["status"].as_str().unwrap_or_default();
        ["Failed", "Active", "RolledBack"].contains(&status)
    };
    api.wait_for(&path, is_over).await.body
}

fn check<'a>(deployment: &'a Value, name: &str) -> &'a Value {
    let checks = deployment["validationResult"]["checks"].as_array().expect("there is a report");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no `{name}` in {deployment}"))
}

fn request(model: &str, version: &str) -> Value {
    json!({"modelId": model, "version": version,
        "strategyConfig": {"smokeTestSamples": 2, "monitoringDuration": "PT0S"}})
}

/// `version-K` answers K to everything, and what is true is 1.
const ONES: &str = "{\"features\": {\"x\": [0]}, \"label\": 1}\n{\"features\": {\"x\": [3]}, \"label\": 1}\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_worse_on_the_sample_is_refused_unless_an_admin_says_otherwise() {
    let admins = ("TIDEGATE_DEPLOYMENTS__ADMINS".to_owned(), "[\"root\"]".to_owned());
    let installation = Installation { extra_env: vec![admins], ..Installation::new() };
    let server = installation.start().await;
    let api = &server.api;
    let metadata =
        json!({"name": MODEL, "version": "1.0.0", "framework": "ONNX", "baseline": {"accuracy": 0.9}});
    let files = [
        ("artifact", "model.onnx", fixture("version-1.onnx")),
        ("validationSample", "rows.jsonl", ONES.into()),
    ];
    let registered = register(api, &metadata, &files).await.expect(201);
    assert!(registered["notes"].to_string().contains("2 rows"), "{registered}");
    let version = api.get("/api/v1/models/counter/versions/1.0.0").await.expect(200);
    assert_eq!(version["validationSample"], json!({"files": ["rows.jsonl"], "holds": "2 rows"}));
    assert_eq!(version["baseline"]["accuracy"], json!(0.9));

    // Nothing serves yet: the declared baseline is the standard.
    let first = validated(api, &request(MODEL, "1.0.0")).await;
    let accuracy = check(&first, "accuracy");
    assert_eq!(accuracy["measured"]["value"], json!(1.0));
    assert_eq!(accuracy["measured"]["baseline"], json!(0.9), "{accuracy}");

    // 2.0.0 has no sample of its own, so that of 1.0.0 is taken.
    register_versions(api, &[2]).await;
    let refused = validated(api, &request(MODEL, "2.0.0")).await;
    assert_eq!(refused["status"], "Failed");
    let accuracy = check(&refused, "accuracy");
    let expected = "accuracy 0.0000 on 2 rows, against 1.0000 of 1.0.0, which serves, on the same sample: at least 0.9500 is \
                    asked for";
    assert_eq!((&accuracy["passed"], &accuracy["detail"]), (&json!(false), &json!(expected)));
    assert_eq!(check(&refused, "latency")["passed"], json!(true), "microseconds do not decide");
    assert_eq!(answered_version(api).await, Ok(1));

    let mut overridden = request(MODEL, "2.0.0");
    overridden["override"] = json!({"reason": "the sample is stale"});
    for user in [api.clone(), api.as_user("ben")] {
        let answer = user.post("/api/v1/deployments", &overridden).await;
        assert_eq!((answer.status, answer.code()), (403, "FORBIDDEN"), "{}", answer.body);
    }
    let root = api.as_user("root");
    let mut silent = overridden.clone();
    silent["override"] = json!({"reason": " "});
    assert_eq!(root.post("/api/v1/deployments", &silent).await.status, 400);
    let deployment = validated(&root, &overridden).await;
    assert_eq!(deployment["validationResult"]["passed"], json!(false));
    let by_root = json!({"by": "root", "reason": "the sample is stale"});
    assert_eq!(deployment["validationResult"]["override"], by_root);
    assert_eq!(answered_version(api).await, Ok(2));
    let events = format!("/api/v1/deployments/{}/events", deployment["deploymentId"].as_str().unwrap());
    let events = api.get(&events).await.expect(200).to_string();
    assert!(events.contains("overridden by root: the sample is stale; failed: accuracy: "), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_size_and_memory_are_kept() {
    let limit = |key: &str, value: &str| (format!("TIDEGATE_{key}"), value.to_owned());
    let cases = [
        (limit("RUNTIME__MEMORY_LIMIT_MIB", "1"), "memory", "runtime.memory_limit_mib"),
        (limit("DEPLOYMENTS__VALIDATION__MAX_ARTIFACT_MIB", "1"), "size", "of at most 1.0 MiB"),
    ];
    for (setting, name, said) in cases {
        let installation = Installation { extra_env: vec![setting], ..Installation::new() };
        let server = installation.start().await;
        let example = crate::support::repository().join("examples/refugee-camp/refugee-camp-detector.onnx");
        let bytes = std::fs::read(example).unwrap();
        server.api.register("detector", "1.0.0", "model.onnx", bytes).await.expect(201);
        let refused = validated(&server.api, &request("detector", "1.0.0")).await;
        assert_eq!(refused["status"], "Failed");
        let check = check(&refused, name);
        assert_eq!(check["passed"], json!(false));
        assert!(check["detail"].as_str().unwrap().contains(said), "{check}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_that_does_not_fit_is_refused_at_registration_by_its_line() {
    let installation = Installation::new();
    let server = installation.start().await;
    let metadata = json!({"name": MODEL, "version": "1.0.0", "framework": "ONNX"});
    type Files<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Files<'_>, &str, &str); 4] = [
        (
            &[("rows.jsonl", "{\"features\": {\"y\": 1}, \"label\": 1}")],
            "rows.jsonl:1.features.y",
            "no such feature",
        ),
        (&[("rows.csv", "a,b")], "validationSample", "`rows.csv` has no mask"),
        (&[("a.png", ""), ("a-mask.png", "")], "validationSample", "STAC-MLM item"),
        (&[("a.jsonl", ONES), ("b.jsonl", ONES)], "validationSample", "comes alone"),
    ];
    for (sample, field, message) in cases {
        let mut files = vec![("artifact", "model.onnx", fixture("version-1.onnx"))];
        files.extend(sample.iter().map(|(name, text)| ("validationSample", *name, text.as_bytes().to_vec())));
        let refused = register(&server.api, &metadata, &files).await;
        assert_eq!((refused.status, refused.code()), (422, "UNPROCESSABLE_ARTIFACT"), "{}", refused.body);
        let detail = &refused.body["error"]["details"][0];
        assert_eq!(detail["field"], field, "{detail}");
        assert!(detail["message"].as_str().unwrap().contains(message), "{detail}");
    }
    assert_eq!(server.api.get("/api/v1/models/counter").await.status, 404, "nothing is left behind");
}

/// Gradient boosting by scikit-learn; what is true is what it says, but for every tenth row.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_scored_by_its_labels() {
    let Some(data) = shared_data() else { return };
    let installation = Installation { engine: "auto", ..Installation::new() };
    let server = installation.start().await;
    let api = &server.api;
    let model = std::fs::read(data.join("tabular/tabular.onnx")).unwrap();
    api.register("boosting", "1.0.0", "model.onnx", model.clone()).await.expect(201);
    validated(api, &request("boosting", "1.0.0")).await;
    let mut rows = String::new();
    for index in 0..50u32 {
        let x: Vec<f64> =
            (0..10).map(|column| f64::from((index * 7 + column * 13) % 19) / 4.0 - 2.0).collect();
        let asked = json!({"features": {"X": x}});
        let answer = api.post("/api/v1/inference/boosting", &asked).await.expect(200);
        let said = answer["prediction"]["label"].as_i64().unwrap();
        let label = if index % 10 == 0 { 1 - said } else { said };
        rows += &format!("{}\n", json!({"features": {"X": x}, "label": label}));
    }
    let metadata = json!({"name": "boosting", "version": "1.1.0", "framework": "ScikitLearn"});
    let files = [("artifact", "model.onnx", model), ("validationSample", "rows.jsonl", rows.into_bytes())];
    register(api, &metadata, &files).await.expect(201);
    let second = validated(api, &request("boosting", "1.1.0")).await;
    assert_eq!(second["status"], "Active", "{second}");
    let accuracy = check(&second, "accuracy");
    assert_eq!(accuracy["measured"]["value"], json!(0.9), "{accuracy}");
    assert_eq!(accuracy["measured"]["baseline"], json!(0.9), "the same model served before: {accuracy}");
}

/// A part of a raster at half its resolution, which is that of the banepa models, as a PNG.
fn half_png(path: &Path, side: usize) -> Vec<u8> {
    let image = tidegate_geo::decode(&std::fs::read(path).unwrap(), &ImageLimits::default()).unwrap();
    let n_bands = image.n_bands;
    let mut pixels = Vec::with_capacity(side * side * n_bands);
    for (row, column) in (0..side).flat_map(|row| (0..side).map(move |column| (row, column))) {
        for band in 0..n_bands {
            let at = |dy, dx| {
                let pixel = (2 * row + dy) * image.width + 2 * column + dx;
                u32::from(image.pixels[pixel * n_bands + band])
            };
            pixels.push(u8::try_from((at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1) + 2) / 4).unwrap());
        }
    }
    let mut bytes = Vec::new();
    let side = u32::try_from(side).unwrap();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(if n_bands == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn ruined_weights_are_caught_before_they_meet_a_caller() {
    let Some(data) = shared_data() else { return };
    // What is tested is accuracy; how fast 8 bit runs depends on the runtime.
    let patient = ("TIDEGATE_DEPLOYMENTS__VALIDATION__MAX_LATENCY_RATIO".to_owned(), "100.0".to_owned());
    let installation = Installation { extra_env: vec![patient], ..Installation::new() };
    let server = installation.start().await;
    let api = &server.api;
    let folder = data.join("banepa");
    for version in ["1.0.0", "1.1.0", "1.2.0-bad"] {
        let item = std::fs::read(folder.join(format!("model/{version}/stac_item.json"))).unwrap();
        let mut item: Value = serde_json::from_slice(&item).unwrap();
        item["assets"].as_object_mut().unwrap().retain(|key, _| key == "onnx");
        // The sample is at the model's resolution already, and a PNG does not say so.
        item["properties"].as_object_mut().unwrap().remove("gsd");
        let model = std::fs::read(folder.join(format!("model/{version}/model.onnx"))).unwrap();
        let mut form = Form::new()
            .part("stac", Part::text(item.to_string()))
            .part("artifact", Part::bytes(model).file_name("model.onnx"));
        // Once is enough: the versions that have none are tested on it, too.
        if version == "1.0.0" {
            for (part, name) in [("validation.tif", "a.png"), ("validation-mask.tif", "a-mask.png")] {
                let png = half_png(&folder.join(part), 256);
                form = form.part("validationSample", Part::bytes(png).file_name(name));
            }
        }
        api.post_form("/api/v1/models", form).await.expect(201);
    }
    let model = "building-segmenter";
    let first = validated(api, &request(model, "1.0.0")).await;
    let iou = check(&first, "accuracy")["measured"]["value"].as_f64().unwrap();
    assert!((0.6..0.9).contains(&iou), "{iou}");
    let better = validated(api, &request(model, "1.1.0")).await;
    assert_eq!(better["trafficPercentage"], json!(100), "{better}");
    let ruined = validated(api, &request(model, "1.2.0-bad")).await;
    assert_eq!(ruined["status"], "Failed");
    let accuracy = check(&ruined, "accuracy");
    assert_eq!(accuracy["passed"], json!(false), "{ruined}");
    let detail = accuracy["detail"].as_str().unwrap();
    assert!(detail.starts_with("IoU 0.0") && detail.contains("of 1.1.0, which serves"), "{detail}");
    assert_eq!(check(&ruined, "sample")["detail"], "1 image; the sample is that of 1.0.0");
}

async fn register_quantised(api: &Api, version: &str, file: &str, more: &Value) -> Value {
    let mut metadata =
        json!({"name": "classes", "version": version, "framework": "ONNX", "type": "Classification"});
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    register(api, &metadata, &[("artifact", "model.onnx", fixture(file))]).await.expect(201)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quantised_version_is_held_against_what_it_was_made_from() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_quantised(api, "1.0.0", "classes.onnx", &json!({})).await;
    validated(api, &request("classes", "1.0.0")).await;

    // Against what serves, where no reference is named.
    register_quantised(api, "1.1.0-coarse", "classes-int8-coarse.onnx", &json!({})).await;
    let refused = validated(api, &request("classes", "1.1.0-coarse")).await;
    assert_eq!(refused["status"], "Failed");
    let coarse = check(&refused, "precision");
    let detail = coarse["detail"].as_str().unwrap();
    assert_eq!(coarse["passed"], json!(false));
    assert!(detail.starts_with("int8 against 1.0.0, on 256 probes: "), "{detail}");
    assert!(
        detail.contains("% of at most 1.00 %") && detail.contains("relative RMS error of `y` 0.5"),
        "{detail}"
    );
    assert!(coarse["measured"]["value"].as_f64() > coarse["measured"]["limit"].as_f64(), "{coarse}");

    register_quantised(api, "1.1.0", "classes-int8.onnx", &json!({"reference": "1.0.0"})).await;
    let good = validated(api, &request("classes", "1.1.0")).await;
    assert_eq!((&good["status"], &check(&good, "precision")["passed"]), (&json!("Active"), &json!(true)));
    let served = api.get("/api/v1/server").await.expect(200);
    let slots = served["models"].as_array().unwrap();
    let precision = |version: &str| {
        let slot = slots.iter().find(|slot| slot["version"] == version);
        slot.map(|slot| slot["precision"].clone())
    };
    assert_eq!(precision("1.1.0"), Some(json!("int8")), "{served}");

    // What serves is quantised too, from another model perhaps: that is no standard.
    register_quantised(api, "1.2.0-coarse", "classes-int8-coarse.onnx", &json!({})).await;
    let unjudged = validated(api, &request("classes", "1.2.0-coarse")).await;
    let check = check(&unjudged, "precision");
    assert_eq!(check["passed"], json!(true));
    assert!(check["detail"].as_str().unwrap().contains("1.1.0, which serves, is quantised too"), "{check}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_made_from_another_takes_its_share_of_a_canary() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_quantised(api, "1.0.0", "classes.onnx", &json!({})).await;
    register_quantised(api, "1.1.0", "classes-int8.onnx", &json!({"reference": "1.0.0"})).await;
    let mut command = installation.command();
    let asked = "model register --name classes --from 1.1.0 --version 1.2.0 --precision int8 --server";
    command.args(asked.split(' ')).arg(&api.base);
    let (success, output, errors) = tokio::task::spawn_blocking(|| run(command)).await.unwrap();
    assert!(success && output.contains("its files are those of 1.1.0"), "{output}{errors}");
    api.deploy("classes", "1.0.0").await;
    let canary = json!({"modelId": "classes", "version": "1.2.0", "strategy": "Canary", "strategyConfig": {
        "steps": [50], "minimumSamples": 100_000, "smokeTestSamples": 2,
        "rollbackThresholds": {"latencyIncrease": 100.0}}});
    let created = api.post("/api/v1/deployments", &canary).await.expect(202);
    let path = format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap());
    let shifting = api.wait_for(&path, |answer| answer.body["phase"] == "Shifting").await.body;
    let check = check(&shifting, "precision");
    assert!(check["detail"].as_str().unwrap().starts_with("int8 against 1.0.0, on 256 probes: "), "{check}");
    let mut answered = std::collections::BTreeSet::new();
    for row in 0..64u32 {
        let x: Vec<f64> = (0..8).map(|column| f64::from((row * 7 + column * 13) % 19) / 19.0).collect();
        let answer = api.post("/api/v1/inference/classes", &json!({"features": {"x": x}})).await.expect(200);
        answered.insert(answer["version"].as_str().unwrap_or_default().to_owned());
    }
    assert_eq!(answered.into_iter().collect::<Vec<_>>(), ["1.0.0", "1.2.0"]);
}

/// Rows of the sample come first: they are what callers will ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_precision_is_compared_on_the_sample_too() {
    let stretched = ("TIDEGATE_DEPLOYMENTS__VALIDATION__MAX_RELATIVE_RMS".to_owned(), "0.001".to_owned());
    let installation = Installation { extra_env: vec![stretched], ..Installation::new() };
    let server = installation.start().await;
    let api = &server.api;
    register_quantised(api, "1.0.0", "classes.onnx", &json!({})).await;
    api.deploy("classes", "1.0.0").await;
    let rows: String = (0..20u32)
        .map(|row| {
            let x: Vec<f64> = (0..8).map(|column| f64::from((row * 7 + column * 13) % 19) / 19.0).collect();
            format!("{}\n", json!({"features": {"x": x}, "label": 1}))
        })
        .collect();
    let metadata = json!({"name": "classes", "version": "1.1.0", "framework": "ONNX"});
    let files = [
        ("artifact", "model.onnx", fixture("classes-int8.onnx")),
        ("validationSample", "rows.jsonl", rows.into_bytes()),
    ];
    register(api, &metadata, &files).await.expect(201);
    let refused = validated(api, &request("classes", "1.1.0")).await;
    assert_eq!(refused["status"], "Failed");
    let check = check(&refused, "precision");
    assert_eq!(
        (&check["measured"]["unit"], &check["measured"]["limit"]),
        (&json!("relative RMS error"), &json!(0.001))
    );
    let detail = check["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("int8 against 1.0.0, on 20 inputs of the sample and 236 probes: "),
        "{detail}"
    );
}
