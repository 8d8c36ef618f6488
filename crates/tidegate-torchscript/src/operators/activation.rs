//! Activation functions.

use tidegate_core::DType;

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Node, Number, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("celu", celu),
    ("elu", elu),
    ("gelu", gelu),
    ("glu", glu),
    ("hardshrink", hardshrink),
    ("hardsigmoid", hardsigmoid),
    ("hardswish", |call| unary(call, "HardSwish")),
    ("hardtanh", |call| hardtanh(call, -1.0, 1.0)),
    ("leaky_relu", leaky_relu),
    ("log_sigmoid", log_sigmoid),
    ("log_softmax", |call| softmax(call, "LogSoftmax")),
    ("mish", mish),
    ("prelu", prelu),
    ("relu", |call| unary(call, "Relu")),
    ("relu6", |call| hardtanh(call, 0.0, 6.0)),
    ("selu", selu),
    ("sigmoid", |call| unary(call, "Sigmoid")),
    ("silu", silu),
    ("softmax", |call| softmax(call, "Softmax")),
    ("softplus", softplus),
    ("softshrink", softshrink),
    ("tanh", |call| unary(call, "Tanh")),
    ("threshold", threshold),
];

fn unary(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let input = if op_type == "Relu" { call.tensor(0, "self")? } else { call.float_tensor(0, "self")? };
    let value = call.unary(op_type, input);
    call.done(value)
}

fn product(call: &mut Call<'_>, left: ValueId, right: ValueId) -> Result<Value, Fault> {
    let value = call.graph.add_like(Node::new("Mul").input(left).input(right), left);
    call.done(value)
}

fn silu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let gate = call.unary("Sigmoid", input);
    product(call, input, gate)
}

fn mish(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let soft = call.unary("Softplus", input);
    let gate = call.unary("Tanh", soft);
    product(call, input, gate)
}

/// Hendrycks and Gimpel 2016: x Φ(x), exactly or by tanh. Written out, because the node is younger than opset 17.
fn gelu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let gate = if &*call.str_or(1, "approximate", "none")? == "tanh" {
        let square = call.graph.add_like(Node::new("Mul").inputs(&[input, input]), input);
        let cube = call.graph.add_like(Node::new("Mul").inputs(&[square, input]), input);
        let scaled = call.with_number("Mul", cube, 0.044_715)?;
        let sum = call.graph.add_like(Node::new("Add").inputs(&[input, scaled]), input);
        let inner = call.with_number("Mul", sum, (2.0 / std::f64::consts::PI).sqrt())?;
        call.unary("Tanh", inner)
    } else {
        let scaled = call.with_number("Mul", input, std::f64::consts::FRAC_1_SQRT_2)?;
        call.unary("Erf", scaled)
    };
    let shifted = call.with_number("Add", gate, 1.0)?;
    let weighted = call.graph.add_like(Node::new("Mul").inputs(&[input, shifted]), input);
    let value = call.with_number("Mul", weighted, 0.5)?;
    call.done(value)
}

fn leaky_relu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let slope = call.number_or(1, "negative_slope", 0.01)?;
    let input = call.tensor(0, "self")?;
    let value = call.graph.add_like(Node::new("LeakyRelu").input(input).float("alpha", slope), input);
    call.done(value)
}

fn hardsigmoid(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let node = Node::new("HardSigmoid").input(input).float("alpha", 1.0 / 6.0).float("beta", 0.5);
    let value = call.graph.add_like(node, input);
    call.done(value)
}

fn hardtanh(call: &mut Call<'_>, low: f64, high: f64) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let (low, high) = (call.number_or(1, "min_val", low)?, call.number_or(2, "max_val", high)?);
    let value = clip(call, input, low, high)?;
    call.done(value)
}

fn clip(call: &mut Call<'_>, input: ValueId, low: f64, high: f64) -> Result<ValueId, Fault> {
    let dtype = call.graph.dtype(input);
    let low = call.graph.scalar(Number::Float(low), dtype)?;
    let high = call.graph.scalar(Number::Float(high), dtype)?;
    Ok(call.graph.add_like(Node::new("Clip").input(input).input(low).input(high), input))
}

