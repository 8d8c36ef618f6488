//! Questions about tensors that are answered by their type and shape, and numbers that come in as tensors.

use tidegate_core::DType;

use crate::fault::Fault;
use crate::graph::{Dim, Number};
use crate::heap::Value;
use crate::operators::{Call, code_of_dtype};

pub(super) fn call(call: &mut Call<'_>) -> Result<Option<Value>, Fault> {
    let Some(first) = call.arguments.first().cloned() else { return Ok(None) };
    match (call.name, &first) {
        // A number stays a number where torch wraps it.
        (
            "NumToTensor" | "scalar_tensor" | "tensor" | "detach" | "to" | "item",
            Value::Int(_) | Value::Bool(_) | Value::Float(_) | Value::Scaled { .. },
        ) => return wrapped(call, &first).map(Some),
        (_, Value::Tensor(_)) => {}
        _ => return Ok(None),
    }
    let tensor = call.tensor(0, "self")?;
    let shape = call.graph.shape(tensor);
    let value = match call.name {
        "dim" | "ndimension" => Value::int(shape.len() as i64),
        "size" if call.arguments.len() == 1 => {
            let sizes = shape.into_iter().map(Value::Int).collect();
            call.heap.add_list(sizes)
        }
        "size" => {
            let axis = call.axis(call.int(1, "dim")?, shape.len())?;
            Value::Int(*shape.get(axis).ok_or_else(|| Fault::Mismatch("the size of a scalar".to_owned()))?)
        }
        "shape" => {
            let sizes = shape.into_iter().map(Value::Int).collect();
            call.heap.add_list(sizes)
        }
        "len" => {
            Value::Int(*shape.first().ok_or_else(|| Fault::Mismatch("the length of a scalar".to_owned()))?)
        }
        "numel" => Value::Int(call.graph.symbols_mut().product(&shape)?),
        "dtype" => Value::int(code_of_dtype(call.graph.dtype(tensor))),
        "device" => Value::str("cpu"),
        "layout" => Value::int(0),
        "is_floating_point" => {
            let dtype = call.graph.dtype(tensor);
            Value::Bool(matches!(dtype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64))
        }
        "is_cuda" | "is_sparse" | "is_quantized" | "is_mkldnn" | "is_mps" | "is_complex"
        | "requires_grad" | "is_meta" | "is_nested" => Value::Bool(false),
        "is_contiguous" => Value::Bool(true),
        "Int"
        | "Float"
        | "Bool"
        | "item"
        | "ScalarImplicit"
        | "IntImplicit"
        | "FloatImplicit"
        | "ImplicitTensorToNum" => {
            let number = call.graph.number(tensor).ok_or(Fault::DataDependent)?;
            match (call.name, number) {
                ("Int" | "IntImplicit", number) => Value::int(number.as_i64()),
                ("Float" | "FloatImplicit", number) => Value::Float(number.as_f64()),
                ("Bool", number) => Value::Bool(number.as_f64() != 0.0),
                (_, Number::Bool(value)) => Value::Bool(value),
                (_, Number::Int(value)) => Value::Int(Dim::Fixed(value)),
                (_, Number::Float(value)) => Value::Float(value),
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// `to(number, type)` rounds or widens; the others give the number as it is.
fn wrapped(call: &mut Call<'_>, number: &Value) -> Result<Value, Fault> {
    // `to(x, type)` and `to(x, device, type)`.
    let given = if call.name == "to" { &call.arguments[1..] } else { &[] };
    let code = given.iter().find_map(|value| match value {
        Value::Int(Dim::Fixed(code)) => Some(*code),
        _ => None,
    });
    let is_float = matches!(code, Some(5..=7 | 15));
    Ok(match number {
        Value::Int(dim) if is_float => match call.graph.symbols().resolve(*dim) {
            Dim::Fixed(value) => Value::Float(value as f64),
            Dim::Symbol(symbol) => Value::Scaled { symbol, factor: 1.0 },
        },
        Value::Float(value) if code.is_some() && !is_float => Value::int(*value as i64),
        other => other.clone(),
    })
}
