//! Several processes on one database.

use serde_json::{Value, json};

use crate::lifecycle::{MODEL, answered_version, register_versions};
use crate::support::{Answer, Api, Database, Installation, databases, run};

fn replicas(answer: &Answer) -> Vec<Value> {
    answer.body["replicas"].as_array().cloned().unwrap_or_default()
}

fn in_state<'a>(replicas: &'a [Value], state: &'a str) -> impl Iterator<Item = &'a Value> {
    replicas.iter().filter(move |replica| replica["state"] == state)
}

fn loaded(replica: &Value) -> Vec<&str> {
    let versions = replica["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let loaded = versions.iter().filter(|version| version["state"] == "Loaded");
    loaded.filter_map(|version| version["version"].as_str()).collect()
}

async fn wait_for_answer(api: &Api, version: u64) {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while answered_version(api).await != Ok(version) {
        assert!(std::time::Instant::now() < deadline, "version {version} never answers");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

fn quick_heartbeat(database: &Database) -> Installation {
    let heartbeat = ("TIDEGATE_REPLICA__HEARTBEAT_S".to_owned(), "1".to_owned());
    Installation { extra_env: vec![heartbeat], ..Installation::on(database) }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_follow_the_same_routes_and_know_of_each_other() {
    for database in databases().await {
        let installation = quick_heartbeat(&database);
        let (first, second) = (installation.start().await, installation.start().await);
        register_versions(&first.api, &[1, 2]).await;
        first.api.deploy(MODEL, "1.0.0").await;
        wait_for_answer(&second.api, 1).await;
        let deployment = second.api.deploy(MODEL, "2.0.0").await;
        wait_for_answer(&first.api, 2).await;

        // Both hold the newest route, and keep the previous version warm for a rollback.
        let both = first.api.wait_for("/api/v1/replicas", |answer| {
            let replicas = replicas(answer);
            replicas.len() == 2
                && in_state(&replicas, "Live")
                    .all(|replica| replica["routesBehind"] == 0 && loaded(replica).len() == 2)
        });
        let both = replicas(&both.await);
        assert_eq!(both.iter().filter(|replica| replica["isThis"] == true).count(), 1, "{both:?}");
        let rollback = format!("/api/v1/deployments/{deployment}/rollback");
        first.api.post(&rollback, &json!({})).await.expect(200);
        assert_eq!(answered_version(&first.api).await, Ok(1));
        wait_for_answer(&second.api, 1).await;

        // One is killed: the others find it lost. One leaves politely: it is gone.
        let third = installation.start().await;
        second.kill();
        first
            .api
            .wait_for("/api/v1/replicas", |answer| {
                let replicas = replicas(answer);
                in_state(&replicas, "Lost").count() == 1 && in_state(&replicas, "Live").count() == 2
            })
            .await;
        let mut list = installation.command();
        list.args(["replica", "list", "--server", &first.api.base]);
        let (succeeded, listed, _) = run(list);
        assert!(succeeded && listed.contains("Lost") && listed.contains("counter 1.0.0"), "{listed}");
        #[cfg(unix)]
        {
            let status = tokio::task::spawn_blocking(move || third.terminate()).await.unwrap();
            assert!(status.success());
            let alone = first.api.get("/api/v1/replicas").await;
            assert_eq!(in_state(&replicas(&alone), "Live").count(), 1, "{}", alone.body);
        }
        drop(first);
        database.stop().await;
    }
}
