//! Arithmetic, element by element.

use tidegate_core::DType;

use super::promote::{Kind, kind};
use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Node, Number, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("abs", |call| plain(call, "Abs")),
    ("acos", |call| float(call, "Acos")),
    ("add", |call| add(call, "Add")),
    ("addcdiv", |call| multiply_add(call, "Div")),
    ("addcmul", |call| multiply_add(call, "Mul")),
    ("asin", |call| float(call, "Asin")),
    ("atan", |call| float(call, "Atan")),
    ("ceil", |call| plain(call, "Ceil")),
    ("clamp", clamp),
    ("clamp_max", |call| bounded(call, "Min")),
    ("clamp_min", |call| bounded(call, "Max")),
    ("clip", clamp),
    ("cos", |call| float(call, "Cos")),
    ("cosh", |call| float(call, "Cosh")),
    ("div", divide),
    ("divide", divide),
    ("erf", |call| float(call, "Erf")),
    ("exp", |call| float(call, "Exp")),
    ("exp2", |call| scaled(call, std::f64::consts::LN_2, "Exp", 1.0)),
    ("expm1", |call| shifted_after(call, "Exp", -1.0)),
    ("floor", |call| plain(call, "Floor")),
    ("floor_divide", |call| divide_rounded(call, "floor")),
    ("fmod", fmod),
    ("frac", frac),
    ("lerp", lerp),
    ("log", |call| float(call, "Log")),
    ("log10", |call| scaled(call, 1.0, "Log", std::f64::consts::LN_10.recip())),
    ("log1p", log1p),
    ("log2", |call| scaled(call, 1.0, "Log", std::f64::consts::LN_2.recip())),
    ("maximum", |call| binary(call, "Max")),
    ("minimum", |call| binary(call, "Min")),
    ("mul", |call| binary(call, "Mul")),
    ("multiply", |call| binary(call, "Mul")),
    ("neg", |call| plain(call, "Neg")),
    ("negative", |call| plain(call, "Neg")),
    ("pow", power),
    ("reciprocal", |call| float(call, "Reciprocal")),
    ("remainder", remainder),
    ("round", round),
    ("rsqrt", rsqrt),
    ("rsub", reverse_subtract),
    ("sign", |call| plain(call, "Sign")),
    ("sin", |call| float(call, "Sin")),
    ("sinh", |call| float(call, "Sinh")),
    ("sqrt", |call| float(call, "Sqrt")),
    ("square", square),
    ("sub", |call| add(call, "Sub")),
    ("subtract", |call| add(call, "Sub")),
    ("tan", |call| float(call, "Tan")),
    ("true_divide", divide),
    ("trunc", trunc),
];

const OPERANDS: [(usize, &str); 2] = [(0, "self"), (1, "other")];

fn binary(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&OPERANDS)?;
    let op_type = match (dtype, op_type) {
        (DType::Bool, "Mul" | "Min") => "And",
        (DType::Bool, "Max") => "Or",
        _ => op_type,
    };
    let value = call.broadcast_node(op_type, &operands, dtype)?;
    call.done(value)
}

fn plain(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    // Whole numbers are rounded already, and ONNX rounds floats only.
    if matches!(op_type, "Ceil" | "Floor") && kind(call.graph.dtype(input)) != Kind::Float {
        return call.done(input);
    }
    let value = call.unary(op_type, input);
    call.done(value)
}

fn float(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let value = call.unary(op_type, input);
    call.done(value)
}

/// `self ± alpha * other`
fn add(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let (mut operands, dtype) = call.promoted(&OPERANDS)?;
    operands[1] = with_alpha(call, operands[1])?;
    let op_type = if dtype == DType::Bool && op_type == "Add" { "Or" } else { op_type };
    let value = call.broadcast_node(op_type, &operands, dtype)?;
    call.done(value)
}

fn with_alpha(call: &mut Call<'_>, value: ValueId) -> Result<ValueId, Fault> {
    match call.number_or(2, "alpha", 1.0)? {
        1.0 => Ok(value),
        alpha => call.with_number("Mul", value, alpha),
    }
}

/// `other - alpha * self`
fn reverse_subtract(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&OPERANDS)?;
    let subtrahend = with_alpha(call, operands[0])?;
    let value = call.broadcast_node("Sub", &[operands[1], subtrahend], dtype)?;
    call.graph.keep_rank_of(value, operands[0]);
    call.done(value)
}

/// `self + value * tensor1 (* or /) tensor2`
fn multiply_add(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&[(0, "self"), (1, "tensor1"), (2, "tensor2")])?;
    let mut product = call.broadcast_node(op_type, &operands[1..], dtype)?;
    let factor = call.number_or(3, "value", 1.0)?;
    if factor != 1.0 {
        product = call.with_number("Mul", product, factor)?;
    }
    let value = call.broadcast_node("Add", &[operands[0], product], dtype)?;
    call.done(value)
}

fn lerp(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&[(0, "self"), (1, "end"), (2, "weight")])?;
    let span = call.broadcast_node("Sub", &[operands[1], operands[0]], dtype)?;
    let step = call.broadcast_node("Mul", &[span, operands[2]], dtype)?;
    let value = call.broadcast_node("Add", &[operands[0], step], dtype)?;
    call.done(value)
}

fn divide(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mode = call.str_or(2, "rounding_mode", "")?;
    if !mode.is_empty() {
        return divide_rounded(call, &mode);
    }
    let (operands, dtype) = call.promoted(&OPERANDS)?;
    let dtype = if kind(dtype) == Kind::Float { dtype } else { DType::Fp32 };
    let operands = [call.graph.cast(operands[0], dtype)?, call.graph.cast(operands[1], dtype)?];
    let value = call.broadcast_node("Div", &operands, dtype)?;
    call.done(value)
}