/// `scale * (max(0, x) + alpha * min(0, exp(input_scale * x) - 1))`
fn elu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (alpha, scale) = (call.number_or(1, "alpha", 1.0)?, call.number_or(2, "scale", 1.0)?);
    if call.number_or(3, "input_scale", 1.0)? != 1.0 {
        return call.unsupported("with an input scale");
    }
    let input = call.float_tensor(0, "self")?;
    let value = scaled_elu(call, input, alpha, scale)?;
    call.done(value)
}

fn scaled_elu(call: &mut Call<'_>, input: ValueId, alpha: f64, scale: f64) -> Result<ValueId, Fault> {
    let value = call.graph.add_like(Node::new("Elu").input(input).float("alpha", alpha), input);
    if scale == 1.0 { Ok(value) } else { call.with_number("Mul", value, scale) }
}

/// Klambauer et al. 2017, with their constants.
fn selu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let value = scaled_elu(call, input, 1.673_263_242_354_377_2, 1.050_700_987_355_480_5)?;
    call.done(value)
}

/// `alpha * elu(x / alpha)`
fn celu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let alpha = call.number_or(1, "alpha", 1.0)?;
    let input = call.float_tensor(0, "self")?;
    let scaled = call.with_number("Div", input, alpha)?;
    let value = scaled_elu(call, scaled, 1.0, alpha)?;
    call.done(value)
}

fn softplus(call: &mut Call<'_>) -> Result<Value, Fault> {
    let beta = call.number_or(1, "beta", 1.0)?;
    let mut value = call.float_tensor(0, "self")?;
    if beta != 1.0 {
        value = call.with_number("Mul", value, beta)?;
    }
    value = call.unary("Softplus", value);
    if beta != 1.0 {
        value = call.with_number("Div", value, beta)?;
    }
    call.done(value)
}

fn log_sigmoid(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let negative = call.unary("Neg", input);
    let soft = call.unary("Softplus", negative);
    let value = call.unary("Neg", soft);
    call.done(value)
}

fn softmax(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let mut input = call.float_tensor(0, "self")?;
    if let Some(dtype) = call.dtype(2, "dtype")? {
        input = call.graph.cast(input, dtype)?;
    }
    let axis = call.axis(call.int(1, "dim")?, call.graph.rank(input))?;
    let value = call.graph.add_like(Node::new(op_type).input(input).int("axis", axis as i64), input);
    call.done(value)
}

/// One slope for all, or one per channel (axis 1).
fn prelu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, mut slope) = (call.tensor(0, "self")?, call.tensor(1, "weight")?);
    let rank = call.graph.rank(input);
    if rank > 2 && call.graph.rank(slope) == 1 {
        let axes: Vec<i64> = (1..rank as i64 - 1).collect();
        slope = call.unsqueezed(slope, &axes)?;
    }
    let value = call.graph.add_like(Node::new("PRelu").input(input).input(slope), input);
    call.done(value)
}

fn threshold(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let (limit, fill) = (call.number(1, "threshold")?, call.number(2, "value")?);
    keep_where(call, input, input, limit.as_f64(), fill)
}

fn hardshrink(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let limit = call.number_or(1, "lambd", 0.5)?;
    let size = call.unary("Abs", input);
    keep_where(call, input, size, limit, Number::Float(0.0))
}

/// `input` where `measure` is above the limit, `fill` elsewhere.
fn keep_where(
    call: &mut Call<'_>,
    input: ValueId,
    measure: ValueId,
    limit: f64,
    fill: Number,
) -> Result<Value, Fault> {
    let (dtype, shape) = (call.graph.dtype(input), call.graph.shape(input));
    let (limit, fill) = (call.graph.scalar(Number::Float(limit), dtype)?, call.graph.scalar(fill, dtype)?);
    let is_above = call.graph.add(Node::new("Greater").input(measure).input(limit), DType::Bool, shape);
    let value = call.graph.add_like(Node::new("Where").input(is_above).input(input).input(fill), input);
    call.done(value)
}

fn softshrink(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let limit = call.number_or(1, "lambd", 0.5)?;
    let middle = clip(call, input, -limit, limit)?;
    let value = call.graph.add_like(Node::new("Sub").input(input).input(middle), input);
    call.done(value)
}

/// Half of the axis gates the other half.
fn glu(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let axis = call.axis(call.int_or(1, "dim", -1)?, call.graph.rank(input))?;
    let [whole, gates] = call.halves(input, axis)?;
    let gate = call.unary("Sigmoid", gates);
    product(call, whole, gate)
}
