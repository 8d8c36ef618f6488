//! bf16 by a runtime that is as wrong in it as it is told to be: not every CPU that tests run on has it.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use serde_json::json;
use tidegate_core::{
    Artifact, ArtifactFormat, Clock, DType, Dim, Framework, Model, ModelId, ModelName, ReplicaId, SemVer,
    Signature, Tensor, TensorSpec, Timestamp, VersionId, VersionStatus,
};
use tidegate_delivery::GateLimits;
use tidegate_serve::{
    AcceleratorInfo, LoadError, RunError, Runtime, RuntimeInfo, ServerOptions, Session, SessionOptions,
    SlotOptions,
};
use tidegate_store::{ArtifactLocation, ArtifactStore, Store};

use super::*;
use crate::clock::SystemClock;
use crate::controller::performer::{Limits, Placement};
use crate::fleet::{Fleet, Me};

/// Gives its input back; in bf16, with this much added to the first of its numbers.
struct Inexact {
    info: RuntimeInfo,
    error: f32,
    /// Whether it loads in f32.
    has_f32: bool,
    /// Sessions that live and compute in f32.
    n_f32: Arc<AtomicUsize>,
    n_f32_ever: AtomicUsize,
}

struct InexactSession {
    signature: Signature,
    added: f32,
    counted: Option<Arc<AtomicUsize>>,
}

impl Runtime for Inexact {
    fn info(&self) -> &RuntimeInfo {
        &self.info
    }

    fn load(&self, _: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        let is_f32 = options.precision == Precision::F32;
        if is_f32 && !self.has_f32 {
            return Err(LoadError::Runtime { runtime: "inexact", message: "told to fail".to_owned() });
        }
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype: DType::Fp32,
            shape: vec![Dim::Dynamic, Dim::Fixed(4)],
        };
        let counted = is_f32.then(|| {
            self.n_f32.fetch_add(1, Ordering::SeqCst);
            self.n_f32_ever.fetch_add(1, Ordering::SeqCst);
            Arc::clone(&self.n_f32)
        });
        let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")] };
        Ok(Box::new(InexactSession { signature, added: if is_f32 { 0.0 } else { self.error }, counted }))
    }
}

impl Session for InexactSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        let mut values = inputs[0].tensor.values::<f32>().unwrap().into_owned();
        values[0] += self.added;
        let tensor = Tensor::from_vec(inputs[0].tensor.shape().to_vec(), values).unwrap();
        Ok(vec![NamedTensor { name: "y".to_owned(), tensor }])
    }
}

