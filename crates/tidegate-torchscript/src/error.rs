//! Why an archive cannot be converted, and what its owner can do instead.

/// The owner's way out, in one line; docs/torchscript.md has the whole script.
const EXPORT: &str = "export it where torch is installed: `torch.onnx.export(torch.jit.load(\"model.pt\").eval(), example, \
                      \"model.onnx\", dynamo=False)` (docs/torchscript.md)";

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    #[error("not a TorchScript archive: this looks like {what_it_looks_like}")]
    NotTorchScript { what_it_looks_like: String },
    #[error("operator `{operator}` at {location} cannot be converted; {EXPORT}")]
    UnsupportedOperator { operator: String, location: String },
    #[error(
        "a value computed from the input decides what runs at {location}, which ONNX cannot follow; {EXPORT}"
    )]
    DataDependentControlFlow { location: String },
    #[error("the archive holds a `{global}`, which torch needs to read; {EXPORT}")]
    UnsupportedPickle { global: String },
    #[error("{what} at {location} cannot be converted; {EXPORT}")]
    UnsupportedCode { what: String, location: String },
    #[error(
        "the module was saved in training mode ({location}); call `.eval()` before tracing, and save it again"
    )]
    TrainingMode { location: String },
    #[error(
        "input `{name}` is {found}, only tensors can be inputs; wrap the module so that `forward` takes tensors"
    )]
    UnsupportedInput { name: String, found: String },
    #[error(
        "the result is {found}, only tensors, and tuples, lists and dictionaries of them, can be outputs"
    )]
    UnsupportedOutput { found: String },
    #[error(
        "the shape of the input is needed ({why}, at {location}); give `input_shapes` such as [-1, 3, 256, 256]"
    )]
    InputShapeNeeded { why: String, location: String },
    #[error("`input_shapes` has {given} shapes, the model takes {expected}: {names}")]
    InputShapesMismatch { given: usize, expected: usize, names: String },
    #[error("the model does not accept the given input shape: {why}, at {location}")]
    ShapeMismatch { why: String, location: String },
    #[error("the model itself refuses at {location}: {message}")]
    Raised { message: String, location: String },
    #[error("opset {opset} is not written; choose 17, 18, 19 or 20")]
    UnsupportedOpset { opset: i64 },
    #[error("{what} exceeds the limit of {limit}")]
    Limit { what: String, limit: u64 },
    #[error("the archive is damaged: {what}")]
    Malformed { what: String },
    #[error("failed to read the archive")]
    Io(#[source] std::io::Error),
}

impl ConvertError {
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }
}
