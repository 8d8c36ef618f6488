//! ONNX Runtime's execution providers: which of them run the sessions of this process, in which precision.

use std::path::{Path, PathBuf};

use ort::device::Device;
use ort::environment::Environment;
use ort::ep::{CUDA, ExecutionProvider};
use ort::memory::DeviceType;
use ort::session::builder::SessionBuilder;
use tidegate_core::Precision;

use crate::accelerator::{AcceleratorChoice, AcceleratorInfo, cpu_has_bf16, no_bf16};
use crate::load_error::LoadError;
use crate::runtime::{RuntimeError, RuntimeOptions, SessionOptions, guarded};

use super::Opened;

const OPENVINO_INSTALL: &str =
    "run `scripts/install-openvino.sh`, or give its path in the setting `runtime.openvino_library`";

/// What executes a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provider {
    Cpu,
    OpenVino,
    Cuda,
}

/// What runs the versions of this process.
#[derive(Debug)]
pub(super) struct Accelerator {
    pub(super) info: AcceleratorInfo,
    /// For all but bf16: numbers as the file has them.
    plain: Provider,
    /// For bf16, or why there is nothing.
    bf16: Result<Provider, LoadError>,
    /// Where its plug-in may be.
    openvino: Vec<PathBuf>,
}

impl Accelerator {
    pub(super) fn open(opened: &mut Opened, options: &RuntimeOptions) -> Result<Self, RuntimeError> {
        match options.accelerator {
            AcceleratorChoice::None => {
                let reason = "`runtime.accelerator` is `none`";
                Ok(Self::nothing(reason, no_bf16(reason, "set it to `auto`")))
            }
            AcceleratorChoice::Cuda => Self::cuda(&opened.library),
            AcceleratorChoice::OpenVino => Self::openvino(opened, places_of_openvino(opened, options)),
            AcceleratorChoice::Auto => Ok(Self::auto(opened, places_of_openvino(opened, options))),
        }
    }

    fn nothing(reason: impl Into<String>, no_bf16: LoadError) -> Self {
        let info = AcceleratorInfo::none(reason);
        Self { info, plain: Provider::Cpu, bf16: Err(no_bf16), openvino: vec![] }
    }

    /// OpenVINO's libraries take 20 MB: they are loaded for the first version that needs them.
    fn auto(opened: &Opened, openvino: Vec<PathBuf>) -> Self {
        if !cpu_has_bf16() {
            return Self::nothing(format!("{NO_INSTRUCTIONS}, so OpenVINO is not needed"), no_instructions());
        }
        if !has_cpu_of_intel(&opened.environment) {
            return Self::nothing(INTEL_ONLY, no_bf16(INTEL_ONLY, "serve it on one"));
        }
        let Some(library) = openvino.iter().find_map(|place| place.canonicalize().ok()) else {
            let places: Vec<_> = openvino.iter().map(|place| format!("`{}`", place.display())).collect();
            let reason = format!(
                "OpenVINO, which computes in bf16, was not found (tried {}); {OPENVINO_INSTALL}",
                places.join(", ")
            );
            return Self::nothing(
                reason,
                no_bf16("OpenVINO, which computes in it, was not found", OPENVINO_INSTALL),
            );
        };
        let info = AcceleratorInfo {
            name: Provider::OpenVino.as_str(),
            reason: "OpenVINO was found and runs what is deployed in bf16; set `runtime.accelerator` to `openvino` to have it \
                     run everything, or to `none`"
                .to_owned(),
            library: Some(library),
        };
        Self { info, plain: Provider::Cpu, bf16: Ok(Provider::OpenVino), openvino }
    }

    fn openvino(opened: &mut Opened, openvino: Vec<PathBuf>) -> Result<Self, RuntimeError> {
        let library =
            register_openvino(opened, &openvino).map_err(|tried| RuntimeError::OpenVinoMissing { tried })?;
        if cpu_of(Provider::OpenVino, &opened.environment).is_none() {
            return Err(RuntimeError::OpenVinoUnfit { library });
        }
        Ok(Self {
            info: AcceleratorInfo {
                name: Provider::OpenVino.as_str(),
                reason:
                    "`runtime.accelerator` is `openvino`: it runs every version, each in its own precision"
                        .to_owned(),
                library: Some(library),
            },
            plain: Provider::OpenVino,
            bf16: if cpu_has_bf16() { Ok(Provider::OpenVino) } else { Err(no_instructions()) },
            openvino,
        })
    }

    fn cuda(onnxruntime: &Path) -> Result<Self, RuntimeError> {
        if !CUDA::is_available().unwrap_or(false) {
            return Err(RuntimeError::CudaMissing { library: onnxruntime.to_owned() });
        }
        Ok(Self {
            info: AcceleratorInfo {
                name: Provider::Cuda.as_str(),
                reason: "`runtime.accelerator` is `cuda`: the GPU runs every version".to_owned(),
                library: None,
            },
            plain: Provider::Cuda,
            bf16: Err(no_bf16(
                "bf16 is computed by OpenVINO only, and `runtime.accelerator` is `cuda`",
                "serve it where `runtime.accelerator` is `auto`",
            )),
            openvino: vec![],
        })
    }

