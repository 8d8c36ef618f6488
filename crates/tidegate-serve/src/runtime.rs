//! The seam between the server and whatever executes a model: two small blocking traits, and which runtime to open.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_core::{NamedTensor, Precision, Signature};

use crate::accelerator::{AcceleratorChoice, AcceleratorInfo};
use crate::load_error::LoadError;
use crate::onnxruntime::OnnxRuntime;
use crate::rten::Rten;

/// Something that loads models. Calls block; the caller chooses the thread.
pub trait Runtime: Send + Sync {
    fn info(&self) -> &RuntimeInfo;

    /// Loads the model of a file, with the weights that lie beside it.
    fn load(&self, model: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, LoadError>;

    /// Runs a worker, which runs sessions one after the other, on the thread that suits them best. Returns when it ends.
    fn host(&self, worker: Box<dyn FnOnce() + Send>) {
        worker();
    }
}

/// A loaded model that runs one request at a time.
pub trait Session: Send {
    fn signature(&self) -> &Signature;

    /// Runs the model on inputs that fit its signature, and gives every output in the signature's order.
    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError>;

    /// Another session over the same weights, where the runtime can share them. Without one, the model is loaded again.
    fn share(&self) -> Option<Box<dyn Session>> {
        None
    }

    /// Whether it runs on any thread alike, and not best on those that [`Runtime::host`] a worker.
    fn runs_anywhere(&self) -> bool {
        true
    }

    /// What executes the model, where that is a part of the runtime with a name of its own.
    fn runtime(&self) -> Option<&'static str> {
        None
    }
}

/// Which runtime this is, and why; the log and `/api/v1/server` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuntimeInfo {
    /// `onnxruntime` or `rten`.
    pub name: &'static str,
    pub version: String,
    /// One sentence: why this one, and what to do for the other.
    pub reason: String,
    /// The shared library it was loaded from.
    pub library: Option<PathBuf>,
    pub accelerator: AcceleratorInfo,
    /// In which versions can be loaded here.
    pub precisions: Vec<Precision>,
}

/// How a session runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads inside one run. One is best for throughput; more lower the latency of a lone caller on idle cores.
    pub intra_threads: usize,
    pub precision: Precision,
}

/// Which runtime the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeChoice {
    /// ONNX Runtime where its library is found, else rten.
    #[default]
    Auto,
    OnnxRuntime,
    Rten,
}

#[derive(Clone, Debug, Default)]
pub struct RuntimeOptions {
    pub choice: RuntimeChoice,
    /// Where ONNX Runtime's library may lie; the first that loads is used.
    pub library_candidates: Vec<PathBuf>,
    pub accelerator: AcceleratorChoice,
    /// Where OpenVINO's library may lie, beside the folder of ONNX Runtime's.
    pub openvino_candidates: Vec<PathBuf>,
}

/// Why no runtime could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    #[error(
        "ONNX Runtime was asked for but its library did not load: {tried}; run `scripts/install-onnxruntime.sh`, or give \
         its path in the setting `runtime.onnxruntime_library`"
    )]
    LibraryMissing { tried: String },

    #[error(
        "`runtime.accelerator` is `{accelerator}`, which needs ONNX Runtime, and `runtime.engine` is `rten`; set that to \
         `auto`, or the accelerator to `none`"
    )]
    AcceleratorOfAnother { accelerator: AcceleratorChoice },

    #[error(
        "OpenVINO was asked for but its library did not load: {tried}; run `scripts/install-openvino.sh`, or give its \
         path in the setting `runtime.openvino_library`, or set `runtime.accelerator` to `auto`"
    )]
    OpenVinoMissing { tried: String },

    #[error(
        "OpenVINO was asked for but its plug-in `{}` has no device for this CPU (1.8.1 takes those of Intel only); set \
         `runtime.accelerator` to `auto`",
        library.display()
    )]
    OpenVinoUnfit { library: PathBuf },

    #[error(
        "CUDA was asked for but `{}` has no CUDA in it; give the path of a build that has, such as that of the wheel \
         `onnxruntime-gpu` with `libonnxruntime_providers_cuda` beside it, in the setting `runtime.onnxruntime_library`, \
         or set `runtime.accelerator` to `auto`",
        library.display()
    )]
    CudaMissing { library: PathBuf },
}

