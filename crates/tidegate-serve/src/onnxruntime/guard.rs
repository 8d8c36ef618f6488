//! What has to be true before OpenVINO runs a model, because it does not see to it itself.
//!
//! Met with its plug-in 1.8.1: a `Reshape` to a size that the input does not have reads beyond it and answers with whatever
//! lies there, where ONNX Runtime's own code answers with an error; and 64-bit integers lose their upper half. A model need
//! not be wrong for that, a caller's odd shape is enough.

use std::collections::HashSet;

use tidegate_core::{DType, NamedTensor};

use crate::classical;
use crate::onnx_file::OnnxFile;
use crate::runtime::RunError;

/// The types of inputs and outputs that come through OpenVINO as they are; INT64 as far as its values fit 32 bits.
const CARRIED: [DType; 7] =
    [DType::Fp32, DType::Fp16, DType::Int32, DType::Int64, DType::Int8, DType::Uint8, DType::Bool];

/// Shapes are chosen by callers, so that what is remembered of them has to end; one that is not remembered is tried again.
const MAX_SHAPES: usize = 4096;

/// Tries each combination of shapes once on ONNX Runtime's own CPU code, which checks what it is given.
pub(super) struct Guard {
    checking: ort::session::Session,
    known: HashSet<Vec<Vec<usize>>>,
}

impl Guard {
    pub(super) fn new(checking: ort::session::Session) -> Self {
        Self { checking, known: HashSet::new() }
    }

    pub(super) fn check(&mut self, inputs: &[NamedTensor]) -> Result<(), RunError> {
        inputs.iter().try_for_each(check_integers)?;
        let mut by_name: Vec<_> = inputs.iter().collect();
        by_name.sort_by(|a, b| a.name.cmp(&b.name));
        let shapes: Vec<_> = by_name.iter().map(|input| input.tensor.shape().to_vec()).collect();
        if self.known.contains(&shapes) {
            return Ok(());
        }
        super::run(&mut self.checking, inputs, |_| Ok(()))?;
        if self.known.len() < MAX_SHAPES {
            self.known.insert(shapes);
        }
        Ok(())
    }
}

/// Why OpenVINO is not to see a model at all: with some types of inputs and outputs it corrupts the heap or narrows the
/// numbers, and of the operators of classical models it takes those between the ones that it lacks, and gets their shapes wrong.
pub(super) fn unfit(file: &OnnxFile) -> Option<String> {
    if classical::is_classical(file) {
        return Some("OpenVINO has no operators of `ai.onnx.ml`".to_owned());
    }
    let inputs = file.inputs.iter().map(|spec| spec.datatype);
    let mut datatypes = inputs.chain(file.outputs.iter().map(|output| output.datatype));
    let foreign = datatypes.find(|datatype| !CARRIED.contains(datatype));
    foreign.map(|datatype| format!("OpenVINO is not trusted with {datatype}"))
}

fn check_integers(input: &NamedTensor) -> Result<(), RunError> {
    let values = input.tensor.values::<i64>();
    let unfit = values.iter().flat_map(|values| values.iter()).find(|value| i32::try_from(**value).is_err());
    match unfit {
        Some(value) => Err(RunError::Input {
            name: input.name.clone(),
            reason: format!(
                "{value} does not fit the 32-bit integers that OpenVINO computes with; set `runtime.accelerator` to \
                 `auto` and deploy the version in f32"
            ),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::Tensor;

    use super::*;

    #[test]
    fn integers_that_would_lose_their_upper_half_are_refused() {
        let input = |values: Vec<i64>| NamedTensor {
            name: "x".to_owned(),
            tensor: Tensor::from_vec(vec![values.len()], values).unwrap(),
        };
        assert_eq!(check_integers(&input(vec![i64::from(i32::MIN), i64::from(i32::MAX)])), Ok(()));
        let error = check_integers(&input(vec![0, 1 << 40])).unwrap_err().to_string();
        assert!(error.contains("input `x`") && error.contains("1099511627776"), "{error}");
    }
}
