//! Made-up inputs that fit a signature, and whether the outputs of a run do: for warming up and for validation.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tidegate_core::tensor::{Element, element_count};
use tidegate_core::{DType, Dim, NamedTensor, Signature, Tensor, TensorSpec};

use crate::load_error::LoadError;
use crate::runtime::RunError;

/// A varying axis of an image (any but the first of a 4-D tensor). Networks that halve an image up to six times need a
/// multiple of 64, and 64 pixels are quick to run.
const DYNAMIC_IMAGE_AXIS: usize = 64;

/// A probe never holds more elements: beyond, an axis counts as one.
const MAX_ELEMENTS: usize = 1 << 30;

/// One tensor per input, the same for the same seed. A varying axis is 1 (64 where it may be the height or width of an
/// image). Floats lie in [0, 1), like scaled pixels and probabilities; integers are 0 or 1, which every vocabulary and
/// category list has; strings are `probe`.
pub fn probe_inputs(signature: &Signature, seed: u64) -> Vec<NamedTensor> {
    let mut rng = StdRng::seed_from_u64(seed);
    let named = |spec: &TensorSpec| NamedTensor {
        name: spec.name.clone(),
        tensor: probe_tensor(spec.datatype, probe_shape(spec), &mut rng),
    };
    signature.inputs.iter().map(named).collect()
}

/// Whether outputs are what the signature promises: every name, its datatype, its number of axes, fixed axes as declared,
/// and floats finite. The message names the output.
pub fn check_outputs(signature: &Signature, outputs: &[NamedTensor]) -> Result<(), String> {
    for spec in &signature.outputs {
        let Some(output) = outputs.iter().find(|output| output.name == spec.name) else {
            return Err(format!("output `{}` is missing", spec.name));
        };
        if let Err(mismatch) = spec.check(&output.tensor) {
            return Err(format!("output `{}`: {}", spec.name, mismatch.reason));
        }
        if let Some(bad) = first_not_finite(&output.tensor) {
            return Err(format!("output `{}` holds {bad}, which is not a finite number", spec.name));
        }
    }
    Ok(())
}

/// Fills in the number of axes of outputs whose shape the file leaves open, by running the model once.
pub(crate) fn measure_open_outputs(
    signature: &mut Signature,
    open: &[String],
    run: impl FnOnce(&[NamedTensor]) -> Result<Vec<NamedTensor>, RunError>,
) -> Result<(), LoadError> {
    if open.is_empty() {
        return Ok(());
    }
    let inputs = probe_inputs(signature, 0);
    let outputs = run(&inputs).map_err(|source| LoadError::WarmUp { inputs: describe(&inputs), source })?;
    for spec in signature.outputs.iter_mut().filter(|spec| open.contains(&spec.name)) {
        if let Some(output) = outputs.iter().find(|output| output.name == spec.name) {
            spec.shape = vec![Dim::Dynamic; output.tensor.shape().len()];
        }
    }
    Ok(())
}

/// Names and shapes, for messages: `` `x` [1, 3, 64, 64] ``.
pub(crate) fn describe(inputs: &[NamedTensor]) -> String {
    let texts: Vec<_> =
        inputs.iter().map(|input| format!("`{}` {:?}", input.name, input.tensor.shape())).collect();
    texts.join(", ")
}

fn probe_shape(spec: &TensorSpec) -> Vec<usize> {
    let is_image = spec.shape.len() == 4;
    let mut shape = vec![];
    for (axis, dim) in spec.shape.iter().enumerate() {
        let size = match dim {
            Dim::Fixed(size) => *size,
            Dim::Dynamic if is_image && axis > 0 => DYNAMIC_IMAGE_AXIS,
            Dim::Dynamic => 1,
        };
        shape.push(size);
        if element_count(&shape).map_or(true, |count| count > MAX_ELEMENTS) {
            shape[axis] = 1;
        }
    }
    shape
}

fn probe_tensor(datatype: DType, shape: Vec<usize>, rng: &mut StdRng) -> Tensor {
    let n = shape.iter().product::<usize>();
    let tensor = match datatype {
        DType::Fp32 => filled(shape, n, || rng.random::<f32>()),
        DType::Fp64 => filled(shape, n, || rng.random::<f64>()),
        DType::Fp16 => filled(shape, n, || half::f16::from_f32(rng.random::<f32>())),
        DType::Bf16 => filled(shape, n, || half::bf16::from_f32(rng.random::<f32>())),
        DType::Uint8 => filled(shape, n, || u8::from(rng.random::<bool>())),
        DType::Uint16 => filled(shape, n, || u16::from(rng.random::<bool>())),
        DType::Uint32 => filled(shape, n, || u32::from(rng.random::<bool>())),
        DType::Uint64 => filled(shape, n, || u64::from(rng.random::<bool>())),
        DType::Int8 => filled(shape, n, || i8::from(rng.random::<bool>())),
        DType::Int16 => filled(shape, n, || i16::from(rng.random::<bool>())),
        DType::Int32 => filled(shape, n, || i32::from(rng.random::<bool>())),
        DType::Int64 => filled(shape, n, || i64::from(rng.random::<bool>())),
        DType::Bool => {
            let values: Vec<bool> = (0..n).map(|_| rng.random()).collect();
            Tensor::from_bools(shape, &values)
        }
        DType::Bytes => Tensor::from_strings(shape, vec![Bytes::from_static(b"probe"); n]),
    };
    tensor.expect("there are as many values as the shape has elements")
}

