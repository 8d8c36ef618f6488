//! `tidegate package`: made from items, files and a server; run by a real Python as ArcGIS would; signed and checked.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{Installation, json_of, repository, run, shared_data, test_python};

fn example() -> PathBuf {
    repository().join("examples/refugee-camp/stac_item.json")
}

/// Runs `tidegate package ...` in the installation's folder.
fn package(installation: &Installation, arguments: &[&str]) -> (bool, String, String) {
    let mut command = installation.command();
    command.arg("package").args(arguments);
    run(command)
}

fn make(installation: &Installation, item: &Path, extra: &[&str]) -> PathBuf {
    let mut arguments = vec!["esri", item.to_str().unwrap()];
    arguments.extend(extra);
    let (success, output, errors) = package(installation, &arguments);
    assert!(success, "{output}{errors}");
    let written = output.lines().next().unwrap().strip_prefix("wrote ").unwrap();
    installation.folder.path().join(written.split(" (").next().unwrap())
}

fn verify(
    installation: &Installation,
    package: &Path,
    python: &Path,
    change: impl FnOnce(&mut Command),
) -> (bool, String, String) {
    let mut command = installation.command();
    command.args(["package", "verify"]).arg(package).arg("--python").arg(python);
    change(&mut command);
    run(command)
}

/// The members of a zip, and a zip with some of them changed.
fn rewritten(package: &Path, change: impl Fn(&str, Vec<u8>) -> Option<Vec<u8>>) {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(package).unwrap()).unwrap();
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let name = entry.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        if let Some(bytes) = change(&name, bytes) {
            writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(&bytes).unwrap();
        }
    }
    std::fs::write(package, writer.finish().unwrap().into_inner()).unwrap();
}

