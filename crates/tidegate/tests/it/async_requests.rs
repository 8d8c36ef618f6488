//! Requests that are answered later, by processes that are killed and by several at once.

use std::time::Instant;

use futures::future::join_all;
use serde_json::json;

use crate::support::{Api, Installation, PATIENCE, databases, fixture};

/// Enough that a process that answers them is in the middle of it when it is killed.
const N_REQUESTS: usize = 120;

async fn serve(api: &Api) {
    api.register("linear", "1.0.0", "model.onnx", fixture("linear.onnx")).await.expect(201);
    api.deploy("linear", "1.0.0").await;
}

/// Hands in requests of known answers, a few at a time.
async fn hand_in(api: &Api, ids: &[String]) {
    let later = api.with_header("prefer", "respond-async, wait=0");
    for ids in ids.chunks(8) {
        let taken = ids.iter().map(|id| {
            let later = &later;
            async move {
                let number: f64 = id.rsplit('-').next().unwrap().parse().unwrap();
                let body = json!({"features": {"x": [number, 0, 0]}, "requestId": id});
                later.post("/api/v1/inference/linear", &body).await.expect(202);
            }
        });
        join_all(taken).await;
    }
}

/// Every request has its own answer.
async fn check_answers(api: &Api, ids: &[String]) {
    for id in ids {
        let path = format!("/api/v1/inference/{id}/status");
        let done = api.wait_for(&path, |answer| {
            let status = answer.body["status"].as_str().unwrap_or_default();
            assert_ne!(status, "Failed", "{}", answer.body);
            status == "Completed"
        });
        let body = done.await.body;
        let number: f64 = id.rsplit('-').next().unwrap().parse().unwrap();
        assert_eq!(body["prediction"]["y"], json!([number + 0.5, 2.0 * number - 0.5]), "{body}");
        assert_eq!(body["version"], "1.0.0");
    }
}

fn ids(kind: &str) -> Vec<String> {
    (0..N_REQUESTS).map(|index| format!("{kind}-{index}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_in_before_a_kill_is_answered_once_afterwards() {
    for database in databases().await {
        let installation = Installation::on(&database);
        let mut server = installation.start().await;
        serve(&server.api).await;
        let ids = ids("kill");
        for ids in ids.chunks(N_REQUESTS / 4) {
            hand_in(&server.api, ids).await;
            server = installation.restart(server).await;
        }
        check_answers(&server.api, &ids).await;
        // A second restart runs nothing again: the log has each request once, with one result.
        let first = status(&server.api, &ids[0]).await;
        server = installation.restart(server).await;
        assert_eq!(status(&server.api, &ids[0]).await, first);
        let loaded = server.api.get("/api/v1/server").await.expect(200)["models"].clone();
        assert_eq!(loaded[0]["requests"], 0, "{loaded}");
        drop(server);
        database.stop().await;
    }
}

async fn status(api: &Api, id: &str) -> serde_json::Value {
    api.get(&format!("/api/v1/inference/{id}/status")).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_what_one_of_them_took_in() {
    for database in databases().await {
        let installation = Installation::on(&database);
        let (one, other) = (installation.start().await, installation.start().await);
        serve(&one.api).await;
        other.api.wait_for("/api/v1/server", |answer| !answer.body["models"][0].is_null()).await;

        // The deployment has tried the version before.
        let n_before = n_answered(&one.api).await + n_answered(&other.api).await;
        let n_other = n_answered(&other.api).await;

        let deadline = Instant::now() + PATIENCE;
        let mut round = 0;
        let mut handed_in = Vec::new();
        while n_answered(&other.api).await == n_other {
            assert!(Instant::now() < deadline, "the other replica never took a request");
            let ids = ids(&format!("round{round}"));
            hand_in(&one.api, &ids).await;
            handed_in.extend(ids);
            round += 1;
        }
        check_answers(&other.api, &handed_in).await;
        let n_answered = n_answered(&one.api).await + n_answered(&other.api).await;
        assert_eq!(n_answered - n_before, handed_in.len() as u64, "none by both");
        drop((one, other));
        database.stop().await;
    }
}

async fn n_answered(api: &Api) -> u64 {
    api.get("/api/v1/server").await.expect(200)["models"][0]["requests"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_stop_leaves_what_waits_to_the_next_process() {
    let installation = Installation::new();
    let server = installation.start().await;
    serve(&server.api).await;
    let api = server.api.with_header("prefer", "respond-async");
    // Stopped in order, the process gives back what it had.
    let body = json!({"features": {"x": [1, 2, 3]}, "requestId": "waits-1"});
    api.post("/api/v1/inference/linear", &body).await.expect(202);
    assert!(server.terminate().success());
    let server = installation.start().await;
    let done = server
        .api
        .wait_for("/api/v1/inference/waits-1/status", |answer| answer.body["status"] == "Completed");
    assert_eq!(done.await.body["prediction"]["y"], json!([22.5, 27.5]));
}
