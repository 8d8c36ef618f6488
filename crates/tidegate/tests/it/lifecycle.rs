//! From a file to production and back, under load, on both databases.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tidegate_core::Timestamp;

use crate::canary::events;
use crate::support::{Api, Installation, databases, fixture};

pub const MODEL: &str = "counter";
pub const INFER: &str = "/api/v1/inference/counter";

pub async fn register_versions(api: &Api, numbers: &[u32]) {
    for k in numbers {
        let bytes = fixture(&format!("version-{k}.onnx"));
        api.register(MODEL, &format!("{k}.0.0"), "model.onnx", bytes).await.expect(201);
    }
}

/// The fixture `version-K` answers K: a body that says another version than its header's is a wrong answer.
pub async fn answered_version(api: &Api) -> Result<u64, String> {
    let answer =
        api.try_post(INFER, &json!({"features": {"x": [7.0]}})).await.ok_or("the connection broke")?;
    if answer.status != 200 {
        return Err(format!("{}: {}", answer.status, answer.body));
    }
    let said = answer.body["version"].as_str().and_then(|version| version[..1].parse::<u64>().ok());
    let predicted = answer.body["prediction"]["y"].as_f64().map(|y| y as u64);
    match (said, predicted) {
        (Some(said), Some(predicted)) if said == predicted => Ok(said),
        _ => Err(format!("a wrong answer: {}", answer.body)),
    }
}

/// How many requests a caller made, and who answered them; or the first that failed.
type Tally = Result<(u64, BTreeSet<u64>), String>;

/// Callers that never stop asking, until told.
pub struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<Tally>>,
}

impl Load {
    pub fn start(api: &Api, n_callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let callers = (0..n_callers).map(|_| {
            let (api, stop) = (api.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut n_requests, mut versions) = (0, BTreeSet::new());
                while !stop.load(Ordering::Relaxed) {
                    versions.insert(answered_version(&api).await?);
                    n_requests += 1;
                }
                Ok((n_requests, versions))
            })
        });
        let callers = callers.collect();
        Self { stop, callers }
    }

    /// How many requests were answered, and by which versions; panics at the first that failed.
    pub async fn finish(self) -> (u64, BTreeSet<u64>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut total = (0, BTreeSet::new());
        for caller in self.callers {
            let (n_requests, versions) =
                caller.await.expect("a caller does not panic").expect("no request fails");
            total.0 += n_requests;
            total.1.extend(versions);
        }
        total
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_replaces_the_old_under_load_and_rollback_brings_it_back() {
    for database in databases().await {
        let installation = Installation::on(&database);
        let server = installation.start().await;
        let api = &server.api;
        register_versions(api, &[1, 2]).await;
        api.deploy(MODEL, "1.0.0").await;

        let load = Load::start(api, 4);
        let second = api.deploy(MODEL, "2.0.0").await;
        assert_eq!(answered_version(api).await, Ok(2));
        let rolled_back =
            api.post(&format!("/api/v1/deployments/{second}/rollback"), &json!({})).await.expect(200);
        assert_eq!(answered_version(api).await, Ok(1), "rollback has happened when it answers");
        let (n_requests, versions) = load.finish().await;
        assert!(n_requests > 20, "{n_requests} requests are no load");
        assert_eq!(versions, BTreeSet::from([1, 2]));

        assert_eq!(rolled_back["status"], "RolledBack");
        assert_eq!(rolled_back["currentVersion"], "1.0.0");
        let again = api.post(&format!("/api/v1/deployments/{second}/rollback"), &json!({})).await;
        assert_eq!((again.status, again.code()), (409, "CONFLICT"));

        // kill -9, and the same state comes back: route, statuses, log.
        let path = format!("/api/v1/deployments/{second}");
        let before = (api.get(&path).await.body, api.get(&format!("{path}/events")).await.body);
        let restarted = installation.restart(server).await;
        let api = &restarted.api;
        assert_eq!(answered_version(api).await, Ok(1));
        assert_eq!(before, (api.get(&path).await.body, api.get(&format!("{path}/events")).await.body));
        assert_eq!(api.get(&format!("/api/v1/models/{MODEL}")).await.expect(200)["activeVersion"], "1.0.0");
        drop(restarted);
        database.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_version_answers_while_it_is_loaded_and_is_refused_by_name_otherwise() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2, 3]).await;
    api.deploy(MODEL, "1.0.0").await;
    api.deploy(MODEL, "2.0.0").await;
    let pinned = |version: &str| json!({"features": {"x": [0.0]}, "version": version});
    assert_eq!(
        api.post(INFER, &pinned("1.0.0")).await.expect(200)["prediction"]["y"],
        json!(1.0),
        "kept warm"
    );
    assert_eq!(api.post(INFER, &pinned("2.0.0")).await.expect(200)["prediction"]["y"], json!(2.0));
    let refused = api.post(INFER, &pinned("3.0.0")).await;
    assert!((400..500).contains(&refused.status), "{}", refused.body);
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("3.0.0"), "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_deployment_of_a_model_is_in_progress_and_a_serving_version_is_not_deployed_again() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2, 3]).await;
    api.deploy(MODEL, "1.0.0").await;
    let watching = api.deploy(MODEL, "2.0.0").await;
    let third = api.post("/api/v1/deployments", &json!({"modelId": MODEL, "version": "3.0.0"})).await;
    assert_eq!((third.status, third.code()), (409, "CONFLICT"));
    assert!(third.body.to_string().contains(&watching), "names the one in progress: {}", third.body);
    let serving = api.post("/api/v1/deployments", &json!({"modelId": MODEL, "version": "2.0.0"})).await;
    assert_eq!(serving.status, 409, "{}", serving.body);
    // Another environment has its own route.
    let staging = json!({"modelId": MODEL, "version": "3.0.0", "environment": "Staging"});
    api.post("/api/v1/deployments", &staging).await.expect(202);
}

