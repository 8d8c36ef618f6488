//! New tensors.

use tidegate_core::DType;

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Number, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("arange", arange),
    ("eye", eye),
    ("full", full),
    ("full_like", |call| like(call, None)),
    ("new_full", new_full),
    ("new_ones", |call| new_filled(call, 1.0)),
    ("new_zeros", |call| new_filled(call, 0.0)),
    ("ones", |call| filled(call, 1.0)),
    ("ones_like", |call| like(call, Some(1.0))),
    ("tensor", tensor),
    ("zeros", |call| filled(call, 0.0)),
    ("zeros_like", |call| like(call, Some(0.0))),
];

/// Larger ones are computed by the model, not stored in it.
const MAX_STORED: i64 = 1 << 18;

/// One number everywhere, in a type that runtimes fill in and then cast.
fn fill(call: &mut Call<'_>, shape: &[Dim], number: Number, dtype: DType) -> Result<Value, Fault> {
    let fill_dtype = match dtype {
        DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 => DType::Fp32,
        _ => DType::Int64,
    };
    let value = if shape.is_empty() {
        call.graph.scalar(number, dtype)?
    } else {
        let bytes = match fill_dtype {
            DType::Fp32 => (number.as_f64() as f32).to_le_bytes().to_vec(),
            _ => number.as_i64().to_le_bytes().to_vec(),
        };
        let value = call.graph.small_constant(fill_dtype, vec![1], bytes)?;
        let sizes = call.graph.shape_vector(shape)?;
        let node = Node::new("ConstantOfShape").input(sizes).tensor("value", value);
        let filled = call.graph.add(node, fill_dtype, shape.to_vec());
        call.graph.cast(filled, dtype)?
    };
    call.done(value)
}

fn filled(call: &mut Call<'_>, number: f64) -> Result<Value, Fault> {
    let shape = call.dims(0, "size")?;
    let dtype = call.dtype(1, "dtype")?.unwrap_or(DType::Fp32);
    fill(call, &shape, Number::Float(number), dtype)
}

fn full(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (shape, number) = (call.dims(0, "size")?, call.number(1, "fill_value")?);
    let dtype = call.dtype(2, "dtype")?.unwrap_or_else(|| default_dtype(number));
    fill(call, &shape, number, dtype)
}

fn default_dtype(number: Number) -> DType {
    match number {
        Number::Bool(_) => DType::Bool,
        Number::Int(_) => DType::Int64,
        Number::Float(_) => DType::Fp32,
    }
}

/// `(input, dtype, ...)`, with the number before the type where it is an argument.
fn like(call: &mut Call<'_>, number: Option<f64>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let (number, dtype_at) = match number {
        Some(number) => (Number::Float(number), 1),
        None => (call.number(1, "fill_value")?, 2),
    };
    let dtype = call.dtype(dtype_at, "dtype")?.unwrap_or(call.graph.dtype(input));
    let shape = call.graph.shape(input);
    fill(call, &shape, number, dtype)
}

fn new_filled(call: &mut Call<'_>, number: f64) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let shape = call.dims(1, "size")?;
    let dtype = call.dtype(2, "dtype")?.unwrap_or(call.graph.dtype(input));
    fill(call, &shape, Number::Float(number), dtype)
}

fn new_full(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let (shape, number) = (call.dims(1, "size")?, call.number(2, "fill_value")?);
    let dtype = call.dtype(3, "dtype")?.unwrap_or(call.graph.dtype(input));
    fill(call, &shape, number, dtype)
}

/// `(end)`, `(start, end)` or `(start, end, step)`; the other arguments come by name.
fn arange(call: &mut Call<'_>) -> Result<Value, Fault> {
    let is_float = call.arguments.iter().take(3).any(|value| matches!(value, Value::Float(_)));
    let default = if is_float { DType::Fp32 } else { DType::Int64 };
    let dtype = call.dtype(usize::MAX, "dtype")?.unwrap_or(default);
    let numbers = call.arguments.len().clamp(1, 3);
    if let (1 | 2, Some(Value::Int(end))) = (numbers, call.arguments.get(numbers - 1))
        && let end @ Dim::Symbol(_) = call.graph.symbols().resolve(*end)
    {
        return up_to_size(call, end, numbers == 2, dtype);
    }
    let (start, end) = match numbers {
        1 => (0.0, call.number(0, "end")?.as_f64()),
        _ => (call.number(0, "start")?.as_f64(), call.number(1, "end")?.as_f64()),
    };
    let step = if numbers == 3 { call.number(2, "step")?.as_f64() } else { 1.0 };
    let count = ((end - start) / step).ceil();
    if !(0.0..=MAX_STORED as f64).contains(&count) {
        return Err(Fault::malformed("a range that makes no sense"));
    }
    let values = (0..count as i64).map(|index| start + index as f64 * step);
    let value = vector(call, &values.collect::<Vec<_>>(), dtype)?;
    call.done(value)
}

/// From zero to the size of an axis.
fn up_to_size(call: &mut Call<'_>, end: Dim, has_start: bool, dtype: DType) -> Result<Value, Fault> {
    if has_start && call.int(0, "start")? != 0 {
        return call.unsupported("from another start to the size of an axis");
    }
    let (limit, zero) = (call.size_tensor(end)?, call.graph.scalar(Number::Int(0), DType::Int64)?);
    let one = call.graph.scalar(Number::Int(1), DType::Int64)?;
    let value = call.graph.add(Node::new("Range").inputs(&[zero, limit, one]), DType::Int64, vec![end]);
    let value = call.graph.cast(value, dtype)?;
    call.done(value)
}

/// Stored as 64-bit integers or 32-bit floats, and cast to what is wanted.
fn vector(call: &mut Call<'_>, values: &[f64], dtype: DType) -> Result<ValueId, Fault> {
    let stored = match dtype {
        DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 => {
            call.graph.float_vector(&values.iter().map(|value| *value as f32).collect::<Vec<_>>())?
        }
        _ => call.graph.int_vector(&values.iter().map(|value| *value as i64).collect::<Vec<_>>())?,
    };
    call.graph.cast(stored, dtype)
}

fn eye(call: &mut Call<'_>) -> Result<Value, Fault> {
    let rows = call.int(0, "n")?;
    let columns = if call.arguments.len() > 1 { call.int(1, "m")? } else { rows };
    let dtype = call.dtype(usize::MAX, "dtype")?.unwrap_or(DType::Fp32);
    let count = rows.checked_mul(columns).filter(|count| rows > 0 && (1..=MAX_STORED).contains(count));
    if count.is_none() {
        return call.unsupported("of such a size");
    }
    let ones = (0..rows * columns).map(|index| f64::from(u8::from(index / columns == index % columns)));
    let value = vector(call, &ones.collect::<Vec<_>>(), dtype)?;
    let value = call.reshaped(value, &[Dim::Fixed(rows), Dim::Fixed(columns)])?;
    call.done(value)
}

/// A list of numbers; single numbers stay numbers.
fn tensor(call: &mut Call<'_>) -> Result<Value, Fault> {
    let Some(Value::List(list)) = call.arguments.first() else { return call.unsupported("of such data") };
    let is_float = call.heap.list(*list).iter().any(|item| matches!(item, Value::Float(_)));
    let default = if is_float { DType::Fp32 } else { DType::Int64 };
    let dtype = call.dtype(usize::MAX, "dtype")?.unwrap_or(default);
    let values = call.floats(0, "data")?;
    if values.len() as i64 > MAX_STORED {
        return call.unsupported("of such a size");
    }
    let value = vector(call, &values, dtype)?;
    call.done(value)
}