/// A tiny model of `fixtures/segment` with an item, in a folder of the installation.
fn tiny(installation: &Installation, stem: &str, extra: &[&str]) -> PathBuf {
    let folder = installation.folder.path().join(stem);
    std::fs::create_dir(&folder).unwrap();
    for extension in ["onnx", "pt"] {
        let file = repository().join("fixtures/segment").join(stem).with_extension(extension);
        if file.is_file() {
            std::fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
    let mut command = installation.command();
    command.args(["stac", "init"]).arg(folder.join(stem).with_extension("onnx")).args(extra);
    let (success, output, errors) = run(command);
    assert!(success, "{output}{errors}");
    folder.join("stac_item.json")
}

#[test]
fn a_package_runs_as_arcgis_runs_it_and_gives_tidegates_pixels() {
    let Some(python) = test_python() else { return };
    let installation = Installation::new();
    let item =
        tiny(&installation, "binary", &["--bands=red,green,blue", "--mean=120,110,100", "--std=60,55,50"]);
    let dlpk = make(&installation, &item, &[]);
    assert_eq!(dlpk.file_name().unwrap(), "binary-1.0.0.dlpk");
    let (success, output, errors) = verify(&installation, &dlpk, &python, |_| {});
    assert!(success && !output.contains("WRONG"), "{output}{errors}");
    for said in ["onnxruntime 1.", "(the defaults)", "BatchSize 6", "batch_size 1, padding 0", "Threshold 0."]
    {
        assert!(output.contains(said), "{said}: {output}");
    }

    // Each change is one that a person could make; a check that lets it pass would be worth nothing.
    let reset = "self.model = None\n        require";
    let debug_log = format!("open(folder + \"/debug.log\", \"w\").close()\n        {reset}");
    let cases = [
        ("scores[0] >= np.float32(self.threshold)", "scores[0] >= 0.5", "pixels differ"),
        ("scaling[\"stddev\"]", "1.0", "pixels differ"),
        ("pixels[~mask] = 0", "pass", "pixels differ"),
        ("pixels = mirrored(pixels, valid)", "pass", "pixels differ"),
        ("classes[~inner] = 0", "pass", "pixels differ"),
        ("values[1], values[0])", "values[1] * 255, values[0])", "pixels differ"),
        ("if activation == \"sigmoid\":", "if True:", "pixels differ"),
        (".astype(props[\"pixelType\"], copy=False)", ".astype(\"f4\")", "output_pixels is float32"),
        (reset, debug_log.as_str(), "debug.log"),
        (
            "height, width = self.emd",
            "raise RuntimeError(\"out of tea\")\n        height, width = self.emd",
            "out of tea",
        ),
    ];
    for (from, to, expected) in cases {
        let broken = make(&installation, &item, &["--output", "broken.dlpk"]);
        rewritten(&broken, |name, bytes| match name {
            "checksums.json" => None,
            "Binary.py" => {
                let source = String::from_utf8(bytes).unwrap();
                assert!(source.contains(from), "{from}");
                Some(source.replace(from, to).into_bytes())
            }
            _ => Some(bytes),
        });
        let (success, output, errors) = verify(&installation, &broken, &python, |_| {});
        assert!(!success && errors.contains(expected), "{from}: {output}{errors}");
    }
}

#[test]
fn several_classes_and_other_bands_are_packed_and_agree() {
    let Some(python) = test_python() else { return };
    let installation = Installation::new();
    let init =
        ["--bands=b4,b3,b2,b8", "--activation=softmax", "--classes=water,soil,crop", "--divide-by=255"];
    let path = tiny(&installation, "classes", &init);
    let mut item = json_of(&std::fs::read(&path).unwrap());
    item["properties"]["bands"] = ["b2", "b3", "b4", "b8"].map(|name| json!({"name": name})).into();
    item["properties"]["mlm:input"][0]["value_scaling"] = json!([
        {"type": "min-max", "minimum": 10, "maximum": 200},
        {"type": "clip", "minimum": 30, "maximum": 90},
        {"type": "offset", "value": 128},
        {"type": "scale", "value": 51},
    ]);
    std::fs::write(&path, item.to_string()).unwrap();
    let dlpk = make(&installation, &path, &["--padding", "3", "--batch-size", "5"]);
    let (success, output, errors) = verify(&installation, &dlpk, &python, |_| {});
    assert!(success && !output.contains("WRONG") && !output.contains("Threshold"), "{output}{errors}");
    let folder = tempfile::tempdir().unwrap();
    tidegate_geo::esri::unpack(&dlpk, folder.path()).unwrap();
    let emd = json_of(&std::fs::read(folder.path().join("classes-1.0.0.emd")).unwrap());
    assert_eq!(emd["ExtractBands"], json!([2, 1, 0, 3]));
    assert_eq!(emd["Classes"][2]["Name"], "crop");
}

#[test]
fn a_torchscript_package_is_run_by_torch() {
    let Some(python) = test_python() else { return };
    let installation = Installation::new();
    let item = tiny(&installation, "binary", &["--bands=red,green,blue", "--divide-by=255"]);
    let dlpk = make(&installation, &item, &["--format", "torchscript", "--output", "roofs.dlpk"]);
    let stub = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stub");
    let (success, output, errors) = verify(&installation, &dlpk, &python, |command| {
        command.env("PYTHONPATH", stub).env("STUB_ONNX", item.with_file_name("binary.onnx"));
    });
    assert!(success && output.contains("torch 0.0-stub") && !output.contains("WRONG"), "{output}{errors}");
    let (success, _, errors) = verify(&installation, &dlpk, &python, |_| {});
    assert!(!success && errors.contains("has no torch") && errors.contains("-m pip install"), "{errors}");
    let (success, _, errors) = verify(&installation, &dlpk, Path::new("/no/such/python"), |_| {});
    assert!(!success && errors.contains("--python") && errors.contains("--no-run"), "{errors}");
}

#[test]
fn what_would_fail_in_arcgis_is_refused_when_the_package_is_made() {
    let installation = Installation::new();
    let folder = installation.folder.path().join("model");
    std::fs::create_dir(&folder).unwrap();
    let model = std::fs::read(example().with_file_name("refugee-camp-detector.onnx")).unwrap();
    let mut item = json_of(&std::fs::read(example()).unwrap());
    item["assets"] =
        json!({"onnx": {"href": "./model.onnx", "roles": ["mlm:model"], "mlm:artifact_type": "onnx"}});
    let refused = |item: &serde_json::Value, model: &[u8], extra: &[&str]| {
        std::fs::write(folder.join("model.onnx"), model).unwrap();
        let path = folder.join("stac_item.json");
        std::fs::write(&path, item.to_string()).unwrap();
        let mut arguments = vec!["esri", path.to_str().unwrap()];
        arguments.extend(extra);
        let (success, output, errors) = package(&installation, &arguments);
        assert!(!success, "{output}");
        errors
    };
    // The file's first field is the IR version, its last byte the operator set.
    let mut newer = model.clone();
    *newer.last_mut().unwrap() = 18;
    assert!(refused(&item, &newer, &[]).contains("opset_version=17"));
    let mut newer = model.clone();
    newer[1] = 9;
    assert!(refused(&item, &newer, &[]).contains("IR version 9"));
    assert!(refused(&item, &model, &["--activation", "sigmoid"]).contains("correct it there"));
    assert!(refused(&item, &model, &["--format", "torchscript"]).contains("no such model"));
    assert!(refused(&item, &model, &["--output", "x.zip"]).contains("does not end in .dlpk"));
    assert!(refused(&item, &model, &["--padding", "128"]).contains("0 to 127"));
    item["properties"]["mlm:output"][0]["post_processing_function"] =
        json!({"format": "python", "expression": "torch.sigmoid"});
    assert!(refused(&item, &model, &[]).contains("a second time"));
    item["assets"] = json!({"weights": {"href": "./model.pth", "roles": ["mlm:model"], "mlm:artifact_type": "torch.save"}});
    assert!(refused(&item, &model, &[]).contains("weights without a network"));
    let left = std::fs::read_dir(installation.folder.path()).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().contains("dlpk")).count();
    assert_eq!(left, 0, "nothing half-made is left");
}

#[test]
fn a_signature_tells_whose_package_it_is_and_whether_it_was_changed() {
    let installation = Installation::new();
    let at = |name: &str| installation.folder.path().join(name);
    for name in ["anna", "bob"] {
        let (success, output, errors) = package(&installation, &["keygen", name]);
        assert!(success && output.contains("fingerprint"), "{output}{errors}");
    }
    let (success, _, errors) = package(&installation, &["keygen", "anna"]);
    assert!(!success && errors.contains("there already"), "{errors}");
    make(&installation, &example(), &["--output", "camps.dlpk"]);
    let check = |extra: &[&str]| {
        let mut arguments = vec!["verify", "camps.dlpk", "--no-run"];
        arguments.extend(extra);
        package(&installation, &arguments)
    };
    let (success, output, _) = check(&[]);
    assert!(success && output.contains("signature   none"), "{output}");
    let (success, _, errors) = check(&["--key", "anna.pub.pem"]);
    assert!(!success && errors.contains("is not signed"), "{errors}");

    for extra in [&["--detached"][..], &[]] {
        let mut arguments = vec!["sign", "camps.dlpk", "--key", "anna.pem"];
        arguments.extend(extra);
        let (success, output, errors) = package(&installation, &arguments);
        assert!(success, "{output}{errors}");
        let (success, output, errors) = check(&["--key", "anna.pub.pem"]);
        assert!(success && output.contains("yours"), "{output}{errors}");
        let (success, _, errors) = check(&["--key", "bob.pub.pem"]);
        assert!(!success && errors.contains("another key"), "{errors}");
        let _ = std::fs::remove_file(at("camps.dlpk.sig"));
    }
    let (success, _, errors) = package(&installation, &["sign", "camps.dlpk", "--key", "anna.pub.pem"]);
    assert!(!success && errors.contains("the public key"), "{errors}");

    rewritten(&at("camps.dlpk"), |name, mut bytes| {
        if name == "RefugeeCampDetector.py" {
            bytes.extend_from_slice(b"# mine\n");
        }
        Some(bytes)
    });
    let (success, _, errors) = check(&[]);
    assert!(!success && errors.contains("`RefugeeCampDetector.py` was changed"), "{errors}");
    rewritten(&at("camps.dlpk"), |name, bytes| (name != "checksums.json").then_some(bytes));
    let (success, _, errors) = check(&[]);
    assert!(!success && errors.contains("is not one of this key"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_version_is_packed_from_the_server() {
    let installation = Installation::new();
    let server = installation.start().await;
    let mut register = installation.command();
    register.args(["model", "register", "--server", &server.api.base, "--stac"]).arg(example());
    let (success, output, errors) = run(register);
    assert!(success, "{output}{errors}");
    let arguments = ["esri", "--model", "refugee-camp-detector", "--server", &server.api.base];
    let (success, output, errors) = package(&installation, &arguments);
    assert!(success, "{output}{errors}");
    let from_server =
        std::fs::read(installation.folder.path().join("refugee-camp-detector-1.0.0.dlpk")).unwrap();
    let from_file = make(&installation, &example(), &[]);
    assert_eq!(std::fs::read(from_file).unwrap(), from_server, "the same package wherever it came from");
}

/// The real model over real, held-out imagery: what an analyst sees in ArcGIS is as good as what Tidegate makes.
#[test]
fn the_real_model_finds_the_buildings_in_arcgis() {
    let (Some(python), Some(data)) = (test_python(), shared_data()) else { return };
    let installation = Installation { engine: "auto", ..Installation::new() };
    let dlpk = make(&installation, &data.join("banepa/model/1.0.0/stac_item.json"), &[]);
    let (success, output, errors) = verify(&installation, &dlpk, &python, |command| {
        command.arg("--image").arg(data.join("banepa/validation.tif")).args(["--output-dir", "out"]);
    });
    assert!(success, "{output}{errors}");
    let read = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        tidegate_geo::decode(&bytes, &tidegate_geo::ImageLimits::default()).unwrap()
    };
    let mask = read(&installation.folder.path().join("out/arcgis_mask.png"));
    let truth = read(&data.join("banepa/validation-mask.tif"));
    let (mut both, mut either) = (0u32, 0u32);
    for (at, found) in mask.pixels.chunks_exact(mask.n_bands).enumerate() {
        let (x, y) =
            (at % mask.width * truth.width / mask.width, at / mask.width * truth.height / mask.height);
        let is_there = truth.pixels[(y * truth.width + x) * truth.n_bands] > 0;
        both += u32::from(found[0] > 0 && is_there);
        either += u32::from(found[0] > 0 || is_there);
    }
    let iou = f64::from(both) / f64::from(either);
    assert!(iou >= 0.76, "IoU {iou:.3}");
}
