use std::sync::Arc;

use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::json;
use tidegate_core::{DeploymentId, DeploymentStatus, Environment, Timestamp};
use tidegate_store::{
    CommitError, CreateError, DeploymentFilter, DeploymentRecord, Fence, NewEvent, Page, Transition,
};

use crate::bench::Bench;
use crate::samples::{at, deployment, event, registered, route, transition};

pub async fn reads_back_what_was_created(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0", "2.0.0"]).await;
    let record = DeploymentRecord {
        previous_version_id: Some(versions[0].id.clone()),
        error_message: Some("it's \"quoted\" 100 %".to_owned()),
        validation_result: Some(json!({"checks": []})),
        ..deployment(&versions[1], Environment::Staging)
    };
    let quiet = NewEvent { evidence: json!(null), ..event("quiet") };
    store.deployments.create(&record, &[event("created"), quiet]).await.unwrap();
    assert_eq!(store.deployments.get(&record.id).await.unwrap(), Some(record.clone()));
    let events = store.deployments.events(&record.id, 0, 10).await.unwrap();
    let seen: Vec<_> = events.iter().map(|event| (event.seq, event.kind.as_str(), &event.evidence)).collect();
    assert_eq!(seen, [(1, "created", &json!({"samples": 100})), (2, "quiet", &json!(null))]);
    assert_eq!((events[0].at, events[0].message.as_str()), (at(11), "created happened"));
    assert_eq!(store.deployments.get(&DeploymentId::new("nobody")).await.unwrap(), None);
}

pub async fn one_in_progress_per_model_and_environment(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let (_, others) = registered(store, "n", &["1.0.0"]).await;
    let first = deployment(&versions[0], Environment::Production);
    store.deployments.create(&first, &[]).await.unwrap();

    let second = deployment(&versions[0], Environment::Production);
    match store.deployments.create(&second, &[event("created")]).await {
        Err(CreateError::InProgress { deployment_id }) => assert_eq!(deployment_id, first.id),
        other => panic!("{other:?}"),
    }
    assert_eq!(store.deployments.get(&second.id).await.unwrap(), None);
    assert_eq!(store.deployments.events(&second.id, 0, 10).await.unwrap(), []);
    for elsewhere in
        [deployment(&versions[0], Environment::Staging), deployment(&others[0], Environment::Production)]
    {
        store.deployments.create(&elsewhere, &[]).await.unwrap();
    }

    let active = DeploymentRecord { status: DeploymentStatus::Active, ..first };
    store.deployments.commit(&transition(&active)).await.unwrap();
    store.deployments.create(&second, &[]).await.unwrap();
}

pub async fn one_of_many_creates(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    let (_, versions) = registered(&bench.store, "m", &["1.0.0"]).await;
    let version = &versions[0];
    let attempts = (0..8).map(|index| {
        let store = if index % 2 == 0 { &bench.store } else { &others };
        async move {
            let record = deployment(version, Environment::Production);
            store.deployments.create(&record, &[event("created")]).await.map(|()| record.id)
        }
    });
    let outcomes = join_all(attempts).await;
    others.close().await;
    let winners: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    for outcome in &outcomes {
        match outcome {
            Ok(_) => {}
            Err(CreateError::InProgress { deployment_id }) => assert_eq!(deployment_id, winners[0]),
            other => panic!("{other:?}"),
        }
    }
}

