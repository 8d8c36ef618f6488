//! A runtime whose loads and runs stop at gates, so that tests decide what happens when.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use tidegate_core::{DType, Dim, NamedTensor, Precision, Signature, TensorSpec};
use tidegate_serve::{AcceleratorInfo, LoadError, RunError, Runtime, RuntimeInfo, Session, SessionOptions};

/// Lets through while open; counts who arrives.
pub struct Gate {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Default for Gate {
    fn default() -> Self {
        Self { state: Mutex::new((true, 0)), changed: Condvar::new() }
    }
}

impl Gate {
    pub fn set_open(&self, is_open: bool) {
        self.state.lock().unwrap().0 = is_open;
        self.changed.notify_all();
    }

    /// How many have arrived since the last call.
    pub fn take_arrivals(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().1)
    }

    pub fn wait_for_arrivals(&self, n: usize) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |(_, arrived)| *arrived < n).unwrap());
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(is_open, _)| !*is_open).unwrap());
    }
}

pub struct FakeRuntime {
    info: RuntimeInfo,
    pub loads: Gate,
    pub runs: Arc<Gate>,
    /// Instead of `runs`, for the file [`SHADOW`].
    pub shadow_runs: Arc<Gate>,
    /// The next run panics.
    pub panics: Arc<AtomicBool>,
    /// Rows of each run.
    pub sizes: Arc<Mutex<Vec<usize>>>,
    /// This many loads fail before one succeeds.
    pub n_failures: AtomicUsize,
}

impl FakeRuntime {
    pub fn new() -> Arc<Self> {
        let info = RuntimeInfo {
            name: "fake",
            version: String::new(),
            reason: String::new(),
            library: None,
            accelerator: AcceleratorInfo::none("a fake needs none"),
            precisions: vec![Precision::F32],
        };
        Arc::new(Self {
            info,
            loads: Gate::default(),
            runs: Arc::default(),
            shadow_runs: Arc::default(),
            panics: Arc::default(),
            sizes: Arc::default(),
            n_failures: AtomicUsize::new(0),
        })
    }
}

impl Runtime for FakeRuntime {
    fn info(&self) -> &RuntimeInfo {
        &self.info
    }

    fn load(&self, model: &Path, _options: &SessionOptions) -> Result<Box<dyn Session>, LoadError> {
        self.loads.pass();
        let spent = self.n_failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if spent.is_ok() {
            return Err(LoadError::Runtime { runtime: "fake", message: "told to fail".to_owned() });
        }
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype: DType::Fp32,
            shape: vec![Dim::Dynamic],
        };
        let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("x")] };
        Ok(Box::new(FakeSession {
            signature,
            runs: Arc::clone(if model == Path::new(SHADOW) { &self.shadow_runs } else { &self.runs }),
            panics: Arc::clone(&self.panics),
            sizes: Arc::clone(&self.sizes),
        }))
    }
}

/// A file whose runs stop at a gate of their own.
pub const SHADOW: &str = "shadow";

/// A value that makes a run fail.
pub const POISON: f32 = -1.0;

/// Answers with its input.
struct FakeSession {
    signature: Signature,
    runs: Arc<Gate>,
    panics: Arc<AtomicBool>,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl Session for FakeSession {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn run(&mut self, inputs: &[NamedTensor]) -> Result<Vec<NamedTensor>, RunError> {
        self.runs.pass();
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to panic");
        let values = inputs[0].tensor.values::<f32>().unwrap();
        self.sizes.lock().unwrap().push(values.len());
        if values.contains(&POISON) {
            return Err(RunError::Failed { message: "told to fail".to_owned() });
        }
        Ok(inputs.to_vec())
    }
}
