//! Variances, running sums, and order.

use tidegate_core::DType;

use super::promote::{Kind, kind};
use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Number, ValueId, fixed};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("argsort", argsort),
    ("cumsum", cumsum),
    ("sort", sort),
    ("std", |call| spread(call, true, false)),
    ("std_mean", |call| spread(call, true, true)),
    ("topk", topk),
    ("var", |call| spread(call, false, false)),
    ("var_mean", |call| spread(call, false, true)),
];

/// `(input, unbiased)`, `(input, axes, unbiased, keepdim)`, or `(input, axes, correction=, keepdim=)`.
fn spread(call: &mut Call<'_>, is_root: bool, with_mean: bool) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let (dtype, shape) = (call.graph.dtype(input), call.graph.shape(input));
    let (axes, unbiased_at) = match call.argument(1, "unbiased") {
        Some(Value::Bool(_)) => ((0..shape.len()).collect(), 1),
        _ => (call.reduced_axes(1, "dim", shape.len())?, 2),
    };
    let correction = match call.keyword("correction") {
        Some(_) => call.number(usize::MAX, "correction")?.as_f64(),
        None => f64::from(u8::from(call.bool_or(unbiased_at, "unbiased", true)?)),
    };
    let keeps = call.bool_or(3, "keepdim", false)?;
    let mean = call.reduced("ReduceMean", input, &axes, true)?;
    let offset = call.broadcast_node("Sub", &[input, mean], dtype)?;
    let square = call.graph.add_like(Node::new("Mul").inputs(&[offset, offset]), offset);
    let mut value = call.reduced("ReduceMean", square, &axes, keeps)?;
    if correction != 0.0 {
        let reduced: Vec<Dim> = axes.iter().map(|axis| shape[*axis]).collect();
        let count = call.graph.symbols_mut().product(&reduced)?;
        let Some([count]) = fixed(&[count]).map(|sizes| [sizes[0]]) else {
            return Err(Fault::OpenAxis(format!("`{}` over an axis that varies", call.name)));
        };
        value = call.with_number("Mul", value, count as f64 / (count as f64 - correction).max(0.0))?;
    }
    if is_root {
        value = call.unary("Sqrt", value);
    }
    let value = call.done(value)?;
    if !with_mean {
        return Ok(value);
    }
    let mean = call.reduced("ReduceMean", input, &axes, keeps)?;
    let mean = call.done(mean)?;
    Ok(call.heap.add_tuple(vec![value, mean]))
}

fn cumsum(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mut input = call.tensor(0, "self")?;
    let dtype = call.graph.dtype(input);
    let wanted = match call.dtype(2, "dtype")? {
        Some(wanted) => wanted,
        None if kind(dtype) == Kind::Float => dtype,
        None => DType::Int64,
    };
    input = call.graph.cast(input, wanted)?;
    let axis = call.axis(call.int(1, "dim")?, call.graph.rank(input))?;
    let axis = call.graph.scalar(Number::Int(axis as i64), DType::Int64)?;
    let value = call.graph.add_like(Node::new("CumSum").input(input).input(axis), input);
    call.done(value)
}

/// `(input, k, axis, largest, sorted)`: values and places.
fn topk(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let count = call.int(1, "k")?;
    let axis = call.axis(call.int_or(2, "dim", -1)?, call.graph.rank(input))?;
    let (largest, sorted) = (call.bool_or(3, "largest", true)?, call.bool_or(4, "sorted", true)?);
    ordered(call, input, count, axis, largest, sorted)
}

/// The places of [`sort`].
fn argsort(call: &mut Call<'_>) -> Result<Value, Fault> {
    match sort(call)? {
        Value::Tuple(both) => Ok(call.heap.list(both)[1].clone()),
        other => Ok(other),
    }
}

/// `(input, axis, descending)`, or with `stable` before the axis.
fn sort(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let shift = usize::from(matches!(call.argument(1, "stable"), Some(Value::Bool(_))));
    let axis = call.axis(call.int_or(1 + shift, "dim", -1)?, call.graph.rank(input))?;
    let descending = call.bool_or(2 + shift, "descending", false)?;
    match call.graph.shape(input).get(axis) {
        Some(Dim::Fixed(size)) => ordered(call, input, *size, axis, descending, true),
        _ => Err(Fault::OpenAxis("sort of an axis that varies".to_owned())),
    }
}

fn ordered(
    call: &mut Call<'_>,
    input: ValueId,
    count: i64,
    axis: usize,
    largest: bool,
    sorted: bool,
) -> Result<Value, Fault> {
    let (dtype, mut shape) = (call.graph.dtype(input), call.graph.shape(input));
    match shape.get_mut(axis) {
        Some(Dim::Fixed(size)) if count > *size => {
            return Err(Fault::Mismatch(format!("the first {count} of {size}")));
        }
        Some(size) => *size = Dim::Fixed(count),
        None => return Err(Fault::Mismatch("the order of a scalar".to_owned())),
    }
    let count = call.graph.int_vector(&[count])?;
    let node = Node::new("TopK").input(input).input(count).int("axis", axis as i64);
    let node = node.int("largest", i64::from(largest)).int("sorted", i64::from(sorted));
    let outputs = call.graph.add_many(node, vec![(dtype, shape.clone()), (DType::Int64, shape)]);
    let (values, places) = (call.done(outputs[0])?, call.done(outputs[1])?);
    Ok(call.heap.add_tuple(vec![values, places]))
}
