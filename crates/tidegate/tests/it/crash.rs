//! Killed at any moment, a rollout goes on or rolls back; traffic is never on a version that nobody decided on.

use std::time::Duration;

use serde_json::json;

use crate::support::{Installation, databases, files_below, fixture};

/// How long after a deployment is created the process is killed: before, during and after each of its phases.
const MOMENTS_MS: [u64; 6] = [0, 5, 20, 60, 150, 400];

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_killed_at_any_moment_ends_well() {
    for database in databases().await {
        let installation = Installation::on(&database);
        let mut server = installation.start().await;
        for k in 1..=3 {
            let bytes = fixture(&format!("version-{k}.onnx"));
            server.api.register("counter", &format!("{k}.0.0"), "model.onnx", bytes).await.expect(201);
        }
        server.api.deploy("counter", "1.0.0").await;
        let mut next = 2;
        for moment in MOMENTS_MS {
            let settings =
                json!({"smokeTestSamples": 20, "monitoringDuration": "PT0S", "keepBlueDuration": "PT0S"});
            let version = format!("{next}.0.0");
            let body = json!({"modelId": "counter", "version": version, "strategyConfig": settings});
            let created = server.api.post("/api/v1/deployments", &body).await.expect(202);
            tokio::time::sleep(Duration::from_millis(moment)).await;
            server = installation.restart(server).await;

            // Until it ends, whoever answers is the old version or the new one, and says the truth about itself.
            let path = format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap());
            let ended = server.api.wait_for(&path, |answer| answer.body["phase"] == "Done").await.body;
            assert_eq!(ended["status"], "Active", "killed after {moment} ms: {ended}");
            let features = json!({"features": {"x": [0.0]}});
            let answer = server.api.post("/api/v1/inference/counter", &features).await.expect(200);
            assert_eq!(answer["prediction"]["y"].as_f64(), Some(f64::from(next)), "{answer}");
            let events = server.api.get(&format!("{path}/events")).await.expect(200);
            let kinds: Vec<_> =
                events["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
            let switches = kinds.iter().filter(|kind| **kind == "switched").count();
            assert_eq!(switches, 1, "decided once, however often it was taken up: {kinds:?}");
            next = if next == 2 { 3 } else { 2 };
        }
        drop(server);
        database.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_an_upload_leaves_no_version_and_the_upload_can_be_repeated() {
    let installation = Installation::new();
    let server = installation.start().await;
    let (sender, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let head = "--x\r\ncontent-disposition: form-data; name=\"metadata\"\r\ncontent-type: application/json\r\n\r\n\
        {\"name\": \"half\", \"version\": \"1.0.0\", \"framework\": \"ONNX\"}\r\n--x\r\n\
        content-disposition: form-data; name=\"artifact\"; filename=\"model.onnx\"\r\n\r\n";
    sender.send(Ok(head.into())).await.unwrap();
    let stream =
        futures::stream::unfold(body, |mut body| async { body.recv().await.map(|chunk| (chunk, body)) });
    let api = server.api.clone();
    let upload = tokio::spawn(async move {
        let request = reqwest::Client::new().post(api.url("/api/v1/models"));
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        request.body(reqwest::Body::wrap_stream(stream)).send().await
    });
    // Feed it until something of it lies in the artifact folder, then kill.
    let artifacts = installation.data_dir().join("artifacts");
    for _ in 0..200 {
        sender.send(Ok(vec![7; 256 * 1024])).await.unwrap();
        if !files_below(&artifacts).is_empty() {
            break;
        }
    }
    let restarted = installation.restart(server).await;
    assert!(upload.await.unwrap().is_err(), "the upload broke off");
    assert_eq!(restarted.api.get("/api/v1/models/half").await.status, 404);
    let again = restarted.api.register("half", "1.0.0", "model.onnx", fixture("version-1.onnx")).await;
    again.expect(201);
    restarted.api.deploy("half", "1.0.0").await;
}
