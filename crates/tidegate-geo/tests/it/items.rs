//! STAC-MLM items: good ones are read whole, bad ones are refused with every fault at its pointer.

use serde_json::{Value, json};
use tidegate_core::DType;
use tidegate_geo::{Activation, DimOrder, HrefError, ModelItem, Scaling, resolve_href};

use crate::support::item_json;

#[test]
fn a_valid_item_is_read_whole() {
    let mut json = item_json(256);
    json["properties"]["gsd"] = json!(0.5);
    json["properties"]["mlm:hyperparameters"] = json!({"threshold": 0.4});
    json["assets"]["onnx"]["file:size"] = json!(12);
    json["assets"]["onnx"]["file:checksum"] = json!(format!("1220{}", "ab".repeat(32)));
    json["assets"]["thumbnail"] = json!({"href": "https://example.org/t.png", "roles": ["thumbnail"]});
    let item = ModelItem::parse(&json).unwrap();

    assert_eq!(item.name, "detector");
    assert_eq!(item.version.unwrap().to_string(), "1.0.0");
    assert_eq!(item.gsd, Some(0.5));
    assert_eq!(item.input.bands, ["red", "green", "blue"]);
    assert_eq!((item.input.height, item.input.width, item.input.batch), (256, 256, None));
    assert_eq!((item.input.dim_order, item.input.data_type), (DimOrder::Bchw, DType::Fp32));
    assert_eq!(item.input.scaling, [Scaling::Scale { value: 255.0 }; 3]);
    assert_eq!(item.output.activation, Activation::AlreadyProbability);
    assert_eq!(item.output.threshold, 0.4);
    assert_eq!(item.output.classes[1].name, "shelter");
    assert_eq!(item.assets.len(), 2, "assets of every kind are listed");
    assert_eq!(item.assets[0].size_bytes, Some(12));
    assert_eq!(item.assets[0].sha256.as_ref().unwrap().as_str(), "ab".repeat(32));
    assert_eq!(item.assets[1].href, "https://example.org/t.png");
}

fn changed(pointer: &str, value: Value) -> Value {
    crate::support::changed(item_json(256), pointer, value)
}

const INPUT: &str = "/properties/mlm:input/0";
const OUTPUT: &str = "/properties/mlm:output/0";

