//! Tensors to ONNX Runtime's values and back. Inputs are borrowed; outputs are copied out of the session's arena, which
//! the next run reuses.

use std::borrow::Cow;
use std::fmt::Debug;

use bytes::Bytes;
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, TensorRef};
use tidegate_core::tensor::Element;
use tidegate_core::{DType, NamedTensor, Tensor, TensorSpec};

use crate::runtime::RunError;

pub(super) fn to_ort(input: &NamedTensor) -> Result<SessionInputValue<'_>, RunError> {
    let tensor = &input.tensor;
    let value = match tensor.dtype() {
        DType::Bool => booleans(tensor),
        DType::Uint8 => borrowed::<u8>(tensor),
        DType::Uint16 => borrowed::<u16>(tensor),
        DType::Uint32 => borrowed::<u32>(tensor),
        DType::Uint64 => borrowed::<u64>(tensor),
        DType::Int8 => borrowed::<i8>(tensor),
        DType::Int16 => borrowed::<i16>(tensor),
        DType::Int32 => borrowed::<i32>(tensor),
        DType::Int64 => borrowed::<i64>(tensor),
        DType::Fp16 => borrowed::<half::f16>(tensor),
        DType::Bf16 => borrowed::<half::bf16>(tensor),
        DType::Fp32 => borrowed::<f32>(tensor),
        DType::Fp64 => borrowed::<f64>(tensor),
        DType::Bytes => strings(tensor),
    };
    value.map_err(|reason| RunError::Input { name: input.name.clone(), reason })
}

pub(super) fn from_ort(spec: &TensorSpec, value: &DynValue) -> Result<NamedTensor, RunError> {
    let tensor = match spec.datatype {
        DType::Bool => copied_booleans(value),
        DType::Uint8 => copied::<u8>(value),
        DType::Uint16 => copied::<u16>(value),
        DType::Uint32 => copied::<u32>(value),
        DType::Uint64 => copied::<u64>(value),
        DType::Int8 => copied::<i8>(value),
        DType::Int16 => copied::<i16>(value),
        DType::Int32 => copied::<i32>(value),
        DType::Int64 => copied::<i64>(value),
        DType::Fp16 => copied::<half::f16>(value),
        DType::Bf16 => copied::<half::bf16>(value),
        DType::Fp32 => copied::<f32>(value),
        DType::Fp64 => copied::<f64>(value),
        DType::Bytes => copied_strings(value),
    };
    let tensor = tensor.map_err(|reason| RunError::Output { name: spec.name.clone(), reason })?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

fn borrowed<T>(tensor: &Tensor) -> Result<SessionInputValue<'_>, String>
where
    T: Element + PrimitiveTensorElementType + Debug,
{
    let values = tensor.values::<T>().expect("the caller matched on the datatype");
    input_value(tensor.shape(), values)
}

/// A truth value on the wire may be any byte; in memory it must be 0 or 1.
fn booleans(tensor: &Tensor) -> Result<SessionInputValue<'_>, String> {
    let bytes = tensor.as_bytes().expect("the caller matched on the datatype");
    let values = match bytemuck::checked::try_cast_slice::<u8, bool>(bytes) {
        Ok(values) => Cow::Borrowed(values),
        Err(_) => Cow::Owned(bytes.iter().map(|byte| *byte != 0).collect()),
    };
    input_value(tensor.shape(), values)
}

fn input_value<'a, T>(shape: &[usize], values: Cow<'a, [T]>) -> Result<SessionInputValue<'a>, String>
where
    T: PrimitiveTensorElementType + Clone + Debug + 'static,
{
    let shape = shape.to_vec();
    match values {
        Cow::Borrowed(values) => TensorRef::from_array_view((shape, values)).map(SessionInputValue::from),
        Cow::Owned(values) => ort::value::Tensor::from_array((shape, values)).map(SessionInputValue::from),
    }
    .map_err(|error| error.message().to_owned())
}

fn strings(tensor: &Tensor) -> Result<SessionInputValue<'static>, String> {
    let strings = tensor.as_strings().expect("the caller matched on the datatype");
    let texts: Result<Vec<String>, _> =
        strings.iter().map(|string| String::from_utf8(string.to_vec())).collect();
    let texts = texts.map_err(|_| "strings must be UTF-8".to_owned())?;
    if texts.iter().any(|text| text.contains('\0')) {
        return Err("strings may not contain the character U+0000".to_owned());
    }
    ort::value::Tensor::from_string_array((tensor.shape().to_vec(), texts.as_slice()))
        .map(|value| SessionInputValue::Owned(value.into_dyn()))
        .map_err(|error| error.message().to_owned())
}

fn copied<T>(value: &DynValue) -> Result<Tensor, String>
where
    T: Element + PrimitiveTensorElementType,
{
    let (shape, values) = value.try_extract_tensor::<T>().map_err(|error| error.message().to_owned())?;
    Tensor::from_vec(sizes(shape)?, values.to_vec()).map_err(|error| error.to_string())
}

fn copied_booleans(value: &DynValue) -> Result<Tensor, String> {
    let (shape, values) = value.try_extract_tensor::<bool>().map_err(|error| error.message().to_owned())?;
    Tensor::from_bools(sizes(shape)?, values).map_err(|error| error.to_string())
}

fn copied_strings(value: &DynValue) -> Result<Tensor, String> {
    let (shape, texts) = value.try_extract_strings().map_err(|error| error.message().to_owned())?;
    let strings = texts.into_iter().map(Bytes::from).collect();
    Tensor::from_strings(sizes(shape)?, strings).map_err(|error| error.to_string())
}

fn sizes(shape: &[i64]) -> Result<Vec<usize>, String> {
    let size =
        |size: &i64| usize::try_from(*size).map_err(|_| format!("shape {shape:?} has a negative size"));
    shape.iter().map(size).collect()
}
