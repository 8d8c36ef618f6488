//! What callers say of a prediction afterwards.

use serde_json::{Value, json};
use tidegate_core::{DeploymentId, Timestamp};

use crate::support::App;

#[tokio::test]
async fn labels_and_metrics_are_kept_together_or_alone() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "version-1.onnx").await;
    let ask = json!({"features": {"x": [0.0]}, "requestId": "order-17"});
    assert_eq!(app.post("/api/v1/inference/m", &ask).await.json()["prediction"]["y"], 1.0);
    let record = app.log.recv().await.unwrap();
    let deployment: DeploymentId = record.deployment_id.clone().unwrap();
    app.store.inferences.record(&[record]).await.unwrap();

    let path = "/api/v1/inference/order-17/feedback";
    let told = app.post(path, &json!({"metrics": {"iou": 0.81, "cost": 12}})).await;
    assert_eq!(told.json(), json!({"requestId": "order-17", "correct": null}));
    let told = app.post(path, &json!({"groundTruth": 1, "metrics": {"iou": 0.5}})).await;
    assert_eq!(told.json(), json!({"requestId": "order-17", "correct": true}));
    let summaries = app.store.feedback.summaries(&deployment, Timestamp::MIN).await.unwrap();
    let summary = &summaries[&"1.0.0".parse().unwrap()];
    let mean = |name: &str| summary.metrics[name].mean();
    assert_eq!((summary.labelled, summary.correct), (1, 1));
    assert_eq!((mean("iou"), mean("cost")), (Some(0.5), Some(12.0)));

    let many: Value =
        (0..33).map(|index| (format!("m{index}"), json!(1))).collect::<serde_json::Map<_, _>>().into();
    let cases = [
        (json!({}), "correct"),
        (json!({"metrics": {}}), "correct"),
        (json!({"correct": true, "groundTruth": 1}), "groundTruth"),
        (json!({"metrics": {"iou": 1e101}}), "metrics.iou"),
        (json!({"metrics": {"": 1}}), "metrics"),
        (json!({"metrics": many}), "metrics"),
    ];
    for (body, field) in cases {
        app.post(path, &body).await.check(400, "VALIDATION_ERROR", field);
    }
    let wrong = app.post(path, &json!({"metrics": {"iou": "good"}})).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text());
}
