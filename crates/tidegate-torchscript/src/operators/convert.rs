//! Changes of type, and what torch does to memory only.

use tidegate_core::DType;

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::Dim;
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("alias", same),
    ("alpha_dropout", dropout),
    ("bfloat16", |call| cast(call, DType::Bf16)),
    ("bool", |call| cast(call, DType::Bool)),
    ("clone", copy),
    ("contiguous", same),
    ("cpu", same),
    ("cuda", same),
    ("detach", same),
    ("double", |call| cast(call, DType::Fp64)),
    ("dropout", dropout),
    ("dropout2d", dropout),
    ("feature_alpha_dropout", dropout),
    ("feature_dropout", dropout),
    ("float", |call| cast(call, DType::Fp32)),
    ("half", |call| cast(call, DType::Fp16)),
    ("int", |call| cast(call, DType::Int32)),
    ("lift_fresh", same),
    ("long", |call| cast(call, DType::Int64)),
    ("positive", same),
    ("resolve_conj", same),
    ("resolve_neg", same),
    ("to", to),
    ("type_as", type_as),
];

/// `c10/core/ScalarType.h`.
const CODES: [(i64, DType); 10] = [
    (0, DType::Uint8),
    (1, DType::Int8),
    (2, DType::Int16),
    (3, DType::Int32),
    (4, DType::Int64),
    (5, DType::Fp16),
    (6, DType::Fp32),
    (7, DType::Fp64),
    (11, DType::Bool),
    (15, DType::Bf16),
];

pub(crate) fn dtype_of_code(code: i64) -> Option<DType> {
    CODES.into_iter().find(|(known, _)| *known == code).map(|(_, dtype)| dtype)
}

pub(crate) fn code_of_dtype(dtype: DType) -> i64 {
    CODES.into_iter().find(|(_, known)| *known == dtype).map_or(-1, |(code, _)| code)
}

/// The tensor itself, perhaps elsewhere in memory: a change to one may or may not be seen in the other.
fn same(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    call.view(input)
}

fn copy(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    call.done(input)
}

/// Does nothing but in training.
fn dropout(call: &mut Call<'_>) -> Result<Value, Fault> {
    if call.bool_or(2, "train", false)? && call.number_or(1, "p", 0.0)? > 0.0 {
        return Err(Fault::Training);
    }
    same(call)
}

fn cast(call: &mut Call<'_>, dtype: DType) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let value = call.graph.cast(input, dtype)?;
    call.view(value)
}

fn type_as(call: &mut Call<'_>) -> Result<Value, Fault> {
    let like = call.tensor(1, "other")?;
    let dtype = call.graph.dtype(like);
    cast(call, dtype)
}

/// `to(dtype, ...)`, `to(device, dtype, ...)`, `to(other, ...)`; memory formats and flags mean nothing here.
fn to(call: &mut Call<'_>) -> Result<Value, Fault> {
    let code = match (call.argument(1, "dtype"), call.argument(2, "dtype")) {
        (Some(Value::Tensor(_)), _) => return type_as(call),
        (Some(Value::Int(Dim::Fixed(code))), _) => Some(*code),
        (Some(Value::Str(_) | Value::None), Some(Value::Int(Dim::Fixed(code)))) => Some(*code),
        _ => None,
    };
    match code {
        None => same(call),
        Some(code) => match dtype_of_code(code) {
            Some(dtype) => cast(call, dtype),
            None => call.unsupported(&format!("type number {code}")),
        },
    }
}
