//! What moves traffic, strategy by strategy: each takes a good version to its end and keeps a bad one from callers.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::canary::events;
use crate::lifecycle::{INFER, Load, MODEL, answered_version, register_versions};
use crate::support::{Api, Installation, fixture};

/// Starts a deployment and gives its path. The limits keep out what is not tested here: microsecond models on a busy machine
/// are no measure of latency.
pub async fn start(api: &Api, strategy: &str, version: &str, config: Value) -> String {
    let mut config = config;
    for (key, value) in [("smokeTestSamples", json!(2)), ("monitoringDuration", json!("PT0S"))] {
        config.as_object_mut().unwrap().entry(key).or_insert(value);
    }
    let limits = config.as_object_mut().unwrap().entry("rollbackThresholds").or_insert(json!({}));
    let limits = limits.as_object_mut().unwrap();
    limits.entry("latencyIncrease").or_insert(json!(1000));
    limits.entry("driftScore").or_insert(json!(8));
    let body = json!({"modelId": MODEL, "version": version, "strategy": strategy, "strategyConfig": config});
    let created = api.post("/api/v1/deployments", &body).await.expect(202);
    format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap())
}

/// Predictions whose callers tell afterwards what they know of them, until the deployment is as hoped. Gives it, and how many
/// predictions each version made.
async fn tell_until(
    api: &Api,
    path: &str,
    tell: impl Fn(&Value) -> Value,
    is_over: impl Fn(&Value) -> bool,
) -> (Value, BTreeMap<String, u32>) {
    let mut answered = BTreeMap::new();
    loop {
        let ask = json!({"features": {"x": [0.0]}});
        let answers = join_all((0..20).map(|_| api.post(INFER, &ask))).await;
        let answers: Vec<Value> = answers.into_iter().map(|answer| answer.expect(200)).collect();
        join_all(answers.iter().map(async |answer| {
            let feedback = format!("/api/v1/inference/{}/feedback", answer["requestId"].as_str().unwrap());
            api.post(&feedback, &tell(answer)).await.expect(200)
        }))
        .await;
        for answer in answers {
            *answered.entry(answer["version"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        let deployment = api.get(path).await.expect(200);
        if is_over(&deployment) {
            return (deployment, answered);
        }
        assert!(answered.values().sum::<u32>() < 20_000, "not decided: {deployment}");
    }
}

fn is_rolled_back(deployment: &Value) -> bool {
    deployment["status"] == "RolledBack"
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_compares_without_a_caller_meeting_the_new_version() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 3]).await;
    // The same model again, so that the answers are the same.
    api.register(MODEL, "2.0.0", "model.onnx", fixture("version-1.onnx")).await.expect(201);
    api.deploy(MODEL, "1.0.0").await;
    let limits = json!({"latencyIncrease": 1000, "errorRateIncrease": 0.1});
    let config = json!({"comparisonSamples": 100, "rollbackThresholds": limits});

    let load = Load::start(api, 2);
    let otherwise = start(api, "Shadow", "3.0.0", config.clone()).await;
    let failed = api.wait_for(&otherwise, |answer| answer.body["status"] == "Failed").await.body;
    assert!(failed["errorMessage"].as_str().unwrap().contains("answers otherwise"), "{failed}");
    let alike = start(api, "Shadow", "2.0.0", config).await;
    let waiting = api.wait_for(&alike, |answer| answer.body["phase"] == "AwaitingPromotion").await.body;
    assert_eq!(waiting["trafficPercentage"], 0, "{waiting}");
    let (_, versions) = load.finish().await;
    assert_eq!(versions, BTreeSet::from([1]), "nobody met a shadow");

    api.post(&format!("{alike}/promote"), &json!({})).await.expect(200);
    let answer = api.post(INFER, &json!({"features": {"x": [0.0]}})).await.expect(200);
    assert_eq!(answer["version"], "2.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_better_version_wins_a_test_and_callers_stay_with_theirs() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    api.deploy(MODEL, "1.0.0").await;
    let config = json!({"minimumSamples": 30, "rollbackThresholds": {"accuracyDrop": 0.2}});
    let path = start(api, "ABTesting", "2.0.0", config).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Testing").await;
    let mut met = BTreeSet::new();
    for caller in 0..16 {
        let caller = api.with_header("x-tidegate-key", &format!("caller-{caller}"));
        let first = answered_version(&caller).await.unwrap();
        for _ in 0..3 {
            assert_eq!(answered_version(&caller).await, Ok(first), "one key, one version");
        }
        met.insert(first);
    }
    assert_eq!(met, BTreeSet::from([1, 2]), "of 16 callers some meet each");
    let truth_is = |truth: u32| move |_: &Value| json!({"groundTruth": truth});
    let (won, answered) =
        tell_until(api, &path, truth_is(2), |deployment| deployment["trafficPercentage"] == 100).await;
    assert_eq!(won["trafficPercentage"], 100, "{won}");
    assert!(answered.len() == 2, "{answered:?}");
    assert_eq!(answered_version(api).await, Ok(2));
}

/// No limit is passed, so that only the contest decides.
#[tokio::test(flavor = "multi_thread")]
async fn the_worse_version_loses_a_test_and_its_callers_go_back_to_the_winner() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    api.deploy(MODEL, "1.0.0").await;
    let config = json!({"minimumSamples": 30, "stickyBy": "header:x-user",
        "rollbackThresholds": {"accuracyDrop": 1, "errorRateIncrease": 1}});
    let path = start(api, "ABTesting", "2.0.0", config).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Testing").await;
    // By the header that was chosen for it, callers stay where they are.
    let mut on_the_worse = vec![];
    for name in (0..16).map(|index| format!("user-{index}")) {
        let caller = api.with_header("x-user", &name);
        let first = answered_version(&caller).await.unwrap();
        for _ in 0..3 {
            assert_eq!(answered_version(&caller).await, Ok(first), "one user, one version");
        }
        on_the_worse.extend((first == 2).then_some(caller));
    }
    assert!((1..16).contains(&on_the_worse.len()), "of 16 users some meet each");

    let truth = |_: &Value| json!({"groundTruth": 1});
    let (lost, answered) = tell_until(api, &path, truth, is_rolled_back).await;
    assert!(answered["1.0.0"] >= 30 && answered["2.0.0"] >= 30, "decided on evidence: {answered:?}");
    assert!(lost["errorMessage"].as_str().unwrap().contains("the running version won"), "{lost}");
    let events = events(api, &path).await;
    let rolled_back = events.iter().find(|event| event["kind"] == "rolledBack").unwrap();
    assert_eq!(rolled_back["evidence"]["comparison"]["result"], json!({"winner": "A"}), "{rolled_back}");
    for caller in on_the_worse {
        assert_eq!(answered_version(&caller).await, Ok(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metric_of_the_user_catches_a_bad_canary() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    api.deploy(MODEL, "1.0.0").await;
    let limits = json!({"customMetrics": {"iou": {"drop": 0.05, "maximum": 1}}});
    let path = start(api, "Canary", "2.0.0", json!({"steps": [30], "rollbackThresholds": limits})).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Shifting").await;
    let iou = |answer: &Value| match answer["version"] == "1.0.0" {
        true => json!({"metrics": {"iou": 0.8}}),
        false => json!({"metrics": {"iou": 0.2}}),
    };
    let (rolled_back, answered) = tell_until(api, &path, iou, is_rolled_back).await;
    assert!(rolled_back["errorMessage"].as_str().unwrap().contains("iou"), "{rolled_back}");
    assert!(answered["1.0.0"] > answered["2.0.0"], "{answered:?}");
    assert_eq!(answered_version(api).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_after_the_switch_brings_blue_back() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    let first = api.deploy(MODEL, "1.0.0").await;
    let truth = |_: &Value| json!({"groundTruth": 1});
    let first = format!("/api/v1/deployments/{first}");
    tell_until(api, &first, truth, |_| true).await;
    let path = start(api, "BlueGreen", "2.0.0", json!({"monitoringDuration": "PT10M"})).await;
    api.wait_for(&path, |answer| answer.body["phase"] == "Watching").await;
    assert_eq!(answered_version(api).await, Ok(2));
    let (rolled_back, _) = tell_until(api, &path, truth, is_rolled_back).await;
    assert!(rolled_back["errorMessage"].as_str().unwrap().contains("accuracy"), "{rolled_back}");
    assert_eq!(answered_version(api).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_predicts_otherwise_is_caught_without_ground_truth() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    // The same model again predicts alike, and may take over.
    api.register(MODEL, "1.1.0", "model.onnx", fixture("version-1.onnx")).await.expect(201);
    api.deploy(MODEL, "1.0.0").await;
    let load = Load::start(api, 2);
    let config = || {
        let limits = json!({"driftScore": 0.3, "errorRateIncrease": 0.1});
        json!({"steps": [50], "minimumSamples": 100, "rollbackThresholds": limits})
    };
    let alike = start(api, "Canary", "1.1.0", config()).await;
    api.wait_for(&alike, |answer| answer.body["status"] == "Active").await;
    let otherwise = start(api, "Canary", "2.0.0", config()).await;
    let ended = api.wait_for(&otherwise, |answer| is_rolled_back(&answer.body)).await.body;
    assert!(ended["errorMessage"].as_str().unwrap().contains("drift of `y`"), "{ended}");
    load.finish().await;
}
