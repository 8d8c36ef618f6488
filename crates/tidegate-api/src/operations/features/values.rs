//! JSON values as elements of a datatype, exactly or not at all.

use bytes::Bytes;
use half::{bf16, f16};
use serde_json::Value;
use tidegate_core::tensor::Element;
use tidegate_core::{DType, Tensor};

use super::nested::index_text;
use crate::operations::fault::Fault;
use crate::operations::register::kind;

/// A tensor of `leaves`, as many as `shape` has elements. The fault's field is the index of the first misfit.
pub(super) fn encode(dtype: DType, shape: &[usize], leaves: &[&Value]) -> Result<Tensor, Fault> {
    match dtype {
        DType::Bool => {
            let values =
                each(shape, leaves, |value| value.as_bool().ok_or_else(|| expected("true or false", value)))?;
            Tensor::from_bools(shape.to_vec(), &values)
        }
        DType::Bytes => {
            let text =
                |value: &Value| value.as_str().ok_or_else(|| expected("a string", value)).map(str::to_owned);
            let values = each(shape, leaves, text)?.into_iter().map(Bytes::from).collect();
            Tensor::from_strings(shape.to_vec(), values)
        }
        DType::Uint8 => return numbers::<u8>(shape, leaves, integer),
        DType::Uint16 => return numbers::<u16>(shape, leaves, integer),
        DType::Uint32 => return numbers::<u32>(shape, leaves, integer),
        DType::Uint64 => return numbers::<u64>(shape, leaves, integer),
        DType::Int8 => return numbers::<i8>(shape, leaves, integer),
        DType::Int16 => return numbers::<i16>(shape, leaves, integer),
        DType::Int32 => return numbers::<i32>(shape, leaves, integer),
        DType::Int64 => return numbers::<i64>(shape, leaves, integer),
        DType::Fp16 => {
            return numbers(shape, leaves, |value| float(value, f16::from_f64, f16::is_finite, dtype));
        }
        DType::Bf16 => {
            return numbers(shape, leaves, |value| float(value, bf16::from_f64, bf16::is_finite, dtype));
        }
        DType::Fp32 => {
            return numbers(shape, leaves, |value| float(value, |x| x as f32, f32::is_finite, dtype));
        }
        DType::Fp64 => return numbers(shape, leaves, |value| float(value, |x| x, f64::is_finite, dtype)),
    }
    .map_err(|error| Fault::new("", error.to_string()))
}

/// The last index of `[0][3]`.
pub(super) fn last_index(field: &str) -> Option<usize> {
    field.rsplit('[').next()?.strip_suffix(']')?.parse().ok()
}

fn numbers<T: Element>(
    shape: &[usize],
    leaves: &[&Value],
    convert: impl Fn(&Value) -> Result<T, String>,
) -> Result<Tensor, Fault> {
    let values = each(shape, leaves, convert)?;
    Tensor::from_vec(shape.to_vec(), values).map_err(|error| Fault::new("", error.to_string()))
}

fn each<T>(
    shape: &[usize],
    leaves: &[&Value],
    convert: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let mut values = Vec::with_capacity(leaves.len());
    for (index, leaf) in leaves.iter().enumerate() {
        values
            .push(convert(leaf).map_err(|message| Fault::new(index_text(&position(shape, index)), message))?);
    }
    Ok(values)
}

/// Which element of the shape the `index`-th in row-major order is.
fn position(shape: &[usize], mut index: usize) -> Vec<usize> {
    let mut path = vec![0; shape.len()];
    for (axis, size) in shape.iter().enumerate().rev() {
        path[axis] = index % size.max(&1);
        index /= size.max(&1);
    }
    path
}

/// Whole numbers, also written as `3.0`; true and false are 1 and 0.
fn integer<T: TryFrom<i128> + Element>(value: &Value) -> Result<T, String> {
    /// Beyond 2^53 a float no longer holds every whole number.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = match value {
        Value::Bool(truth) => Some(i128::from(*truth)),
        Value::Number(number) => {
            number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)).or_else(|| {
                let float = number.as_f64()?;
                (float.fract() == 0.0 && float.abs() <= EXACT).then_some(float as i128)
            })
        }
        _ => None,
    };
    let whole = whole.ok_or_else(|| expected("a whole number", value))?;
    T::try_from(whole).map_err(|_| format!("{value} is out of the range of {}", T::DTYPE))
}

fn float<T>(
    value: &Value,
    convert: impl Fn(f64) -> T,
    is_finite: impl Fn(T) -> bool,
    dtype: DType,
) -> Result<T, String>
where
    T: Copy,
{
    let number = match value {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        _ => value.as_f64().ok_or_else(|| expected("a number", value))?,
    };
    let converted = convert(number);
    match is_finite(converted) {
        true => Ok(converted),
        false => Err(format!("{value} is out of the range of {dtype}")),
    }
}

fn expected(what: &str, value: &Value) -> String {
    format!("expected {what}, got {}", kind(value))
}
