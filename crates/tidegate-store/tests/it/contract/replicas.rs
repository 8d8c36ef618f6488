use std::sync::Arc;

use serde_json::json;
use tidegate_core::{Environment, ModelId, ReplicaId, VersionId};
use tidegate_store::{
    AppliedRoute, DeploymentRecord, LoadState, NewTally, ReplicaRecord, ReplicaReport, ReportKind, Store,
    VersionReport,
};

use crate::bench::Bench;
use crate::samples::{at, deployment, registered, transition};

fn replica(name: &str, seen_at: i64) -> ReplicaRecord {
    ReplicaRecord {
        id: ReplicaId::new(name),
        address: format!("http://{name}:5000"),
        binary_version: "0.1.0".to_owned(),
        started_at: at(0),
        heartbeat_at: at(seen_at),
        report: ReplicaReport::default(),
    }
}

fn tally(version: &VersionId, life: u64, requests: u64) -> NewTally {
    let tally = json!({"requests": requests, "latency": [[3, requests]]});
    NewTally { version_id: version.clone(), life, tally, is_final: false }
}

/// Replica, life, requests, revision.
async fn counts(store: &Store, version: &VersionId) -> Vec<(String, u64, u64, u64)> {
    let tallies = store.replicas.tallies(version).await.unwrap();
    let row = |tally: &tidegate_store::TallyRecord| {
        let requests = tally.tally["requests"].as_u64().unwrap();
        (tally.replica_id.to_string(), tally.life, requests, tally.revision)
    };
    tallies.iter().map(row).collect()
}

pub async fn reports_are_replaced_whole(bench: Arc<Bench>) {
    let replicas = &bench.store.replicas;
    let version = |name: &str, state| VersionReport { version_id: VersionId::new(name), state };
    let full = ReplicaReport {
        routes: vec![AppliedRoute {
            environment: Environment::Production,
            model_id: ModelId::new("m"),
            generation: 7,
        }],
        versions: vec![
            version("v1", LoadState::Loaded { life: 3 }),
            version("v2", LoadState::Failed { reason: "out of \"memory\"".to_owned() }),
            version("v3", LoadState::Loading),
        ],
    };
    let first = ReplicaRecord { report: full, ..replica("a", 10) };
    replicas.report(&first, &[], ReportKind::News).await.unwrap();
    assert_eq!(replicas.list().await.unwrap(), [first]);
    let later = replica("a", 15);
    replicas.report(&later, &[], ReportKind::Routine).await.unwrap();
    let other = ReplicaRecord { started_at: at(-5), ..replica("b", 20) };
    replicas.report(&other, &[], ReportKind::Routine).await.unwrap();
    assert_eq!(replicas.live(at(15)).await.unwrap(), [other.clone(), later.clone()], "the older first");
    assert_eq!(replicas.live(at(16)).await.unwrap(), std::slice::from_ref(&other));
    replicas.remove(&other.id).await.unwrap();
    assert_eq!(replicas.list().await.unwrap(), [later]);
}

pub async fn counts_outlive_their_replica_while_a_deployment_may_rest_on_them(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0", "2.0.0", "3.0.0"]).await;
    let [old, new, other] = [&versions[0].id, &versions[1].id, &versions[2].id];
    let rollout = DeploymentRecord {
        previous_version_id: Some(old.clone()),
        ..deployment(&versions[1], Environment::Staging)
    };
    store.deployments.create(&rollout, &[]).await.unwrap();
    let report = async |seen_at, tallies: &[NewTally]| {
        store.replicas.report(&replica("a", seen_at), tallies, ReportKind::Routine).await.unwrap();
    };
    report(10, &[tally(old, 1, 5), tally(new, 2, 1), tally(other, 3, 9)]).await;
    report(20, &[tally(old, 1, 6), NewTally { is_final: true, ..tally(new, 2, 2) }]).await;
    report(21, &[tally(new, 4, 1)]).await;
    let a = |life, requests, revision| ("a".to_owned(), life, requests, revision);
    assert_eq!(counts(store, old).await, [a(1, 6, 2)]);
    assert_eq!(counts(store, new).await, [a(2, 2, 2), a(4, 1, 1)], "loaded again, it counts from zero");

    // The replica lives: what it has loaded stays, however long nothing was asked of it.
    report(1000, &[]).await;
    store.replicas.sweep(at(500)).await.unwrap();
    assert_eq!((counts(store, old).await.len(), counts(store, other).await.len()), (1, 1));
    assert_eq!(counts(store, new).await.len(), 2, "a life that is over counts on while the deployment runs");

    // It is gone; the deployment goes on.
    store.replicas.remove(&ReplicaId::new("a")).await.unwrap();
    store.replicas.sweep(at(500)).await.unwrap();
    assert_eq!(counts(store, old).await, [a(1, 6, 2)]);
    assert_eq!(counts(store, new).await.len(), 2);
    assert_eq!(counts(store, other).await, [], "nothing rests on these");

    let settled = DeploymentRecord { is_settled: true, ..rollout };
    store.deployments.commit(&transition(&settled)).await.unwrap();
    assert_eq!(store.replicas.sweep(at(10)).await.unwrap(), 0, "not yet");
    assert_eq!(store.replicas.sweep(at(500)).await.unwrap(), 3);
}