#[tokio::test(flavor = "multi_thread")]
async fn rollback_after_the_old_version_was_unloaded_loads_it_again() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1, 2]).await;
    api.deploy(MODEL, "1.0.0").await;
    let quick = json!({"smokeTestSamples": 1, "monitoringDuration": "PT0S", "keepBlueDuration": "PT0S"});
    let body = json!({"modelId": MODEL, "version": "2.0.0", "strategyConfig": quick});
    let created = api.post("/api/v1/deployments", &body).await.expect(202);
    let path = format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap());
    api.wait_for(&path, |answer| answer.body["phase"] == "Done").await;
    let loaded = api.get("/api/v1/server").await.expect(200).to_string();
    assert!(!loaded.contains("\"1.0.0\""), "1.0.0 is unloaded: {loaded}");
    let rolled_back = api.post(&format!("{path}/rollback"), &json!({"reason": "too late"})).await.expect(200);
    assert_eq!(rolled_back["status"], "RolledBack");
    assert_eq!(answered_version(api).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_version_is_only_taken_out_of_traffic_by_force() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    register_versions(api, &[1]).await;
    let first = api.deploy(MODEL, "1.0.0").await;
    let rollback = format!("/api/v1/deployments/{first}/rollback");
    let refused = api.post(&rollback, &json!({})).await;
    assert_eq!((refused.status, refused.code()), (409, "CONFLICT"), "{}", refused.body);
    assert_eq!(answered_version(api).await, Ok(1));
    api.post(&rollback, &json!({"force": true, "reason": "it must not answer"})).await.expect(200);
    let nobody = api.post(INFER, &json!({"features": {"x": [0.0]}})).await;
    assert_eq!((nobody.status, nobody.code()), (503, "SERVICE_UNAVAILABLE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_predict_never_gets_traffic() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    api.register(MODEL, "1.0.0", "model.onnx", fixture("version-1.onnx")).await.expect(201);
    api.deploy(MODEL, "1.0.0").await;
    api.register(MODEL, "2.0.0", "model.onnx", fixture("nan.onnx")).await.expect(201);
    let created =
        api.post("/api/v1/deployments", &json!({"modelId": MODEL, "version": "2.0.0"})).await.expect(202);
    let path = format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap());
    let failed = api.wait_for(&path, |answer| answer.body["status"] == "Failed").await.body;
    assert_eq!(failed["validationResult"]["passed"], json!(false), "{failed}");
    assert!(failed["errorMessage"].as_str().unwrap().contains("probe"), "{failed}");
    assert_eq!(answered_version(api).await, Ok(1));
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_polite_stop_finishes_requests_in_flight_and_exits_with_success() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = server.api.clone();
    api.register("slow", "1.0.0", "model.onnx", fixture("slow.onnx")).await.expect(201);
    api.deploy("slow", "1.0.0").await;
    let asked = {
        let api = api.clone();
        tokio::spawn(async move {
            let instances: Vec<_> = (0..8).map(|_| json!({"x": [[0.5]]})).collect();
            api.try_post("/api/v1/inference/slow/batch", &json!({"instances": instances})).await
        })
    };
    // The request is in flight when it shows in the server's own count of requests.
    api.wait_for("/api/v1/server", |answer| {
        let models = answer.body["models"].as_array().cloned().unwrap_or_default();
        models.iter().any(|model| model["requests"].as_u64().unwrap_or(0) > 10)
    })
    .await;
    let status = tokio::task::spawn_blocking(move || server.terminate()).await.unwrap();
    assert!(status.success(), "{status}");
    let answer = asked.await.unwrap().expect("the request in flight is answered");
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// Only so many at once; who waits for a person keeps nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn deployments_beyond_the_limit_start_in_the_order_of_their_creation() {
    let settings = [("MAX_CONCURRENT", "1"), ("REQUIRE_APPROVAL", "[\"Staging\"]")];
    let extra_env =
        settings.map(|(key, value)| (format!("TIDEGATE_DEPLOYMENTS__{key}"), value.to_owned())).to_vec();
    let installation = Installation { extra_env, ..Installation::new() };
    let server = installation.start().await;
    let api = &server.api;
    let models = ["a", "b", "c"];
    for model in models {
        for version in ["1.0.0", "2.0.0"] {
            api.register(model, version, "model.onnx", fixture("linear.onnx")).await.expect(201);
        }
        api.deploy(model, "1.0.0").await;
    }
    let create = async |model: &str, environment: &str| {
        let config = json!({"smokeTestSamples": 1, "monitoringDuration": "PT10M"});
        let body = json!({"modelId": model, "environment": environment, "strategyConfig": config});
        let created = api.post("/api/v1/deployments", &body).await.expect(202);
        format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap())
    };
    let waits_for_a_person = create("a", "Staging").await;
    api.wait_for(&waits_for_a_person, |answer| answer.body["phase"] == "AwaitingApproval").await;

    let mut paths = vec![];
    for model in models {
        paths.push(create(model, "Production").await);
    }
    for (index, path) in paths.iter().enumerate() {
        api.wait_for(path, |answer| answer.body["phase"] == "Watching").await;
        for later in &paths[index + 1..] {
            assert_eq!(api.get(later).await.expect(200)["phase"], "Pending", "one at a time, in order");
        }
        api.post(&format!("{path}/promote"), &json!({})).await.expect(200);
    }
    let mut turns = vec![];
    for path in &paths {
        let events = events(api, path).await;
        let at = |kind: &str| {
            let event = events.iter().find(|event| event["kind"] == kind).unwrap();
            event["at"].as_str().unwrap().parse::<Timestamp>().unwrap()
        };
        turns.extend([at("validating"), at("promoted")]);
    }
    assert!(turns.is_sorted(), "each begins when the one before is done: {turns:?}");
    assert_eq!(api.get(&waits_for_a_person).await.expect(200)["phase"], "AwaitingApproval");
}