/// Why a run gave no outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The runtime cannot take this value, though the signature can.
    #[error("input `{name}`: {reason}")]
    Input { name: String, reason: String },
    #[error("output `{name}`: {reason}")]
    Output { name: String, reason: String },
    /// The runtime's own words.
    #[error("the model failed: {message}")]
    Failed { message: String },
}

/// Opens the runtime that was asked for. ONNX Runtime's library is loaded once per process: a second call gets the same
/// one, whatever its candidates.
pub fn open_runtime(options: &RuntimeOptions) -> Result<Arc<dyn Runtime>, RuntimeError> {
    let asked = match options.choice {
        RuntimeChoice::Rten if options.accelerator.is_required() => {
            return Err(RuntimeError::AcceleratorOfAnother { accelerator: options.accelerator });
        }
        RuntimeChoice::Rten => {
            let reason = "rten, the built-in runtime, was asked for; \
                          set `runtime.engine` to `auto` to use ONNX Runtime where its library is installed";
            return Ok(Arc::new(Rten::new(reason.to_owned())));
        }
        RuntimeChoice::OnnxRuntime => true,
        RuntimeChoice::Auto => options.accelerator.is_required(),
    };
    match OnnxRuntime::open(options, asked) {
        Ok(runtime) => Ok(Arc::new(runtime?)),
        Err(tried) if asked => Err(RuntimeError::LibraryMissing { tried }),
        Err(tried) => {
            let reason = format!(
                "ONNX Runtime, which is faster, was not found ({tried}); run `scripts/install-onnxruntime.sh`, or give \
                 the library's path in the setting `runtime.onnxruntime_library`"
            );
            Ok(Arc::new(Rten::new(reason)))
        }
    }
}

impl RuntimeChoice {
    pub const ALL: [Self; 3] = [Self::Auto, Self::OnnxRuntime, Self::Rten];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::OnnxRuntime => "onnxruntime",
            Self::Rten => "rten",
        }
    }
}

impl std::fmt::Display for RuntimeChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for RuntimeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|choice| choice.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let got: String = text.chars().take(60).collect();
            format!("`{got}` is not one of auto, onnxruntime, rten")
        })
    }
}

/// Runs a runtime's code and turns a panic in it into its message: a bad model must not take the server down.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    // Whatever the closure borrowed is either dropped by the caller (a load) or read-only to the runtime (a run).
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("it panicked: {text}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for choice in RuntimeChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
            assert_eq!(serde_json::to_value(choice).unwrap(), choice.as_str());
        }
        assert!("tract".parse::<RuntimeChoice>().unwrap_err().contains("onnxruntime"));
    }

    #[test]
    fn a_panic_becomes_its_message() {
        let message = guarded(|| panic!("index {} out of range", 7)).map(|(): ()| ()).unwrap_err();
        assert_eq!(message, "it panicked: index 7 out of range");
    }

    #[test]
    fn a_missing_library_is_an_error_only_when_asked_for() {
        let options = |choice| RuntimeOptions {
            choice,
            library_candidates: vec!["/nowhere/libonnxruntime.so".into()],
            ..Default::default()
        };
        let runtime = open_runtime(&options(RuntimeChoice::Auto)).unwrap();
        assert_eq!(runtime.info().name, "rten");
        assert!(runtime.info().reason.contains("/nowhere/libonnxruntime.so"), "{}", runtime.info().reason);
        let error = open_runtime(&options(RuntimeChoice::OnnxRuntime)).err().unwrap().to_string();
        assert!(
            error.contains("/nowhere/libonnxruntime.so") && error.contains("install-onnxruntime.sh"),
            "{error}"
        );
    }
}
