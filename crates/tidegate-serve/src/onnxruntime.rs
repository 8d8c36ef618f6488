//! ONNX Runtime through `ort`, its library loaded at run time.
//!
//! Three habits, each for a trap that was met: the CPU device is passed to every session, because the default policy
//! prefers any plug-in that happens to be registered, at its own precision; inputs are borrowed with
//! `TensorRef::from_array_view` and plain `run`, because IO binding deadlocks; threads never spin, because a waiting
//! session would burn the cores of its neighbours.

mod tensors;
mod version;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use ort::environment::{Environment, ThreadManager};
use ort::logging::LogLevel;
use tidegate_core::{NamedTensor, Signature};

use crate::load_error::LoadError;
use crate::onnx_file::OnnxFile;
use crate::probe::measure_open_outputs;
use crate::quiet::at_normal_priority;
use crate::runtime::{RunError, Runtime, RuntimeInfo, Session, SessionOptions, guarded};

const NAME: &str = "onnxruntime";
const CPU: &str = "CPUExecutionProvider";

/// The library and its environment exist once per process and are never unloaded: threads of it may still run at exit.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

#[derive(Clone)]
struct Opened {
    environment: Environment,
    library: PathBuf,
    version: String,
}

pub(crate) struct OnnxRuntime {
    environment: Environment,
    info: RuntimeInfo,
}

impl OnnxRuntime {
    /// Loads the first candidate that works; the error lists each with its fault. `asked` says whether the operator named
    /// this runtime or it was found.
    pub(crate) fn open(candidates: &[PathBuf], asked: bool) -> Result<Self, String> {
        let mut slot = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = match slot.as_ref() {
            Some(opened) => opened.clone(),
            None => slot.insert(open_first(candidates)?).clone(),
        };
        let reason = if asked {
            "ONNX Runtime was asked for; set `runtime.engine` to `rten` for the built-in one"
        } else {
            "ONNX Runtime's library was found and is the fastest; set `runtime.engine` to `rten` for the built-in one"
        };
        let info = RuntimeInfo {
            name: NAME,
            version: opened.version,
            reason: reason.to_owned(),
            library: Some(opened.library),
        };
        Ok(Self { environment: opened.environment, info })
    }
}

fn open_first(candidates: &[PathBuf]) -> Result<Opened, String> {
    if candidates.is_empty() {
        return Err("no place to look for its library is configured".to_owned());
    }
    let mut faults = vec![];
    for candidate in candidates {
        let outcome = if candidate.is_absolute() && !candidate.exists() {
            Err("no such file".to_owned())
        } else {
            guarded(|| open_library(candidate)).flatten()
        };
        match outcome {
            Ok(opened) => return Ok(opened),
            Err(fault) => faults.push(format!("`{}`: {fault}", candidate.display())),
        }
    }
    Err(faults.join("; "))
}

fn open_library(path: &Path) -> Result<Opened, String> {
    let builder = ort::init_from(path).map_err(|error| error.to_string())?;
    let environment = builder
        .with_name("tidegate")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|error| error.to_string())?;
    environment.set_log_level(LogLevel::Warning);
    Ok(Opened { environment, library: path.to_owned(), version: version::of_library(path) })
}

/// Its errors come back as values too, and whoever handles those logs them; its warnings are about optimisations.
fn log(level: LogLevel, _category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Fatal | LogLevel::Error | LogLevel::Warning => {
            tracing::debug!(target: "onnxruntime", location, "{message}");
        }
        LogLevel::Info | LogLevel::Verbose => tracing::trace!(target: "onnxruntime", location, "{message}"),
    }
}

impl Runtime for OnnxRuntime {
    fn info(&self) -> &RuntimeInfo {
        &self.info
    }

    fn load(&self, path: &Path, options: &SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        let file = OnnxFile::read(path)?;
        let session = guarded(|| build_session(&self.environment, path, options))
            .and_then(|outcome| outcome.map_err(|error| error.message().to_owned()))
            .map_err(|message| LoadError::Runtime {
                runtime: NAME,
                message: without_folder(&message, path),
            })?;
        let open = file.open_outputs();
        let mut session = OrtSession { session, signature: file.into_signature() };
        let mut signature = session.signature.clone();
        measure_open_outputs(&mut signature, &open, |inputs| session.run(inputs))?;
        session.signature = signature;
        Ok(Box::new(session))
    }
}

fn build_session(
    environment: &Environment,
    path: &Path,
    options: &SessionOptions,
) -> ort::Result<ort::session::Session> {
    let cpu = environment.devices().filter(|device| device.ep().is_ok_and(|provider| provider == CPU));
    ort::session::Session::builder(environment)?
        .with_devices(cpu, None)?
        .with_intra_threads(options.intra_threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_thread_manager(NormalPriority)?
        .commit_from_file(path)
}

/// Starts the threads inside a run. They must not inherit the priority of the thread that loads.
struct NormalPriority;

impl ThreadManager for NormalPriority {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        let thread = std::thread::Builder::new().name("intra".to_owned());
        at_normal_priority(move || thread.spawn(work)).map_err(ort::Error::wrap)
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        thread.join().map_err(|_| ort::Error::new("a thread of a session panicked"))
    }
}

/// Its messages quote the whole path; callers of the API must not learn where the server keeps its files.
fn without_folder(message: &str, path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    message.replace(&*path.to_string_lossy(), &name)
}

struct OrtSession {
    session: ort::session::Session,
    signature: Signature,
}

impl Session for OrtSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        let mut values = vec![];
        for input in inputs {
            values.push((input.name.as_str(), tensors::to_ort(input)?));
        }
        let (session, signature) = (&mut self.session, &self.signature);
        let outcome = guarded(|| {
            let outputs = session
                .run(values)
                .map_err(|error| RunError::Failed { message: error.message().to_owned() })?;
            let convert = |(index, spec)| tensors::from_ort(spec, &outputs[index]);
            signature.outputs.iter().enumerate().map(convert).collect()
        });
        outcome.unwrap_or_else(|message| Err(RunError::Failed { message }))
    }
}
