//! Traffic that grows on evidence, and comes back by itself.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::lifecycle::{INFER, Load, MODEL, answered_version, register_versions};
use crate::support::{Api, Installation, fixture};

async fn start_canary(api: &Api, version: &str, config: Value) -> String {
    let body = json!({"modelId": MODEL, "version": version, "strategy": "Canary", "strategyConfig": config});
    let created = api.post("/api/v1/deployments", &body).await.expect(202);
    format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap())
}

pub async fn events(api: &Api, path: &str) -> Vec<Value> {
    let events = api.get(&format!("{path}/events?limit=100")).await.expect(200);
    events["events"].as_array().unwrap().clone()
}

/// Microsecond models on a busy machine: a wide latency threshold keeps noise out of what is tested here. And each version
/// answers with its own number, which no threshold of drift would allow.
fn quick(steps: &[u32]) -> Value {
    json!({
        "steps": steps, "minimumSamples": 200, "smokeTestSamples": 2, "monitoringDuration": "PT0S",
        "keepPreviousDuration": "PT0S", "rollbackThresholds": {"latencyIncrease": 100.0, "driftScore": 8},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_takes_over_on_evidence_while_no_request_fails() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    api.deploy(MODEL, "1.0.0").await;
    let load = Load::start(api, 4);
    let path = start_canary(api, "2.0.0", quick(&[30])).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Done").await.expect(200);
    assert_eq!(answered_version(api).await, Ok(2));
    let (_, versions) = load.finish().await;
    assert_eq!(versions, BTreeSet::from([1, 2]));
    let events = events(api, &path).await;
    let switched = events.iter().find(|event| event["kind"] == "switched").expect("it was promoted");
    let analysis = &switched["evidence"]["analysis"];
    assert_eq!(analysis["verdict"], "pass", "{switched}");
    assert!(analysis["metrics"].as_array().is_some_and(|metrics| !metrics.is_empty()), "{switched}");
}

/// `fragile` answers its probes, so every gate lets it through; it fails what callers really ask.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_fails_its_callers_is_rolled_back_by_itself() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1]).await;
    api.register(MODEL, "2.0.0", "model.onnx", fixture("fragile.onnx")).await.expect(201);
    api.deploy(MODEL, "1.0.0").await;
    let path = start_canary(api, "2.0.0", quick(&[30])).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Shifting").await.expect(200);
    let (mut failed, mut answered) = (0, 0);
    let rolled_back = loop {
        for _ in 0..20 {
            match api.post(INFER, &json!({"features": {"x": [7.0]}})).await.status {
                200 => answered += 1,
                500 => failed += 1,
                status => panic!("{status} is neither an answer nor the model's failure"),
            }
        }
        let deployment = api.get(&path).await.expect(200);
        if deployment["status"] == "RolledBack" {
            break deployment;
        }
        assert!(failed + answered < 20_000, "not noticed: {deployment}");
    };
    assert!(rolled_back["errorMessage"].as_str().unwrap().contains("worse"), "{rolled_back}");
    assert!(failed > 0 && answered > failed, "30 % of the callers met it: {failed} and {answered}");
    for _ in 0..200 {
        assert_eq!(answered_version(api).await, Ok(1));
    }
}

/// Both versions answer quickly and without failing; only the labels tell that the new one is wrong, as with the ruined
/// weights of a segmenter.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_answers_wrongly_is_rolled_back_by_its_labels() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    api.deploy(MODEL, "1.0.0").await;
    let path = start_canary(api, "2.0.0", quick(&[30])).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Shifting").await.expect(200);
    let mut n_labels = 0;
    let rolled_back = loop {
        for _ in 0..10 {
            let answer = api.post(INFER, &json!({"features": {"x": [0.0]}})).await.expect(200);
            let feedback = format!("/api/v1/inference/{}/feedback", answer["requestId"].as_str().unwrap());
            // What is true is 1: the old version says so, the new one says 2.
            let told = api.post(&feedback, &json!({"groundTruth": 1})).await.expect(200);
            assert_eq!(told["correct"], answer["version"] == "1.0.0", "{answer}");
            n_labels += 1;
        }
        let deployment = api.get(&path).await.expect(200);
        if deployment["status"] == "RolledBack" {
            break deployment;
        }
        assert!(n_labels < 2_000, "not noticed: {deployment}");
    };
    assert!(rolled_back["errorMessage"].as_str().unwrap().contains("accuracy"), "{rolled_back}");
    assert_eq!(answered_version(api).await, Ok(1));
    let unknown = api.post("/api/v1/inference/req-nobody/feedback", &json!({"correct": true})).await;
    assert_eq!((unknown.status, unknown.code()), (404, "REQUEST_NOT_FOUND"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_pauses_promotes_and_cancels() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2, 3]).await;
    api.deploy(MODEL, "1.0.0").await;
    let path = start_canary(api, "2.0.0", quick(&[10, 50])).await;
    api.wait_for(&path, |answer| answer.body["trafficPercentage"] == 10).await;
    api.post(&format!("{path}/pause"), &json!({})).await.expect(200);
    let again = api.post(&format!("{path}/pause"), &json!({})).await;
    assert_eq!((again.status, again.code()), (409, "CONFLICT"));
    api.post(&format!("{path}/resume"), &json!({})).await.expect(200);
    let promoted = api.post(&format!("{path}/promote"), &json!({})).await.expect(200);
    assert_eq!(promoted["trafficPercentage"], 50);
    let cancelled =
        api.post(&format!("{path}/cancel"), &json!({"reason": "changed my mind"})).await.expect(200);
    assert_eq!(cancelled["status"], "Cancelled");
    assert_eq!(answered_version(api).await, Ok(1));
    let over = api.post(&format!("{path}/promote"), &json!({})).await;
    assert_eq!((over.status, over.code()), (409, "CONFLICT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn production_waits_for_the_approval_of_somebody_else_where_that_is_asked_for() {
    let approval = ("TIDEGATE_DEPLOYMENTS__REQUIRE_APPROVAL".to_owned(), "[\"Production\"]".to_owned());
    let installation = Installation { extra_env: vec![approval], ..Installation::new() };
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1]).await;
    let body = json!({"modelId": MODEL, "strategyConfig": {"smokeTestSamples": 1}});
    let created = api.post("/api/v1/deployments", &body).await.expect(202);
    let path = format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap());
    api.wait_for(&path, |answer| answer.body["status"] == "AwaitingApproval").await;
    let own = api.post(&format!("{path}/approve"), &json!({})).await;
    assert_eq!((own.status, own.code()), (409, "CONFLICT"), "{}", own.body);
    api.as_user("grace").post(&format!("{path}/approve"), &json!({})).await.expect(200);
    api.wait_for(&path, |answer| answer.body["status"] == "Active").await;
    assert_eq!(answered_version(api).await, Ok(1));
}
