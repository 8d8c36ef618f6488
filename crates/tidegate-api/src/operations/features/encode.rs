//! JSON values as elements of a datatype, exactly or not at all.

use bytes::Bytes;
use half::{bf16, f16};
use tidegate_core::tensor::Element;
use tidegate_core::{DType, Tensor};

use crate::operations::exact::{in_range, out_of_range, whole};
use crate::operations::fault::Fault;
use crate::operations::nested::{Leaves, Nested};

/// A tensor of the leaves, as many as `shape` has elements. The fault's field is the place of the first misfit, as the
/// caller nested it.
pub(super) fn encode(dtype: DType, shape: &[usize], nested: &Nested) -> Result<Tensor, Fault> {
    match dtype {
        DType::Bool => bools(shape, nested),
        DType::Bytes => strings(shape, nested),
        DType::Uint8 => integers::<u8>(shape, nested),
        DType::Uint16 => integers::<u16>(shape, nested),
        DType::Uint32 => integers::<u32>(shape, nested),
        DType::Uint64 => integers::<u64>(shape, nested),
        DType::Int8 => integers::<i8>(shape, nested),
        DType::Int16 => integers::<i16>(shape, nested),
        DType::Int32 => integers::<i32>(shape, nested),
        DType::Int64 => integers::<i64>(shape, nested),
        DType::Fp16 => floats(shape, nested, f16::from_f64, f16::is_finite),
        DType::Bf16 => floats(shape, nested, bf16::from_f64, bf16::is_finite),
        DType::Fp32 => floats(shape, nested, |value| value as f32, f32::is_finite),
        DType::Fp64 => floats(shape, nested, |value| value, f64::is_finite),
    }
}

fn bools(shape: &[usize], nested: &Nested) -> Result<Tensor, Fault> {
    match nested.regular()?.1 {
        Leaves::Bools(values) => built(Tensor::from_bools(shape.to_vec(), values)),
        other => Err(expected("true or false", other, nested)),
    }
}

fn strings(shape: &[usize], nested: &Nested) -> Result<Tensor, Fault> {
    match nested.regular()?.1 {
        Leaves::Texts(values) => {
            let values = values.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
            built(Tensor::from_strings(shape.to_vec(), values))
        }
        other => Err(expected("a string", other, nested)),
    }
}

/// Whole numbers, also written as `3.0`; true and false are 1 and 0.
fn integers<T: Element + TryFrom<i128>>(shape: &[usize], nested: &Nested) -> Result<Tensor, Fault> {
    let values = match nested.regular()?.1 {
        Leaves::Ints(values) => each(nested, values, |value| in_range::<T>(*value)),
        Leaves::Floats(values) => each(nested, values, |value| in_range::<T>(whole(*value)?)),
        Leaves::Bools(values) => each(nested, values, |value| in_range::<T>((*value).into())),
        texts @ Leaves::Texts(_) => Err(expected("a whole number", texts, nested)),
    };
    built(Tensor::from_vec(shape.to_vec(), values?))
}

fn floats<T: Element>(
    shape: &[usize],
    nested: &Nested,
    convert: impl Fn(f64) -> T,
    is_finite: impl Fn(T) -> bool,
) -> Result<Tensor, Fault> {
    let in_range = |value: f64| {
        let converted = convert(value);
        if is_finite(converted) { Ok(converted) } else { Err(out_of_range(value, T::DTYPE)) }
    };
    let values = match nested.regular()?.1 {
        Leaves::Floats(values) => each(nested, values, |value| in_range(*value)),
        Leaves::Ints(values) => each(nested, values, |value| in_range(*value as f64)),
        Leaves::Bools(values) => each(nested, values, |value| in_range(u8::from(*value).into())),
        texts @ Leaves::Texts(_) => Err(expected("a number", texts, nested)),
    };
    built(Tensor::from_vec(shape.to_vec(), values?))
}

fn each<T, U>(
    nested: &Nested,
    values: &[T],
    convert: impl Fn(&T) -> Result<U, String>,
) -> Result<Vec<U>, Fault> {
    let mut converted = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        converted.push(convert(value).map_err(|message| Fault::new(nested.place(index), message))?);
    }
    Ok(converted)
}

fn built(tensor: Result<Tensor, tidegate_core::TensorError>) -> Result<Tensor, Fault> {
    tensor.map_err(|error| Fault::new("", error.to_string()))
}

fn expected(what: &str, leaves: &Leaves, nested: &Nested) -> Fault {
    Fault::new(nested.place(0), format!("expected {what}, got {}", leaves.kind()))
}
