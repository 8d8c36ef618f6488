//! Three processes on one PostgreSQL: a rollout goes over all of them, rests on what all of them answered, and outlives any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use tidegate_core::Timestamp;

use crate::canary::events;
use crate::lifecycle::{INFER, Load, MODEL, register_versions};
use crate::strategies::start;
use crate::support::{Api, Database, Installation, PATIENCE, ServerProcess, databases};

/// Three processes, and where their database is.
struct Fleet {
    servers: Vec<ServerProcess>,
    database: Database,
    url: String,
    _installation: Installation,
}

impl Fleet {
    /// With 1.0.0 serving everywhere; `None` where there is no PostgreSQL.
    async fn start() -> Option<Self> {
        let database = databases().await.into_iter().find(|database| database.url().is_some())?;
        let url = database.url()?;
        let installation = Installation::on(&database);
        // One after the other: the first makes the tables.
        let mut servers = vec![];
        for _ in 0..3 {
            servers.push(installation.start().await);
        }
        let fleet = Self { servers, database, url, _installation: installation };
        register_versions(fleet.api(), &[1, 2]).await;
        fleet.api().deploy(MODEL, "1.0.0").await;
        fleet.wait_for_version("1.0.0").await;
        Some(fleet)
    }

    fn api(&self) -> &Api {
        &self.servers[0].api
    }

    fn apis(&self) -> impl Iterator<Item = &Api> {
        self.servers.iter().map(|server| &server.api)
    }

    async fn wait_for_version(&self, version: &str) {
        for api in self.apis() {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let answer = api.post(INFER, &json!({"features": {"x": [0.0]}})).await;
                if answer.status == 200 && answer.body["version"] == version {
                    break;
                }
                assert!(Instant::now() < deadline, "{version} does not answer: {answer:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn stop(self) {
        drop(self.servers);
        self.database.stop().await;
    }
}

/// Who answered when, or what came instead of an answer.
type Answers = Vec<(Instant, Result<String, u16>)>;

/// Callers of every replica that note each answer.
struct Witnesses {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<Answers>>,
}

impl Witnesses {
    fn start<'a>(apis: impl Iterator<Item = &'a Api>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |api: &Api| {
            let (api, stop) = (api.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answers = vec![];
                while !stop.load(Ordering::Relaxed) {
                    let answer = api.post(INFER, &json!({"features": {"x": [7.0]}})).await;
                    let version = answer.body["version"].as_str().unwrap_or_default().to_owned();
                    let outcome = if answer.status == 200 { Ok(version) } else { Err(answer.status) };
                    answers.push((Instant::now(), outcome));
                }
                answers
            })
        };
        let callers = apis.map(caller).collect();
        Self { stop, callers }
    }

    async fn finish(self) -> Answers {
        self.finish_each().await.concat()
    }

    /// In the order of the replicas.
    async fn finish_each(self) -> Vec<Answers> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = vec![];
        for caller in self.callers {
            answers.push(caller.await.unwrap());
        }
        answers
    }
}

