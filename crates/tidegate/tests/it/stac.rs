//! `tidegate stac`: checking items, and writing a first one.

use serde_json::{Value, json};

use crate::support::{Installation, json_of, repository, run};

fn example_item() -> Value {
    json_of(&std::fs::read(repository().join("examples/refugee-camp/stac_item.json")).unwrap())
}

/// The example's folder with another item in it.
fn example_with(installation: &Installation, item: &Value) -> std::path::PathBuf {
    let folder = installation.folder.path().join("example");
    std::fs::create_dir_all(&folder).unwrap();
    for entry in std::fs::read_dir(repository().join("examples/refugee-camp")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
        }
    }
    let path = folder.join("stac_item.json");
    std::fs::write(&path, item.to_string()).unwrap();
    path
}

#[test]
fn an_item_is_checked_against_its_files_and_its_model() {
    let installation = Installation::new();
    let validate = |item: &Value| {
        let mut command = installation.command();
        command.args(["stac", "validate", "--json"]).arg(example_with(&installation, item));
        let (success, output, _) = run(command);
        let report = json_of(output.as_bytes())[0].take();
        assert_eq!(report["valid"], json!(success), "{report}");
        report["findings"].as_array().unwrap().clone()
    };
    assert_eq!(validate(&example_item()), [] as [Value; 0]);

    let cases: [(&str, Value, &str, &str); 5] = [
        (
            "/properties/mlm:output/0/post_processing_function",
            json!({"format": "python", "expression": "torch.sigmoid"}),
            "/properties/mlm:output/0/post_processing_function",
            "a second time",
        ),
        (
            "/properties/mlm:input/0/input/shape/3",
            json!(512),
            "/properties/mlm:input/0/input/shape",
            "[-1, 3, 256, 256]",
        ),
        (
            "/properties/mlm:input/0/input/data_type",
            json!("uint8"),
            "/properties/mlm:input/0/input/data_type",
            "FP32",
        ),
        (
            "/properties/mlm:output/0/result/shape/1",
            json!(2),
            "/properties/mlm:output/0/result/shape",
            "2 channels",
        ),
        ("/assets/onnx/href", json!("./sample.json"), "/assets/onnx/file:checksum", "1220"),
    ];
    for (at, value, pointer, words) in cases {
        let mut item = example_item();
        *item.pointer_mut(at).unwrap_or_else(|| panic!("{at}")) = value;
        let findings = validate(&item);
        let found = findings.iter().any(|finding| {
            finding["pointer"] == pointer && finding["message"].as_str().unwrap().contains(words)
        });
        assert!(found, "{at}: {findings:#?}");
    }

    let mut command = installation.command();
    command.args(["stac", "validate"]).arg(repository().join("README.md"));
    let (success, _, errors) = run(command);
    assert!(!success && errors.contains("is not JSON"), "{errors}");
}

/// A first item of the example's model is as good as the one that was written with care.
#[test]
fn a_first_item_predicts_like_the_real_one() {
    let installation = Installation::new();
    let item = example_with(&installation, &example_item());
    let example = item.parent().unwrap();
    let init = |extra: &[&str]| {
        let mut command = installation.command();
        command.args(["stac", "init"]).arg(example.join("refugee-camp-detector.onnx")).args(extra);
        run(command)
    };
    let (success, _, errors) = init(&[]);
    assert!(!success && errors.contains("--force"), "{errors}");
    let (success, output, errors) = init(&[
        "--force",
        "--bands=red,green,blue",
        "--gsd=0.25",
        "--classes=background,shelter",
        "--divide-by=255",
        "--mean=0.485,0.456,0.406",
        "--std=0.229,0.224,0.225",
    ]);
    assert!(success && output.contains("stac_item.json: valid\n"), "{output}{errors}");
    let (written, real) = (json_of(&std::fs::read(&item).unwrap()), example_item());
    for pointer in ["/properties/mlm:input/0/input", "/properties/mlm:input/0/value_scaling"] {
        assert_eq!(written.pointer(pointer), real.pointer(pointer), "{pointer}");
    }
    assert_eq!(written["properties"]["mlm:output"][0]["post_processing_function"], Value::Null);
    for key in ["onnx", "torchscript"] {
        assert_eq!(written["assets"][key]["file:checksum"], real["assets"][key]["file:checksum"]);
    }

    let mut predict = installation.command();
    predict.arg("predict").arg(example.join("sample-tile.png")).arg("--stac").arg(&item);
    let (success, _, errors) = run(predict);
    assert!(success, "{errors}");

    // What ends in no activation must be told.
    let mut unknown = installation.command();
    unknown
        .args(["stac", "init"])
        .arg(repository().join("fixtures/onnx/identity-fp32.onnx"))
        .args(["-o", "x.json"]);
    let (success, _, errors) = run(unknown);
    assert!(!success && errors.starts_with("error: the model takes"), "{errors}");
}
