use std::sync::Arc;
use std::time::Duration;

use tidegate_core::Environment;
use tidegate_store::{Backend, Change, ChangeStream, Store, Transition};

use crate::bench::Bench;
use crate::samples::{deployment, registered, route, transition};

const PATIENCE: Duration = Duration::from_secs(30);

/// Listens in the background; the stream is past the first [`Change::Everything`].
pub async fn listening(store: &Store) -> (ChangeStream, tokio::task::JoinHandle<()>) {
    let mut stream = store.changes.subscribe();
    let task = tokio::spawn(store.changes.listen());
    wait_for(&mut stream, |change| *change == Change::Everything).await;
    (stream, task)
}

pub async fn wait_for(stream: &mut ChangeStream, is_it: impl Fn(&Change) -> bool) -> Change {
    let heard = tokio::time::timeout(PATIENCE, async {
        loop {
            let change = stream.next().await.expect("the store is there");
            if is_it(&change) {
                return change;
            }
        }
    });
    heard.await.expect("it is told in time")
}

pub async fn a_commit_is_told_here_and_in_another_process(bench: Arc<Bench>) {
    let other = bench.another_store().await;
    let (mut here, here_task) = listening(&bench.store).await;
    let (mut there, there_task) = listening(&other).await;
    let (model, versions) = registered(&bench.store, "m", &["1.0.0"]).await;
    let record = deployment(&versions[0], Environment::Production);
    let created = Change::Deployment { id: record.id.clone() };
    let routed = Change::Route { environment: Environment::Production, model_id: model.id.clone() };
    // SQLite knows of another process only that it wrote.
    let matches = |expected: &Change, heard: &Change, from_elsewhere: bool| {
        let is_vague = from_elsewhere && bench.store.backend() == Backend::Sqlite;
        heard == expected || (is_vague && *heard == Change::Everything)
    };
    bench.store.deployments.create(&record, &[]).await.unwrap();
    wait_for(&mut here, |change| matches(&created, change, false)).await;
    wait_for(&mut there, |change| matches(&created, change, true)).await;
    let published =
        Transition { route: Some(route(&record, &[(&versions[0], 10_000)])), ..transition(&record) };
    bench.store.deployments.commit(&published).await.unwrap();
    for expected in [&routed, &created] {
        wait_for(&mut here, |change| matches(expected, change, false)).await;
    }
    wait_for(&mut there, |change| matches(&routed, change, true)).await;
    for task in [here_task, there_task] {
        task.abort();
    }
    other.close().await;
}

/// What happens first is not told; then something that is, so that the silence is known to be one.
pub async fn what_is_not_committed_is_not_told(bench: Arc<Bench>) {
    let (mut stream, task) = listening(&bench.store).await;
    let (_, versions) = registered(&bench.store, "m", &["1.0.0"]).await;
    let record = deployment(&versions[0], Environment::Production);
    bench.store.deployments.create(&record, &[]).await.unwrap();
    let stale = Transition { route: Some(route(&record, &[])), ..transition(&record) };
    let stale =
        Transition { record: tidegate_store::DeploymentRecord { revision: 9, ..record.clone() }, ..stale };
    assert!(bench.store.deployments.commit(&stale).await.is_err());
    bench.store.deployments.commit(&transition(&record)).await.unwrap();
    let told = Change::Deployment { id: record.id.clone() };
    for _ in 0..2 {
        let change = wait_for(&mut stream, |_| true).await;
        assert_eq!(change, told, "created and committed, and no route");
    }
    task.abort();
}

pub async fn who_falls_behind_is_told_to_look_at_everything(bench: Arc<Bench>) {
    let (mut reader, task) = listening(&bench.store).await;
    let mut behind = bench.store.changes.subscribe();
    let (_, versions) = registered(&bench.store, "m", &["1.0.0"]).await;
    let mut record = deployment(&versions[0], Environment::Production);
    bench.store.deployments.create(&record, &[]).await.unwrap();
    let told = Change::Deployment { id: record.id.clone() };
    // More than are kept for it.
    for _ in 0..300 {
        record.revision = bench.store.deployments.commit(&transition(&record)).await.unwrap();
        wait_for(&mut reader, |change| *change == told).await;
    }
    assert_eq!(behind.next().await, Some(Change::Everything));
    bench.store.deployments.commit(&transition(&record)).await.unwrap();
    wait_for(&mut behind, |change| *change == told).await;
    task.abort();
}
