//! ONNX Runtime through `ort`, its library loaded at run time.
//!
//! Three habits, each for a trap that was met: devices and precision are passed to every session, because the default policy
//! prefers any plug-in that happens to be registered, at its own precision; inputs are borrowed with
//! `TensorRef::from_array_view` and plain `run`, because IO binding deadlocks; threads never spin, because a waiting
//! session would burn the cores of its neighbours.

mod accelerators;
mod assignment;
mod guard;
mod tensors;
mod version;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ort::environment::{Environment, ThreadManager};
use ort::logging::LogLevel;
use ort::session::SessionOutputs;
use tidegate_core::{NamedTensor, Precision, Signature};

use crate::accelerator::no_bf16;
use crate::load_error::LoadError;
use crate::onnx_file::OnnxFile;
use crate::probe::measure_open_outputs;
use crate::quiet::at_normal_priority;
use crate::runtime::{
    RunError, Runtime, RuntimeError, RuntimeInfo, RuntimeOptions, Session, SessionOptions, guarded,
};

use accelerators::{Accelerator, Provider};
use guard::Guard;

const NAME: &str = "onnxruntime";

/// The library and its environment exist once per process and are never unloaded: threads of it may still run at exit.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

fn opened() -> MutexGuard<'static, Option<Opened>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Opened {
    environment: Environment,
    library: PathBuf,
    version: String,
    /// OpenVINO's library, once it is registered.
    openvino: Option<PathBuf>,
}

pub(crate) struct OnnxRuntime {
    environment: Environment,
    info: RuntimeInfo,
    accelerator: Accelerator,
}

impl OnnxRuntime {
    /// Loads the first candidate that works; the outer error lists each with its fault. The inner one is about the
    /// accelerator. `asked` says whether the operator named this runtime or it was found.
    pub(crate) fn open(options: &RuntimeOptions, asked: bool) -> Result<Result<Self, RuntimeError>, String> {
        let mut slot = opened();
        let opened = match slot.as_mut() {
            Some(opened) => opened,
            None => slot.insert(open_first(&options.library_candidates)?),
        };
        let reason = if asked {
            "ONNX Runtime was asked for; set `runtime.engine` to `rten` for the built-in one"
        } else {
            "ONNX Runtime's library was found and is the fastest; set `runtime.engine` to `rten` for the built-in one"
        };
        Ok(Accelerator::open(opened, options).map(|accelerator| Self {
            environment: opened.environment.clone(),
            info: RuntimeInfo {
                name: NAME,
                version: opened.version.clone(),
                reason: reason.to_owned(),
                library: Some(opened.library.clone()),
                accelerator: accelerator.info.clone(),
                precisions: accelerator.precisions(),
            },
            accelerator,
        }))
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
    Ok(Opened { environment, library: path.to_owned(), version: version::of_library(path), openvino: None })
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
        let open = file.open_outputs();
        let Placed { session, provider, guard } = self.place(&file, path, options)?;
        let signature = file.into_signature();
        let mut session = OrtSession { session, provider, guard, signature };
        let mut signature = session.signature.clone();
        measure_open_outputs(&mut signature, &open, |inputs| session.run(inputs))?;
        session.signature = signature;
        Ok(Box::new(session))
    }
}

/// A session, and what executes it.
struct Placed {
    session: ort::session::Session,
    provider: Provider,
    guard: Option<Guard>,
}

impl OnnxRuntime {
    fn place(&self, file: &OnnxFile, path: &Path, options: &SessionOptions) -> Result<Placed, LoadError> {
        let provider = self.accelerator.provider(options.precision)?;
        if provider == Provider::OpenVino {
            return self.place_on_openvino(file, path, options);
        }
        let Built { session, takes_part } = self.build(provider, path, options)?;
        if !takes_part {
            return Err(LoadError::Unsupported {
                subject: format!("no operator of the model runs on {}", provider.as_str()),
                fix: "serve it where `runtime.accelerator` is `auto`".to_owned(),
            });
        }
        Ok(Placed { session, provider, guard: None })
    }