    pub(super) fn precisions(&self) -> Vec<Precision> {
        Precision::ALL.into_iter().filter(|precision| self.provider(*precision).is_ok()).collect()
    }

    pub(super) fn provider(&self, precision: Precision) -> Result<Provider, LoadError> {
        match precision {
            Precision::F32 | Precision::Int8 => Ok(self.plain),
            Precision::Bf16 => self.bf16.clone(),
        }
    }

    /// Before a session is built on it. OpenVINO then stays in the process, also for those who do without it.
    pub(super) fn need_openvino(&self) -> Result<(), LoadError> {
        let mut opened = super::opened();
        let opened = opened.as_mut().expect("a runtime has opened its library");
        let registered = register_openvino(opened, &self.openvino);
        registered
            .map(drop)
            .map_err(|tried| no_bf16(&format!("OpenVINO could not be loaded ({tried})"), OPENVINO_INSTALL))
    }
}

impl Provider {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => super::NAME,
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
        }
    }

    /// Its name within ONNX Runtime.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::OpenVino => "OpenVINOExecutionProvider",
            Self::Cuda => CUDA::NAME,
        }
    }

    /// Every session names its devices and its precision: the default policy prefers any plug-in that happens to be
    /// registered, at the plug-in's own.
    pub(super) fn put_into(
        self,
        builder: SessionBuilder,
        environment: &Environment,
        options: &SessionOptions,
    ) -> ort::Result<SessionBuilder> {
        if self == Self::Cuda {
            // TF32 would compute f32 with the mantissa of fp16.
            let cuda = CUDA::default().with_tf32(false).build().error_on_failure();
            return Ok(builder.with_execution_providers([cuda])?);
        }
        // The list must not grow while it is read.
        let opened = super::opened();
        let device = cpu_of(self, environment);
        drop(opened);
        let device =
            device.ok_or_else(|| ort::Error::new(format!("there is no device of {}", self.name())))?;
        let settings = (self == Self::OpenVino).then(|| {
            let key = format!("{}.load_config", self.name());
            vec![(key, openvino_config(options))]
        });
        Ok(builder.with_devices([device], settings.as_deref())?)
    }
}

/// The device by which a provider runs models on the CPU.
fn cpu_of(provider: Provider, environment: &Environment) -> Option<Device<'_>> {
    let is_it = |device: &Device<'_>| {
        device.ep().is_ok_and(|name| name == provider.name())
            && device.hardware_device().ty() == DeviceType::CPU
    };
    environment.devices().find(is_it)
}

fn has_cpu_of_intel(environment: &Environment) -> bool {
    let cpu = cpu_of(Provider::Cpu, environment);
    cpu.is_some_and(|cpu| cpu.hardware_device().vendor().is_ok_and(|vendor| vendor.contains("Intel")))
}

/// The precision is said always. A session runs on the thread that calls it and those it is given: pinned, all sessions would
/// share the first core.
fn openvino_config(options: &SessionOptions) -> String {
    let hint = match options.precision {
        // Layers that the file has quantised stay in 8 bits.
        Precision::F32 | Precision::Int8 => "f32",
        Precision::Bf16 => "bf16",
    };
    let n_threads = options.intra_threads;
    format!(
        r#"{{"CPU":{{"INFERENCE_PRECISION_HINT":"{hint}","INFERENCE_NUM_THREADS":"{n_threads}","NUM_STREAMS":"1","ENABLE_CPU_PINNING":"NO"}}}}"#
    )
}

fn plug_in_name() -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    format!("{DLL_PREFIX}onnxruntime_providers_openvino_plugin{DLL_SUFFIX}")
}

/// Beside ONNX Runtime at last.
fn places_of_openvino(opened: &Opened, options: &RuntimeOptions) -> Vec<PathBuf> {
    let beside = opened.library.parent().map(|folder| folder.join(plug_in_name()));
    options.openvino_candidates.iter().cloned().chain(beside).collect()
}

/// Registers the first candidate that works, once per process; the error lists each with its fault.
fn register_openvino(opened: &mut Opened, candidates: &[PathBuf]) -> Result<PathBuf, String> {
    let Opened { environment, openvino: registered, .. } = opened;
    if let Some(library) = registered {
        return Ok(library.clone());
    }
    let mut faults = vec![];
    for candidate in candidates {
        let register = |path: PathBuf| {
            let outcome = guarded(|| environment.register_ep_library("openvino", &path));
            outcome.and_then(|done| done.map_err(|error| error.message().to_owned())).map(|()| path)
        };
        // Whole: OpenVINO looks for its parts beside itself.
        match candidate.canonicalize().map_err(|_| "no such file".to_owned()).and_then(register) {
            Ok(library) => return Ok(registered.insert(library).clone()),
            Err(fault) => faults.push(format!("`{}`: {fault}", candidate.display())),
        }
    }
    Err(faults.join("; "))
}

/// OpenVINO itself would compute on any; its plug-in for ONNX Runtime offers no other (1.8.1).
const INTEL_ONLY: &str = "OpenVINO's plug-in takes CPUs of Intel only, and this is none";

const NO_INSTRUCTIONS: &str = "this CPU has no instructions for bfloat16 (AVX512_BF16, AMX)";

fn no_instructions() -> LoadError {
    no_bf16(NO_INSTRUCTIONS, "serve it on a CPU that has them")
}
