//! While traffic is split, a caller stays on one version, by whatever the route goes by and whichever way it asks.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::json;
use tidegate_core::route::BUCKETS;
use tidegate_core::{Arm, Route, StickyBy};

use crate::oip::{call_with, infer_message};
use crate::respond_async::{done, run};
use crate::support::{App, Beside, request};

/// Splits the traffic of `m` evenly between the version that answers and another one.
async fn split(app: &App, other: &str, sticky_by: StickyBy) {
    let Beside { model, route, running, candidate } = app.load_beside("m", other).await;
    let half = |version_id| Arm { version_id, weight: BUCKETS / 2 };
    let route = Route {
        generation: route.generation + 1,
        arms: vec![half(route.arms[0].version_id.clone()), half(candidate.version_id().clone())],
        sticky_by,
        ..route
    };
    app.server.apply(route, model.name, vec![running, candidate]);
}

/// The version that answers a caller with these headers, asked natively, one by one and in a batch, and by the Open Inference
/// Protocol on REST and gRPC.
async fn answered(app: &mut App, headers: &HeaderMap) -> Vec<String> {
    let tensor = json!([{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]);
    let posts = [
        ("/api/v1/inference/m", json!({"features": {"x": [1, 2, 3]}})),
        ("/api/v1/inference/m/batch", json!({"instances": [{"x": [1, 2, 3]}]})),
        ("/v2/models/m/infer", json!({"inputs": tensor})),
    ];
    for (path, body) in posts {
        let mut asked = request(Method::POST, path, "application/json", body.to_string().into());
        asked.headers_mut().extend(headers.clone());
        let reply = app.send(asked).await;
        assert_eq!(reply.status, StatusCode::OK, "{path}: {}", reply.text());
    }
    let (status, message) = call_with(app, "ModelInfer", &infer_message("", [1, 3]), headers.clone()).await;
    assert_eq!(status, "0", "{message}");
    let mut versions = vec![];
    while let Ok(record) = app.log.try_recv() {
        versions.push(record.version.unwrap().to_string());
    }
    assert_eq!(versions.len(), 4);
    versions
}

#[tokio::test]
async fn a_header_of_choice_keeps_a_user_on_one_version_in_every_protocol() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let second = app.register("m", "2.0.0", "linear.onnx").await;
    split(&app, second["versionId"].as_str().unwrap(), "header:X-User".parse().unwrap()).await;
    let mut met = BTreeSet::new();
    // Any bytes that a header can have.
    for user in (0..12).map(|index| [format!("user {index}").as_bytes(), b"\xfc"].concat()) {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_bytes(&user).unwrap());
        let versions: BTreeSet<_> = answered(&mut app, &headers).await.into_iter().collect();
        assert_eq!(versions.len(), 1, "one user, one version: {versions:?}");
        met.extend(versions);
    }
    assert_eq!(met.len(), 2, "of twelve users some meet each");

    // Another header is nobody's; then each request is on its own.
    let mut headers = HeaderMap::new();
    headers.insert("x-tidegate-key", HeaderValue::from_static("mine"));
    let mut met = BTreeSet::new();
    for _ in 0..8 {
        met.extend(answered(&mut app, &headers).await);
    }
    assert_eq!(met.len(), 2);
}

/// The header is kept with the request: it sticks also when it is run by another process, or after a restart.
#[tokio::test]
async fn who_is_answered_later_stays_on_the_same_version() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let second = app.register("m", "2.0.0", "linear.onnx").await;
    split(&app, second["versionId"].as_str().unwrap(), "header:X-User".parse().unwrap()).await;
    let _running = run(&mut app);
    let mut met = BTreeSet::new();
    for index in 0..12 {
        let user = [format!("user {index}").as_bytes(), b"\xfc"].concat();
        let ask = |body: serde_json::Value| {
            let mut asked =
                request(Method::POST, "/api/v1/inference/m", "application/json", body.to_string().into());
            asked.headers_mut().insert("x-user", HeaderValue::from_bytes(&user).unwrap());
            asked
        };
        let now = app.send(ask(json!({"features": {"x": [1, 2, 3]}}))).await;
        let id = format!("later-{index}");
        let later = json!({"features": {"x": [1, 2, 3]}, "requestId": id, "async": true});
        assert_eq!(app.send(ask(later)).await.status, StatusCode::ACCEPTED);
        let later = done(&app, &id).await["version"].as_str().unwrap().to_owned();
        assert_eq!(later, now.header("x-tidegate-version"), "user {index}");
        met.insert(later);
    }
    assert_eq!(met.len(), 2, "of twelve users some meet each");
}