fn divide_rounded(call: &mut Call<'_>, mode: &str) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&OPERANDS)?;
    let value = match (kind(dtype), mode) {
        (Kind::Float, "floor") => {
            let quotient = call.broadcast_node("Div", &operands, dtype)?;
            call.unary("Floor", quotient)
        }
        (Kind::Float, _) => {
            let quotient = call.broadcast_node("Div", &operands, dtype)?;
            truncated(call, quotient)?
        }
        // ONNX divides integers towards zero; what is left over makes the division exact.
        (_, "floor") => {
            let rest = call.broadcast_node("Mod", &operands, dtype)?;
            let whole = call.broadcast_node("Sub", &[operands[0], rest], dtype)?;
            call.broadcast_node("Div", &[whole, operands[1]], dtype)?
        }
        _ => call.broadcast_node("Div", &operands, dtype)?,
    };
    call.done(value)
}

/// The remainder has the sign of the divisor, as Python's.
fn remainder(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&OPERANDS)?;
    let value = if kind(dtype) == Kind::Float {
        let quotient = call.broadcast_node("Div", &operands, dtype)?;
        let whole = call.unary("Floor", quotient);
        let multiple = call.broadcast_node("Mul", &[whole, operands[1]], dtype)?;
        call.broadcast_node("Sub", &[operands[0], multiple], dtype)?
    } else {
        call.broadcast_node("Mod", &operands, dtype)?
    };
    call.done(value)
}

/// The remainder has the sign of the dividend, as C's.
fn fmod(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&OPERANDS)?;
    let shape = call.broadcast(&operands)?;
    let value = call.graph.add(Node::new("Mod").inputs(&operands).int("fmod", 1), dtype, shape);
    call.done(value)
}

fn power(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (operands, dtype) = call.promoted(&[(0, "self"), (1, "exponent")])?;
    let exponent = call.graph.number(operands[1]).map(Number::as_f64);
    let operands = if exponent == Some(2.0) { [operands[0]; 2] } else { [operands[0], operands[1]] };
    let op_type = if exponent == Some(2.0) { "Mul" } else { "Pow" };
    let value = call.broadcast_node(op_type, &operands, dtype)?;
    call.done(value)
}

fn square(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let value = call.graph.add_like(Node::new("Mul").inputs(&[input, input]), input);
    call.done(value)
}

fn rsqrt(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let root = call.unary("Sqrt", input);
    let value = call.unary("Reciprocal", root);
    call.done(value)
}

fn log1p(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let shifted = call.with_number("Add", input, 1.0)?;
    let value = call.unary("Log", shifted);
    call.done(value)
}

fn shifted_after(call: &mut Call<'_>, op_type: &'static str, shift: f64) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let result = call.unary(op_type, input);
    let value = call.with_number("Add", result, shift)?;
    call.done(value)
}

/// `after * op_type(before * self)`
fn scaled(call: &mut Call<'_>, before: f64, op_type: &'static str, after: f64) -> Result<Value, Fault> {
    let mut value = call.float_tensor(0, "self")?;
    if before != 1.0 {
        value = call.with_number("Mul", value, before)?;
    }
    value = call.unary(op_type, value);
    if after != 1.0 {
        value = call.with_number("Mul", value, after)?;
    }
    call.done(value)
}

fn round(call: &mut Call<'_>) -> Result<Value, Fault> {
    if call.int_or(1, "decimals", 0)? != 0 {
        return call.unsupported("with decimals");
    }
    plain(call, "Round")
}

fn trunc(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let value = truncated(call, input)?;
    call.done(value)
}

/// Towards zero: ONNX has no such node.
fn truncated(call: &mut Call<'_>, input: ValueId) -> Result<ValueId, Fault> {
    let dtype = call.graph.dtype(input);
    let (sign, size) = (call.unary("Sign", input), call.unary("Abs", input));
    let whole = call.unary("Floor", size);
    call.broadcast_node("Mul", &[sign, whole], dtype)
}

fn frac(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let dtype = call.graph.dtype(input);
    let whole = truncated(call, input)?;
    let value = call.broadcast_node("Sub", &[input, whole], dtype)?;
    call.done(value)
}

fn clamp(call: &mut Call<'_>) -> Result<Value, Fault> {
    let is_tensor =
        |call: &Call<'_>, index, name| matches!(call.argument(index, name), Some(Value::Tensor(_)));
    if is_tensor(call, 1, "min") || is_tensor(call, 2, "max") {
        return clamp_to_tensors(call);
    }
    let input = call.tensor(0, "self")?;
    let dtype = call.graph.dtype(input);
    let mut bound = |index, name| {
        if !call.is_given(index, name) {
            return Ok(None);
        }
        let number = call.number(index, name)?;
        call.graph.scalar(number, dtype).map(Some)
    };
    let (low, high) = (bound(1, "min")?, bound(2, "max")?);
    let value = call.graph.add_like(Node::new("Clip").input(input).optional(low).optional(high), input);
    call.done(value)
}

fn clamp_to_tensors(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mut value = call.tensor(0, "self")?;
    let dtype = call.graph.dtype(value);
    for (index, name, op_type) in [(1, "min", "Max"), (2, "max", "Min")] {
        if let Some(bound) = call.optional_tensor(index, name)? {
            let bound = call.graph.cast(bound, dtype)?;
            value = call.broadcast_node(op_type, &[value, bound], dtype)?;
        }
    }
    call.done(value)
}

fn bounded(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let name = if op_type == "Max" { "min" } else { "max" };
    let (operands, dtype) = call.promoted(&[(0, "self"), (1, name)])?;
    let value = call.broadcast_node(op_type, &operands, dtype)?;
    call.done(value)
}
