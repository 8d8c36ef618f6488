use std::sync::Arc;

use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::json;
use tidegate_core::{Environment, JobId, JobStatus, Version};
use tidegate_store::{Change, Hold, JobEnd, JobFilter, JobRecord, NewJob, Page, Postponed, Store};

use crate::bench::Bench;
use crate::samples::{at, event, registered};

const LEASE: SignedDuration = SignedDuration::from_secs(10);
const PAGE: Page = Page { limit: 10, offset: 0 };

fn job(version: &Version, id: &str, second: i64) -> NewJob {
    NewJob {
        id: JobId::new(id),
        kind: "raster",
        model_id: version.model_id.clone(),
        environment: Environment::Production,
        request: json!({"source": "s3://b/ü.tif", "nul": "\0"}),
        requested_by: "ana@example.org".to_owned(),
        created_at: at(second),
    }
}

/// Jobs of these ids, queued a second apart.
async fn queued(store: &Store, ids: &[&str]) -> Version {
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    for (second, id) in (0..).zip(ids) {
        let created = store.jobs.create(&job(&versions[0], id, second), &event("queued"), 100).await;
        assert!(created.unwrap());
    }
    versions[0].clone()
}

async fn take(store: &Store, holder: &str, second: i64) -> Option<(JobRecord, Hold)> {
    store.jobs.take(holder, at(second), LEASE).await.unwrap()
}

async fn get(store: &Store, id: &str) -> JobRecord {
    store.jobs.get(&JobId::new(id)).await.unwrap().unwrap()
}

pub async fn a_job_goes_from_the_queue_to_its_end(bench: Arc<Bench>) {
    let store = &bench.store;
    let version = queued(store, &["j"]).await;
    let waiting = get(store, "j").await;
    assert_eq!((waiting.status, waiting.request), (JobStatus::Queued, job(&version, "j", 0).request));
    let (taken, hold) = take(store, "a", 5).await.unwrap();
    assert_eq!((taken.status, taken.started_at, hold.generation), (JobStatus::Running, Some(at(5)), 1));
    assert_eq!(take(store, "b", 6).await, None, "somebody is at it");
    assert!(store.jobs.pin(&hold, &version.id, &event("started")).await.unwrap());
    assert!(store.jobs.renew(&hold, at(20), Some(&json!({"done": 1}))).await.unwrap());
    assert!(store.jobs.renew(&hold, at(30), None).await.unwrap(), "a sign of life alone");
    let running = get(store, "j").await;
    assert_eq!((running.version_id, running.progress), (Some(version.id), Some(json!({"done": 1}))));
    let end = JobEnd::Succeeded { result: json!({"outputs": []}) };
    assert!(store.jobs.end(&hold, &end, at(25), &event("succeeded")).await.unwrap());
    let over = get(store, "j").await;
    assert_eq!((over.status, over.completed_at), (JobStatus::Succeeded, Some(at(25))));
    assert_eq!(over.result, Some(json!({"outputs": []})));
    let events = store.jobs.events(&over.id, 0, 10).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| (event.seq, event.kind.as_str())).collect();
    assert_eq!(told, [(1, "queued"), (2, "started"), (3, "succeeded")]);
    assert_eq!(store.jobs.events(&over.id, 2, 10).await.unwrap().len(), 1);
    assert_eq!(take(store, "a", 99).await, None, "what is over is never taken");
    assert!(!store.jobs.renew(&hold, at(99), None).await.unwrap());
}

pub async fn a_job_is_taken_over_when_its_holder_is_silent(bench: Arc<Bench>) {
    let store = &bench.store;
    let version = queued(store, &["j"]).await;
    let (_, first) = take(store, "a", 0).await.unwrap();
    assert!(store.jobs.renew(&first, at(15), None).await.unwrap());
    assert_eq!(take(store, "b", 14).await, None);
    let (taken, second) = take(store, "b", 15).await.unwrap();
    assert_eq!((second.generation, taken.started_at), (2, Some(at(0))), "it began when it began");
    let end = JobEnd::Failed { reason: "no".to_owned() };
    for written in [
        store.jobs.renew(&first, at(99), Some(&json!(1))).await,
        store.jobs.pin(&first, &version.id, &event("late")).await,
        store.jobs.note(&first, &event("late")).await,
        store.jobs.postpone(&first, Postponed::default(), Some(&event("late"))).await,
        store.jobs.end(&first, &end, at(99), &event("late")).await,
    ] {
        assert!(!written.unwrap(), "the first holder has lost it");
    }
    assert_eq!(store.jobs.events(&taken.id, 0, 10).await.unwrap().len(), 1, "and tells nothing");
    // The same name again: a generation tells the one life from the other.
    let (_, again) = take(store, "b", 40).await.unwrap();
    assert!(!store.jobs.note(&second, &event("late")).await.unwrap());
    assert!(store.jobs.end(&again, &end, at(41), &event("failed")).await.unwrap());
    let over = get(store, "j").await;
    assert_eq!((over.status, over.error_message.as_deref()), (JobStatus::Failed, Some("no")));
}

pub async fn jobs_are_taken_in_order_each_by_one(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    let ids = ["j0", "j1", "j2", "j3", "j4", "j5"];
    queued(&bench.store, &ids).await;
    let attempts = (0..8).map(|index| {
        let store = if index % 2 == 0 { &bench.store } else { &others };
        async move { take(store, &format!("holder {index}"), 10).await }
    });
    let mut taken: Vec<_> = join_all(attempts).await.into_iter().flatten().map(|(job, _)| job.id).collect();
    taken.sort();
    // One that found the head of the queue locked may have gone away empty, and looks again later.
    while let Some((job, _)) = take(&others, "late", 10).await {
        taken.push(job.id);
    }
    taken.sort();
    assert_eq!(taken, ids.map(JobId::new));
    others.close().await;
}

