//! TorchScript archives (`torch.jit.save`) become ONNX, in Rust, without torch and without Python.
//!
//! An archive is a zip of a pickle (the module tree and its weights) and of program text in a small subset of Python. The
//! pickle is read by a machine that knows only what torch writes; the program is run once, symbolically: numbers, lists
//! and flags are computed as Python would, tensors become nodes of a graph. What depends on the *values* of the input
//! cannot be written down so and is refused by name.
//!
//! ```text
//! archive -> pickle -> heap + initializers ─┐
//!         -> source -> program ─────────────┴─> interpret -> operators -> graph -> onnx
//! ```
//!
//! Knows no files, no network, no runtime and no registry: bytes come from a [`Read`] and [`Seek`] argument, bytes go
//! back. It trusts nothing in an archive: every size, depth and number of steps has a limit, and bad input is an error.
//!
//! Start reading at [`convert`], then `interpret`, then any file of `operators`.

mod archive;
mod attempt;
mod error;
mod fault;
mod graph;
mod heap;
mod interpret;
mod onnx;
mod operators;
mod pickle;
mod source;

use std::io::{Read, Seek};

pub use error::ConvertError;
pub use operators::supported_operators;

/// The only ONNX operator sets that are written (default 17: what every runtime of the last years reads).
pub const OPSETS: std::ops::RangeInclusive<i64> = 17..=20;

/// How to convert.
#[derive(Clone, Debug)]
pub struct Options {
    /// The shape of each input in order, -1 for an axis of any size; `None` where unknown. An archive does not say what
    /// its inputs look like: without shapes, ranks and channels are inferred from the first layers, and a model whose
    /// layers depend on height and width is refused.
    pub input_shapes: Option<Vec<Vec<i64>>>,
    /// The ONNX operator set to write, one of [`OPSETS`].
    pub opset: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { input_shapes: None, opset: *OPSETS.start() }
    }
}

/// An ONNX model and what went into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The whole file, weights included.
    pub onnx: Vec<u8>,
    /// The names of the inputs, in the order of `forward`'s arguments.
    pub inputs: Vec<String>,
    /// The torch operators that were met, as `aten::relu`, sorted.
    pub operators: Vec<String>,
    pub n_nodes: usize,
    /// Elements of all weights and buffers that are used; shared ones count once.
    pub n_parameters: u64,
}

/// Converts a traced, frozen or scripted module saved by `torch.jit.save`.
///
/// The first axis of every input varies (the batch) unless the trace has a fixed batch written into it; the axes from the
/// third on (height and width) vary where every operator allows it, otherwise they are as given in the options.
pub fn convert<R: Read + Seek>(archive: R, options: &Options) -> Result<Converted, ConvertError> {
    if !OPSETS.contains(&options.opset) {
        return Err(ConvertError::UnsupportedOpset { opset: options.opset });
    }
    let mut archive = archive::Archive::open(archive)?;
    let program = source::Program::parse(&archive.read_code()?)?;
    let module = pickle::load(&mut archive)?;
    let traced = attempt::trace(&program, &module, options)?;
    traced.write(options.opset)
}
