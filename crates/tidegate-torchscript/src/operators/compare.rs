//! Comparisons, logic, and choosing by them.

use tidegate_core::DType;

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Node, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("__and__", |call| logic(call, "And", true)),
    ("__or__", |call| logic(call, "Or", true)),
    ("__xor__", |call| logic(call, "Xor", true)),
    ("bitwise_and", |call| logic(call, "And", true)),
    ("bitwise_not", |call| not(call, true)),
    ("bitwise_or", |call| logic(call, "Or", true)),
    ("bitwise_xor", |call| logic(call, "Xor", true)),
    ("eq", |call| compare(call, "Equal")),
    ("ge", |call| compare(call, "GreaterOrEqual")),
    ("gt", |call| compare(call, "Greater")),
    ("isinf", |call| test(call, "IsInf")),
    ("isnan", |call| test(call, "IsNaN")),
    ("le", |call| compare(call, "LessOrEqual")),
    ("logical_and", |call| logic(call, "And", false)),
    ("logical_not", |call| not(call, false)),
    ("logical_or", |call| logic(call, "Or", false)),
    ("logical_xor", |call| logic(call, "Xor", false)),
    ("lt", |call| compare(call, "Less")),
    ("masked_fill", masked_fill),
    ("ne", not_equal),
    ("where", choose),
];

const OPERANDS: [(usize, &str); 2] = [(0, "self"), (1, "other")];

fn compared(call: &mut Call<'_>, op_type: &'static str) -> Result<ValueId, Fault> {
    let (operands, _) = call.promoted(&OPERANDS)?;
    call.broadcast_node(op_type, &operands, DType::Bool)
}

fn compare(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let value = compared(call, op_type)?;
    call.done(value)
}

fn not_equal(call: &mut Call<'_>) -> Result<Value, Fault> {
    let equal = compared(call, "Equal")?;
    let value = call.unary("Not", equal);
    call.done(value)
}

/// Bit by bit is truth by truth where both are truth values; other integers are not supported.
fn logic(call: &mut Call<'_>, op_type: &'static str, is_bitwise: bool) -> Result<Value, Fault> {
    let mut operands = [call.tensor(0, "self")?, call.tensor(1, "other")?];
    if is_bitwise && operands.iter().any(|operand| call.graph.dtype(*operand) != DType::Bool) {
        return call.unsupported("on integers");
    }
    for operand in &mut operands {
        *operand = call.graph.cast(*operand, DType::Bool)?;
    }
    let value = call.broadcast_node(op_type, &operands, DType::Bool)?;
    call.done(value)
}

fn not(call: &mut Call<'_>, is_bitwise: bool) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    if is_bitwise && call.graph.dtype(input) != DType::Bool {
        return call.unsupported("on integers");
    }
    let input = call.graph.cast(input, DType::Bool)?;
    let value = call.unary("Not", input);
    call.done(value)
}

fn test(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let shape = call.graph.shape(input);
    let value = call.graph.add(Node::new(op_type).input(input), DType::Bool, shape);
    call.done(value)
}

fn choose(call: &mut Call<'_>) -> Result<Value, Fault> {
    if call.arguments.len() < 3 {
        return call.unsupported("without values to choose from");
    }
    let condition = call.tensor(0, "condition")?;
    let condition = call.graph.cast(condition, DType::Bool)?;
    let (values, dtype) = call.promoted(&[(1, "self"), (2, "other")])?;
    let value = call.broadcast_node("Where", &[condition, values[0], values[1]], dtype)?;
    call.done(value)
}

/// `value` is a number, or a tensor without axes.
fn masked_fill(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, mask, fill) = (call.tensor(0, "self")?, call.tensor(1, "mask")?, call.tensor(2, "value")?);
    let dtype = call.graph.dtype(input);
    let (mask, fill) = (call.graph.cast(mask, DType::Bool)?, call.graph.cast(fill, dtype)?);
    let value = call.broadcast_node("Where", &[mask, fill, input], dtype)?;
    call.done(value)
}
