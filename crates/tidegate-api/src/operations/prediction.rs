//! From output tensors to the `prediction` object.

use half::{bf16, f16};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use tidegate_core::{DType, Dim, NamedTensor, Signature, Tensor};

use super::nested::Rows;

/// Output name -> value. A batch of one is written without its axis, and what is left of axes that are always of length
/// one as a single value. Written straight from the tensors.
#[derive(Clone, Debug)]
pub(crate) struct Prediction(Vec<Output>);

#[derive(Clone, Debug)]
struct Output {
    name: String,
    tensor: Tensor,
    /// As written: without the axes that are left out.
    shape: Vec<usize>,
}

/// A model that answers NaN or infinity has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("output `{output}` holds NaN or infinity")]
pub(crate) struct NotFinite {
    pub output: String,
}

impl Prediction {
    pub(crate) fn new(outputs: Vec<NamedTensor>, signature: &Signature) -> Result<Self, NotFinite> {
        let outputs = outputs.into_iter().map(|NamedTensor { name, tensor }| {
            if !is_finite(&tensor) {
                return Err(NotFinite { output: name });
            }
            let dims =
                signature.outputs.iter().find(|spec| spec.name == name).map(|spec| spec.shape.as_slice());
            let shape = written_shape(tensor.shape(), dims.unwrap_or(&[]));
            Ok(Output { name, tensor, shape })
        });
        outputs.collect::<Result<_, _>>().map(Self)
    }

    /// The largest probability, where some output is known to be a distribution over classes: two or more values in
    /// [0, 1] that sum to one. `None` where it cannot be known, also for batches.
    pub(crate) fn confidence(&self) -> Option<f64> {
        self.0.iter().find_map(|output| match output.tensor.shape() {
            [1, n_classes] if *n_classes >= 2 => distribution_maximum(&output.tensor),
            _ => None,
        })
    }

    pub(crate) fn into_outputs(self) -> Vec<NamedTensor> {
        let named = |output: Output| NamedTensor { name: output.name, tensor: output.tensor };
        self.0.into_iter().map(named).collect()
    }

    /// How much memory the values take.
    pub(crate) fn size_bytes(&self) -> usize {
        self.0.iter().map(|output| output.tensor.size_bytes()).sum()
    }

    /// The same values, in no larger piece of memory than they need.
    pub(crate) fn with_own_memory(&self) -> Self {
        let own = |output: &Output| Output { tensor: output.tensor.with_own_memory(), ..output.clone() };
        Self(self.0.iter().map(own).collect())
    }

    pub(crate) fn n_elements(&self) -> usize {
        self.0.iter().map(|output| output.tensor.n_elements()).sum()
    }
}

/// How far from one the sum of a float32 softmax may be.
const SUM_TOLERANCE: f64 = 1e-3;

fn distribution_maximum(tensor: &Tensor) -> Option<f64> {
    let values: Vec<f64> = match tensor.dtype() {
        DType::Fp32 => tensor.values::<f32>()?.iter().map(|value| f64::from(*value)).collect(),
        DType::Fp64 => tensor.values::<f64>()?.to_vec(),
        DType::Fp16 => tensor.values::<f16>()?.iter().map(|value| value.to_f64()).collect(),
        DType::Bf16 => tensor.values::<bf16>()?.iter().map(|value| value.to_f64()).collect(),
        _ => return None,
    };
    let sum: f64 = values.iter().sum();
    let is_distribution =
        values.iter().all(|value| (0.0..=1.0).contains(value)) && (sum - 1.0).abs() <= SUM_TOLERANCE;
    is_distribution.then(|| values.into_iter().fold(0.0, f64::max))
}

fn written_shape(shape: &[usize], dims: &[Dim]) -> Vec<usize> {
    let is_batch = matches!(dims.first(), Some(Dim::Dynamic | Dim::Fixed(1)));
    match shape.split_first() {
        Some((1, rest)) if is_batch => {
            let always_one = dims[1..].iter().all(|dim| *dim == Dim::Fixed(1));
            if always_one { Vec::new() } else { rest.to_vec() }
        }
        _ => shape.to_vec(),
    }
}

fn is_finite(tensor: &Tensor) -> bool {
    match tensor.dtype() {
        DType::Fp32 => {
            tensor.values::<f32>().is_some_and(|values| values.iter().all(|value| value.is_finite()))
        }
        DType::Fp64 => {
            tensor.values::<f64>().is_some_and(|values| values.iter().all(|value| value.is_finite()))
        }
        DType::Fp16 => {
            tensor.values::<f16>().is_some_and(|values| values.iter().all(|value| value.is_finite()))
        }
        DType::Bf16 => {
            tensor.values::<bf16>().is_some_and(|values| values.iter().all(|value| value.is_finite()))
        }
        _ => true,
    }
}

impl Serialize for Prediction {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for output in &self.0 {
            map.serialize_entry(&output.name, output)?;
        }
        map.end()
    }
}

