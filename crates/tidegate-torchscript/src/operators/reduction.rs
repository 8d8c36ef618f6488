//! Sums, means, extremes and norms over axes.

use tidegate_core::DType;

use super::promote::{Kind, kind};
use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("all", |call| truth(call, "ReduceMin")),
    ("amax", |call| over_axes(call, "ReduceMax")),
    ("amin", |call| over_axes(call, "ReduceMin")),
    ("any", |call| truth(call, "ReduceMax")),
    ("argmax", |call| place(call, "ArgMax")),
    ("argmin", |call| place(call, "ArgMin")),
    ("frobenius_norm", |call| over_axes(call, "ReduceL2")),
    ("linalg_norm", |call| norm(call, 4)),
    ("linalg_vector_norm", |call| norm(call, 4)),
    ("logsumexp", |call| over_axes(call, "ReduceLogSumExp")),
    ("max", |call| extreme(call, "ReduceMax", "ArgMax", "Max")),
    ("mean", |call| sum(call, "ReduceMean")),
    ("min", |call| extreme(call, "ReduceMin", "ArgMin", "Min")),
    ("norm", |call| norm(call, 4)),
    ("prod", |call| sum(call, "ReduceProd")),
    ("sum", |call| sum(call, "ReduceSum")),
];

impl Call<'_> {
    /// A reduction node; its axes are an input or an attribute by operator and operator set.
    pub(super) fn reduced(
        &mut self,
        op_type: &'static str,
        input: ValueId,
        axes: &[usize],
        keeps: bool,
    ) -> Result<ValueId, Fault> {
        let (dtype, before) = (self.graph.dtype(input), self.graph.shape(input));
        if axes.is_empty() {
            return Ok(input);
        }
        let shape = without(&before, axes, keeps);
        let numbers: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        let mut node = Node::new(op_type).input(input).int("keepdims", i64::from(keeps));
        node = if self.opset >= 18 || op_type == "ReduceSum" {
            node.input(self.graph.int_vector(&numbers)?)
        } else {
            node.ints("axes", &numbers)
        };
        Ok(self.graph.add(node, dtype, shape))
    }

    /// The axes of an argument, sorted; all where it is not given or empty.
    pub(super) fn reduced_axes(&self, index: usize, name: &str, rank: usize) -> Result<Vec<usize>, Fault> {
        let given = self.ints_or_none(index, name)?;
        if given.is_empty() {
            return Ok((0..rank).collect());
        }
        let mut axes = self.axes(&given, rank)?;
        axes.retain(|axis| *axis < rank);
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }
}

pub(super) fn without(shape: &[Dim], axes: &[usize], keeps: bool) -> Vec<Dim> {
    let kept = shape.iter().enumerate().filter_map(|(axis, size)| match axes.contains(&axis) {
        true if keeps => Some(Dim::Fixed(1)),
        true => None,
        false => Some(*size),
    });
    kept.collect()
}

/// `(input, axes, keepdim)`
fn over_axes(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axes = call.reduced_axes(1, "dim", call.graph.rank(input))?;
    let keeps = call.bool_or(2, "keepdim", false)?;
    let value = call.reduced(op_type, input, &axes, keeps)?;
    call.done(value)
}

/// `(input, axes, keepdim, dtype)`: integers are summed in 64 bits, as torch does.
fn sum(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let mut input = call.tensor(0, "self")?;
    let dtype = call.graph.dtype(input);
    let wanted = match call.dtype(3, "dtype")? {
        Some(wanted) => wanted,
        None if kind(dtype) == Kind::Float => dtype,
        None if op_type == "ReduceMean" => return call.unsupported("of integers"),
        None => DType::Int64,
    };
    input = call.graph.cast(input, wanted)?;
    let axes = call.reduced_axes(1, "dim", call.graph.rank(input))?;
    let keeps = call.bool_or(2, "keepdim", false)?;
    let value = call.reduced(op_type, input, &axes, keeps)?;
    call.done(value)
}

