//! Copies of requests for a version in the shadow of the one that answers, from every way to ask.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_core::route::BUCKETS;
use tidegate_core::{Route, Shadow, ShadowSummary};
use tidegate_serve::Slot;

use crate::support::{App, Beside, Part, example, repository};

/// Puts a version that is registered into the shadow of the one that answers.
async fn shadow(app: &App, model: &str, version_id: &str) -> Arc<Slot> {
    let Beside { model, route, running, candidate } = app.load_beside(model, version_id).await;
    let version_id = candidate.version_id().clone();
    let route = Route {
        generation: route.generation + 1,
        warm: vec![version_id.clone()],
        shadow: Some(Shadow { version_id, share: BUCKETS }),
        ..route
    };
    app.server.apply(route, model.name, vec![running, Arc::clone(&candidate)]);
    candidate
}

#[track_caller]
fn wait_for_mirrored(shadow: &Slot, n: u64) -> ShadowSummary {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let summary = shadow.tally().shadow;
        if summary.mirrored >= n {
            assert_eq!((summary.mirrored, summary.shed), (n, 0));
            return summary;
        }
        assert!(Instant::now() < deadline, "{summary:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[tokio::test]
async fn requests_and_batches_are_copied_once_each_and_pinned_ones_are_not() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    let second = app.register("m", "2.0.0", "version-2.onnx").await;
    let candidate = shadow(&app, "m", second["versionId"].as_str().unwrap()).await;
    let single = app.post("/api/v1/inference/m", &json!({"features": {"x": [0.0]}})).await.json();
    assert_eq!(single["prediction"]["y"], 1.0, "{single}");
    let summary = wait_for_mirrored(&candidate, 1);
    assert_eq!((summary.differing, summary.failures), (1, 0), "1 and 2 are not the same");
    let instances = json!({"instances": [{"x": [0.0]}, {"x": [1.0]}, {"x": [2.0]}]});
    let batch = app.post("/api/v1/inference/m/batch", &instances).await.json();
    assert_eq!(batch["predictions"].as_array().unwrap().len(), 3, "{batch}");
    wait_for_mirrored(&candidate, 2);
    let pinned = json!({"features": {"x": [0.0]}, "version": "2.0.0"});
    let pinned = app.post("/api/v1/inference/m", &pinned).await.json();
    assert_eq!(pinned["prediction"]["y"], 2.0, "{pinned}");
    app.post("/api/v1/inference/m", &json!({"features": {"x": [0.0]}})).await;
    wait_for_mirrored(&candidate, 3);
    // The answers of a shadow are on nobody's record.
    let mut versions = vec![];
    while let Ok(record) = app.log.try_recv() {
        versions.push(record.version.unwrap().to_string());
    }
    assert_eq!(versions, ["1.0.0", "1.0.0", "2.0.0", "1.0.0"]);
    assert_eq!(candidate.n_answered(), 1, "the pinned one");
    assert_eq!(candidate.tally().arm.requests, 0, "which is no evidence of what chance would send it");
}

#[tokio::test]
async fn what_the_running_version_fails_is_not_copied() {
    let app = App::start().await;
    app.serve("sum", "1.0.0", "add.onnx").await;
    let second = app.register("sum", "2.0.0", "add.onnx").await;
    let candidate = shadow(&app, "sum", second["versionId"].as_str().unwrap()).await;
    // The sum of two large numbers is no finite float32.
    let overflow = json!({"features": {"a": [3e38, 1], "b": [3e38, 1]}});
    app.post("/api/v1/inference/sum", &overflow).await.check(500, "INFERENCE_ERROR", "prediction.y");
    app.post("/api/v1/inference/sum", &json!({"features": {"a": [1, 1], "b": [1, 1]}})).await;
    let summary = wait_for_mirrored(&candidate, 1);
    assert_eq!((summary.n_compared(), summary.differing), (1, 0));
}

#[tokio::test]
async fn of_an_image_one_tile_is_copied() {
    let app = App::start().await;
    let mut versions = vec![];
    for number in ["1.0.0", "9.0.0"] {
        let (mut item, files) = example();
        item["properties"]["version"] = json!(number);
        let parts: Vec<_> = [Part::text("stac", &item)].into_iter().chain(files).collect();
        let reply = app.post_form("/api/v1/models", &parts).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        versions.push(reply.json());
    }
    app.deploy("refugee-camp-detector", "1.0.0").await;
    let second = &versions[1];
    let candidate = shadow(&app, "refugee-camp-detector", second["versionId"].as_str().unwrap()).await;
    let tile = std::fs::read(repository().join("examples/refugee-camp/sample-tile.png")).unwrap();
    let image = image::load_from_memory(&tile).unwrap();
    let (width, height) = (image.width() * 2, image.height() * 2);
    let mut large = std::io::Cursor::new(vec![]);
    let filter = image::imageops::FilterType::Nearest;
    image.resize_exact(width, height, filter).write_to(&mut large, image::ImageFormat::Png).unwrap();
    let reply =
        app.post_raw("/api/v1/inference/refugee-camp-detector", "image/png", large.into_inner()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let summary = wait_for_mirrored(&candidate, 1);
    assert_eq!((summary.n_compared(), summary.differing), (1, 0), "the same model: {summary:?}");
}
