//! Running tiles on a slot from a thread that may block.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate_core::{NamedTensor, Tensor};
use tidegate_geo::RunFault;
use tidegate_serve::{InferError, InferOptions, Inference, Priority, Server, Slot, Standing};

use crate::operations::shadow::TileSample;

/// One slot, asked tile by tile through the queue that every request takes.
pub struct TileRunner {
    server: Arc<Server>,
    slot: Arc<Slot>,
    standing: Standing,
    runtime: tokio::runtime::Handle,
    caller_left: Arc<AtomicBool>,
    /// For the shadow, where there is one.
    sample: Option<Mutex<TileSample>>,
}

/// Held by whoever wants the result; dropped, the next tile is not run.
pub struct CallerGuard(Arc<AtomicBool>);

impl Drop for CallerGuard {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl TileRunner {
    /// To be called within the Tokio runtime that the tiles are to be run by.
    pub fn new(server: Arc<Server>, slot: Arc<Slot>, standing: Standing) -> (Self, CallerGuard) {
        let caller_left = Arc::new(AtomicBool::new(false));
        let guard = CallerGuard(Arc::clone(&caller_left));
        let runtime = tokio::runtime::Handle::current();
        (Self { server, slot, standing, runtime, caller_left, sample: None }, guard)
    }

    /// Offers each tile and its answer to the sample.
    pub(crate) fn with_sample(self, sample: Option<TileSample>) -> Self {
        Self { sample: sample.map(Mutex::new), ..self }
    }

    pub(crate) fn into_sample(self) -> Option<TileSample> {
        self.sample.map(|sample| sample.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The tile as the model's one input.
    pub fn inputs(&self, tile: Tensor) -> Result<Vec<NamedTensor>, RunFault> {
        match self.slot.signature().inputs.as_slice() {
            [spec] => Ok(vec![NamedTensor { name: spec.name.clone(), tensor: tile }]),
            inputs => {
                Err(RunFault::new(format!("the model takes {} tensors, an image is one", inputs.len())))
            }
        }
    }

    pub(crate) fn run(&self, inputs: Vec<NamedTensor>) -> Result<Tensor, RunFault> {
        let options = InferOptions { standing: self.standing, ..InferOptions::default() };
        let for_shadow = self.sample.as_ref().map(|sample| (sample, inputs.clone()));
        let inference = self.wait_for(self.server.infer_with(&self.slot, inputs, options))?;
        if let Some((sample, inputs)) = for_shadow {
            sample.lock().unwrap_or_else(PoisonError::into_inner).offer(inputs, &inference);
        }
        first_output(inference)
    }

    /// The same for work that nobody waits for, and that no shadow sees.
    pub fn run_behind_callers(&self, inputs: &[NamedTensor]) -> Result<Tensor, RunFault> {
        self.wait_for(infer_behind_callers(&self.server, &self.slot, inputs)).and_then(first_output)
    }

    fn wait_for(
        &self,
        inference: impl Future<Output = Result<Inference, InferError>>,
    ) -> Result<Inference, RunFault> {
        if self.caller_left.load(Ordering::Relaxed) {
            return Err(RunFault::new("the caller went away"));
        }
        self.runtime.block_on(inference).map_err(RunFault::new)
    }
}

fn first_output(inference: Inference) -> Result<Tensor, RunFault> {
    let first = inference.outputs.into_iter().next();
    first.map(|output| output.tensor).ok_or_else(|| RunFault::new("the model gives no output"))
}

/// How long work that nobody waits for lets callers go first, before it queues as one of them: a server that is never idle
/// must still be able to get a better version. A slow model's run is part of it, several times over.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_RUNS: u32 = 10;

/// How long to wait before asking an overloaded server again.
const OVERLOAD_PAUSE: Duration = Duration::from_millis(20);

/// Runs when no caller's request could, or after some patience as one of them; waits while the server is overloaded.
pub async fn infer_behind_callers(
    server: &Server,
    slot: &Arc<Slot>,
    inputs: &[NamedTensor],
) -> Result<Inference, InferError> {
    let deadline = Instant::now() + BACKGROUND_PATIENCE + PATIENCE_RUNS * slot.warm_latency();
    let patient = InferOptions { standing: Standing::Apart, alone: true, ..InferOptions::default() };
    let mut options = InferOptions { deadline: Some(deadline), priority: Priority::Background, ..patient };
    loop {
        match server.infer_with(slot, inputs.to_vec(), options).await {
            Err(InferError::DeadlineExceeded) => options = patient,
            Err(InferError::Overloaded { .. }) => {
                tokio::time::sleep(OVERLOAD_PAUSE).await;
                if Instant::now() >= deadline {
                    options = patient;
                }
            }
            other => return other,
        }
    }
}
