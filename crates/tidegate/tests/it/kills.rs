//! The real binary, killed again and again at random moments of a real rollout, for every strategy, with callers asking and
//! labelling all the while.
//!
//! A failing test prints its seed; `TIDEGATE_KILL_SEED` tells the same story again (the moments of the kills are the same, what
//! the process was doing then is not quite).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::lifecycle::{INFER, MODEL, answered_version, register_versions};
use crate::support::{Api, Database, Installation, PATIENCE, databases};

/// Of one rollout. Each costs the second that its lease lasts.
const KILLS: usize = 3;

/// After something new was seen in the log: from the middle of a transition to well into the next phase.
const LONGEST_WAIT_MS: u64 = 250;

/// The longest that is waited for something new before the process is killed all the same: a phase that waits for
/// evidence is a moment to be killed in, too.
const NEWS_LIMIT: Duration = Duration::from_secs(2);

/// Feedback waits for the log of what it is about, so that whoever gives it asks seldom.
const N_TELLERS: usize = 4;

/// Labels of the version that serves before another one comes: enough to hold it against.
const TOLD_BEFORE: u64 = 24;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Sqlite,
    Postgres,
}

/// A rollout of 2.0.0, which is better than 1.0.0 or worse.
#[derive(Debug)]
struct Story {
    strategy: &'static str,
    is_good: bool,
}

impl Story {
    fn config(&self) -> Value {
        let mut config = match self.strategy {
            // Where it is worse, what was true is told after the switch.
            "BlueGreen" => json!({"monitoringDuration": if self.is_good { "PT0.5S" } else { "PT10M" }}),
            "Canary" => json!({"steps": [30, 60], "minimumSamples": 30, "monitoringDuration": "PT0S"}),
            "ABTesting" => json!({"minimumSamples": 30, "monitoringDuration": "PT0S"}),
            // It answers otherwise by its nature; where it is to be good, that is not judged.
            "Shadow" => json!({
                "comparisonSamples": 30, "autoPromote": true, "monitoringDuration": "PT0S",
                "predictionDifferenceThreshold": if self.is_good { 1.0 } else { 0.1 },
            }),
            // A process that was killed counts as an unhealthy one until it is known to be gone.
            "Rolling" => json!({
                "waitDuration": if self.is_good { "PT0.2S" } else { "PT5S" }, "maxFailures": 1000,
                "monitoringDuration": if self.is_good { "PT0S" } else { "PT10M" },
            }),
            other => panic!("no strategy `{other}`"),
        };
        config["smokeTestSamples"] = json!(2);
        let keep = if self.strategy == "BlueGreen" { "keepBlueDuration" } else { "keepPreviousDuration" };
        config[keep] = json!("PT0S");
        // Microsecond models on a busy machine are no measure of latency, and few samples must do. What the versions answer is
        // never alike, so that drift says nothing of which is better.
        config["rollbackThresholds"] =
            json!({"latencyIncrease": 1000, "errorRateIncrease": 0.5, "accuracyDrop": 0.3, "driftScore": 8});
        config
    }

    fn end(&self) -> (&'static str, u64) {
        match (self.is_good, self.strategy) {
            (true, _) => ("Active", 2),
            (false, "Shadow") => ("Failed", 1),
            (false, _) => ("RolledBack", 1),
        }
    }
}

/// Callers who ask whichever process lives, check what they are told, and, most of them, tell what was true.
struct Callers {
    stop: Arc<AtomicBool>,
    /// Answers of which it was told what was true.
    told: Arc<AtomicU64>,
    place: watch::Sender<Api>,
    callers: Vec<tokio::task::JoinHandle<BTreeMap<u64, u64>>>,
}

