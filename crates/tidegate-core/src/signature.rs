//! Signatures: the named inputs and outputs of a model, with data type and shape.

use serde::{Deserialize, Serialize};

use crate::tensor::{DType, NamedTensor, Tensor};

/// What a model takes and gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: DType,
    pub shape: Vec<Dim>,
}

/// One axis. Written as a number, -1 for one that may vary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub enum Dim {
    Fixed(usize),
    Dynamic,
}

impl From<i64> for Dim {
    fn from(size: i64) -> Self {
        usize::try_from(size).map_or(Self::Dynamic, Self::Fixed)
    }
}

impl From<Dim> for i64 {
    fn from(dim: Dim) -> i64 {
        match dim {
            Dim::Fixed(size) => i64::try_from(size).unwrap_or(i64::MAX),
            Dim::Dynamic => -1,
        }
    }
}

impl Dim {
    pub fn accepts(self, size: usize) -> bool {
        self == Self::Dynamic || self == Self::Fixed(size)
    }
}

/// Why tensors do not fit a signature. The message names the tensor and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("input `{tensor}`: {reason}")]
pub struct SignatureMismatch {
    pub tensor: String,
    pub reason: String,
}

impl TensorSpec {
    /// The shape as people read it: `[-1, 3, 256, 256]`.
    pub fn shape_text(&self) -> String {
        let dims: Vec<_> = self.shape.iter().map(|dim| i64::from(*dim).to_string()).collect();
        format!("[{}]", dims.join(", "))
    }

    pub fn check(&self, tensor: &Tensor) -> Result<(), SignatureMismatch> {
        let fault = |reason| Err(SignatureMismatch { tensor: self.name.clone(), reason });
        if tensor.dtype() != self.datatype {
            return fault(format!("expected datatype {}, got {}", self.datatype, tensor.dtype()));
        }
        let fits = self.shape.len() == tensor.shape().len()
            && self.shape.iter().zip(tensor.shape()).all(|(dim, size)| dim.accepts(*size));
        if fits {
            return Ok(());
        }
        fault(format!("expected shape {}, got {:?}", self.shape_text(), tensor.shape()))
    }
}

impl Signature {
    /// Every input is there once, none is unknown, each has the datatype and shape asked for.
    pub fn check_inputs(&self, inputs: &[NamedTensor]) -> Result<(), SignatureMismatch> {
        let known = || self.inputs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ");
        for (index, input) in inputs.iter().enumerate() {
            let fault = |reason| Err(SignatureMismatch { tensor: input.name.clone(), reason });
            if inputs[..index].iter().any(|earlier| earlier.name == input.name) {
                return fault("given twice".to_owned());
            }
            match self.inputs.iter().find(|spec| spec.name == input.name) {
                Some(spec) => spec.check(&input.tensor)?,
                None => return fault(format!("the model has no such input; it takes {}", known())),
            }
        }
        match self.inputs.iter().find(|spec| !inputs.iter().any(|input| input.name == spec.name)) {
            Some(spec) => Err(SignatureMismatch {
                tensor: spec.name.clone(),
                reason: format!("missing; the model takes {} {}", spec.datatype, spec.shape_text()),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> Signature {
        Signature {
            inputs: vec![TensorSpec {
                name: "X".to_owned(),
                datatype: DType::Fp32,
                shape: vec![Dim::Dynamic, Dim::Fixed(2)],
            }],
            outputs: vec![],
        }
    }

    fn named(name: &str, tensor: Tensor) -> NamedTensor {
        NamedTensor { name: name.to_owned(), tensor }
    }

    #[test]
    fn each_mismatch_names_the_tensor_and_what_was_expected() {
        let ok = || named("X", Tensor::from_vec(vec![3, 2], vec![0f32; 6]).unwrap());
        let cases = [
            (vec![ok()], None),
            (vec![], Some("input `X`: missing; the model takes FP32 [-1, 2]")),
            (vec![ok(), ok()], Some("input `X`: given twice")),
            (
                vec![ok(), named("Y", Tensor::from_vec(vec![1], vec![0f32]).unwrap())],
                Some("input `Y`: the model has no such input; it takes X"),
            ),
            (
                vec![named("X", Tensor::from_vec(vec![1, 2], vec![0f64; 2]).unwrap())],
                Some("input `X`: expected datatype FP32, got FP64"),
            ),
            (
                vec![named("X", Tensor::from_vec(vec![1, 3], vec![0f32; 3]).unwrap())],
                Some("input `X`: expected shape [-1, 2], got [1, 3]"),
            ),
        ];
        for (inputs, expected) in cases {
            let message = signature().check_inputs(&inputs).err().map(|error| error.to_string());
            assert_eq!(message.as_deref(), expected);
        }
    }

    #[test]
    fn a_dynamic_axis_is_written_as_minus_one() {
        let json = serde_json::to_value(&signature().inputs[0]).unwrap();
        assert_eq!(json, serde_json::json!({"name": "X", "datatype": "FP32", "shape": [-1, 2]}));
        assert_eq!(serde_json::from_value::<TensorSpec>(json).unwrap(), signature().inputs[0]);
    }
}