impl Serialize for Output {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_values(&self.tensor, &self.shape, serializer)
    }
}

/// A tensor as one flat array in row-major order.
pub(crate) struct FlatValues<'a>(pub &'a Tensor);

impl Serialize for FlatValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_values(self.0, &[self.0.n_elements()], serializer)
    }
}

fn write_values<S: Serializer>(tensor: &Tensor, shape: &[usize], serializer: S) -> Result<S::Ok, S::Error> {
    macro_rules! write {
        ($element:ty) => {
            Rows { shape, values: &tensor.values::<$element>().unwrap_or_default() }.serialize(serializer)
        };
        ($element:ty, $convert:expr) => {{
            let values = tensor.values::<$element>().unwrap_or_default();
            let values: Vec<_> = values.iter().map($convert).collect();
            Rows { shape, values: &values }.serialize(serializer)
        }};
    }
    match tensor.dtype() {
        DType::Bool => {
            let bytes = tensor.as_bytes().map_or(&[][..], |bytes| bytes);
            let values: Vec<_> = bytes.iter().map(|byte| *byte != 0).collect();
            Rows { shape, values: &values }.serialize(serializer)
        }
        DType::Bytes => {
            let strings = tensor.as_strings().unwrap_or_default();
            let values: Vec<_> = strings.iter().map(|bytes| String::from_utf8_lossy(bytes)).collect();
            Rows { shape, values: &values }.serialize(serializer)
        }
        DType::Uint8 => write!(u8),
        DType::Uint16 => write!(u16),
        DType::Uint32 => write!(u32),
        DType::Uint64 => write!(u64),
        DType::Int8 => write!(i8),
        DType::Int16 => write!(i16),
        DType::Int32 => write!(i32),
        DType::Int64 => write!(i64),
        DType::Fp16 => write!(f16, |value| value.to_f32()),
        DType::Bf16 => write!(bf16, |value| value.to_f32()),
        DType::Fp32 => write!(f32),
        DType::Fp64 => write!(f64),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};
    use tidegate_core::TensorSpec;

    use super::*;

    fn predict(dims: &[i64], tensor: Tensor) -> Result<Prediction, NotFinite> {
        let shape = dims.iter().copied().map(Dim::from).collect();
        let spec = TensorSpec { name: "Y".to_owned(), datatype: tensor.dtype(), shape };
        let signature = Signature { inputs: vec![], outputs: vec![spec] };
        Prediction::new(vec![NamedTensor { name: "Y".to_owned(), tensor }], &signature)
    }

    fn floats(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap()
    }

    #[test]
    fn a_batch_of_one_has_no_axis_and_constant_ones_vanish() {
        let cases: [(&[i64], Tensor, Value); 7] = [
            (&[-1, 2], floats(&[1, 2], &[0.1, 0.25]), json!([0.1, 0.25])),
            (&[-1, 2], floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), json!([[1.0, 2.0], [3.0, 4.0]])),
            (&[-1, 1], floats(&[1, 1], &[0.5]), json!(0.5)),
            (&[-1, -1], floats(&[1, 1], &[0.5]), json!([0.5])),
            (&[-1], Tensor::from_vec(vec![1], vec![7i64]).unwrap(), json!(7)),
            (&[2], Tensor::from_bools(vec![2], &[true, false]).unwrap(), json!([true, false])),
            (&[-1], Tensor::from_strings(vec![1], vec![Bytes::from("low")]).unwrap(), json!("low")),
        ];
        for (dims, tensor, expected) in cases {
            let text = serde_json::to_string(&predict(dims, tensor).unwrap()).unwrap();
            assert_eq!(text, json!({"Y": expected}).to_string());
        }
        let empty = serde_json::to_string(&predict(&[-1, 0], floats(&[2, 0], &[])).unwrap()).unwrap();
        assert_eq!(empty, r#"{"Y":[[],[]]}"#);
    }

    #[test]
    fn confidence_is_known_of_a_distribution_only() {
        let confidence = |dims: &[i64], tensor| predict(dims, tensor).unwrap().confidence();
        let known = confidence(&[-1, 3], floats(&[1, 3], &[0.25, 0.5, 0.25]));
        assert_eq!(known, Some(0.5));
        for unknown in [
            floats(&[1, 2], &[0.5, 0.75]),
            floats(&[1, 2], &[-0.5, 1.5]),
            floats(&[1, 1], &[1.0]),
            floats(&[2, 2], &[0.5; 4]),
            Tensor::from_vec(vec![1, 2], vec![0i64, 1]).unwrap(),
        ] {
            assert_eq!(confidence(&[-1, -1], unknown.clone()), None, "{unknown:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_refused_by_name() {
        assert_eq!(predict(&[1], floats(&[1], &[f32::NAN])).unwrap_err().output, "Y");
        assert!(predict(&[1], Tensor::from_vec(vec![1], vec![f64::INFINITY]).unwrap()).is_err());
    }
}
