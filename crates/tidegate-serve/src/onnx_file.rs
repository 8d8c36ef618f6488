//! What an ONNX file says about itself, read without its weights: inputs, outputs, operators, and files it leans on.
//!
//! Both runtimes go through here before they see a file, so that a bad file gets one clear error whichever runs, and so
//! that a hostile one is refused by code that allocates nothing on its word. Schema:
//! <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3>.

mod graph;
mod guess;
pub(crate) mod wire;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::BufReader;
use std::path::{Component, Path};

use tidegate_core::tensor::element_count;
use tidegate_core::{DType, Dim, Precision, Signature, TensorSpec};

use crate::load_error::LoadError;
use wire::{Fault, Wire};

/// Larger fixed inputs would make a single request, or the trial run, take this much memory.
const MAX_INPUT_BYTES: usize = 4 << 30;

pub(crate) struct OnnxFile {
    pub(crate) inputs: Vec<TensorSpec>,
    pub(crate) outputs: Vec<DeclaredOutput>,
    pub(crate) operators: BTreeSet<Operator>,
    /// Operators that are told a `mode`, and which.
    pub(crate) modes: BTreeSet<(String, String)>,
    ir_version: u64,
    /// Of the standard operators; `None` where the file uses none.
    pub(crate) opset: Option<u64>,
    final_operator: Option<String>,
}

/// What an ONNX file says of itself, for people who prepare one: no runtime is needed to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxDescription {
    pub ir_version: u64,
    /// Of the standard operators; `None` where the file uses none.
    pub opset: Option<u64>,
    pub inputs: Vec<TensorSpec>,
    /// Name and shape; `None` where the file does not give the shape.
    pub outputs: Vec<(String, Option<Vec<Dim>>)>,
    /// The operator that computes the first output, behind those that only pass its values on: `Sigmoid`, `Conv`.
    pub final_operator: Option<String>,
    /// Whether it computes in 8-bit integers, or holds weights in them.
    pub is_quantised: bool,
}

impl OnnxDescription {
    /// In which precision a version of this file computes: as asked for, or as the file says. The error says why it
    /// cannot be that one, and what to do.
    pub fn precision(&self, asked: Option<Precision>) -> Result<Precision, &'static str> {
        match (asked, self.is_quantised) {
            (None | Some(Precision::F32), false) => Ok(Precision::F32),
            (None | Some(Precision::Int8), true) => Ok(Precision::Int8),
            (Some(Precision::Bf16), _) => Ok(Precision::Bf16),
            (Some(Precision::Int8), false) => Err("the file is not quantised; quantise it first \
                 (`onnxruntime.quantization.quantize_static(\"model.onnx\", \"model-int8.onnx\", calibration_data_reader)`) and \
                 register that file"),
            (Some(Precision::F32), true) => {
                Err("the file is quantised, so it computes in int8; leave the precision out, or \
                 register the file that it was made from")
            }
        }
    }
}

/// Reads an ONNX file's own description, without its weights.
pub fn describe_onnx(path: &Path) -> Result<OnnxDescription, LoadError> {
    let file = OnnxFile::read(path)?;
    Ok(OnnxDescription {
        ir_version: file.ir_version,
        opset: file.opset,
        inputs: file.inputs,
        outputs: file.outputs.into_iter().map(|output| (output.name, output.shape)).collect(),
        final_operator: file.final_operator,
        is_quantised: file.operators.iter().any(Operator::is_quantised),
    })
}

/// Operators that leave values what they are, or interpolate between them.
const PASSING_ON: [&str; 12] = [
    "Identity",
    "Cast",
    "Reshape",
    "Squeeze",
    "Unsqueeze",
    "Flatten",
    "Transpose",
    "Slice",
    "Resize",
    "Upsample",
    "QuantizeLinear",
    "DequantizeLinear",
];

/// Follows a value back to what really computes it. A graph has no cycles, a damaged file may: hence the bound.
fn final_operator(producers: &HashMap<String, graph::Producer>, output: &str) -> Option<String> {
    const MAX_STEPS: usize = 64;
    let mut producer = producers.get(output)?;
    for _ in 0..MAX_STEPS {
        if !PASSING_ON.contains(&producer.operator.as_str()) {
            return Some(producer.operator.clone());
        }
        producer = producers.get(&producer.first_input)?;
    }
    None
}

/// An output whose shape the file need not give.
pub(crate) struct DeclaredOutput {
    pub(crate) name: String,
    pub(crate) datatype: DType,
    pub(crate) shape: Option<Vec<Dim>>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operator {
    /// Empty for the standard operators.
    pub(crate) domain: String,
    pub(crate) name: String,
}

impl Operator {
    /// Whether it works on 8-bit integers, or turns numbers into them or back: the standard operators (`QuantizeLinear`,
    /// `DequantizeLinear`, `DynamicQuantizeLinear`, `QLinearConv`, `MatMulInteger`, ...) and those that ONNX Runtime's quantiser
    /// writes beside them.
    fn is_quantised(&self) -> bool {
        const ALSO: [&str; 3] = ["QGemm", "QAttention", "QEmbedLayerNormalization"];
        let name = self.name.as_str();
        name.contains("Quantize")
            || name.contains("Integer")
            || name.starts_with("QLinear")
            || ALSO.contains(&name)
    }
}

impl OnnxFile {
    pub(crate) fn read(path: &Path) -> Result<Self, LoadError> {
        let not_onnx = |guess: String| LoadError::NotOnnx { path: path.to_owned(), guess };
        let file = File::open(path).map_err(|error| LoadError::io(path, error))?;
        let metadata = file.metadata().map_err(|error| LoadError::io(path, error))?;
        if metadata.is_dir() {
            return Err(not_onnx("it is a folder; give the `.onnx` file itself".to_owned()));
        }
        if let Some(guess) = guess::foreign_format(path, metadata.len()) {
            return Err(not_onnx(guess.to_owned()));
        }
        let mut wire = Wire::new(BufReader::new(file));
        let model = graph::read_model(&mut wire, metadata.len()).map_err(|fault| match fault {
            Fault::Io(error) => LoadError::io(path, error),
            Fault::Truncated => not_onnx(guess::damaged(path, "it ends in the middle of a field").to_owned()),
            Fault::Malformed => not_onnx(guess::damaged(path, "its contents are damaged").to_owned()),
        })?;
        if model.outputs.is_empty() {
            return Err(not_onnx("it holds no graph with outputs; is it cut short?".to_owned()));
        }
        if !model.imports_operators {
            return Err(not_onnx("it says no operator set version; is it cut short?".to_owned()));
        }
        check_external_data(path, &model.external_data)?;
        Self::from_model(model)
    }

