//! The processes of a fleet as the API shows them.

use serde_json::json;
use tidegate_core::{Environment, ModelId, ReplicaId, Timestamp, VersionId};
use tidegate_store::{AppliedRoute, LoadState, ReplicaRecord, ReplicaReport, ReportKind, VersionReport};

use crate::support::{App, THIS_REPLICA};

#[tokio::test]
async fn who_lives_who_is_lost_and_who_is_behind() {
    let app = App::start().await;
    let registered = app.register("m", "1.0.0", "version-1.onnx").await;
    let second = app.register("m", "2.0.0", "version-2.onnx").await;
    app.deploy("m", "1.0.0").await;
    app.deploy("m", "2.0.0").await;
    let model_id = ModelId::new(registered["modelId"].as_str().unwrap());
    let version = |answer: &serde_json::Value, state| VersionReport {
        version_id: VersionId::new(answer["versionId"].as_str().unwrap()),
        state,
    };
    let route = |generation| AppliedRoute {
        environment: Environment::Production,
        model_id: model_id.clone(),
        generation,
    };
    let replica = |id: &str, heartbeat_at: &str, report| ReplicaRecord {
        id: ReplicaId::new(id),
        address: format!("http://{id}:5000"),
        binary_version: "0.1.0".to_owned(),
        started_at: "2026-11-23T11:00:00Z".parse().unwrap(),
        heartbeat_at: heartbeat_at.parse::<Timestamp>().unwrap(),
        report,
    };
    let up_to_date = ReplicaReport {
        routes: vec![route(2)],
        versions: vec![version(&second, LoadState::Loaded { life: 7 })],
    };
    let reason = "the file is cut short".to_owned();
    let behind = ReplicaReport {
        routes: vec![route(1)],
        versions: vec![
            version(&registered, LoadState::Loaded { life: 1 }),
            version(&second, LoadState::Failed { reason }),
        ],
    };
    let replicas = [
        replica(THIS_REPLICA, "2026-11-23T11:59:58Z", up_to_date),
        replica("replica-x-behind", "2026-11-23T11:59:45Z", behind),
        replica("replica-z-lost", "2026-11-23T11:59:44Z", ReplicaReport::default()),
    ];
    for replica in &replicas {
        app.store.replicas.report(replica, &[], ReportKind::Routine).await.unwrap();
    }
    let reply = app.get("/api/v1/replicas").await;
    insta::assert_json_snapshot!("replicas", reply.redacted());
    app.get("/api/v1/replicas/x").await.check(404, "NOT_FOUND", "");
    assert_eq!(reply.json()["replicas"][2]["routesBehind"], json!(1), "it has applied nothing at all");
}
