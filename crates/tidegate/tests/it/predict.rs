//! `tidegate predict` and `tidegate demo`, and what they are worth on real imagery.

use std::path::Path;

use serde_json::json;

use crate::support::{Installation, json_of, repository, run, shared_data};

const FILES: [&str; 4] =
    ["prediction_raw.npy", "prediction_mask.png", "prediction_overlay.png", "inference_metadata.json"];

fn assert_four_files(folder: &Path) -> serde_json::Value {
    for file in FILES {
        let path = folder.join(file);
        assert!(path.metadata().is_ok_and(|metadata| metadata.len() > 0), "{} is missing", path.display());
    }
    json_of(&std::fs::read(folder.join("inference_metadata.json")).unwrap())
}

#[test]
fn predict_needs_no_server() {
    let installation = Installation::new();
    let example = repository().join("examples/refugee-camp");
    let mut command = installation.command();
    command.arg("predict").arg(example.join("sample-tile.png"));
    command.arg("--stac").arg(example.join("stac_item.json")).args(["--output-dir", "out"]);
    let (success, _, errors) = run(command);
    assert!(success, "{errors}");
    let metadata = assert_four_files(&installation.folder.path().join("out"));
    assert_eq!(metadata["model"]["name"], "refugee-camp-detector", "{metadata}");
}

/// Twice: the second run finds everything there and says so.
#[test]
fn a_precision_that_the_file_does_not_have_is_refused_without_a_server() {
    let installation = Installation::new();
    let example = repository().join("examples/refugee-camp");
    let mut command = installation.command();
    command.arg("predict").arg(example.join("sample-scene.tif"));
    command.arg("--stac").arg(example.join("stac_item.json")).args(["--precision", "int8"]);
    let (success, _, errors) = run(command);
    assert!(!success && errors.contains("--precision: ") && errors.contains("not quantised"), "{errors}");
}

#[test]
fn the_demo_tells_the_whole_story_and_can_be_repeated() {
    let installation = Installation::new();
    for said in ["Registered refugee-camp-detector 1.0.0", "is registered already"] {
        let mut command = installation.command();
        command.args(["demo", "--listen", "127.0.0.1:0"]);
        command.arg("--example").arg(repository().join("examples/refugee-camp"));
        let (success, output, errors) = run(command);
        assert!(success, "{output}\n{errors}");
        assert!(output.contains(said), "{output}");
        assert!(output.contains("of the image is"), "{output}");
        assert_four_files(&installation.folder.path().join("tidegate-output"));
    }
}

/// The real model on the real, held-out imagery finds what it found when it was trained.
#[tokio::test(flavor = "multi_thread")]
async fn banepa_registers_from_its_item_deploys_and_finds_the_buildings() {
    let Some(data) = shared_data() else { return };
    let model = data.join("banepa/model/1.0.0/stac_item.json");
    let installation = Installation { engine: "auto", ..Installation::new() };
    let server = installation.start().await;
    let url = ["--server", &server.api.base];
    let mut register = installation.command();
    register.args(["model", "register", "--stac"]).arg(&model).args(url);
    let (success, output, errors) = run(register);
    assert!(success, "{output}\n{errors}");
    let mut deploy = installation.command();
    deploy.args(["deploy", "building-segmenter", "--set", "smokeTestSamples=2"]).args(url);
    let (success, output, errors) = run(deploy);
    assert!(success, "{output}\n{errors}");
    let mut predict = installation.command();
    predict
        .arg("predict")
        .arg(data.join("banepa/validation.tif"))
        .args(["--model", "building-segmenter"])
        .args(url);
    let (success, output, errors) = run(predict);
    assert!(success, "{output}\n{errors}");

    let folder = installation.folder.path().join("tidegate-output");
    let metadata = assert_four_files(&folder);
    let buildings = metadata["classes"].as_array().unwrap().iter().find(|class| class["value"] == json!(1));
    assert_eq!(buildings.unwrap()["name"], "building", "{metadata}");
    let iou = intersection_over_union(
        &folder.join("prediction_mask.png"),
        &data.join("banepa/validation-mask.tif"),
    );
    assert!(iou >= 0.75, "IoU {iou:.3}");
}

fn intersection_over_union(mask: &Path, truth: &Path) -> f64 {
    let read = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        tidegate_geo::decode(&bytes, &tidegate_geo::ImageLimits::default()).unwrap()
    };
    let (mask, truth) = (read(mask), read(truth));
    assert_eq!((mask.width, mask.height), (truth.width, truth.height));
    let pairs = mask.pixels.chunks(mask.n_bands).zip(truth.pixels.chunks(truth.n_bands));
    let (mut both, mut either) = (0u32, 0u32);
    for (mask, truth) in pairs {
        let (found, is_there) = (mask[0] > 0, truth[0] > 0);
        both += u32::from(found && is_there);
        either += u32::from(found || is_there);
    }
    f64::from(both) / f64::from(either.max(1))
}