impl Callers {
    fn start(api: &Api, truth: u64) -> Self {
        let (place, places) = watch::channel(api.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::new(AtomicU64::new(0));
        let caller = |truth| tokio::spawn(ask(places.clone(), Arc::clone(&stop), truth, Arc::clone(&told)));
        let callers = [Some(truth); N_TELLERS].into_iter().chain([None]).map(caller).collect();
        Self { stop, told, place, callers }
    }

    /// Until so much is known of the version that serves that another one can be compared with it.
    async fn wait_for_told(&self, n_told: u64) {
        let asked_at = Instant::now();
        while self.told.load(Ordering::Relaxed) < n_told {
            assert!(asked_at.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many answers came from each version.
    async fn finish(self) -> BTreeMap<u64, u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut answers = BTreeMap::new();
        for caller in self.callers {
            for (version, count) in caller.await.expect("whoever answers tells the truth") {
                *answers.entry(version).or_default() += count;
            }
        }
        answers
    }
}

async fn ask(
    places: watch::Receiver<Api>,
    stop: Arc<AtomicBool>,
    truth: Option<u64>,
    told: Arc<AtomicU64>,
) -> BTreeMap<u64, u64> {
    let mut answers = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let api = places.borrow().clone();
        let Some(answer) = api.try_post(INFER, &json!({"features": {"x": [0.0]}})).await else {
            // Killed; another one is on its way.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        assert_eq!(answer.status, 200, "{}", answer.body);
        let said = answer.body["version"].as_str().and_then(|version| version.strip_suffix(".0.0"));
        let said: u64 = said.and_then(|number| number.parse().ok()).expect("a version that we registered");
        assert_eq!(answer.body["prediction"]["y"].as_f64(), Some(said as f64), "{}", answer.body);
        assert!(matches!(said, 1 | 2), "old or new, nothing else: {}", answer.body);
        *answers.entry(said).or_default() += 1;
        let Some(truth) = truth else { continue };
        let feedback = format!("/api/v1/inference/{}/feedback", answer.body["requestId"].as_str().unwrap());
        // The request that it is about may have died with the process.
        if api.try_post(&feedback, &json!({"groundTruth": truth})).await.is_some() {
            told.fetch_add(1, Ordering::Relaxed);
        }
    }
    answers
}

async fn check(strategy: &'static str, kind: Kind) {
    let Some(database) = database(kind).await else { return };
    let seed = crate::setting("TIDEGATE_KILL_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let told = tokio::spawn(tell(strategy, kind, Installation::on(&database), seed)).await;
    database.stop().await;
    if let Err(panic) = told {
        eprintln!("`TIDEGATE_KILL_SEED={seed}` tells this story again");
        std::panic::resume_unwind(panic.into_panic());
    }
}

async fn database(kind: Kind) -> Option<Database> {
    match kind {
        Kind::Sqlite => Some(Database::Sqlite),
        Kind::Postgres => databases().await.into_iter().find(|database| database.url().is_some()),
    }
}

async fn tell(strategy: &'static str, kind: Kind, installation: Installation, seed: u64) {
    let place = strategy.bytes().fold(kind as u64, |sum, byte| sum * 31 + u64::from(byte));
    let mut rng = StdRng::seed_from_u64(seed ^ place);
    let story = Story { strategy, is_good: rng.random() };
    println!("{story:?} on {kind:?}");
    let mut server = installation.start().await;
    register_versions(&server.api, &[1, 2]).await;
    server.api.deploy(MODEL, "1.0.0").await;
    // The log says that it serves a moment before it does.
    let asked_at = Instant::now();
    while answered_version(&server.api).await != Ok(1) {
        assert!(asked_at.elapsed() < PATIENCE);
    }
    let (status, version) = story.end();
    let callers = Callers::start(&server.api, version);
    callers.wait_for_told(TOLD_BEFORE).await;
    let body =
        json!({"modelId": MODEL, "version": "2.0.0", "strategy": strategy, "strategyConfig": story.config()});
    let created = server.api.post("/api/v1/deployments", &body).await.expect(202);
    let path = format!("/api/v1/deployments/{}", created["deploymentId"].as_str().unwrap());

    let mut seen = 0;
    for _ in 0..KILLS {
        let wait = Duration::from_millis(rng.random_range(0..LONGEST_WAIT_MS));
        let Some(n_events) = news(&server.api, &path, seen).await else { break };
        seen = n_events;
        tokio::time::sleep(wait).await;
        println!("killed {wait:?} after event {seen}");
        server = installation.restart(server).await;
        callers.place.send_replace(server.api.clone());
    }

    let is_over =
        |phase: &Value| matches!(phase.as_str(), Some("Done" | "Failed" | "RolledBack" | "Cancelled"));
    let ended = server.api.wait_for(&path, |answer| is_over(&answer.body["phase"])).await.body;
    let events = server.api.get(&format!("{path}/events?limit=100")).await.expect(200);
    assert_eq!(ended["status"], status, "{ended}\n{events:#}");
    check_log(&events, &ended);
    for _ in 0..20 {
        assert_eq!(answered_version(&server.api).await, Ok(version), "{events:#}");
    }
    let progress = server.api.get(&format!("{path}/progress")).await.expect(200);
    let whole = json!([{"version": format!("{version}.0.0"), "percentage": 100.0}]);
    assert_eq!(progress["traffic"], whole, "{progress}");
    println!("ended as {status}; answers by version: {:?}", callers.finish().await);
}

/// How many events there are once there are more than `seen`, or some time has passed; `None` when it is over.
async fn news(api: &Api, path: &str, seen: u64) -> Option<u64> {
    let asked_at = Instant::now();
    loop {
        assert!(asked_at.elapsed() < PATIENCE);
        let deployment = api.get(path).await.expect(200);
        let page = api.get(&format!("{path}/events?after={seen}&limit=100")).await.expect(200);
        let last = page["events"].as_array().unwrap().last().map(|event| event["seq"].as_u64().unwrap());
        if deployment["status"] != "Deploying" && deployment["completedAt"].is_string() {
            return None;
        }
        if last.is_some() || asked_at.elapsed() > NEWS_LIMIT {
            return Some(last.unwrap_or(seen));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The log is without gaps, decides each thing once, and its end is the deployment's.
fn check_log(events: &Value, ended: &Value) {
    let log: Vec<(u64, &str, &str)> = events["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap();
            (event["seq"].as_u64().unwrap(), text("kind"), text("message"))
        })
        .collect();
    assert!(log.iter().map(|(seq, ..)| *seq).eq(1..=log.len() as u64), "{log:#?}");
    let count = |kind: &str| log.iter().filter(|(_, other, _)| *other == kind).count();
    for once in ["created", "validating", "validated", "loaded", "testing", "shadowing", "rolling"] {
        assert!(count(once) <= 1, "`{once}` was decided once, however often it was taken up: {log:#?}");
    }
    let shares: Vec<&str> =
        log.iter().filter(|(_, kind, _)| *kind == "shifted").map(|event| event.2).collect();
    assert!(shares.len() <= 2, "each step was taken once: {shares:#?}");
    let is_active = ended["status"] == "Active";
    let expected = if is_active { (1, 0) } else { (count("switched"), 1) };
    assert_eq!((count("switched"), count("rolledBack") + count("failed")), expected, "{log:#?}");
    assert!(count("switched") <= 1, "{log:#?}");
    let (_, kind, message) = log.last().unwrap();
    match ended["errorMessage"].as_str() {
        None => assert_eq!(*kind, "retired", "{log:#?}"),
        Some(why) => assert!(message.contains(why) && !why.is_empty(), "{why}: {log:#?}"),
    }
}

macro_rules! killed {
    ($($name:ident: $strategy:literal, $kind:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            check($strategy, Kind::$kind).await;
        })*
    };
}

// A test each, so that they run beside each other.
killed! {
    blue_green_is_killed_on_sqlite: "BlueGreen", Sqlite;
    canary_is_killed_on_sqlite: "Canary", Sqlite;
    ab_testing_is_killed_on_sqlite: "ABTesting", Sqlite;
    shadow_is_killed_on_sqlite: "Shadow", Sqlite;
    rolling_is_killed_on_sqlite: "Rolling", Sqlite;
    blue_green_is_killed_on_postgres: "BlueGreen", Postgres;
    canary_is_killed_on_postgres: "Canary", Postgres;
    ab_testing_is_killed_on_postgres: "ABTesting", Postgres;
    shadow_is_killed_on_postgres: "Shadow", Postgres;
    rolling_is_killed_on_postgres: "Rolling", Postgres;
}
