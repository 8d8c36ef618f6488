use std::sync::Arc;

use serde_json::json;
use tidegate_core::{DeploymentId, Environment, RequestId};
use tidegate_store::{InferenceRecord, JsonText};

use crate::bench::Bench;
use crate::samples::at;

fn record(id: &str, seconds: i64) -> InferenceRecord {
    InferenceRecord {
        request_id: RequestId::new(id),
        model_name: "m".to_owned(),
        version: Some("1.0.0".parse().unwrap()),
        environment: Some(Environment::Production),
        deployment_id: Some(DeploymentId::new("d")),
        arm: Some(1),
        features: Some(JsonText::of(&json!({"text": "it's \"x\" \0 ü", "n": 1e300})).unwrap()),
        prediction: Some(JsonText::of(&json!([0.1, null])).unwrap()),
        confidence: Some(0.1 + 0.2),
        latency_ms: Some(3.0),
        status: "Completed".to_owned(),
        error_message: None,
        requested_at: at(seconds),
        completed_at: Some(at(seconds + 1)),
    }
}

pub async fn old_requests_are_deleted_oldest_first(bench: Arc<Bench>) {
    let inferences = &bench.store.inferences;
    let records: Vec<_> = (0..5).map(|second| record(&format!("r{second}"), second)).collect();
    inferences.record(&records).await.unwrap();
    assert_eq!(inferences.delete_before(at(4), 3).await.unwrap(), 3);
    assert_eq!(inferences.delete_before(at(4), 3).await.unwrap(), 1);
    assert_eq!(inferences.delete_before(at(4), 3).await.unwrap(), 0);
    let left = inferences.recent("m", 10).await.unwrap();
    assert_eq!(left.iter().map(|record| record.request_id.as_str()).collect::<Vec<_>>(), ["r4"]);
}

pub async fn reads_back_what_was_recorded(bench: Arc<Bench>) {
    let inferences = &bench.store.inferences;
    let full = record("full", 0);
    let bare = InferenceRecord {
        request_id: RequestId::new("bare"),
        model_name: "n".to_owned(),
        version: None,
        environment: None,
        deployment_id: None,
        arm: None,
        features: None,
        prediction: None,
        confidence: None,
        latency_ms: None,
        status: "Failed".to_owned(),
        error_message: Some("input `x`: missing".to_owned()),
        requested_at: at(2),
        completed_at: None,
    };
    inferences.record(&[full.clone(), bare.clone()]).await.unwrap();
    for given in [full, bare] {
        assert_eq!(inferences.get(&given.request_id).await.unwrap(), Some(given));
    }
    assert_eq!(inferences.get(&RequestId::new("nobody")).await.unwrap(), None);

    let odd = InferenceRecord {
        confidence: Some(f64::NAN),
        error_message: Some("nul \0".to_owned()),
        ..record("odd \0", 3)
    };
    inferences.record(std::slice::from_ref(&odd)).await.unwrap();
    let stored = inferences.get(&odd.request_id).await.unwrap().unwrap();
    assert_eq!((stored.confidence, stored.error_message.as_deref()), (None, Some("nul \u{fffd}")));
}

pub async fn a_request_is_recorded_once(bench: Arc<Bench>) {
    let inferences = &bench.store.inferences;
    let batch: Vec<_> = (0..300).map(|index| record(&format!("r{index:03}"), index)).collect();
    let again = InferenceRecord { status: "Again".to_owned(), ..batch[7].clone() };
    inferences.record(&[]).await.unwrap();
    inferences.record(&[&batch[..], std::slice::from_ref(&again)].concat()).await.unwrap();
    inferences.record(&[again, record("later", 1_000)]).await.unwrap();

    let recent = inferences.recent("m", 1_000).await.unwrap();
    assert_eq!(recent.len(), 301);
    assert!(recent.iter().all(|record| record.status == "Completed"));
    let newest: Vec<_> = recent.iter().take(3).map(|record| record.request_id.as_str()).collect();
    assert_eq!(newest, ["later", "r299", "r298"]);
    assert_eq!(inferences.recent("m", 2).await.unwrap(), recent[..2]);
    assert_eq!(inferences.recent("%", 2).await.unwrap(), []);
}
