//! Plain data to store.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tidegate_core::{
    Arm, Artifact, ArtifactFormat, Baseline, DType, DeploymentId, DeploymentStatus, Dim, Environment,
    Framework, Model, ModelId, ModelName, ModelType, Precision, Route, Sha256Digest, Signature, StickyBy,
    StrategyKind, TensorSpec, Timestamp, ValidationSample, Version, VersionId, VersionStatus,
};
use tidegate_store::{DeploymentRecord, NewEvent, Store, Transition};

/// A text that no other call has given.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}-{:06}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Seconds after some day in 2025, with a fraction that both databases keep.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_760_000_000 + seconds, 123_456_000).unwrap()
}

pub fn model(name: &str) -> Model {
    Model {
        id: ModelId::new(unique("model")),
        name: ModelName::parse(name).unwrap(),
        description: Some("finds shelters".to_owned()),
        framework: Framework::PyTorch,
        model_type: ModelType::ComputerVision,
        owner: "geo-team".to_owned(),
        tags: vec!["humanitarian".to_owned()],
        active_version: None,
        is_archived: false,
        created_at: at(0),
        updated_at: at(0),
    }
}

pub fn version(model: &Model, number: &str) -> Version {
    let id = VersionId::new(unique("version"));
    let artifact = |name: &str, format| Artifact {
        name: name.to_owned(),
        path: format!("models/{}/{id}/{name}", model.id),
        format,
        sha256: Sha256Digest::of(name.as_bytes()),
        size_bytes: 5_000_000_000,
    };
    let primary = artifact("net.onnx", ArtifactFormat::Onnx);
    let tensor = |name: &str| TensorSpec {
        name: name.to_owned(),
        datatype: DType::Fp32,
        shape: vec![Dim::Dynamic, Dim::Fixed(3)],
    };
    Version {
        id: id.clone(),
        model_id: model.id.clone(),
        version: number.parse().unwrap(),
        artifacts: vec![artifact("item.stac.json", ArtifactFormat::StacItem), primary.clone()],
        primary,
        precision: Precision::Int8,
        reference: Some("0.9.0-rc.1+build.5".parse().unwrap()),
        signature: Some(Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")] }),
        input_schema: json!({"type": "object", "z": 1, "a": {"minimum": 0.1}}),
        output_schema: json!(true),
        stac_item: Some(json!({"id": "ü", "nul": "\0"})),
        training_metadata: None,
        baseline: Some(Baseline { accuracy: Some(0.1 + 0.2), latency_ms: None }),
        validation_sample: Some(ValidationSample {
            files: vec!["rows.jsonl".to_owned()],
            holds: "3 rows".to_owned(),
        }),
        status: VersionStatus::Registered,
        created_at: at(1),
    }
}

/// A model of that name with versions of those numbers, stored.
pub async fn registered(store: &Store, name: &str, numbers: &[&str]) -> (Model, Vec<Version>) {
    let model = model(name);
    let versions: Vec<_> = numbers.iter().map(|number| version(&model, number)).collect();
    for version in &versions {
        store.versions.register(&model, version).await.unwrap();
    }
    (model, versions)
}

pub fn deployment(version: &Version, environment: Environment) -> DeploymentRecord {
    DeploymentRecord {
        id: DeploymentId::new(unique("deploy")),
        model_id: version.model_id.clone(),
        version_id: version.id.clone(),
        previous_version_id: None,
        environment,
        strategy: StrategyKind::BlueGreen,
        strategy_config: json!({"warmupDuration": "PT2M"}),
        status: DeploymentStatus::Pending,
        progress_percentage: 0,
        traffic_percentage: 0,
        initiated_by: "ana@example.org".to_owned(),
        started_at: at(10),
        completed_at: None,
        rolled_back_at: None,
        error_message: None,
        validation_result: None,
        state: json!({"phase": "pending"}),
        revision: 0,
        is_settled: false,
    }
}

pub fn event(kind: &str) -> NewEvent {
    NewEvent {
        at: at(11),
        kind: kind.to_owned(),
        message: format!("{kind} happened"),
        evidence: json!({"samples": 100}),
    }
}

/// The record as it is, and nothing else.
pub fn transition(record: &DeploymentRecord) -> Transition {
    Transition { record: record.clone(), events: vec![], route: None, fence: None }
}

/// The first route of the deployment in its environment, with these weights.
pub fn route(record: &DeploymentRecord, arms: &[(&Version, u32)]) -> Route {
    let arm = |(version, weight): &(&Version, u32)| Arm { version_id: version.id.clone(), weight: *weight };
    Route {
        environment: record.environment,
        model_id: record.model_id.clone(),
        generation: 1,
        deployment_id: record.id.clone(),
        arms: arms.iter().map(arm).collect(),
        warm: vec![],
        shadow: None,
        moved: None,
        sticky_by: StickyBy::default(),
    }
}