/// The id of the replica that answers there.
async fn replica_at(api: &Api) -> String {
    let replicas = api.get("/api/v1/replicas").await.expect(200);
    let this = replicas["replicas"].as_array().unwrap().iter().find(|replica| replica["isThis"] == true);
    this.unwrap()["replicaId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_goes_over_the_replicas_one_by_one_and_no_request_fails() {
    let Some(fleet) = Fleet::start().await else { return };
    let api = fleet.api();
    let config =
        json!({"batchSize": 1, "waitDuration": "PT0.3S", "maxFailures": 20, "keepPreviousDuration": "PT0S"});

    let witnesses = Witnesses::start(fleet.apis());
    let path = start(api, "Rolling", "2.0.0", config).await;
    api.wait_for(&path, |answer| {
        assert_ne!(answer.body["status"], "RolledBack", "{}", answer.body);
        answer.body["phase"] == "Done"
    })
    .await;
    fleet.wait_for_version("2.0.0").await;
    let answers = witnesses.finish_each().await;
    assert!(answers.iter().flatten().all(|(_, answer)| answer.is_ok()), "no request fails");

    // The log: one at a time, each different, the next after the one before was looked at.
    let events = events(api, &path).await;
    let moved: Vec<&Value> = events.iter().filter(|event| event["kind"] == "moved").collect();
    let batches: Vec<&str> = moved
        .iter()
        .map(|event| {
            let batch = event["evidence"]["batch"].as_array().unwrap();
            assert_eq!(batch.len(), 1, "one at a time: {event}");
            batch[0].as_str().unwrap()
        })
        .collect();
    assert_eq!(batches.len(), 3, "{events:#?}");
    for (index, event) in moved.iter().enumerate() {
        let message = event["message"].as_str().unwrap();
        assert!(message.contains(&format!("{} of 3 replicas", index + 1)), "{message}");
        assert_eq!(message.starts_with("the batch is healthy; "), index > 0, "{message}");
    }
    let switched = events.iter().find(|event| event["kind"] == "switched").unwrap();
    let looked_at = switched["message"].as_str().unwrap();
    assert!(looked_at.starts_with("all 3 replicas are healthy"), "{looked_at}");
    let times: Vec<Timestamp> = moved.iter().chain([&switched]).map(|event| time(event)).collect();
    for pair in times.windows(2) {
        assert!(pair[1].duration_since(pair[0]).as_millis() >= 300, "each was waited for: {times:?}");
    }

    // What callers saw: the replicas went over in the order of the log.
    let mut first_seen = vec![];
    for (api, answers) in fleet.apis().zip(&answers) {
        let first = answers.iter().find(|(_, answer)| answer.as_deref() == Ok("2.0.0"));
        first_seen.push((first.unwrap().0, replica_at(api).await));
    }
    first_seen.sort();
    assert_eq!(first_seen.iter().map(|(_, replica)| replica.as_str()).collect::<Vec<_>>(), batches);
    fleet.stop().await;
}

fn time(event: &Value) -> Timestamp {
    event["at"].as_str().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_whose_driver_is_killed_goes_on_in_another_process() {
    let Some(mut fleet) = Fleet::start().await else { return };
    let config = json!({"steps": [30], "minimumSamples": 100, "keepPreviousDuration": "PT0S"});
    let path = start(fleet.api(), "Canary", "2.0.0", config).await;
    fleet.api().wait_for(&path, |answer| answer.body["phase"] == "Shifting").await;

    let pool = PgPool::connect(&fleet.url).await.unwrap();
    let lease = format!("deployment/{}", path.rsplit('/').next().unwrap());
    let holder = async || {
        let row = sqlx::query_scalar::<_, Option<String>>("SELECT holder FROM leases WHERE name = $1");
        row.bind(&lease).fetch_one(&pool).await.unwrap()
    };
    let driver = holder().await.expect("somebody drives it");
    let mut place = None;
    for (index, api) in fleet.apis().enumerate() {
        let replicas = api.get("/api/v1/replicas").await.expect(200);
        let is_driver = |replica: &&Value| replica["isThis"] == true && replica["replicaId"] == *driver;
        if replicas["replicas"].as_array().unwrap().iter().any(|replica| is_driver(&replica)) {
            place = Some(index);
        }
    }
    let killed_at = Instant::now();
    fleet.servers.remove(place.expect("the driver is one of the three")).kill();
    while holder().await.is_none_or(|holder| holder == driver) {
        assert!(killed_at.elapsed() < PATIENCE, "nobody takes the deployment up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!(
        "the deployment was taken up {:?} after its driver was killed; a lease is 1 s",
        killed_at.elapsed()
    );

    // What both of the others answer counts, whoever drives.
    let api = fleet.api().clone();
    let loads: Vec<Load> = fleet.apis().map(|api| Load::start(api, 1)).collect();
    api.wait_for(&path, |answer| {
        assert_ne!(answer.body["status"], "RolledBack", "{}", answer.body);
        answer.body["phase"] == "Done"
    })
    .await;
    for load in loads {
        load.finish().await;
    }
    pool.close().await;
    fleet.stop().await;
}

/// When the last answer of 2.0.0 came after the decision to roll it back.
async fn last_bad_answer(api: &Api, apis: &[Api], deployment: &str) -> Duration {
    let witnesses = Witnesses::start(apis.iter().chain(apis));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let decided_at = Instant::now();
    let rollback = format!("/api/v1/deployments/{deployment}/rollback");
    api.post(&rollback, &json!({"reason": "measured"})).await.expect(200);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let answers = witnesses.finish().await;
    let versions = answers.iter().fold(BTreeMap::<&str, u32>::new(), |mut versions, (_, answer)| {
        *versions.entry(answer.as_deref().expect("no request fails")).or_default() += 1;
        versions
    });
    assert_eq!(versions.keys().collect::<Vec<_>>(), [&"1.0.0", &"2.0.0"], "{versions:?}");
    let bad = answers.iter().filter(|(_, answer)| answer.as_deref() == Ok("2.0.0"));
    bad.map(|(at, _)| at.saturating_duration_since(decided_at)).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_reaches_every_caller_at_once() {
    let installation = Installation::new();
    let server = installation.start().await;
    register_versions(&server.api, &[1, 2]).await;
    server.api.deploy(MODEL, "1.0.0").await;
    let deployment = server.api.deploy(MODEL, "2.0.0").await;
    let last = last_bad_answer(&server.api, std::slice::from_ref(&server.api), &deployment).await;
    println!("one process: the last answer of the bad version came {last:?} after the decision");
    assert!(last < Duration::from_secs(2), "{last:?}");
    drop(server);

    let Some(fleet) = Fleet::start().await else { return };
    let deployment = fleet.api().deploy(MODEL, "2.0.0").await;
    fleet.wait_for_version("2.0.0").await;
    let apis: Vec<Api> = fleet.apis().cloned().collect();
    let last = last_bad_answer(fleet.api(), &apis, &deployment).await;
    println!("three processes: the last answer of the bad version came {last:?} after the decision");
    assert!(last < Duration::from_secs(5), "{last:?}");
    fleet.stop().await;
}