fn filled<T: Element>(
    shape: Vec<usize>,
    n: usize,
    mut value: impl FnMut() -> T,
) -> Result<Tensor, tidegate_core::TensorError> {
    Tensor::from_vec(shape, (0..n).map(|_| value()).collect())
}

/// The values of a tensor of floats, widened; `None` for every other type.
pub(crate) fn floats(tensor: &Tensor) -> Option<Vec<f64>> {
    Some(match tensor.dtype() {
        DType::Fp32 => tensor.values::<f32>()?.iter().map(|value| f64::from(*value)).collect(),
        DType::Fp64 => tensor.values::<f64>()?.into_owned(),
        DType::Fp16 => tensor.values::<half::f16>()?.iter().map(|value| f64::from(*value)).collect(),
        DType::Bf16 => tensor.values::<half::bf16>()?.iter().map(|value| f64::from(*value)).collect(),
        _ => return None,
    })
}

pub(crate) fn first_not_finite(tensor: &Tensor) -> Option<f64> {
    floats(tensor)?.into_iter().find(|value| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, datatype: DType, shape: &[i64]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            datatype,
            shape: shape.iter().map(|size| Dim::from(*size)).collect(),
        }
    }

    fn output(values: Vec<f32>) -> Vec<NamedTensor> {
        vec![NamedTensor {
            name: "y".to_owned(),
            tensor: Tensor::from_vec(vec![values.len()], values).unwrap(),
        }]
    }

    #[test]
    fn probes_fit_the_signature_and_repeat() {
        const ALL: [DType; 14] = [
            DType::Bool,
            DType::Uint8,
            DType::Uint16,
            DType::Uint32,
            DType::Uint64,
            DType::Int8,
            DType::Int16,
            DType::Int32,
            DType::Int64,
            DType::Fp16,
            DType::Bf16,
            DType::Fp32,
            DType::Fp64,
            DType::Bytes,
        ];
        let shapes: [&[i64]; 4] = [&[], &[-1, 3], &[-1, 3, -1, -1], &[2, -1, 5]];
        let inputs = ALL.iter().flat_map(|dtype| {
            shapes.iter().map(move |shape| spec(&format!("{dtype}{}", shape.len()), *dtype, shape))
        });
        let signature = Signature { inputs: inputs.collect(), outputs: vec![] };
        let probes = probe_inputs(&signature, 3);
        signature.check_inputs(&probes).unwrap();
        assert_eq!(probes, probe_inputs(&signature, 3));
        assert_ne!(probes, probe_inputs(&signature, 4));
        let image = probes.iter().find(|probe| probe.name == "FP324").unwrap();
        assert_eq!(image.tensor.shape(), [1, 3, 64, 64]);
        assert!(image.tensor.values::<f32>().unwrap().iter().all(|value| (0.0..1.0).contains(value)));
    }

    #[test]
    fn an_absurd_shape_costs_no_memory() {
        let signature =
            Signature { inputs: vec![spec("x", DType::Uint8, &[i64::MAX, 2, i64::MAX])], outputs: vec![] };
        assert_eq!(probe_inputs(&signature, 0)[0].tensor.shape(), [1, 2, 1]);
    }

    #[test]
    fn outputs_are_judged_by_name_type_rank_and_finiteness() {
        let signature = Signature { inputs: vec![], outputs: vec![spec("y", DType::Fp32, &[-1])] };
        let check = |outputs: &[NamedTensor]| check_outputs(&signature, outputs).err().unwrap_or_default();
        assert_eq!(check(&output(vec![1.0])), "");
        assert_eq!(check(&[]), "output `y` is missing");
        assert!(check(&output(vec![1.0, f32::NAN])).contains("NaN"));
        assert!(check(&output(vec![f32::INFINITY])).contains("inf"));
        let mut wrong = output(vec![1.0]);
        wrong[0].tensor = Tensor::from_vec(vec![1, 1], vec![1f32]).unwrap();
        assert!(check(&wrong).contains("expected shape [-1], got [1, 1]"));
        wrong[0].tensor = Tensor::from_vec(vec![1], vec![1i32]).unwrap();
        assert!(check(&wrong).contains("expected datatype FP32, got INT32"));
    }
}