#[test]
fn each_fault_has_its_pointer_and_the_fix() {
    let scaling = format!("{INPUT}/value_scaling");
    let scaling_entry = format!("{INPUT}/value_scaling/0");
    let cases: &[(&str, Value, &str, &str)] = &[
        // What is changed, to what; where the fault is, and what its message contains.
        ("/type", json!("Collection"), "/type", "Feature"),
        ("/stac_extensions", json!([]), "/stac_extensions", "mlm/v1.5.1"),
        (
            "/stac_extensions/0",
            json!("https://stac-extensions.github.io/mlm/v1.3.0/schema.json"),
            "/stac_extensions",
            "migrate",
        ),
        ("/id", json!(7), "/id", "expected a string, got a number"),
        ("/properties", json!(null), "/properties", "missing"),
        ("/properties/mlm:input", json!(null), "/properties/mlm:input", "missing"),
        ("/properties/mlm:input", json!({}), "/properties/mlm:input", "expected a list, got an object"),
        ("/properties/mlm:input", json!([{}, {}]), "/properties/mlm:input", "expected one input, got 2"),
        ("/properties/mlm:output", json!([]), "/properties/mlm:output", "expected one output, got 0"),
        ("/properties/mlm:name", json!(" "), "/properties/mlm:name", "empty"),
        ("/properties/mlm:tasks", json!("segmentation"), "/properties/mlm:tasks", "expected a list"),
        ("/properties/version", json!("one"), "/properties/version", "1.0.0"),
        ("/properties/gsd", json!(0), "/properties/gsd", "above 0"),
        (
            "/properties/mlm:input/0/bands/1",
            json!("nir"),
            "/properties/mlm:input/0/bands/1",
            "red, green, blue",
        ),
        ("/properties/mlm:input/0/bands", json!(["red"]), "/properties/mlm:input/0/bands", "make them agree"),
        (
            "/properties/mlm:input/0/bands/0",
            json!({"name": "ndvi", "format": "python", "expression": "nir - red"}),
            "/properties/mlm:input/0/bands/0",
            "expression",
        ),
        (
            "/properties/mlm:input/0/input/shape",
            json!([-1, 3, 256]),
            "/properties/mlm:input/0/input/shape",
            "3 axes",
        ),
        (
            "/properties/mlm:input/0/input/shape/2",
            json!(1_000_000_000),
            "/properties/mlm:input/0/input/shape/2",
            "up to",
        ),
        (
            "/properties/mlm:input/0/input/shape/1",
            json!(-1),
            "/properties/mlm:input/0/input/shape/1",
            "may not vary",
        ),
        (
            "/properties/mlm:input/0/input/shape/3",
            json!(0),
            "/properties/mlm:input/0/input/shape/3",
            "above 0",
        ),
        (
            "/properties/mlm:input/0/input/dim_order/0",
            json!("time"),
            "/properties/mlm:input/0/input/dim_order",
            "batch, bands, height, width",
        ),
        (
            "/properties/mlm:input/0/input/data_type",
            json!("cfloat32"),
            "/properties/mlm:input/0/input/data_type",
            "float32",
        ),
        (
            &scaling,
            json!([{"type": "offset", "value": 1}, {"type": null}]),
            &scaling,
            "2 entries for 3 bands",
        ),
        (
            &scaling_entry,
            json!({"type": "processing", "format": "python", "expression": "x"}),
            &scaling_entry,
            "z-score",
        ),
        (
            &scaling_entry,
            json!({"type": "z-score", "mean": 1}),
            "/properties/mlm:input/0/value_scaling/0/stddev",
            "missing",
        ),
        (
            &scaling_entry,
            json!({"type": "z-score", "mean": 1, "stddev": 0}),
            "/properties/mlm:input/0/value_scaling/0/stddev",
            "not above 0",
        ),
        (
            &scaling_entry,
            json!({"type": "min-max", "minimum": 3, "maximum": 3}),
            "/properties/mlm:input/0/value_scaling/0/maximum",
            "minimum",
        ),
        (&scaling_entry, json!({"type": "log"}), "/properties/mlm:input/0/value_scaling/0/type", "`log`"),
        (
            "/properties/mlm:output/0/post_processing_function",
            json!({"format": "python", "expression": "postprocess.threshold_and_clean"}),
            "/properties/mlm:output/0/post_processing_function",
            "`sigmoid` or `softmax`",
        ),
        (
            "/properties/mlm:output/0/result/shape",
            json!([-1, 1]),
            "/properties/mlm:output/0/result/shape",
            "make them agree",
        ),
        (
            "/properties/mlm:output/0/classification:classes/1",
            json!({"value": 1, "name": "a", "color_hint": "red"}),
            "/properties/mlm:output/0/classification:classes/1/color_hint",
            "hexadecimal",
        ),
        ("/assets/onnx/roles", json!(["data"]), "/assets", "mlm:model"),
        ("/assets/onnx/mlm:artifact_type", json!(null), "/assets/onnx/mlm:artifact_type", "onnx"),
        ("/assets/onnx/href", json!(null), "/assets/onnx/href", "missing"),
        ("/assets/onnx/file:size", json!(-1), "/assets/onnx/file:size", "bytes"),
        ("/assets/onnx/file:checksum", json!("abc"), "/assets/onnx/file:checksum", "not a multihash"),
        (
            "/assets/onnx/file:checksum",
            json!(format!("1340{}", "00".repeat(64))),
            "/assets/onnx/file:checksum",
            "SHA-512 is not supported",
        ),
        ("/assets/a~1b", json!("model.onnx"), "/assets/a~1b", "expected an asset"),
    ];
    for (at, value, pointer, message) in cases {
        let invalid = ModelItem::parse(&changed(at, value.clone())).expect_err(at);
        let found =
            invalid.faults.iter().any(|fault| fault.pointer == *pointer && fault.message.contains(message));
        assert!(found, "{at} = {value}: expected `{message}` at {pointer}, got {invalid}");
    }
}

#[test]
fn all_faults_come_at_once_and_are_listed() {
    let mut json = item_json(256);
    json["properties"]["mlm:name"] = json!(null);
    json["properties"]["mlm:output"][0]["name"] = json!(null);
    json["assets"]["onnx"]["href"] = json!(1);
    let invalid = ModelItem::parse(&json).unwrap_err();
    let pointers = invalid.faults.iter().map(|fault| fault.pointer.as_str()).collect::<Vec<_>>();
    assert_eq!(pointers, ["/assets/onnx/href", "/properties/mlm:name", "/properties/mlm:output/0/name"]);
    assert!(
        invalid.to_string().starts_with("the STAC item has 3 faults\n  /assets/onnx/href: "),
        "{invalid}"
    );
}

#[test]
fn values_of_another_kind_are_faults_and_not_panics() {
    for value in [json!(null), json!([]), json!("text"), json!(1), json!(true), json!({})] {
        assert!(ModelItem::parse(&value).is_err(), "{value}");
        for pointer in ["/properties", "/assets", INPUT, OUTPUT, "/properties/mlm:input/0/input"] {
            let result = ModelItem::parse(&changed(pointer, value.clone()));
            assert!(result.is_err(), "{pointer} = {value}");
        }
    }
}

