//! Whether requests of different callers may share a run of a model, found out by trying while it loads.
//!
//! A varying first axis is a batch axis in most models and not in all: a time series has one too, and some models mix what
//! lies along it (a softmax over it, one scale for all of it). So it is not believed but tried: a stacked run on made-up rows has to
//! give each row what it gets alone. And it is only used where it makes the rows cheaper.

use std::time::{Duration, Instant};

use tidegate_core::{DType, Dim, NamedTensor, Precision, Signature};

use crate::batch::{split, stack};
use crate::pack::BatchLimits;
use crate::probe::{floats, probe_inputs};
use crate::runtime::Session;

/// What is measured at 32 rows hardly gets better at more, and the first of a batch waits for the last.
const DEFAULT_MAX_ROWS: usize = 32;

/// Inputs and outputs of a batch together. Larger rows keep a core busy by themselves, so there is nothing to gain, and the
/// memory of a run, which grows with them, is never given back.
const DEFAULT_MAX_BYTES: usize = 256 * 1024;

/// A batch has to make its rows this much cheaper, or its first row waits for nothing.
const WORTHWHILE_GAIN: f64 = 1.25;

/// The most of an output's largest value by which a row may differ from itself alone: kernels for one row and for many add up
/// in another order.
const ROUNDING: f64 = 1e-3;
const ROUNDING_OF_HALF: f64 = 2e-2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchOptions {
    /// The most rows of a batch, whatever they weigh and gain; one never batches. `None`: as many as are worthwhile.
    pub max_rows: Option<usize>,
    /// How long a request may be held back while the model is at work, for others to join it.
    pub max_delay: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batching {
    pub(crate) limits: BatchLimits,
    /// Whether a row gets the same answer whatever lies beside it, as far as was tried.
    pub(crate) has_independent_rows: bool,
    /// For people: what was decided and why.
    pub(crate) reason: String,
}

impl Batching {
    fn none(reason: impl Into<String>, has_independent_rows: bool) -> Self {
        let limits = BatchLimits { max_rows: 1, max_bytes: usize::MAX, max_delay: Duration::ZERO };
        Self { limits, has_independent_rows, reason: reason.into() }
    }

    /// Tries it on sessions that have been warmed up. A batch of the size decided on has run on each of them afterwards.
    pub(crate) fn find_out(
        sessions: &mut [Box<dyn Session>],
        options: &BatchOptions,
        precision: Precision,
    ) -> Self {
        Self::try_out(sessions, options, precision).unwrap_or_else(|reason| Self::none(reason, false))
    }

    fn try_out(
        sessions: &mut [Box<dyn Session>],
        options: &BatchOptions,
        precision: Precision,
    ) -> Result<Self, String> {
        let (session, others) = sessions.split_first_mut().ok_or("it has no session")?;
        let signature = session.signature().clone();
        if options.max_rows == Some(1) {
            return Err("switched off for this model".to_owned());
        }
        check_axes(&signature)?;
        let first = timed_run(session, &probe_inputs(&signature, 0))?;
        let row_bytes = size(&probe_inputs(&signature, 0)) + size(&first.outputs);
        let n_rows = options.max_rows.unwrap_or(DEFAULT_MAX_ROWS.min(DEFAULT_MAX_BYTES / row_bytes.max(1)));
        if n_rows < 2 {
            return Err(format!("a row is {} KiB, which keeps a core busy by itself", row_bytes / 1024));
        }

        let rows: Vec<_> = (0..n_rows as u64).map(|seed| probe_inputs(&signature, seed)).collect();
        let stacked = stack(rows.iter().map(Vec::as_slice)).ok_or("its rows do not stack")?;
        let together = timed_run(session, &stacked)?;
        let apart =
            split(&together.outputs, rows.iter().map(|_| 1)).ok_or("its outputs are not one for each row")?;
        let mut single = first.time;
        for row in [0, n_rows / 2, n_rows - 1] {
            let alone = timed_run(session, &rows[row])?;
            single = single.min(alone.time);
            let differs = alone
                .outputs
                .iter()
                .zip(&apart[row])
                .find(|(alone, together)| !is_same(alone, together, precision));
            if let Some((output, _)) = differs {
                return Err(format!("a row of `{}` depends on the rows beside it", output.name));
            }
        }
        let mut whole = together.time;
        for session in others.iter_mut().chain([session]) {
            whole = whole.min(timed_run(session, &stacked)?.time);
        }

        let gain = single.as_secs_f64() * n_rows as f64 / whole.as_secs_f64().max(f64::MIN_POSITIVE);
        let measured = format!("{n_rows} rows together take {whole:.1?}, one takes {single:.1?}");
        if options.max_rows.is_none() && gain < WORTHWHILE_GAIN {
            return Ok(Self::none(format!("there is nothing to gain: {measured}"), true));
        }
        let max_bytes = if options.max_rows.is_some() { usize::MAX } else { DEFAULT_MAX_BYTES };
        let limits = BatchLimits { max_rows: n_rows, max_bytes, max_delay: options.max_delay };
        Ok(Self { limits, has_independent_rows: true, reason: measured })
    }
}

fn check_axes(signature: &Signature) -> Result<(), String> {
    if signature.inputs.is_empty() {
        return Err("it takes no input".to_owned());
    }
    match signature
        .inputs
        .iter()
        .chain(&signature.outputs)
        .find(|spec| spec.shape.first() != Some(&Dim::Dynamic))
    {
        Some(spec) => Err(format!("the first axis of `{}` {} does not vary", spec.name, spec.shape_text())),
        None => Ok(()),
    }
}

struct TimedRun {
    outputs: Vec<NamedTensor>,
    time: Duration,
}

fn timed_run(session: &mut Box<dyn Session>, inputs: &[NamedTensor]) -> Result<TimedRun, String> {
    let started = Instant::now();
    let outputs = session.run(inputs);
    let time = started.elapsed();
    let outputs =
        outputs.map_err(|error| format!("it does not run on {}: {error}", crate::probe::describe(inputs)))?;
    Ok(TimedRun { outputs, time })
}

fn size(tensors: &[NamedTensor]) -> usize {
    tensors.iter().map(|named| named.tensor.size_bytes()).sum()
}

/// Equal but for rounding, which only floats have.
fn is_same(alone: &NamedTensor, together: &NamedTensor, precision: Precision) -> bool {
    let (Some(a), Some(b)) = (floats(&alone.tensor), floats(&together.tensor)) else {
        return alone.tensor == together.tensor;
    };
    let largest = a.iter().map(|value| value.abs()).filter(|value| value.is_finite()).fold(0.0, f64::max);
    let is_half = precision == Precision::Bf16 || matches!(alone.tensor.dtype(), DType::Fp16 | DType::Bf16);
    let allowed = largest * if is_half { ROUNDING_OF_HALF } else { ROUNDING };
    let is_close = |(a, b): (&f64, &f64)| (a - b).abs() <= allowed || a == b || a.is_nan() && b.is_nan();
    alone.tensor.shape() == together.tensor.shape() && a.iter().zip(&b).all(is_close)
}
