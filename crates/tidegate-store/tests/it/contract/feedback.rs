use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::json;
use tidegate_core::{DeploymentId, Moments, RequestId, SemVer};
use tidegate_store::{FeedbackRecord, FeedbackSummary, Label};

use crate::bench::Bench;
use crate::samples::at;

fn feedback(id: &str, version: &str, seconds: i64, is_correct: bool) -> FeedbackRecord {
    FeedbackRecord {
        request_id: RequestId::new(id),
        deployment_id: Some(DeploymentId::new("d")),
        version: Some(version.parse().unwrap()),
        requested_at: at(seconds),
        label: Some(Label { is_correct, ground_truth: Some(json!({"label": "it's \"x\""})) }),
        metrics: BTreeMap::new(),
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
    let labels = |labelled, correct| FeedbackSummary { labelled, correct, ..FeedbackSummary::default() };
    let counted = feedbacks.summaries(&DeploymentId::new("d"), at(10)).await.unwrap();
    assert_eq!(counted, HashMap::from([(version("1.0.0"), labels(2, 1)), (version("2.0.0"), labels(1, 0))]));

    feedbacks.record(&feedback("c", "2.0.0", 12, true)).await.unwrap();
    let counted = feedbacks.summaries(&DeploymentId::new("d"), at(12)).await.unwrap();
    assert_eq!(counted, HashMap::from([(version("2.0.0"), labels(1, 1))]));
    assert_eq!(feedbacks.summaries(&DeploymentId::new("other"), at(0)).await.unwrap(), HashMap::new());
}

/// A metric with or without a label, at `seconds`.
fn metric(id: &str, version: &str, seconds: i64, name: &str, value: f64) -> FeedbackRecord {
    let metrics = BTreeMap::from([(name.to_owned(), value)]);
    FeedbackRecord { label: None, metrics, ..feedback(id, version, seconds, true) }
}

pub async fn metrics_are_summed_up_by_version_without_losing_digits(bench: Arc<Bench>) {
    let feedbacks = &bench.store.feedback;
    feedbacks.record(&metric("too early", "1.0.0", 9, "cost", 5.0)).await.unwrap();
    for index in 0..20 {
        // A small spread on a large mean: the difference of sums of squares would be noise.
        let value = 1e9 + f64::from(index % 2);
        feedbacks.record(&metric(&format!("a{index}"), "1.0.0", 10, "cost", value)).await.unwrap();
    }
    let both = FeedbackRecord {
        metrics: BTreeMap::from([("cost".to_owned(), -3.5), ("iou".to_owned(), 0.75)]),
        ..feedback("b", "2.0.0", 11, true)
    };
    feedbacks.record(&both).await.unwrap();
    feedbacks
        .record(&FeedbackRecord { version: None, ..metric("nobody", "1.0.0", 12, "cost", 1.0) })
        .await
        .unwrap();
    let version = |number: &str| number.parse::<SemVer>().unwrap();
    let moments = |count, mean, squares| Moments::of(count, mean, squares).unwrap();
    let expected = |iou| {
        let first = BTreeMap::from([("cost".to_owned(), moments(20, 1e9 + 0.5, 5.0))]);
        let second = BTreeMap::from([
            ("cost".to_owned(), moments(1, -3.5, 0.0)),
            ("iou".to_owned(), moments(1, iou, 0.0)),
        ]);
        HashMap::from([
            (version("1.0.0"), FeedbackSummary { metrics: first, ..FeedbackSummary::default() }),
            (version("2.0.0"), FeedbackSummary { labelled: 1, correct: 1, metrics: second }),
        ])
    };
    let summaries = async || feedbacks.summaries(&DeploymentId::new("d"), at(10)).await.unwrap();
    assert_eq!(summaries().await, expected(0.75));
    // One metric again: it is replaced, the rest stays.
    feedbacks.record(&metric("b", "2.0.0", 11, "iou", 0.5)).await.unwrap();
    assert_eq!(summaries().await, expected(0.5));
}
