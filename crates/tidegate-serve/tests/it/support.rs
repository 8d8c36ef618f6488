//! Fixtures, runtimes and short ways to write tensors.

use std::collections::BTreeMap;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_core::tensor::Element;
use tidegate_core::{
    Arm, DeploymentId, Environment, ModelId, ModelName, NamedTensor, Precision, Route, SemVer, StickyBy,
    Tensor, VersionId,
};
use tidegate_serve::{
    AcceleratorChoice, BatchOptions, Runtime, RuntimeChoice, RuntimeError, RuntimeOptions, ServerOptions,
    SessionOptions, SlotOptions, SlotSpec, open_runtime,
};

pub const ONE_THREAD: SessionOptions = SessionOptions { intra_threads: 1, precision: Precision::F32 };

pub const AUTO: BatchOptions = BatchOptions { max_rows: None, max_delay: Duration::ZERO };

pub const SMALL_SLOT: SlotOptions =
    SlotOptions { n_sessions: 2, intra_threads: 1, warmup_runs: 1, batch: AUTO };

pub const SMALL: ServerOptions =
    ServerOptions { n_workers: 2, queue_limit: 64, slot: SMALL_SLOT, models: BTreeMap::new() };

/// One worker, one session, requests one by one.
pub fn one_worker(queue_limit: usize) -> ServerOptions {
    let batch = BatchOptions { max_rows: Some(1), ..AUTO };
    ServerOptions {
        n_workers: 1,
        queue_limit,
        slot: SlotOptions { n_sessions: 1, batch, ..SMALL_SLOT },
        ..SMALL
    }
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn fixture(name: &str) -> PathBuf {
    repository().join("fixtures/onnx").join(name)
}

#[expect(clippy::disallowed_methods, reason = "tests are told by the environment where things are")]
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

pub fn rten() -> Arc<dyn Runtime> {
    open_runtime(&RuntimeOptions { choice: RuntimeChoice::Rten, ..RuntimeOptions::default() }).unwrap()
}

/// ONNX Runtime without an accelerator, or `None` (said in one line) where its library is not installed. CI has to have it.
pub fn onnxruntime() -> Option<Arc<dyn Runtime>> {
    Some(open_runtime(&onnxruntime_options(AcceleratorChoice::None)?).unwrap())
}

/// OpenVINO for everything, or `None` (said in one line) where it is not installed or does not take the CPU. CI has to have it
/// where there is one.
pub fn openvino() -> Option<Arc<dyn Runtime>> {
    let options = onnxruntime_options(AcceleratorChoice::OpenVino)?;
    let name = format!("{DLL_PREFIX}onnxruntime_providers_openvino_plugin{DLL_SUFFIX}");
    let is_found = options.library_candidates[0].with_file_name(name).exists();
    let has_to_be = is_ci() && cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if !is_found && !has_to_be {
        println!("skipped on OpenVINO: it is not here; run scripts/install-openvino.sh");
        return None;
    }
    match open_runtime(&options) {
        Err(unfit @ RuntimeError::OpenVinoUnfit { .. }) => {
            println!("skipped on OpenVINO: {unfit}");
            None
        }
        runtime => Some(runtime.unwrap()),
    }
}

fn is_ci() -> bool {
    variable("CI").as_deref() == Some("true")
}

pub fn onnxruntime_options(accelerator: AcceleratorChoice) -> Option<RuntimeOptions> {
    let file_name = format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}");
    let installed = repository().join(".tools/onnxruntime").join(file_name);
    let library = variable("TIDEGATE_ONNXRUNTIME").map_or(installed, PathBuf::from);
    if !library.exists() && !is_ci() {
        println!("skipped on ONNX Runtime: its library is not here; run scripts/install-onnxruntime.sh");
        return None;
    }
    Some(RuntimeOptions {
        choice: RuntimeChoice::OnnxRuntime,
        library_candidates: vec![library.canonicalize().unwrap()],
        accelerator,
        ..RuntimeOptions::default()
    })
}

pub fn runtimes() -> Vec<Arc<dyn Runtime>> {
    [Some(rten()), onnxruntime(), openvino()].into_iter().flatten().collect()
}

/// The data beside the repository, or `None` (said in one line).
pub fn test_data() -> Option<PathBuf> {
    let folder = variable("TIDEGATE_TEST_DATA").map_or(repository().join("../shared/data"), PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no test data beside the repository, nor at TIDEGATE_TEST_DATA");
        return None;
    }
    Some(folder)
}

pub fn named(name: &str, tensor: Tensor) -> NamedTensor {
    NamedTensor { name: name.to_owned(), tensor }
}

pub fn tensor<T: Element>(name: &str, shape: &[usize], values: &[T]) -> NamedTensor {
    named(name, Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap())
}

/// One row for the fake runtime and for the fixtures of one axis.
pub fn inputs(value: f32) -> Vec<NamedTensor> {
    vec![tensor("x", &[1], &[value])]
}

/// The only output's values.
pub fn floats(outputs: &[NamedTensor]) -> Vec<f32> {
    assert_eq!(outputs.len(), 1);
    outputs[0].tensor.values::<f32>().expect("FP32").into_owned()
}

/// A version of the model `m`, by its number's first digit, from a fixture.
pub fn spec(number: u64, path: PathBuf) -> SlotSpec {
    SlotSpec {
        version_id: version_id(number),
        model_name: model_name(),
        number: SemVer::new(number, 0, 0),
        path,
        precision: Precision::F32,
    }
}

pub fn version_id(number: u64) -> VersionId {
    VersionId::new(format!("version-{number}"))
}

pub fn model_name() -> ModelName {
    ModelName::parse("m").unwrap()
}

/// All traffic of the model in Production to one version, or to none.
pub fn route(generation: u64, active: Option<u64>, warm: &[u64]) -> Route {
    Route {
        environment: Environment::Production,
        model_id: ModelId::new("model-1"),
        generation,
        deployment_id: DeploymentId::new(format!("deploy-{generation}")),
        arms: active.map(|number| Arm::all(version_id(number))).into_iter().collect(),
        warm: warm.iter().map(|number| version_id(*number)).collect(),
        shadow: None,
        moved: None,
        sticky_by: StickyBy::Key,
    }
}

/// Slots are let go of by the threads that last held them, a moment after their answer.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}