fn truth(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axes = call.reduced_axes(1, "dim", call.graph.rank(input))?;
    let keeps = call.bool_or(2, "keepdim", false)?;
    let input = call.graph.cast(input, DType::Bool)?;
    let input = call.graph.cast(input, DType::Int32)?;
    let value = call.reduced(op_type, input, &axes, keeps)?;
    let value = call.graph.cast(value, DType::Bool)?;
    call.done(value)
}

/// Of all elements; along one axis, with their places; or of two tensors.
fn extreme(
    call: &mut Call<'_>,
    value_op: &'static str,
    place_op: &'static str,
    binary_op: &'static str,
) -> Result<Value, Fault> {
    if matches!(call.argument(1, "other"), Some(Value::Tensor(_))) {
        let (operands, dtype) = call.promoted(&[(0, "self"), (1, "other")])?;
        let value = call.broadcast_node(binary_op, &operands, dtype)?;
        return call.done(value);
    }
    let input = call.tensor(0, "self")?;
    let rank = call.graph.rank(input);
    if !call.is_given(1, "dim") {
        let value = call.reduced(value_op, input, &(0..rank).collect::<Vec<_>>(), false)?;
        return call.done(value);
    }
    let axis = call.axis(call.int(1, "dim")?, rank)?;
    let keeps = call.bool_or(2, "keepdim", false)?;
    let value = call.reduced(value_op, input, &[axis], keeps)?;
    let places = places(call, place_op, input, axis, keeps);
    let (value, places) = (call.done(value)?, call.done(places)?);
    Ok(call.heap.add_tuple(vec![value, places]))
}

fn places(call: &mut Call<'_>, op_type: &'static str, input: ValueId, axis: usize, keeps: bool) -> ValueId {
    let shape = without(&call.graph.shape(input), &[axis], keeps);
    let node = Node::new(op_type).input(input).int("axis", axis as i64).int("keepdims", i64::from(keeps));
    call.graph.add(node, DType::Int64, shape)
}

/// `(input, axis, keepdim)`; without an axis, the place in the flattened tensor.
fn place(call: &mut Call<'_>, op_type: &'static str) -> Result<Value, Fault> {
    let mut input = call.tensor(0, "self")?;
    let keeps = call.bool_or(2, "keepdim", false)?;
    let axis = match call.is_given(1, "dim") {
        true => call.axis(call.int(1, "dim")?, call.graph.rank(input))?,
        false if keeps => return call.unsupported("over all axes with keepdim"),
        false => {
            let shape = call.graph.shape(input);
            let size = call.graph.symbols_mut().product(&shape)?;
            input = call.reshaped(input, &[size])?;
            0
        }
    };
    let value = places(call, op_type, input, axis, keeps);
    call.done(value)
}

/// `(input, order, axes, keepdim, dtype)`: the first, the second and the infinite norm.
fn norm(call: &mut Call<'_>, dtype_at: usize) -> Result<Value, Fault> {
    let mut input = call.float_tensor(0, "self")?;
    if let Some(dtype) = call.dtype(dtype_at, "dtype")? {
        input = call.graph.cast(input, dtype)?;
    }
    let order = match call.argument(1, "p") {
        Some(Value::Str(text)) if &**text == "fro" => 2.0,
        Some(Value::Str(_)) => return call.unsupported("of such an order"),
        _ => call.number_or(1, "p", 2.0)?,
    };
    let axes = call.reduced_axes(2, "dim", call.graph.rank(input))?;
    let keeps = call.bool_or(3, "keepdim", false)?;
    let value = if order == 2.0 {
        call.reduced("ReduceL2", input, &axes, keeps)?
    } else if order == 1.0 {
        call.reduced("ReduceL1", input, &axes, keeps)?
    } else if order == f64::INFINITY {
        let size = call.unary("Abs", input);
        call.reduced("ReduceMax", size, &axes, keeps)?
    } else {
        return call.unsupported(&format!("of order {order}"));
    };
    call.done(value)
}
