//! Classical models (scikit-learn, XGBoost, LightGBM) without a native library: a small evaluator of the `ai.onnx.ml`
//! operators and of the standard ones that exporters put around them.
//!
//! It is part of the built-in runtime: rten hands it the files that it cannot run itself. It knows nothing of slots or
//! requests. A file is read and every operator built from its attributes while it loads, where all that could go wrong later is
//! refused: indices outside their lists, trees with cycles, numbers that are absurd. A run then only meets inputs of the
//! wrong shape or type.
//!
//! Start reading at [`program`]; [`operators`] says which operators there are, `ml` and `standard` hold them.

mod array;
mod attributes;
mod ml;
mod model;
mod operators;
mod program;
mod standard;

use std::path::Path;
use std::sync::Arc;

use tidegate_core::{DType, NamedTensor, Signature};

use self::program::Program;
use crate::load_error::LoadError;
use crate::onnx_file::OnnxFile;
use crate::probe::measure_open_outputs;
use crate::runtime::{RunError, Session, guarded};

/// What a slot says that runs it.
pub(crate) const NAME: &str = "classical";

/// Who says in a message that something does not run: to its reader, this is a part of rten.
const SPEAKER: &str = "the built-in runtime";

/// Whether a model is one of classical operators. All of them need not be among those that run here.
pub(crate) fn is_classical(file: &OnnxFile) -> bool {
    file.operators.iter().any(|operator| operator.domain == operators::ML_DOMAIN)
}

/// Whether every operator and every type of a model's inputs and outputs is among those that run here.
pub(crate) fn can_run(file: &OnnxFile) -> bool {
    file.operators.iter().all(|operator| operators::find(operator).is_some()) && foreign_type(file).is_none()
}

/// `fix` says what to do for a model that is refused.
pub(crate) fn load(path: &Path, file: OnnxFile, fix: &str) -> Result<Box<dyn Session>, LoadError> {
    if let Some((role, name, datatype)) = foreign_type(&file) {
        return Err(LoadError::Unsupported {
            subject: format!("{role} `{name}` is {datatype}, which {SPEAKER} does not compute with"),
            fix: fix.to_owned(),
        });
    }
    let program = guarded(|| Program::load(path, &file, fix))
        .map_err(|message| LoadError::Runtime { runtime: SPEAKER, message })??;
    let open = file.open_outputs();
    let mut session = ClassicalSession { program: Arc::new(program), signature: file.into_signature() };
    let mut signature = session.signature.clone();
    measure_open_outputs(&mut signature, &open, |inputs| session.run(inputs))?;
    session.signature = signature;
    Ok(Box::new(session))
}

/// An input or output of a type that is not computed with.
fn foreign_type(file: &OnnxFile) -> Option<(&'static str, &str, DType)> {
    let inputs = file.inputs.iter().map(|spec| ("input", spec.name.as_str(), spec.datatype));
    let outputs = file.outputs.iter().map(|output| ("output", output.name.as_str(), output.datatype));
    inputs.chain(outputs).find(|(_, _, datatype)| {
        !matches!(
            datatype,
            DType::Fp32 | DType::Fp64 | DType::Int32 | DType::Int64 | DType::Bool | DType::Bytes
        )
    })
}

/// Sessions share the program: a run writes nothing but its own values.
struct ClassicalSession {
    program: Arc<Program>,
    signature: Signature,
}

impl Session for ClassicalSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        guarded(|| self.program.run(inputs)).unwrap_or_else(|message| Err(RunError::Failed { message }))
    }

    fn share(&self) -> Option<Box<dyn Session>> {
        let (program, signature) = (Arc::clone(&self.program), self.signature.clone());
        Some(Box::new(Self { program, signature }))
    }

    fn runtime(&self) -> Option<&'static str> {
        Some(NAME)
    }
}