    fn from_model(model: graph::Model) -> Result<Self, LoadError> {
        let final_operator =
            model.outputs.first().and_then(|output| final_operator(&model.producers, &output.name));
        let (ir_version, opset) = (model.ir_version, model.opsets.get("").copied());
        let mut inputs = vec![];
        for value in model.inputs {
            // Before IR version 4, weights were listed among the inputs; they need not be given.
            if model.initializers.contains(&value.name) {
                continue;
            }
            let datatype = datatype(&value, "input")?;
            let shape = value.shape.clone().ok_or_else(|| LoadError::Unsupported {
                subject: format!("input `{}` declares no shape", value.name),
                fix: "export the model with the shape of its inputs (a size of -1 or a name where it varies)"
                    .to_owned(),
            })?;
            check_size(&value.name, datatype, &shape)?;
            inputs.push(TensorSpec { name: value.name, datatype, shape });
        }
        let outputs = model.outputs.into_iter().map(|value| {
            let datatype = datatype(&value, "output")?;
            Ok(DeclaredOutput { name: value.name, datatype, shape: value.shape })
        });
        let outputs = outputs.collect::<Result<_, _>>()?;
        let (operators, modes) = (model.operators, model.modes);
        Ok(Self { inputs, outputs, operators, modes, ir_version, opset, final_operator })
    }

    /// The names of outputs that declare no shape.
    pub(crate) fn open_outputs(&self) -> Vec<String> {
        self.outputs
            .iter()
            .filter(|output| output.shape.is_none())
            .map(|output| output.name.clone())
            .collect()
    }

    /// The signature; an output that declares no shape counts as a scalar until a run has shown its axes.
    pub(crate) fn into_signature(self) -> Signature {
        let spec = |output: DeclaredOutput| TensorSpec {
            name: output.name,
            datatype: output.datatype,
            shape: output.shape.unwrap_or_default(),
        };
        Signature { inputs: self.inputs, outputs: self.outputs.into_iter().map(spec).collect() }
    }
}

fn datatype(value: &graph::ValueInfo, role: &str) -> Result<DType, LoadError> {
    let subject = |what: &str| format!("{role} `{}` is {what}", value.name);
    match value.kind {
        graph::Kind::Tensor(code) => dtype_of_code(code).ok_or_else(|| LoadError::Unsupported {
            subject: subject(&format!("of the ONNX data type number {code}")),
            fix: "cast it to a type of the Open Inference Protocol (such as FLOAT) in the exported graph"
                .to_owned(),
        }),
        graph::Kind::Other(what) => Err(LoadError::Unsupported {
            subject: subject(&format!("a {what}, not a tensor")),
            fix: "export the model with tensors only (for scikit-learn: `convert_sklearn(model, \
                  options={'zipmap': False})`)"
                .to_owned(),
        }),
    }
}

/// `TensorProto.DataType` of the schema.
fn dtype_of_code(code: u64) -> Option<DType> {
    Some(match code {
        1 => DType::Fp32,
        2 => DType::Uint8,
        3 => DType::Int8,
        4 => DType::Uint16,
        5 => DType::Int16,
        6 => DType::Int32,
        7 => DType::Int64,
        8 => DType::Bytes,
        9 => DType::Bool,
        10 => DType::Fp16,
        11 => DType::Fp64,
        12 => DType::Uint32,
        13 => DType::Uint64,
        16 => DType::Bf16,
        _ => return None,
    })
}

fn check_size(name: &str, datatype: DType, shape: &[Dim]) -> Result<(), LoadError> {
    let sizes: Vec<usize> =
        shape.iter().map(|dim| if let Dim::Fixed(size) = dim { *size } else { 1 }).collect();
    let bytes =
        element_count(&sizes).ok().and_then(|count| count.checked_mul(datatype.size_bytes().unwrap_or(1)));
    if bytes.is_some_and(|bytes| bytes <= MAX_INPUT_BYTES) {
        return Ok(());
    }
    Err(LoadError::Unsupported {
        subject: format!("input `{name}` of shape {sizes:?} needs more than {} GiB", MAX_INPUT_BYTES >> 30),
        fix: "export the model for smaller inputs".to_owned(),
    })
}

fn check_external_data(model: &Path, locations: &BTreeSet<String>) -> Result<(), LoadError> {
    for location in locations {
        let mut parts = Path::new(location).components();
        let is_plain_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        // On Windows a backslash separates folders; a name that has one anywhere is not worth telling apart.
        if !is_plain_name || location.contains(['/', '\\', ':', '\0']) {
            return Err(LoadError::ExternalDataRefused { location: location.clone() });
        }
        // A link would lead out of the folder again.
        let is_file =
            model.with_file_name(location).symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        if !is_file {
            return Err(LoadError::ExternalDataMissing { location: location.clone() });
        }
    }
    Ok(())
}
