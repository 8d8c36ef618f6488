use std::sync::Arc;

use tidegate_core::{Framework, Model, ModelId, ModelType};
use tidegate_store::{ModelFilter, Page};

use crate::bench::Bench;
use crate::samples::{at, model, registered, version};

const ALL: Page = Page { limit: 100, offset: 0 };

pub async fn reads_back_what_was_registered(bench: Arc<Bench>) {
    let store = &bench.store;
    let given = Model {
        description: None,
        owner: "nul \0 and ü".to_owned(),
        tags: ["z", "a", "with space", "a", ""].map(str::to_owned).to_vec(),
        created_at: at(3).checked_add(jiff::SignedDuration::from_nanos(789)).unwrap(),
        ..model("roundtrip")
    };
    let stored = Model {
        owner: "nul \u{fffd} and ü".to_owned(),
        tags: ["z", "a", "with space", ""].map(str::to_owned).to_vec(),
        created_at: at(3),
        ..given.clone()
    };
    let returned = store.versions.register(&given, &version(&given, "1.0.0")).await.unwrap();
    assert_eq!(returned, stored);
    assert_eq!(store.models.get(&given.id).await.unwrap(), Some(stored));
    assert_eq!(store.models.get(&ModelId::new("nobody")).await.unwrap(), None);
}

pub async fn finds_by_id_before_name(bench: Arc<Bench>) {
    let store = &bench.store;
    let (first, _) = registered(store, "first", &["1.0.0"]).await;
    let (impostor, _) = registered(store, first.id.as_str(), &["1.0.0"]).await;
    let find = async |text: &str| store.models.find(text).await.unwrap().map(|model| model.id);
    assert_eq!(find(first.id.as_str()).await, Some(first.id.clone()), "an id wins over a name");
    assert_eq!(find("first").await, Some(first.id.clone()));
    assert_eq!(find(impostor.id.as_str()).await, Some(impostor.id));
    for nothing in ["", "%", "firs_", "first\0", "'; DROP TABLE models; --"] {
        assert_eq!(find(nothing).await, None, "{nothing}");
    }
}

pub async fn filters_match_exactly(bench: Arc<Bench>) {
    let store = &bench.store;
    let tags = ["a,b", "it's", "50%", "under_score", "\"quoted\"", "a"];
    for (index, tag) in tags.iter().enumerate() {
        let model = Model {
            tags: vec![(*tag).to_owned(), "common".to_owned()],
            owner: format!("owner {tag}"),
            framework: if index == 0 { Framework::ONNX } else { Framework::XGBoost },
            model_type: if index < 2 { ModelType::TimeSeries } else { ModelType::Other },
            ..model(&format!("m{index}"))
        };
        store.versions.register(&model, &version(&model, "1.0.0")).await.unwrap();
    }
    let count = async |filter: ModelFilter| {
        let listing = store.models.list(&filter, ALL).await.unwrap();
        assert_eq!(listing.total, listing.items.len() as u64);
        listing.total
    };
    let tagged = |tag: &str| ModelFilter { tag: Some(tag.to_owned()), ..ModelFilter::default() };
    for tag in tags {
        assert_eq!(count(tagged(tag)).await, 1, "{tag}");
        let owner = Some(format!("owner {tag}"));
        assert_eq!(count(ModelFilter { owner, ..ModelFilter::default() }).await, 1, "{tag}");
    }
    assert_eq!(count(tagged("common")).await, 6);
    for nothing in ["%", "5_%", "underXscore", "b", "A", ""] {
        assert_eq!(count(tagged(nothing)).await, 0, "{nothing}");
    }
    let framework = Some(Framework::XGBoost);
    let model_type = Some(ModelType::TimeSeries);
    assert_eq!(count(ModelFilter { framework, ..ModelFilter::default() }).await, 5);
    assert_eq!(count(ModelFilter { framework, model_type, ..ModelFilter::default() }).await, 1);
}

pub async fn pages_newest_first(bench: Arc<Bench>) {
    let store = &bench.store;
    for index in 0..5 {
        let tags = (0..index).map(|tag| format!("t{tag}")).collect();
        let model = Model { tags, created_at: at(i64::from(index)), ..model(&format!("m{index}")) };
        store.versions.register(&model, &version(&model, "1.0.0")).await.unwrap();
    }
    for (limit, offset, expected) in [
        (2, 0, vec!["m4", "m3"]),
        (2, 4, vec!["m0"]),
        (2, 9, vec![]),
        (0, 0, vec![]),
        (u32::MAX, 3, vec!["m1", "m0"]),
    ] {
        let page = Page { limit, offset };
        let listing = store.models.list(&ModelFilter::default(), page).await.unwrap();
        let names: Vec<_> = listing.items.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, expected, "{page:?}");
        assert_eq!(listing.total, 5, "{page:?}");
        assert!(listing.items.iter().all(|model| format!("m{}", model.tags.len()) == model.name.as_str()));
    }
}

pub async fn an_archived_name_may_be_taken_again(bench: Arc<Bench>) {
    let store = &bench.store;
    let (old, _) = registered(store, "reused", &["1.0.0"]).await;
    assert!(store.models.archive(&old.id, at(5)).await.unwrap());
    assert!(!store.models.archive(&old.id, at(6)).await.unwrap(), "it is archived already");
    assert!(!store.models.archive(&ModelId::new("nobody"), at(6)).await.unwrap());
    assert_eq!(store.models.find("reused").await.unwrap(), None);
    let archived = store.models.get(&old.id).await.unwrap().unwrap();
    assert!(archived.is_archived && archived.updated_at == at(5), "{archived:?}");

    let (new, _) = registered(store, "reused", &["1.0.0"]).await;
    assert_eq!(store.models.find("reused").await.unwrap().unwrap().id, new.id);
    for (include_archived, expected) in [(false, 1), (true, 2)] {
        let filter = ModelFilter { include_archived, ..ModelFilter::default() };
        assert_eq!(store.models.list(&filter, ALL).await.unwrap().total, expected);
    }
}
