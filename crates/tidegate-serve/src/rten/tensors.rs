//! Tensors to rten's values and back. What rten does not compute with is converted where no result can change.

use std::borrow::Cow;

use rten::{Value, ValueOrView, ValueView};
use rten_tensor::prelude::*;
use tidegate_core::tensor::Element;
use tidegate_core::{DType, NamedTensor, Tensor, TensorSpec};

use super::{FIX, NAME};
use crate::load_error::LoadError;
use crate::onnx_file::OnnxFile;
use crate::runtime::RunError;

/// Refuses models whose inputs or outputs rten cannot carry, and what it would compute otherwise than it says.
pub(super) fn check_supported(file: &OnnxFile) -> Result<(), LoadError> {
    // rten 0.27 interpolates linearly where the model says `cubic`, without a word.
    if file.modes.contains(&("Resize".to_owned(), "cubic".to_owned())) {
        return Err(LoadError::Unsupported {
            subject: format!("`Resize` with mode `cubic` is not computed by {NAME}"),
            fix: FIX.to_owned(),
        });
    }
    let inputs = file.inputs.iter().map(|spec| ("input", &spec.name, spec.datatype));
    let outputs = file.outputs.iter().map(|output| ("output", &output.name, output.datatype));
    for (role, name, datatype) in inputs.chain(outputs) {
        let is_carried = matches!(
            datatype,
            DType::Fp32
                | DType::Fp16
                | DType::Int32
                | DType::Int64
                | DType::Bool
                | DType::Int8
                | DType::Uint8
        );
        if !is_carried {
            return Err(LoadError::Unsupported {
                subject: format!("{role} `{name}` is {datatype}, which {NAME} does not compute with"),
                fix: FIX.to_owned(),
            });
        }
    }
    Ok(())
}

/// Borrows where rten has the type, and converts otherwise.
pub(super) fn to_rten(input: &NamedTensor) -> Result<ValueOrView<'_>, RunError> {
    let tensor = &input.tensor;
    let fault = |reason: String| RunError::Input { name: input.name.clone(), reason };
    match tensor.dtype() {
        DType::Fp32 => view::<f32>(tensor),
        DType::Int32 => view::<i32>(tensor),
        DType::Int8 => view::<i8>(tensor),
        DType::Uint8 => view::<u8>(tensor),
        DType::Fp16 => {
            owned(tensor, values::<half::f16>(tensor).iter().map(|value| value.to_f32()).collect())
        }
        DType::Bool => {
            owned(tensor, bytes(tensor).iter().map(|value| i32::from(*value != 0)).collect::<Vec<i32>>())
        }
        DType::Int64 => {
            let narrow = |value: &i64| {
                i32::try_from(*value).map_err(|_| {
                    fault(format!(
                        "{value} does not fit the 32-bit integers that {NAME} computes with; {FIX}"
                    ))
                })
            };
            owned(tensor, values::<i64>(tensor).iter().map(narrow).collect::<Result<Vec<_>, _>>()?)
        }
        datatype => Err(format!("{NAME} does not compute with {datatype}; {FIX}")),
    }
    .map_err(fault)
}

pub(super) fn from_rten(spec: &TensorSpec, value: Value) -> Result<NamedTensor, RunError> {
    let fault = |reason: String| RunError::Output { name: spec.name.clone(), reason };
    let tensor = match (value, spec.datatype) {
        (Value::FloatTensor(values), DType::Fp32) => {
            Tensor::from_vec(values.shape().to_vec(), values.to_vec())
        }
        (Value::FloatTensor(values), DType::Fp16) => Tensor::from_vec(
            values.shape().to_vec(),
            values.iter().map(|v| half::f16::from_f32(*v)).collect(),
        ),
        (Value::Int32Tensor(values), DType::Int32) => {
            Tensor::from_vec(values.shape().to_vec(), values.to_vec())
        }
        (Value::Int32Tensor(values), DType::Int64) => {
            Tensor::from_vec(values.shape().to_vec(), values.iter().map(|v| i64::from(*v)).collect())
        }
        (Value::Int32Tensor(values), DType::Bool) => {
            let truths: Vec<bool> = values.iter().map(|value| *value != 0).collect();
            Tensor::from_bools(values.shape().to_vec(), &truths)
        }
        (Value::Int8Tensor(values), DType::Int8) => {
            Tensor::from_vec(values.shape().to_vec(), values.to_vec())
        }
        (Value::UInt8Tensor(values), DType::Uint8) => {
            Tensor::from_vec(values.shape().to_vec(), values.to_vec())
        }
        (value, datatype) => {
            return Err(fault(format!("{NAME} gave {} where the model declares {datatype}", value.dtype())));
        }
    };
    let tensor = tensor.map_err(|error| fault(error.to_string()))?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

fn view<'a, T: Element>(tensor: &'a Tensor) -> Result<ValueOrView<'a>, String>
where
    ValueView<'a>: From<rten_tensor::TensorView<'a, T>>,
    Value: From<rten_tensor::Tensor<T>>,
{
    match values::<T>(tensor) {
        Cow::Borrowed(values) => {
            let view = ValueView::from_shape(tensor.shape(), values).map_err(|error| error.to_string())?;
            Ok(view.into())
        }
        Cow::Owned(values) => owned(tensor, values),
    }
}

fn owned<T>(tensor: &Tensor, values: Vec<T>) -> Result<ValueOrView<'static>, String>
where
    Value: From<rten_tensor::Tensor<T>>,
{
    Value::from_shape(tensor.shape(), values).map(ValueOrView::from).map_err(|error| error.to_string())
}

fn values<T: Element>(tensor: &Tensor) -> Cow<'_, [T]> {
    tensor.values().expect("the caller matched on the datatype")
}

fn bytes(tensor: &Tensor) -> &[u8] {
    tensor.as_bytes().expect("the caller matched on the datatype")
}