pub async fn a_job_that_is_given_back_waits_its_time(bench: Arc<Bench>) {
    let store = &bench.store;
    queued(store, &["j", "k"]).await;
    let (_, hold) = take(store, "a", 0).await.unwrap();
    let later = Postponed { until: Some(at(50)), attempts: 3 };
    assert!(store.jobs.postpone(&hold, later, Some(&event("postponed"))).await.unwrap());
    let waiting = get(store, "j").await;
    assert_eq!((waiting.status, waiting.attempts), (JobStatus::Queued, 3));
    assert_eq!(take(store, "a", 1).await.unwrap().0.id.as_str(), "k", "the next one goes first");
    assert_eq!(take(store, "b", 9).await, None);
    let (_, hold) = take(store, "b", 50).await.unwrap();
    assert!(store.jobs.note(&hold, &event("progress")).await.unwrap());
    assert_eq!(get(store, "j").await.attempts, 3, "which is the holder's to count");
}

pub async fn a_cancelled_job_is_nobodys(bench: Arc<Bench>) {
    let store = &bench.store;
    queued(store, &["j", "k"]).await;
    let (running, hold) = take(store, "a", 0).await.unwrap();
    for id in [running.id.clone(), JobId::new("k")] {
        assert!(store.jobs.cancel(&id, at(3), &event("cancelled")).await.unwrap());
        assert!(!store.jobs.cancel(&id, at(4), &event("cancelled")).await.unwrap(), "once");
        assert_eq!(store.jobs.events(&id, 0, 10).await.unwrap().len(), 2);
    }
    assert!(!store.jobs.renew(&hold, at(9), None).await.unwrap());
    assert_eq!(take(store, "b", 99).await, None);
    assert_eq!(get(store, "j").await.completed_at, Some(at(3)));
}

pub async fn a_full_queue_takes_no_more_jobs(bench: Arc<Bench>) {
    let store = &bench.store;
    let version = queued(store, &["j", "k"]).await;
    let create = async |id: &str, limit| {
        store.jobs.create(&job(&version, id, 9), &event("queued"), limit).await.unwrap()
    };
    assert!(!create("l", 2).await);
    assert_eq!(store.jobs.get(&JobId::new("l")).await.unwrap(), None);
    take(store, "a", 0).await.unwrap();
    assert_eq!(store.jobs.queued().await.unwrap(), 1, "what runs does not wait");
    assert!(create("l", 2).await);
}

pub async fn jobs_are_listed_newest_first_and_deleted_when_over(bench: Arc<Bench>) {
    let store = &bench.store;
    let version = queued(store, &["j", "k", "l"]).await;
    let list = async |filter: JobFilter| {
        let listing = store.jobs.list(&filter, PAGE).await.unwrap();
        let ids: Vec<_> = listing.items.iter().map(|job| job.id.as_str().to_owned()).collect();
        assert_eq!(listing.total, ids.len() as u64);
        ids.join(" ")
    };
    assert_eq!(list(JobFilter::default()).await, "l k j");
    let of_model = JobFilter { model_id: Some(version.model_id.clone()), ..JobFilter::default() };
    assert_eq!(list(of_model).await, "l k j");
    for (id, second) in [("j", 5), ("k", 6)] {
        assert!(!store.jobs.delete(&JobId::new(id)).await.unwrap(), "it is not over");
        store.jobs.cancel(&JobId::new(id), at(second), &event("cancelled")).await.unwrap();
    }
    let cancelled = JobFilter { status: Some(JobStatus::Cancelled), ..JobFilter::default() };
    assert_eq!(list(cancelled).await, "k j");
    assert_eq!(store.jobs.over_before(at(6), 10).await.unwrap(), [JobId::new("j")]);
    assert_eq!(store.jobs.over_before(at(9), 1).await.unwrap(), [JobId::new("j")], "the oldest first");
    assert!(store.jobs.delete(&JobId::new("j")).await.unwrap());
    assert!(!store.jobs.delete(&JobId::new("j")).await.unwrap());
    assert_eq!(store.jobs.events(&JobId::new("j"), 0, 10).await.unwrap(), []);
    let left = store.jobs.ids().await.unwrap();
    assert_eq!(left, ["k", "l"].map(JobId::new).into_iter().collect());
}

pub async fn what_changes_in_a_job_is_told(bench: Arc<Bench>) {
    let store = &bench.store;
    let mut changes = store.changes.subscribe();
    let listening = tokio::spawn(store.changes.listen());
    // It hears from here on.
    while changes.next().await != Some(Change::Everything) {}
    queued(store, &["j"]).await;
    let told = Change::Job { id: JobId::new("j") };
    while changes.next().await != Some(told.clone()) {}
    let (_, hold) = take(store, "a", 0).await.unwrap();
    while changes.next().await != Some(told.clone()) {}
    store.jobs.renew(&hold, at(9), Some(&json!(1))).await.unwrap();
    store.jobs.cancel(&hold.job_id, at(9), &event("cancelled")).await.unwrap();
    while changes.next().await != Some(told.clone()) {}
    listening.abort();
}
