//! `validate`: what it finds, that it lets good items pass, and that it refuses whatever the schemas refuse.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tidegate_core::Sha256Digest;
use tidegate_geo::{Envelope, Finding, ModelItem, Severity, validate};

use crate::support::{changed, item_json, python, test_data};

/// An item without a finding.
fn good_item() -> Value {
    let mut item = item_json(256);
    item["geometry"] = Value::Null;
    item["properties"]["gsd"] = json!(0.25);
    item["stac_extensions"] = json!([
        "https://stac-extensions.github.io/mlm/v1.5.1/schema.json",
        "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    ]);
    for class in item["properties"]["mlm:output"][0]["classification:classes"].as_array_mut().unwrap() {
        class["description"] = class["name"].clone();
    }
    item["properties"]["mlm:accelerator"] = Value::Null;
    item["properties"]["mlm:hyperparameters"] = json!({"threshold": 0.4, "steps": 3});
    item
}

/// What is changed, to what; where that is found, with which words. `null` takes the value away.
fn bad_cases() -> Vec<(&'static str, Value, &'static str, &'static str)> {
    vec![
        ("/stac_version", json!("0.9.0"), "/stac_version", "1.1.0"),
        ("/geometry", json!({"type": "Point"}), "/geometry", "GeoJSON"),
        ("/geometry", json!({"type": "Point", "coordinates": [1, 2]}), "/bbox", "missing"),
        ("/bbox", json!([0, 0, 1, 1]), "/bbox", "leave it out"),
        ("/links", json!([{"href": "x"}]), "/links/0/rel", "missing"),
        (
            "/properties/datetime",
            json!("2026-11-22T10:00:00+05:45"),
            "/properties/datetime",
            "2026-11-22T04:15:00Z",
        ),
        ("/properties/datetime", json!("2026-11-22T10:00:00"), "/properties/datetime", "zone"),
        ("/properties/datetime", json!("last week"), "/properties/datetime", "not a time"),
        ("/properties/datetime", Value::Null, "/properties/start_datetime", "both ends"),
        ("/properties/mlm:accelerator", json!("cpu"), "/properties/mlm:accelerator", "amd64"),
        ("/properties/mlm:accelerator", json!("gpu"), "/properties/mlm:accelerator", "cuda"),
        ("/properties/mlm:accelerator", json!(7), "/properties/mlm:accelerator", "a string"),
        ("/properties/mlm:accelerator_count", json!(0), "/properties/mlm:accelerator_count", "below 1"),
        ("/properties/mlm:name", json!("-x"), "/properties/mlm:name", "not a name"),
        ("/properties/mlm:framework", json!("_"), "/properties/mlm:framework", "ONNX"),
        ("/properties/mlm:framework_version", json!("2"), "/properties/mlm:framework_version", "2.1.0"),
        ("/properties/mlm:total_parameters", json!(-1), "/properties/mlm:total_parameters", "below 0"),
        (
            "/properties/mlm:total_parameters",
            json!("many"),
            "/properties/mlm:total_parameters",
            "whole number",
        ),
        ("/properties/mlm:pretrained", json!("no"), "/properties/mlm:pretrained", "true or false"),
        ("/properties/mlm:tasks", json!(["segmenting"]), "/properties/mlm:tasks/0", "semantic-segmentation"),
        (
            "/properties/mlm:tasks",
            json!(["segmentation", "segmentation"]),
            "/properties/mlm:tasks/1",
            "twice",
        ),
        ("/properties/mlm:hyperparameters", json!({}), "/properties/mlm:hyperparameters", "leave it out"),
        (
            "/properties/mlm:hyperparameters",
            json!({"a b": 1}),
            "/properties/mlm:hyperparameters/a b",
            "rename",
        ),
        (
            "/properties/mlm:hyperparameters",
            json!({"threshold": 95}),
            "/properties/mlm:hyperparameters/threshold",
            "between 0 and 1",
        ),
        ("/properties/mlm:framwork", json!("ONNX"), "/properties/mlm:framwork", "not a field"),
        ("/properties/mlm:artifact_type", json!("onnx"), "/properties/mlm:artifact_type", "asset"),
        ("/assets/onnx/mlm:name", json!("detector"), "/assets/onnx/mlm:name", "properties"),
        ("/assets/onnx/href", json!("/home/anna/model.onnx"), "/assets/onnx/href", "one machine"),
        ("/assets/onnx/href", json!("file:///home/anna/model.onnx"), "/assets/onnx/href", "one machine"),
        ("/assets/onnx/href", json!("C:\\models\\model.onnx"), "/assets/onnx/href", "one machine"),
        ("/assets/onnx/mlm:entrypoint", json!("main.py"), "/assets/onnx/roles", "code"),
        (
            "/assets/notes",
            json!({"href": "n.txt", "roles": ["data"], "mlm:artifact_type": "onnx"}),
            "/assets/notes/mlm:artifact_type",
            "mlm:model",
        ),
        (
            "/properties/mlm:input/0/value_scaling",
            json!({"type": "scale", "value": 255}),
            "/properties/mlm:input/0/value_scaling",
            "[ ]",
        ),
        (
            "/properties/mlm:input/0/value_scaling",
            json!([]),
            "/properties/mlm:input/0/value_scaling",
            "one for all",
        ),
        (
            "/properties/mlm:input/0/value_scaling/0",
            json!({"type": null}),
            "/properties/mlm:input/0/value_scaling/0",
            "offset",
        ),
        (
            "/properties/mlm:input/0/value_scaling/0",
            json!({"type": "z-score", "mean": 1}),
            "/properties/mlm:input/0/value_scaling/0/stddev",
            "missing",
        ),
        (
            "/properties/mlm:input/0/value_scaling/0",
            json!({"type": "norm"}),
            "/properties/mlm:input/0/value_scaling/0/type",
            "z-score",
        ),
        (
            "/properties/mlm:input/0/resize_type",
            json!("bilinear"),
            "/properties/mlm:input/0/resize_type",
            "interpolation-linear",
        ),
        (
            "/properties/mlm:input/0/bands",
            json!([]),
            "/properties/mlm:input/0/input/dim_order",
            "no bands are named",
        ),
        (
            "/properties/mlm:input/0/bands/0",
            json!({"name": "red", "gsd": 1}),
            "/properties/mlm:input/0/bands/0/gsd",
            "not allowed",
        ),
        (
            "/properties/mlm:input/0/bands/0",
            json!({"name": "red", "format": "x"}),
            "/properties/mlm:input/0/bands/0/expression",
            "missing",
        ),
        ("/properties/mlm:input/0/bands/0", json!("nir"), "/properties/mlm:input/0/bands/0", "not defined"),
        (
            "/properties/mlm:input/0/input/dim_order",
            json!(["batch", "channel", "height", "width"]),
            "/properties/mlm:input/0/input/dim_order",
            "called \"bands\"",
        ),
        (
            "/properties/mlm:input/0/input/dim_order/3",
            json!("Width"),
            "/properties/mlm:input/0/input/dim_order/3",
            "small letters",
        ),
        (
            "/properties/mlm:input/0/input/dim_order/3",
            json!("height"),
            "/properties/mlm:input/0/input/dim_order/3",
            "twice",
        ),
        ("/properties/mlm:input/0/input/shape/0", json!(-2), "/properties/mlm:input/0/input/shape/0", "-1"),
        (
            "/properties/mlm:input/0/input/shape",
            json!([-1, 3, 256]),
            "/properties/mlm:input/0/input/shape",
            "3 axes",
        ),
        (
            "/properties/mlm:input/0/input/data_type",
            json!("float"),
            "/properties/mlm:input/0/input/data_type",
            "float32",
        ),
        (
            "/properties/mlm:output/0/result/data_type",
            json!("float"),
            "/properties/mlm:output/0/result/data_type",
            "float32",
        ),
        (
            "/properties/mlm:output/0/result/dim_order/1",
            json!("bands"),
            "/properties/mlm:output/0/result/dim_order",
            "no bands",
        ),
        (
            "/properties/mlm:output/0/result/shape",
            json!([-1, 256, 256]),
            "/properties/mlm:output/0/result/shape",
            "3 axes",
        ),
        (
            "/properties/mlm:output/0/tasks",
            json!(["paint"]),
            "/properties/mlm:output/0/tasks/0",
            "not a task",
        ),
        (
            "/properties/mlm:output/0/post_processing_function",
            json!("sigmoid"),
            "/properties/mlm:output/0/post_processing_function",
            "format",
        ),
        (
            "/properties/mlm:output/0/post_processing_function",
            json!({"format": "python", "expression": "mine.clean"}),
            "/properties/mlm:output/0/post_processing_function",
            "not supported",
        ),
        (
            "/properties/mlm:output/0/classification:classes/0",
            json!({"value": 0, "name": "background"}),
            "/properties/mlm:output/0/classification:classes/0/description",
            "missing",
        ),
        (
            "/properties/mlm:output/0/classification:classes/1/value",
            json!(255),
            "/properties/mlm:output/0/classification:classes",
            "0 to 1",
        ),
        (
            "/properties/mlm:output/0/classification:classes/1/value",
            json!(0),
            "/properties/mlm:output/0/classification:classes/1/value",
            "twice",
        ),
        (
            "/properties/mlm:output/0/classification:classes/1/color_hint",
            json!("red"),
            "/properties/mlm:output/0/classification:classes/1/color_hint",
            "E4572E",
        ),
        (
            "/properties/mlm:output/0/result/shape/1",
            json!(3),
            "/properties/mlm:output/0/classification:classes",
            "0 to 2",
        ),
        (
            "/stac_extensions",
            json!(["https://stac-extensions.github.io/mlm/v1.3.0/schema.json"]),
            "/stac_extensions",
            "migrate",
        ),
        ("/assets/onnx/roles", json!(["data"]), "/assets", "mlm:model"),
        ("/assets/onnx/mlm:artifact_type", Value::Null, "/assets/onnx/mlm:artifact_type", "missing"),
        (
            "/assets/onnx/file:checksum",
            json!(format!("1220{}", "AB".repeat(32))),
            "/assets/onnx/file:checksum",
            "small letters",
        ),
        ("/assets/onnx/file:size", json!(-1), "/assets/onnx/file:size", "bytes"),
        ("/properties/bands", Value::Null, "/properties/mlm:input/0/bands/0", "not defined"),
    ]
}

fn errors(findings: &[Finding]) -> Vec<String> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    errors.map(|finding| format!("{}: {}", finding.pointer, finding.message)).collect()
}

#[test]
fn a_good_item_has_no_finding_and_each_fault_is_found_at_its_place() {
    assert_eq!(validate(&good_item(), None), []);
    for (at, value, pointer, words) in bad_cases() {
        let findings = validate(&changed(good_item(), at, value.clone()), None);
        let found = findings.iter().any(|finding| {
            finding.severity == Severity::Error
                && finding.pointer == pointer
                && finding.message.contains(words)
        });
        assert!(found, "{at} = {value}: expected `{words}` at {pointer}, got {:#?}", errors(&findings));
    }
}

#[test]
fn what_is_valid_and_probably_not_meant_is_a_warning() {
    let imagenet = json!([{"type": "z-score", "mean": 0.485, "stddev": 0.229}]);
    let mut unsaid = good_item();
    unsaid["properties"]["mlm:output"][0].as_object_mut().unwrap().remove("post_processing_function");
    let cases = [
        (
            changed(good_item(), "/properties/mlm:input/0/value_scaling", imagenet),
            "/properties/mlm:input/0/value_scaling",
            "255",
        ),
        (changed(good_item(), "/properties/gsd", Value::Null), "/properties/gsd", "metres"),
        (changed(good_item(), "/properties/version", Value::Null), "/properties/version", "1.0.0"),
        (
            changed(good_item(), "/assets/onnx/href", json!("model.pt")),
            "/assets/onnx/mlm:artifact_type",
            ".pt",
        ),
        (unsaid, "/properties/mlm:output/0/post_processing_function", "sigmoid"),
    ];
    for (item, pointer, words) in cases {
        let findings = validate(&item, None);
        let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
        assert_eq!((finding.severity, finding.pointer.as_str()), (Severity::Warning, pointer));
        assert!(finding.message.contains(words), "{}", finding.message);
    }
}

#[test]
fn files_are_there_and_are_what_the_item_says() {
    let folder = tempfile::tempdir().unwrap();
    let found = |item: &Value| errors(&validate(item, Some(folder.path())));
    let missing = found(&good_item());
    assert!(missing[0].starts_with("/assets/onnx/href: there is no file"), "{missing:?}");

    std::fs::write(folder.path().join("model.onnx"), b"model").unwrap();
    let unchecked = validate(&good_item(), Some(folder.path()));
    let [unchecked] = unchecked.as_slice() else { panic!("{unchecked:?}") };
    let multihash = Sha256Digest::of(b"model").to_multihash();
    assert!(
        unchecked.severity == Severity::Warning && unchecked.message.contains(&multihash),
        "{unchecked:?}"
    );

    let mut item = changed(good_item(), "/assets/onnx/file:checksum", json!(multihash));
    item["assets"]["onnx"]["file:size"] = json!(5);
    assert_eq!(validate(&item, Some(folder.path())), []);
    std::fs::write(folder.path().join("model.onnx"), b"other model").unwrap();
    let changed_file = found(&item);
    assert!(
        changed_file.iter().any(|error| error.contains("file:checksum") && error.contains("1220")),
        "{changed_file:?}"
    );
    assert!(
        changed_file.iter().any(|error| error.contains("file:size") && error.contains("11 bytes")),
        "{changed_file:?}"
    );
}

#[test]
fn a_written_item_is_valid_and_reads_back_as_it_was() {
    let mut json = good_item();
    json["properties"]["mlm:input"][0]["value_scaling"] = json!([
        {"type": "z-score", "mean": 1.5, "stddev": 2}, {"type": "min-max", "minimum": 0, "maximum": 3}, {"type": "clip-min", "minimum": 4}
    ]);
    json["properties"]["mlm:output"][0]["post_processing_function"] =
        json!({"format": "python", "expression": "torch.sigmoid"});
    json["properties"]["mlm:output"][0]["classification:classes"][1]["color_hint"] = json!("E4572E");
    json["assets"]["onnx"]["file:checksum"] = json!(format!("1220{}", "ab".repeat(32)));
    let item = ModelItem::parse(&json).unwrap();
    let datetime = "2026-11-22T00:00:00Z".parse().unwrap();
    for bbox in [None, Some([85.5, 27.6, 85.6, 27.7])] {
        let envelope = Envelope { datetime, bbox, license: Some("other".to_owned()) };
        let written = item.to_json(&envelope);
        assert_eq!(validate(&written, None), [], "{written:#}");
        assert_eq!(ModelItem::parse(&written).unwrap(), item);
        assert_schemas_accept(&[written]);
    }
}

fn assert_schemas_accept(items: &[Value]) {
    for (item, error) in items.iter().zip(schema_errors(items).unwrap_or_default()) {
        assert_eq!(error, None, "{item:#}");
    }
}

/// Whatever the extensions' own schemas refuse is refused here, too, with better words.
#[test]
fn nothing_passes_that_the_schemas_refuse() {
    let items: Vec<_> =
        bad_cases().into_iter().map(|(at, value, _, _)| changed(good_item(), at, value)).collect();
    let Some(schema_errors) = schema_errors(&items) else { return };
    let n_refused = schema_errors.iter().filter(|error| error.is_some()).count();
    assert!(n_refused > 30, "the schemas were at work: {n_refused}");
    for (item, error) in items.iter().zip(&schema_errors) {
        let ours = errors(&validate(item, None));
        assert!(error.is_none() || !ours.is_empty(), "the schema says {error:?} of {item:#}");
    }
    assert_schemas_accept(&[good_item()]);
}

#[test]
fn the_items_of_the_repository_and_of_the_shared_models_are_valid() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/refugee-camp/stac_item.json");
    let shared = ["1.0.0", "1.1.0", "1.2.0-bad"]
        .map(|version| test_data(&format!("banepa/model/{version}/stac_item.json")));
    let mut items = vec![];
    for path in [Some(example)].into_iter().chain(shared).flatten() {
        let item: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(validate(&item, path.parent()), [], "{}", path.display());
        items.push(item);
    }
    assert_schemas_accept(&items);
}

/// What the schemas say of each item; `None` without Python or without the schemas.
fn schema_errors(items: &[Value]) -> Option<Vec<Option<String>>> {
    let (python, schemas) = (python()?, test_data("stac-schemas")?);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/validate_items.py");
    let mut child = Command::new(python)
        .arg(script)
        .arg(schemas)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&serde_json::to_vec(items).unwrap()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    Some(serde_json::from_slice(&output.stdout).unwrap())
}
