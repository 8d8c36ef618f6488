use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;
use tidegate_core::{DeploymentId, RequestId, SemVer};
use tidegate_store::{FeedbackRecord, Labels};

use crate::bench::Bench;
use crate::samples::at;

fn feedback(id: &str, version: &str, seconds: i64, is_correct: bool) -> FeedbackRecord {
    FeedbackRecord {
        request_id: RequestId::new(id),
        deployment_id: Some(DeploymentId::new("d")),
        version: Some(version.parse().unwrap()),
        requested_at: at(seconds),
        is_correct,
        ground_truth: Some(json!({"label": "it's \"x\""})),
        given_by: "ada".to_owned(),
        given_at: at(seconds + 100),
    }
}

pub async fn labels_are_counted_by_version_and_a_later_one_replaces(bench: Arc<Bench>) {
    let feedbacks = &bench.store.feedback;
    let given = [
        feedback("too early", "1.0.0", 9, true),
        feedback("a", "1.0.0", 10, true),
        feedback("b", "1.0.0", 11, false),
        feedback("c", "2.0.0", 12, false),
        FeedbackRecord { deployment_id: None, ..feedback("elsewhere", "1.0.0", 12, true) },
        FeedbackRecord { version: None, ..feedback("nobody answered", "1.0.0", 12, false) },
    ];
    for record in &given {
        feedbacks.record(record).await.unwrap();
    }
    let version = |number: &str| number.parse::<SemVer>().unwrap();
    let labels = |labelled, correct| Labels { labelled, correct };
    let counted = feedbacks.labels(&DeploymentId::new("d"), at(10)).await.unwrap();
    assert_eq!(counted, HashMap::from([(version("1.0.0"), labels(2, 1)), (version("2.0.0"), labels(1, 0))]));

    feedbacks.record(&feedback("c", "2.0.0", 12, true)).await.unwrap();
    let counted = feedbacks.labels(&DeploymentId::new("d"), at(12)).await.unwrap();
    assert_eq!(counted, HashMap::from([(version("2.0.0"), labels(1, 1))]));
    assert_eq!(feedbacks.labels(&DeploymentId::new("other"), at(0)).await.unwrap(), HashMap::new());
}
