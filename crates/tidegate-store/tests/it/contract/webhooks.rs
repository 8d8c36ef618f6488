use std::sync::Arc;

use tidegate_core::{DeploymentId, Environment, Version};
use tidegate_store::{NewEvent, Store, Transition, Untold};

use crate::bench::Bench;
use crate::samples::{at, deployment, event, registered, transition};

const HOOK: &str = "hook";

/// A deployment with events at these seconds.
async fn with_events(
    store: &Store,
    version: &Version,
    environment: Environment,
    seconds: &[i64],
) -> DeploymentId {
    let record = deployment(version, environment);
    let events: Vec<_> = seconds.iter().map(|at_s| NewEvent { at: at(*at_s), ..event("held") }).collect();
    store.deployments.create(&record, &events).await.unwrap();
    record.id
}

fn untold(deployment: &DeploymentId, told_seq: u64, next_seq: u64, attempts: u32) -> Untold {
    Untold { deployment_id: deployment.clone(), told_seq, next_seq, attempts }
}

pub async fn what_lies_behind_the_cursor_has_yet_to_be_told(bench: Arc<Bench>) {
    let store = &bench.store;
    let hooks = &store.webhooks;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let late = with_events(store, &versions[0], Environment::Staging, &[50, 60]).await;
    let early = with_events(store, &versions[0], Environment::Production, &[20, 30, 40]).await;
    let look = async |since, now| hooks.untold(HOOK, at(since), at(now), 10).await.unwrap();
    assert_eq!(
        look(0, 60).await,
        [untold(&early, 0, 1, 0), untold(&late, 0, 1, 0)],
        "the longest waiting first"
    );
    assert_eq!(
        look(35, 60).await,
        [untold(&early, 0, 3, 0), untold(&late, 0, 1, 0)],
        "nothing older than that"
    );
    assert_eq!(hooks.untold(HOOK, at(0), at(60), 1).await.unwrap().len(), 1);

    hooks.told(HOOK, &early, 2, at(61)).await.unwrap();
    hooks.told(HOOK, &early, 1, at(62)).await.unwrap();
    assert_eq!(look(0, 62).await, [untold(&early, 2, 3, 0), untold(&late, 0, 1, 0)], "never back");
    hooks.told("another", &early, 3, at(62)).await.unwrap();
    hooks.told(HOOK, &early, 3, at(62)).await.unwrap();
    assert_eq!(look(0, 62).await, [untold(&late, 0, 1, 0)], "to the end");

    let record = store.deployments.get(&early).await.unwrap().unwrap();
    let more = Transition { events: vec![event("switched")], ..transition(&record) };
    store.deployments.commit(&more).await.unwrap();
    assert_eq!(look(0, 63).await, [untold(&early, 3, 4, 0), untold(&late, 0, 1, 0)]);
}

pub async fn what_is_postponed_waits_and_counts_its_attempts(bench: Arc<Bench>) {
    let store = &bench.store;
    let hooks = &store.webhooks;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let first = with_events(store, &versions[0], Environment::Staging, &[10, 11]).await;
    let second = with_events(store, &versions[0], Environment::Production, &[12]).await;
    let look = async |now| hooks.untold(HOOK, at(0), at(now), 10).await.unwrap();
    for (attempts, until) in [(0, 30), (1, 40)] {
        hooks.postpone(HOOK, &untold(&first, 0, 1, attempts), at(until), at(20)).await.unwrap();
        assert_eq!(look(until - 1).await, [untold(&second, 0, 1, 0)], "the other one goes on");
        assert_eq!(look(until).await[0], untold(&first, 0, 1, attempts + 1));
    }
    assert_eq!(hooks.next_attempt(HOOK, at(39)).await.unwrap(), Some(at(40)));
    assert_eq!(hooks.next_attempt(HOOK, at(40)).await.unwrap(), None, "it is due, not ahead");
    assert_eq!(hooks.next_attempt("another", at(0)).await.unwrap(), None);
    hooks.told(HOOK, &first, 1, at(41)).await.unwrap();
    hooks.postpone(HOOK, &untold(&first, 0, 1, 2), at(99), at(42)).await.unwrap();
    assert_eq!(look(42).await[0], untold(&first, 1, 2, 0), "told by another process meanwhile");

    assert_eq!(hooks.sweep(at(41)).await.unwrap(), 0);
    assert_eq!(hooks.sweep(at(42)).await.unwrap(), 1);
}

pub async fn a_webhook_is_known_since_it_was_introduced(bench: Arc<Bench>) {
    let hooks = &bench.store.webhooks;
    assert_eq!(hooks.introduce(HOOK, at(5)).await.unwrap(), at(5));
    assert_eq!(hooks.introduce(HOOK, at(9)).await.unwrap(), at(5));
    assert_eq!(hooks.introduce("another", at(9)).await.unwrap(), at(9));
}