    /// What OpenVINO cannot run is left to ONNX Runtime's own code in f32, where only the time differs, and refused in bf16.
    fn place_on_openvino(
        &self,
        file: &OnnxFile,
        path: &Path,
        options: &SessionOptions,
    ) -> Result<Placed, LoadError> {
        self.accelerator.need_openvino()?;
        // First, since it refuses a broken model better than OpenVINO does.
        let plain = self.build(Provider::Cpu, path, options)?.session;
        let reason = match guard::unfit(file) {
            Some(reason) => reason,
            None => match self.build(Provider::OpenVino, path, options) {
                Ok(Built { session, takes_part: true }) => {
                    let guard = Some(Guard::new(plain));
                    return Ok(Placed { session, provider: Provider::OpenVino, guard });
                }
                Ok(_) => "OpenVINO has none of the model's operators".to_owned(),
                Err(error) => error.to_string(),
            },
        };
        if options.precision == Precision::Bf16 {
            return Err(no_bf16(&reason, "leave bf16 to networks of 32-bit floats"));
        }
        tracing::debug!("{reason}; ONNX Runtime's own code runs it");
        Ok(Placed { session: plain, provider: Provider::Cpu, guard: None })
    }

    fn build(&self, provider: Provider, path: &Path, options: &SessionOptions) -> Result<Built, LoadError> {
        let (environment, file, options) = (self.environment.clone(), path.to_owned(), *options);
        let build = move || guarded(|| build_session(&environment, provider, &file, &options));
        // OpenVINO starts its threads here, where it cannot be told how.
        let outcome = if provider == Provider::OpenVino && options.intra_threads > 1 {
            at_normal_priority(build)
        } else {
            build()
        };
        outcome.and_then(|built| built.map_err(|error| error.message().to_owned())).map_err(|message| {
            LoadError::Runtime { runtime: provider.as_str(), message: without_folder(&message, path) }
        })
    }
}

struct Built {
    session: ort::session::Session,
    /// Whether the provider runs any of the model; what it does not take is left to ONNX Runtime's own CPU code.
    takes_part: bool,
}

fn build_session(
    environment: &Environment,
    provider: Provider,
    path: &Path,
    options: &SessionOptions,
) -> ort::Result<Built> {
    let builder = ort::session::Session::builder(environment)?;
    let mut builder = provider
        .put_into(builder, environment, options)?
        .with_intra_threads(options.intra_threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_thread_manager(NormalPriority)?;
    if provider == Provider::Cpu {
        return Ok(Built { session: builder.commit_from_file(path)?, takes_part: true });
    }
    let session = builder.with_config_entry(assignment::RECORD, "1")?.commit_from_file(path)?;
    let takes_part = assignment::has_part(&session, provider.name())?;
    Ok(Built { session, takes_part })
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
    provider: Provider,
    guard: Option<Guard>,
    signature: Signature,
}

impl Session for OrtSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn runtime(&self) -> Option<&'static str> {
        Some(self.provider.as_str())
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        if let Some(guard) = &mut self.guard {
            guard.check(inputs)?;
        }
        let signature = &self.signature;
        run(&mut self.session, inputs, |outputs| {
            let convert = |(index, spec)| tensors::from_ort(spec, &outputs[index]);
            signature.outputs.iter().enumerate().map(convert).collect()
        })
    }
}

fn run<T>(
    session: &mut ort::session::Session,
    inputs: &[NamedTensor],
    convert: impl FnOnce(&SessionOutputs<'_>) -> Result<T, RunError>,
) -> Result<T, RunError> {
    let mut values = vec![];
    for input in inputs {
        values.push((input.name.as_str(), tensors::to_ort(input)?));
    }
    let outcome = guarded(|| {
        let outputs =
            session.run(values).map_err(|error| RunError::Failed { message: error.message().to_owned() })?;
        convert(&outputs)
    });
    outcome.unwrap_or_else(|message| Err(RunError::Failed { message }))
}