#[test]
fn every_arithmetic_scaling_is_applied_as_the_extension_defines_it() {
    let cases = [
        (json!({"type": "min-max", "minimum": 10, "maximum": 20}), 15.0, 0.5),
        (json!({"type": "z-score", "mean": 100, "stddev": 50}), 200.0, 2.0),
        (json!({"type": "clip", "minimum": 10, "maximum": 20}), 25.0, 20.0),
        (json!({"type": "clip", "minimum": 10, "maximum": 20}), 5.0, 10.0),
        (json!({"type": "clip-min", "minimum": 10}), 5.0, 10.0),
        (json!({"type": "clip-max", "maximum": 10}), 15.0, 10.0),
        (json!({"type": "offset", "value": 5}), 15.0, 10.0),
        (json!({"type": "scale", "value": 255}), 51.0, 0.2),
        (json!({"type": null}), 7.0, 7.0),
    ];
    for (scaling, raw, expected) in cases {
        let json = changed("/properties/mlm:input/0/value_scaling", json!([scaling]));
        let item = ModelItem::parse(&json).unwrap();
        assert_eq!(item.input.scaling.len(), 3, "one entry stands for all bands");
        assert_eq!(item.input.scaling[0].apply(raw), expected, "{scaling}");
    }
}

#[test]
fn an_activation_in_any_format_is_read() {
    let cases = [
        (json!({"format": "python", "expression": "torch.sigmoid"}), Activation::Sigmoid),
        (json!([null, {"format": "text", "expression": "softmax"}]), Activation::Softmax),
        (json!([null]), Activation::AlreadyProbability),
    ];
    for (function, expected) in cases {
        let json = changed("/properties/mlm:output/0/post_processing_function", function.clone());
        assert_eq!(ModelItem::parse(&json).unwrap().output.activation, expected, "{function}");
    }
}

#[test]
fn an_href_leads_to_files_beside_the_item_only() {
    let folder = tempfile::tempdir().unwrap();
    let item_dir = folder.path().join("item");
    std::fs::create_dir_all(item_dir.join("sub")).unwrap();
    for name in ["item/model.onnx", "item/sub/my model.onnx", "secret"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let real = item_dir.canonicalize().unwrap();
    for (href, expected) in [
        ("model.onnx".to_owned(), "model.onnx"),
        ("./model.onnx".to_owned(), "model.onnx"),
        ("sub/../model.onnx".to_owned(), "model.onnx"),
        ("./sub/my%20model.onnx".to_owned(), "sub/my model.onnx"),
        ("sub/my model.onnx".to_owned(), "sub/my model.onnx"),
        (format!("file://{}/model.onnx", real.display()), "model.onnx"),
    ] {
        assert_eq!(resolve_href(&item_dir, &href).unwrap(), real.join(expected), "{href}");
    }

    type IsExpected = fn(&HrefError) -> bool;
    let refused: &[(&str, IsExpected)] = &[
        ("../secret", |error| matches!(error, HrefError::Escapes { .. })),
        ("%2e%2e/secret", |error| matches!(error, HrefError::Escapes { .. })),
        ("sub/../../secret", |error| matches!(error, HrefError::Escapes { .. })),
        ("/etc/passwd", |error| matches!(error, HrefError::Absolute { .. })),
        ("file:///etc/passwd", |error| matches!(error, HrefError::Escapes { .. })),
        ("file:///etc/there-is-no-such-file", |error| matches!(error, HrefError::Escapes { .. })),
        ("C:/model.onnx", |error| matches!(error, HrefError::Absolute { .. })),
        ("..\\secret", |error| matches!(error, HrefError::Malformed { .. })),
        ("https://example.org/model.onnx", |error| matches!(error, HrefError::Scheme { .. })),
        ("s3://bucket/model.onnx", |error| matches!(error, HrefError::Scheme { .. })),
        ("model.onnx%00.png", |error| matches!(error, HrefError::Malformed { .. })),
        ("", |error| matches!(error, HrefError::Malformed { .. })),
        (".", |error| matches!(error, HrefError::Malformed { .. })),
        ("sub", |error| matches!(error, HrefError::NotAFile { .. })),
        ("missing.onnx", |error| matches!(error, HrefError::NotFound { .. })),
    ];
    for (href, is_expected) in refused {
        let error = resolve_href(&item_dir, href).expect_err(href);
        assert!(is_expected(&error), "{href}: {error}");
    }
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_does_not_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let item_dir = folder.path().join("item");
    std::fs::create_dir(&item_dir).unwrap();
    std::fs::write(folder.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink("../secret", item_dir.join("model.onnx")).unwrap();
    assert!(matches!(resolve_href(&item_dir, "model.onnx"), Err(HrefError::Escapes { .. })));
}