pub async fn a_commit_is_whole(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let record = deployment(&versions[0], Environment::Production);
    store.deployments.create(&record, &[event("created")]).await.unwrap();
    let next = DeploymentRecord {
        status: DeploymentStatus::RolledBack,
        progress_percentage: 100,
        traffic_percentage: 25,
        completed_at: Some(at(60)),
        rolled_back_at: Some(at(59)),
        error_message: Some("latency".to_owned()),
        validation_result: Some(json!({"ok": true})),
        state: json!({"phase": "done", "deep": [{"\0": 0.1}]}),
        is_settled: true,
        ..record.clone()
    };
    let route = route(&record, &[(&versions[0], 10_000)]);
    let whole = Transition {
        events: vec![event("validated"), event("switched")],
        route: Some(route.clone()),
        ..transition(&next)
    };
    assert_eq!(store.deployments.commit(&whole).await.unwrap(), 1);
    let stored = store.deployments.get(&record.id).await.unwrap();
    assert_eq!(stored, Some(DeploymentRecord { revision: 1, ..next }));
    let events = store.deployments.events(&record.id, 0, 10).await.unwrap();
    let seen: Vec<_> = events.iter().map(|event| (event.seq, event.kind.as_str())).collect();
    assert_eq!(seen, [(1, "created"), (2, "validated"), (3, "switched")]);
    let stored = store.routes.get(Environment::Production, &record.model_id).await.unwrap();
    assert_eq!(stored, Some(tidegate_core::Route { generation: 1, ..route }));
}

pub async fn a_conflict_leaves_nothing(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let record = deployment(&versions[0], Environment::Production);
    store.deployments.create(&record, &[]).await.unwrap();
    assert_eq!(store.deployments.commit(&transition(&record)).await.unwrap(), 1);

    let stale = Transition {
        events: vec![event("late")],
        route: Some(route(&record, &[(&versions[0], 10_000)])),
        ..transition(&record)
    };
    let unknown = DeploymentRecord { id: DeploymentId::new("nobody"), ..record.clone() };
    for refused in [stale, transition(&unknown)] {
        let outcome = store.deployments.commit(&refused).await;
        assert!(matches!(outcome, Err(CommitError::Conflict)), "{outcome:?}");
    }
    assert_eq!(store.deployments.events(&record.id, 0, 10).await.unwrap(), []);
    assert_eq!(store.routes.list().await.unwrap(), []);
}

/// Two controllers read the same revision eight times; each revision is written once and no event is lost.
pub async fn one_of_many_commits(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    let (_, versions) = registered(&bench.store, "m", &["1.0.0"]).await;
    let record = deployment(&versions[0], Environment::Production);
    bench.store.deployments.create(&record, &[]).await.unwrap();
    for revision in 0..4 {
        let step = Transition {
            events: vec![event("a"), event("b")],
            ..transition(&DeploymentRecord { revision, ..record.clone() })
        };
        let attempts = (0..6).map(|index| {
            let store = if index % 2 == 0 { &bench.store } else { &others };
            store.deployments.commit(&step)
        });
        let outcomes = join_all(attempts).await;
        let conflicts = outcomes.iter().filter(|outcome| matches!(outcome, Err(CommitError::Conflict)));
        assert_eq!(conflicts.count(), 5, "{outcomes:?}");
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Ok(new) if *new == revision + 1)));
    }
    others.close().await;
    let events = bench.store.deployments.events(&record.id, 0, 100).await.unwrap();
    assert!(events.iter().map(|event| event.seq).eq(1..=8), "{events:?}");
}

pub async fn a_stale_fence_is_refused(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let mut record = deployment(&versions[0], Environment::Production);
    store.deployments.create(&record, &[]).await.unwrap();
    let ttl = SignedDuration::from_secs(10);
    let acquire =
        async |holder: &str, now: Timestamp| store.leases.acquire("l", holder, now, ttl).await.unwrap();
    let fence =
        |holder: &str, generation| Fence { lease: "l".to_owned(), holder: holder.to_owned(), generation };
    let mut commit = async |fence: Fence| {
        let fenced = Transition { fence: Some(fence), ..transition(&record) };
        let outcome = store.deployments.commit(&fenced).await;
        record.revision += u64::from(outcome.is_ok());
        outcome
    };

    let outcome = commit(fence("a", 1)).await;
    assert!(matches!(outcome, Err(CommitError::Fenced)), "there is no such lease: {outcome:?}");
    assert_eq!(acquire("a", at(0)).await, Some(1));
    commit(fence("a", 1)).await.unwrap();
    assert_eq!(acquire("a", at(5)).await, Some(1), "renewed");
    commit(fence("a", 1)).await.unwrap();
    assert_eq!(acquire("b", at(30)).await, Some(2), "taken over");
    for stale in [fence("a", 1), fence("a", 2), fence("b", 1), fence("b", 3)] {
        let outcome = commit(stale.clone()).await;
        assert!(matches!(outcome, Err(CommitError::Fenced)), "{stale:?}: {outcome:?}");
    }
    commit(fence("b", 2)).await.unwrap();
    store.leases.release("l", "b", 2).await.unwrap();
    let outcome = commit(fence("b", 2)).await;
    assert!(matches!(outcome, Err(CommitError::Fenced)), "released: {outcome:?}");
    let stored = store.deployments.get(&record.id).await.unwrap().unwrap();
    assert_eq!(stored.revision, 3);
}

