//! Why a file does not become a running model. Each message names the file or the part at fault, and the way out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_core::Precision;

use crate::runtime::RunError;

/// Cloneable, because callers that wait for one load share its outcome.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// `guess` completes the sentence: "this is a TorchScript archive; ...".
    #[error("`{}` is not an ONNX model: {guess}", file_name(path))]
    NotOnnx { path: PathBuf, guess: String },

    #[error("failed to read `{}`: {source}", file_name(path))]
    Io { path: PathBuf, source: Arc<std::io::Error> },

    #[error(
        "the weights of the model lie in `{location}`, which is not beside it; register that file together with the model"
    )]
    ExternalDataMissing { location: String },

    /// Weights are read from the folder of the model only: anything else could read any file of the machine.
    #[error(
        "the model asks for weights at `{location}`; only a file beside the model, named without folders, is read"
    )]
    ExternalDataRefused { location: String },

    #[error("{runtime} has no operator `{operator}`{}; {fix}", in_domain(domain))]
    UnsupportedOperator { operator: String, domain: String, runtime: &'static str, fix: String },

    /// A part of the model that this build cannot express, whatever the runtime.
    #[error("{subject}; {fix}")]
    Unsupported { subject: String, fix: String },

    /// The version asks for numbers in which nothing here computes.
    #[error("{precision} cannot be computed here: {missing}; {fix}")]
    Precision { precision: Precision, missing: String, fix: String },

    /// Loaded, but the first run on made-up inputs failed.
    #[error("the model loaded but failed on a trial run with inputs {inputs}: {source}")]
    WarmUp { inputs: String, source: RunError },

    /// Anything else, in the runtime's own words.
    #[error("{runtime} cannot load the model: {message}")]
    Runtime { runtime: &'static str, message: String },
}

impl LoadError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }

    /// The thread that loaded panicked, or the process is ending.
    pub(crate) fn cut_short() -> Self {
        Self::Runtime { runtime: "the server", message: "loading was cut short".to_owned() }
    }
}

/// Messages travel to callers of the API, who must not learn where the server keeps its files.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

fn in_domain(domain: &str) -> String {
    if domain.is_empty() { String::new() } else { format!(" of `{domain}`") }
}