impl Drop for InexactSession {
    fn drop(&mut self) {
        if let Some(counted) = &self.counted {
            counted.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// A version in bf16, stored, and what validates it.
struct Bench {
    runtime: Arc<Inexact>,
    server: Arc<Server>,
    performer: Performer,
    version: VersionId,
    _folder: tempfile::TempDir,
}

async fn bench(model_type: ModelType, error: f32, has_f32: bool) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite://{}", folder.path().join("tidegate.db").display());
    let store = Arc::new(Store::connect(&database).await.unwrap());
    let location = ArtifactLocation::Folder(folder.path().join("artifacts"));
    let artifacts = Arc::new(ArtifactStore::open(&location).unwrap());
    let version = register(&store, &artifacts, model_type).await;
    let info = RuntimeInfo {
        name: "inexact",
        version: String::new(),
        reason: String::new(),
        library: None,
        accelerator: AcceleratorInfo::none("a fake needs none"),
        precisions: vec![Precision::F32, Precision::Bf16],
    };
    let (n_f32, n_f32_ever) = (Arc::default(), AtomicUsize::new(0));
    let runtime = Arc::new(Inexact { info, error, has_f32, n_f32, n_f32_ever });
    let slot = SlotOptions { warmup_runs: 1, ..SlotOptions::default() };
    let options = ServerOptions { n_workers: 1, slot, ..ServerOptions::default() };
    let server = Arc::new(Server::new(Arc::clone(&runtime) as Arc<dyn Runtime>, options));
    let me = ReplicaId::new("here");
    let (store_, artifacts_, server_) = (Arc::clone(&store), Arc::clone(&artifacts), Arc::clone(&server));
    let cache = folder.path().join("cache");
    let placement = Arc::new(Placement::new(store_, artifacts_, server_, cache, me.clone()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let me = Me {
        id: me,
        address: String::new(),
        started_at: Timestamp::UNIX_EPOCH,
        heartbeat: Duration::from_secs(1),
    };
    let (store_, server_, placement_) = (Arc::clone(&store), Arc::clone(&server), Arc::clone(&placement));
    let fleet = Arc::new(Fleet::new(store_, server_, placement_, clock, me));
    let limits = Limits {
        max_artifact_bytes: u64::MAX,
        max_memory_bytes: u64::MAX,
        memory_limit_bytes: None,
        gates: GateLimits::default(),
        max_duration: Duration::from_secs(60),
        max_image_pixels: 1,
    };
    let performer = Performer::new(store, artifacts, Arc::clone(&server), placement, fleet, limits);
    Bench { runtime, server, performer, version, _folder: folder }
}

async fn register(store: &Store, artifacts: &ArtifactStore, model_type: ModelType) -> VersionId {
    let file = Bytes::from_static(b"the runtime does not look");
    let stored = artifacts.put("m/model.onnx", stream::iter([Ok(file)]), 1024).await.unwrap();
    let model = Model {
        id: ModelId::new("model-1"),
        name: ModelName::parse("m").unwrap(),
        description: None,
        framework: Framework::ONNX,
        model_type,
        owner: "anna".to_owned(),
        tags: vec![],
        active_version: None,
        is_archived: false,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    };
    let artifact = Artifact {
        name: "model.onnx".to_owned(),
        path: "m/model.onnx".to_owned(),
        format: ArtifactFormat::Onnx,
        sha256: stored.sha256,
        size_bytes: stored.size_bytes,
    };
    let version = Version {
        id: VersionId::new("version-1"),
        model_id: model.id.clone(),
        version: SemVer::new(1, 0, 0),
        primary: artifact.clone(),
        artifacts: vec![artifact],
        precision: Precision::Bf16,
        reference: None,
        signature: None,
        input_schema: json!(true),
        output_schema: json!(true),
        stac_item: None,
        training_metadata: None,
        baseline: None,
        validation_sample: None,
        status: VersionStatus::Registered,
        created_at: Timestamp::UNIX_EPOCH,
    };
    store.versions.register(&model, &version).await.unwrap();
    version.id
}

impl Bench {
    async fn check(&self) -> Check {
        let report = self.performer.validate(&DeploymentId::new("deploy-1"), &self.version).await;
        assert!(report.can_be_overridden(), "{report:?}");
        let check = report.checks.iter().find(|check| check.name == CHECK_PRECISION);
        check.unwrap_or_else(|| panic!("no check of the precision in {report:?}")).clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bf16_is_held_against_the_same_file_in_f32() {
    let cases = [
        (
            ModelType::Regression,
            0.01,
            true,
            "bf16 against the same file in f32, on 8 probes: relative RMS error of `y` 0.0",
        ),
        (ModelType::Regression, 0.2, false, "of at most 0.0500"),
        (
            ModelType::Classification,
            0.0,
            true,
            "on 256 probes: 0 of 256 decisions of `y` changed (0.00 % of at most 1.00 %)",
        ),
        (ModelType::Classification, 9.0, false, "of 256 decisions of `y` changed"),
    ];
    for (model_type, error, passes, says) in cases {
        let check = bench(model_type, error, true).await.check().await;
        assert_eq!(check.passed, passes, "{model_type} {error}: {}", check.detail);
        assert!(check.detail.contains(says), "{}", check.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_is_compared_with_is_freed_and_is_no_evidence() {
    let bench = bench(ModelType::Regression, 0.01, true).await;
    assert!(bench.check().await.passed);
    assert_eq!(bench.runtime.n_f32_ever.load(Ordering::SeqCst), 1, "one session is enough");
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.runtime.n_f32.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < deadline, "it was never freed");
        tokio::task::yield_now().await;
    }
    let slots = bench.server.slots();
    let [slot] = slots.as_slice() else { panic!("only the version is held: {slots:?}") };
    assert_eq!(slot.precision(), Precision::Bf16);
    assert_eq!(slot.tally().arm, tidegate_core::ArmSummary::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn bf16_that_cannot_be_compared_does_not_pass() {
    let check = bench(ModelType::Regression, 0.0, false).await.check().await;
    assert!(!check.passed);
    assert!(check.detail.starts_with("bf16 was not compared: in f32, "), "{}", check.detail);
    let mut bench = bench(ModelType::Regression, 0.0, true).await;
    // A process of tests is larger than that. The version itself is loaded before the limit shrinks.
    let _held = bench.performer.placement.load(&bench.version).await.unwrap();
    bench.performer.limits.memory_limit_bytes = Some(1);
    let check = bench.check().await;
    if tidegate_serve::memory::resident_bytes().is_some() {
        assert!(!check.passed && check.detail.contains("runtime.memory_limit_mib"), "{}", check.detail);
    }
}
