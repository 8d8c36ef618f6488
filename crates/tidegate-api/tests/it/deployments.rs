//! Deployments as the API asks for them and shows them.

use http::{Method, StatusCode};
use serde_json::json;
use tidegate_core::{DeploymentId, Timestamp};

use crate::control::SLOW_PERSON;
use crate::support::{App, request};

#[tokio::test]
async fn a_deployment_is_created_watched_and_rolled_back() {
    let app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    app.register("m", "2.0.0", "version-2.onnx").await;
    let body = json!({"modelId": "m", "strategy": "bluegreen", "environment": "Production",
        "strategyConfig": {"smokeTestSamples": 5, "keepBlueDuration": "10m"}});
    let reply = app.post("/api/v1/deployments", &body).await;
    assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    insta::assert_json_snapshot!("deployment_created", reply.redacted());
    let location = reply.header("location").to_owned();
    insta::assert_json_snapshot!("deployment", app.get(&location).await.redacted());
    insta::assert_json_snapshot!(
        "deployment_events",
        app.get(&format!("{location}/events")).await.redacted()
    );
    let later = app.get(&format!("{location}/events?after=1")).await.json();
    assert_eq!(later["events"], json!([]));
    assert_eq!(app.get("/api/v1/models/m").await.json()["activeVersion"], "2.0.0");

    let rolled = app.post(&format!("{location}/rollback"), &json!({"reason": "slow"})).await;
    assert_eq!(rolled.status, StatusCode::OK, "{}", rolled.text());
    insta::assert_json_snapshot!("rolled_back", rolled.redacted());
    assert_eq!(app.get("/api/v1/models/m").await.json()["activeVersion"], "1.0.0");
    app.post(&format!("{location}/rollback"), &json!({})).await.check(409, "CONFLICT", "");

    let list = app.get("/api/v1/deployments?modelId=m&status=RolledBack&environment=production").await.json();
    assert_eq!((list["total"].as_u64(), list["limit"].as_u64()), (Some(1), Some(20)));
    assert_eq!(list["deployments"][0], app.get(&location).await.json());
}

#[tokio::test]
async fn the_progress_has_words_shares_and_the_last_look() {
    let app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    app.register("m", "2.0.0", "version-2.onnx").await;
    let created = app.post("/api/v1/deployments", &json!({"modelId": "m"})).await;
    let location = created.header("location").to_owned();
    let progress = app.get(&format!("{location}/progress")).await.json();
    assert_eq!(progress["deployment"], app.get(&location).await.json());
    assert_eq!(progress["description"], "active");
    assert_eq!(progress["traffic"], json!([{"version": "2.0.0", "percentage": 100.0}]));
    assert_eq!(progress["lastLook"], json!(null));

    let id = DeploymentId::new(location.rsplit('/').next().unwrap());
    let look = json!({"phase": "Watching", "candidate": {"requests": 3}});
    app.store.deployments.keep_look(&id, Timestamp::UNIX_EPOCH, &look).await.unwrap();
    assert_eq!(app.get(&format!("{location}/progress")).await.json()["lastLook"], look);
    let nobody = app.get("/api/v1/deployments/deploy-nobody/progress").await;
    nobody.check(404, "DEPLOYMENT_NOT_FOUND", "");
}

#[tokio::test]
async fn the_version_is_named_in_one_way_or_is_the_highest() {
    let app = App::start().await;
    let first = app.register("m", "1.9.0", "version-1.onnx").await;
    app.register("m", "1.10.0", "version-2.onnx").await;
    let by_id =
        json!({"modelId": first["modelId"], "versionId": first["versionId"], "environment": "Staging"});
    assert_eq!(app.post("/api/v1/deployments", &by_id).await.json()["version"], "1.9.0");
    assert_eq!(app.post("/api/v1/deployments", &json!({"modelId": "m"})).await.json()["version"], "1.10.0");
    let again = app.post("/api/v1/deployments", &json!({"modelId": "m"})).await;
    again.check(409, "CONFLICT", "version");
}

#[tokio::test]
async fn one_at_a_time_and_the_other_is_named() {
    let app = App::start().await;
    app.register("m", "1.0.0", "version-1.onnx").await;
    let body = json!({"modelId": "m"}).to_string();
    let mut slow = request(Method::POST, "/api/v1/deployments", "application/json", body.into());
    slow.headers_mut().insert("x-tidegate-user", SLOW_PERSON.parse().unwrap());
    let first = app.send(slow).await.json();
    let second = app.post("/api/v1/deployments", &json!({"modelId": "m"})).await;
    second.check(409, "CONFLICT", "deploymentId");
    assert_eq!(second.json()["error"]["details"][0]["message"], first["deploymentId"]);
    app.delete("/api/v1/models/m").await.check(409, "CONFLICT", "deploymentId");

    let path = format!("/api/v1/deployments/{}/cancel", first["deploymentId"].as_str().unwrap());
    let cancelled = app.post_raw(&path, "", "").await;
    assert_eq!(cancelled.json()["status"], "Cancelled", "a body is not needed: {}", cancelled.text());
    assert_eq!(cancelled.json()["initiatedBy"], SLOW_PERSON);
    app.post(&path, &json!({})).await.check(409, "CONFLICT", "");
}

/// The runbook's `curl -d` sends JSON under the name of a form.
#[tokio::test]
async fn the_runbooks_command_is_taken_as_it_is_written() {
    let app = App::start().await;
    app.register("m", "1.0.0", "linear.onnx").await;
    let body = r#"{"modelId": "m", "strategy": "BlueGreen", "environment": "Production"}"#;
    let created = app.post_raw("/api/v1/deployments", "application/x-www-form-urlencoded", body).await;
    assert_eq!(created.status, StatusCode::ACCEPTED, "{}", created.text());
    let a_form = app.post_raw("/api/v1/deployments", "application/x-www-form-urlencoded", "modelId=m").await;
    a_form.check(400, "VALIDATION_ERROR", "(body)");
}