pub async fn lists_by_filter_newest_first(bench: Arc<Bench>) {
    let store = &bench.store;
    let mut records = Vec::new();
    for (index, environment) in
        [Environment::Staging, Environment::Production, Environment::Staging].iter().enumerate()
    {
        let (_, versions) = registered(store, &format!("m{index}"), &["1.0.0"]).await;
        let record = DeploymentRecord {
            started_at: at(100 + i64::try_from(index).unwrap()),
            status: if index == 0 { DeploymentStatus::Active } else { DeploymentStatus::Pending },
            is_settled: index == 0,
            ..deployment(&versions[0], *environment)
        };
        store.deployments.create(&record, &[]).await.unwrap();
        records.push(record);
    }
    let list = async |filter: DeploymentFilter, limit, offset| {
        let listing = store.deployments.list(&filter, Page { limit, offset }).await.unwrap();
        (listing.items, listing.total)
    };
    let [first, second, third] = &records[..] else { unreachable!("three were made") };
    let all = DeploymentFilter::default;
    assert_eq!(list(all(), 2, 0).await, (vec![third.clone(), second.clone()], 3));
    assert_eq!(list(all(), 2, 2).await, (vec![first.clone()], 3));
    let staging = DeploymentFilter { environment: Some(Environment::Staging), ..all() };
    assert_eq!(list(staging.clone(), 9, 0).await, (vec![third.clone(), first.clone()], 2));
    let pending = DeploymentFilter { status: Some(DeploymentStatus::Pending), ..staging };
    assert_eq!(list(pending, 9, 0).await, (vec![third.clone()], 1));
    let of_model = DeploymentFilter { model_id: Some(second.model_id.clone()), ..all() };
    assert_eq!(list(of_model, 9, 0).await, (vec![second.clone()], 1));
    assert_eq!(store.deployments.unsettled().await.unwrap(), [second.clone(), third.clone()]);
}

pub async fn events_are_read_in_pieces(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let record = deployment(&versions[0], Environment::Production);
    let first: Vec<_> = (0..5).map(|index| event(&format!("e{index}"))).collect();
    store.deployments.create(&record, &first).await.unwrap();
    for (after, limit, expected) in [(0, 2, vec![1, 2]), (2, 2, vec![3, 4]), (4, 2, vec![5]), (5, 2, vec![])]
    {
        let events = store.deployments.events(&record.id, after, limit).await.unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), expected);
    }
}

pub async fn the_newest_look_is_kept(bench: Arc<Bench>) {
    let store = &bench.store;
    let (_, versions) = registered(store, "m", &["1.0.0"]).await;
    let record = deployment(&versions[0], Environment::Production);
    store.deployments.create(&record, &[]).await.unwrap();
    assert_eq!(store.deployments.last_look(&record.id).await.unwrap(), None);
    // The third is late, by a controller that was slow.
    for (minute, look) in [(1, json!({"n": 1})), (3, json!({"n": 3})), (2, json!({"n": 2}))] {
        store.deployments.keep_look(&record.id, at(minute), &look).await.unwrap();
    }
    assert_eq!(store.deployments.last_look(&record.id).await.unwrap(), Some(json!({"n": 3})));
    assert_eq!(store.deployments.get(&record.id).await.unwrap(), Some(record), "it is no transition");
}
