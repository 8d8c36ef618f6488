use std::sync::Arc;

use futures::future::join_all;
use tidegate_core::{Model, ModelId, Precision, Version, VersionId};
use tidegate_store::{ModelFilter, Page, RegisterError};

use crate::bench::Bench;
use crate::samples::{at, model, registered, version};

pub async fn reads_back_what_was_registered(bench: Arc<Bench>) {
    let store = &bench.store;
    let model = model("roundtrip");
    let full = version(&model, "1.0.0-rc.1+build.5");
    let bare = Version {
        primary: full.primary.clone(),
        artifacts: vec![full.primary.clone()],
        precision: Precision::Bf16,
        reference: None,
        signature: None,
        stac_item: None,
        training_metadata: Some(serde_json::json!({"epochs": 3, "lr": 1e-4})),
        baseline: None,
        validation_sample: None,
        ..version(&model, "2.0.0")
    };
    for version in [&full, &bare] {
        store.versions.register(&model, version).await.unwrap();
        assert_eq!(store.versions.get(&version.id).await.unwrap().as_ref(), Some(version));
        let by_number = store.versions.by_number(&model.id, &version.version).await.unwrap();
        assert_eq!(by_number.as_ref(), Some(version));
    }
    assert_eq!(store.versions.list(&model.id).await.unwrap(), [bare, full]);
    assert_eq!(store.versions.get(&VersionId::new("nobody")).await.unwrap(), None);
    assert_eq!(store.versions.by_number(&model.id, &"3.0.0".parse().unwrap()).await.unwrap(), None);
    assert_eq!(store.versions.list(&ModelId::new("nobody")).await.unwrap(), []);
}

pub async fn joins_the_live_model_of_that_name(bench: Arc<Bench>) {
    let store = &bench.store;
    let (existing, _) = registered(store, "shared", &["1.0.0"]).await;
    let other = Model {
        description: Some("another story".to_owned()),
        tags: vec!["other".to_owned()],
        updated_at: at(50),
        ..model("shared")
    };
    let second = version(&other, "1.1.0");
    let joined = store.versions.register(&other, &second).await.unwrap();
    assert_eq!(joined, Model { updated_at: at(50), ..existing.clone() });
    let stored = store.versions.get(&second.id).await.unwrap().unwrap();
    assert_eq!(stored, Version { model_id: existing.id, ..second });
    assert_eq!(store.models.get(&other.id).await.unwrap(), None);
}

pub async fn a_duplicate_leaves_nothing(bench: Arc<Bench>) {
    let store = &bench.store;
    let (existing, _) = registered(store, "dup", &["1.0.0"]).await;
    let late = Model { updated_at: at(99), ..model("dup") };
    let twin = version(&late, "1.0.0");
    match store.versions.register(&late, &twin).await {
        Err(RegisterError::DuplicateVersion { model, version }) => {
            assert_eq!((model.as_str(), version.to_string().as_str()), ("dup", "1.0.0"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.versions.get(&twin.id).await.unwrap(), None);
    assert_eq!(store.models.get(&existing.id).await.unwrap(), Some(existing));
    let keys = store.versions.artifact_keys().await.unwrap();
    assert!(!keys.contains(&twin.primary.path), "{keys:?}");
}

pub async fn artifacts_without_the_primary_are_refused(bench: Arc<Bench>) {
    let model = model("m");
    let headless = Version { artifacts: vec![], ..version(&model, "1.0.0") };
    let outcome = bench.store.versions.register(&model, &headless).await;
    assert!(matches!(outcome, Err(RegisterError::Store(_))), "{outcome:?}");
    assert_eq!(bench.store.models.find("m").await.unwrap(), None, "nothing is left");
}

/// Eight clients, half of them of another process.
pub async fn one_of_many_registers_the_same_version(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    let attempts = (0..8).map(|index| {
        let store = if index % 2 == 0 { &bench.store } else { &others };
        async move {
            let model = model("raced");
            let version = version(&model, "1.0.0");
            store.versions.register(&model, &version).await
        }
    });
    let outcomes = join_all(attempts).await;
    others.close().await;
    let duplicate = |outcome: &&Result<_, _>| matches!(outcome, Err(RegisterError::DuplicateVersion { .. }));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(duplicate).count(), 7, "{outcomes:?}");
    let model = bench.store.models.find("raced").await.unwrap().unwrap();
    assert_eq!(bench.store.versions.list(&model.id).await.unwrap().len(), 1);
}

pub async fn two_versions_of_a_new_model_at_once(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    let attempts = (0..8).map(|index| {
        let store = if index % 2 == 0 { &bench.store } else { &others };
        async move {
            let model = model("raced");
            let version = version(&model, &format!("1.{index}.0"));
            store.versions.register(&model, &version).await.unwrap().id
        }
    });
    let ids = join_all(attempts).await;
    others.close().await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let page = Page { limit: 10, offset: 0 };
    assert_eq!(bench.store.models.list(&ModelFilter::default(), page).await.unwrap().total, 1);
    assert_eq!(bench.store.versions.list(&ids[0]).await.unwrap().len(), 8);
}

pub async fn the_highest_number_is_the_latest(bench: Arc<Bench>) {
    let store = &bench.store;
    let (model, _) =
        registered(store, "numbers", &["9.0.0", "10.0.0", "10.0.1-rc.2", "10.0.1-rc.10", "2.5.0"]).await;
    let latest = store.versions.latest(&model.id).await.unwrap().unwrap();
    assert_eq!(latest.version.to_string(), "10.0.1-rc.10");
    let listed = store.versions.list(&model.id).await.unwrap();
    let numbers: Vec<_> = listed.iter().map(|version| version.version.to_string()).collect();
    assert_eq!(numbers, ["10.0.1-rc.10", "10.0.1-rc.2", "10.0.0", "9.0.0", "2.5.0"]);
    assert_eq!(store.versions.latest(&ModelId::new("nobody")).await.unwrap(), None);
}

pub async fn every_artifact_has_its_key(bench: Arc<Bench>) {
    let (_, versions) = registered(&bench.store, "keys", &["1.0.0", "2.0.0"]).await;
    let keys = bench.store.versions.artifact_keys().await.unwrap();
    let expected =
        versions.iter().flat_map(|version| &version.artifacts).map(|artifact| artifact.path.clone());
    assert_eq!(keys, expected.collect());
}

pub async fn all_live_versions_are_browsed_newest_first(bench: Arc<Bench>) {
    let store = &bench.store;
    let (one, first) = registered(store, "one", &["1.0.0", "2.0.0"]).await;
    let (_, second) = registered(store, "two", &["0.1.0"]).await;
    let (gone, _) = registered(store, "gone", &["9.0.0"]).await;
    store.models.archive(&gone.id, at(9)).await.unwrap();
    let browse = async |model: Option<&ModelId>, before: Option<&VersionId>, limit| {
        let found = store.versions.browse(model, before, limit).await.unwrap();
        found.into_iter().map(|(name, version)| (name.to_string(), version)).collect::<Vec<_>>()
    };
    let named = |name: &str, version: &Version| (name.to_owned(), version.clone());
    let all = [named("two", &second[0]), named("one", &first[1]), named("one", &first[0])];
    assert_eq!(browse(None, None, 10).await, all);
    assert_eq!(browse(None, None, 2).await, all[..2]);
    assert_eq!(browse(None, Some(&first[1].id), 10).await, all[2..]);
    assert_eq!(browse(Some(&one.id), None, 10).await, all[1..]);
    assert_eq!(browse(Some(&gone.id), None, 10).await, []);
}
