//! The built-in runtime: `rten`, pure Rust, needs no native library. Slower than ONNX Runtime. Models of the classical
//! machine-learning operators (`ai.onnx.ml`), which it lacks, and those of types that it lacks, go to the evaluator in
//! `classical` where that has what they need.
//!
//! It computes with 32-bit floats, 32-bit integers and bytes only. Half precision is widened and rounded back; 64-bit
//! integers are narrowed, and refused where a value does not fit; 64-bit floats are refused, because narrowing them would
//! change results silently.

mod tensors;
mod threads;

use std::path::Path;
use std::sync::Arc;

use rten::{LoadErrorKind, Model, ModelOptions, NodeId, RunOptions};
use tidegate_core::{NamedTensor, Precision, Signature, TensorSpec};

use crate::accelerator::{AcceleratorInfo, no_bf16};
use crate::classical;
use crate::load_error::LoadError;
use crate::onnx_file::OnnxFile;
use crate::probe::measure_open_outputs;
use crate::runtime::{RunError, Runtime, RuntimeInfo, Session, SessionOptions, guarded};

const NAME: &str = "rten";

/// Follows the dependency in the workspace's Cargo.toml; rten does not export its own.
const VERSION: &str = "0.27";

const FIX: &str = "install ONNX Runtime (`scripts/install-onnxruntime.sh`) or give its path in `runtime.onnxruntime_library`";

const FIX_BF16: &str =
    "install ONNX Runtime and OpenVINO (`scripts/install-onnxruntime.sh`, `scripts/install-openvino.sh`)";

pub(crate) struct Rten {
    info: RuntimeInfo,
}

impl Rten {
    pub(crate) fn new(reason: String) -> Self {
        let info = RuntimeInfo {
            name: NAME,
            version: VERSION.to_owned(),
            reason,
            library: None,
            accelerator: AcceleratorInfo::none("the built-in runtime has none"),
            precisions: vec![Precision::F32, Precision::Int8],
        };
        Self { info }
    }
}

impl Runtime for Rten {
    fn info(&self) -> &RuntimeInfo {
        &self.info
    }

    fn load(&self, path: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        if options.precision == Precision::Bf16 {
            return Err(no_bf16("the built-in runtime computes in f32 only", FIX_BF16));
        }
        let file = OnnxFile::read(path)?;
        if classical::is_classical(&file) {
            return classical::load(path, file, FIX);
        }
        if let Err(refused) = tensors::check_supported(&file) {
            return if classical::can_run(&file) { classical::load(path, file, FIX) } else { Err(refused) };
        }
        let model = guarded(|| load_model(path))
            .map_err(|message| LoadError::Runtime { runtime: NAME, message })?
            .map_err(|error| explain(error, path, &file))?;
        let open = file.open_outputs();
        let signature = file.into_signature();
        let mut session = RtenSession::new(Arc::new(model), signature, options.intra_threads)?;
        let mut signature = session.signature.clone();
        measure_open_outputs(&mut signature, &open, |inputs| session.run(inputs))?;
        session.signature = signature;
        Ok(Box::new(session))
    }

    fn host(&self, worker: Box<dyn FnOnce() + Send>) {
        threads::host(worker);
    }
}

/// rten looks for external weights beside a file that is called `.onnx`; under any other name there can be none.
fn load_model(path: &Path) -> Result<Model, ModelError> {
    let options = ModelOptions::with_all_ops();
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx")) {
        options.load_file(path).map_err(ModelError::Load)
    } else {
        options.load(std::fs::read(path).map_err(ModelError::Read)?).map_err(ModelError::Load)
    }
}

enum ModelError {
    Read(std::io::Error),
    Load(rten::LoadError),
}

fn explain(error: ModelError, path: &Path, file: &OnnxFile) -> LoadError {
    let error = match error {
        ModelError::Read(error) => return LoadError::io(path, error),
        ModelError::Load(error) => error,
    };
    let message = error.to_string();
    if error.kind() == LoadErrorKind::OperatorInvalid {
        // rten names the operator in its text only.
        let is_named = |name: &str| message.contains(&format!("{name} operator not supported"));
        if let Some(operator) = file.operators.iter().find(|operator| is_named(&operator.name)) {
            return LoadError::UnsupportedOperator {
                operator: operator.name.clone(),
                domain: operator.domain.clone(),
                runtime: NAME,
                fix: FIX.to_owned(),
            };
        }
    }
    LoadError::Runtime { runtime: NAME, message }
}

struct RtenSession {
    model: Arc<Model>,
    signature: Signature,
    input_ids: Vec<NodeId>,
    output_ids: Vec<NodeId>,
    intra_threads: usize,
}

impl RtenSession {
    fn new(model: Arc<Model>, signature: Signature, intra_threads: usize) -> Result<Self, LoadError> {
        let ids = |specs: &[TensorSpec]| -> Result<Vec<NodeId>, LoadError> {
            let id = |spec: &TensorSpec| model.node_id(&spec.name);
            specs.iter().map(id).collect::<Result<_, _>>().map_err(|error: rten::RunError| {
                LoadError::Runtime { runtime: NAME, message: error.to_string() }
            })
        };
        let (input_ids, output_ids) = (ids(&signature.inputs)?, ids(&signature.outputs)?);
        Ok(Self { model, signature, input_ids, output_ids, intra_threads })
    }
}

impl Session for RtenSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        let mut values = vec![];
        for input in inputs {
            let index =
                self.signature.inputs.iter().position(|spec| spec.name == input.name).ok_or_else(|| {
                    RunError::Input {
                        name: input.name.clone(),
                        reason: "the model has no such input".to_owned(),
                    }
                })?;
            values.push((self.input_ids[index], tensors::to_rten(input)?));
        }
        let (model, output_ids) = (&self.model, &self.output_ids);
        let options =
            RunOptions::default().with_thread_pool(Some(threads::of_this_thread(self.intra_threads)));
        let outputs = guarded(|| model.run(values, output_ids, Some(options)))
            .map_err(|message| RunError::Failed { message })?
            .map_err(|error| RunError::Failed { message: error.to_string() })?;
        self.signature
            .outputs
            .iter()
            .zip(outputs)
            .map(|(spec, value)| tensors::from_rten(spec, value))
            .collect()
    }

    /// Elsewhere it would be handed over to a pool's thread and back.
    fn runs_anywhere(&self) -> bool {
        false
    }

    fn share(&self) -> Option<Box<dyn Session>> {
        let session = Self::new(Arc::clone(&self.model), self.signature.clone(), self.intra_threads);
        session.ok().map(|session| Box::new(session) as Box<dyn Session>)
    }
}

#[cfg(test)]
mod tests {
    use super::VERSION;

    #[test]
    fn the_version_told_is_the_one_built_in() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(
            manifest.contains(&format!("\nrten = \"{VERSION}\"\n")),
            "update VERSION with the dependency"
        );
    }
}
