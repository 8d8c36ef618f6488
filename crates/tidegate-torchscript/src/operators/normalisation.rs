//! Normalisation layers, as they run when a model predicts.

use tidegate_core::DType;

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Number, ValueId, fixed};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("batch_norm", batch_norm),
    ("group_norm", group_norm),
    ("instance_norm", instance_norm),
    ("layer_norm", layer_norm),
    ("native_layer_norm", native_layer_norm),
];

/// More channels than any layer has.
const MAX_CHANNELS: i64 = 1 << 20;

/// A vector of one number, for a weight or bias that a layer does not have.
fn filled(call: &mut Call<'_>, size: Dim, number: f64, dtype: DType) -> Result<ValueId, Fault> {
    let Dim::Fixed(size @ 1..=MAX_CHANNELS) = size else {
        return Err(Fault::OpenAxis(format!("the number of channels of `{}`", call.name)));
    };
    let size = size as usize;
    let one = call.graph.scalar(Number::Float(number), dtype)?;
    let constant = call.graph.constant(one).and_then(|constant| constant.tensor.as_bytes().cloned());
    let bytes = constant.unwrap_or_default().repeat(size);
    call.graph.small_constant(dtype, vec![size], bytes)
}

fn or_filled(
    call: &mut Call<'_>,
    given: Option<ValueId>,
    size: Dim,
    number: f64,
    dtype: DType,
) -> Result<ValueId, Fault> {
    match given {
        Some(value) => call.graph.cast(value, dtype),
        None => filled(call, size, number, dtype),
    }
}

/// `(input, weight, bias, running_mean, running_var, training, momentum, eps, ...)`
fn batch_norm(call: &mut Call<'_>) -> Result<Value, Fault> {
    if call.bool_or(5, "training", false)? {
        return Err(Fault::Training);
    }
    with_running_statistics(call)
}

fn with_running_statistics(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "input")?;
    let (weight, bias) = (call.optional_tensor(1, "weight")?, call.optional_tensor(2, "bias")?);
    let (mean, variance) =
        (call.optional_tensor(3, "running_mean")?, call.optional_tensor(4, "running_var")?);
    let (Some(mean), Some(variance)) = (mean, variance) else {
        return call.unsupported("without running statistics");
    };
    let epsilon = call.number_or(7, "eps", 1e-5)?;
    let (shape, channels) = (call.graph.shape(input), call.graph.shape(mean));
    let (Some(axis), [channels]) = (shape.get(1), channels.as_slice()) else {
        return Err(Fault::Mismatch("a batch norm over an input without channels".to_owned()));
    };
    call.graph.symbols_mut().unify(*axis, *channels)?;
    let dtype = call.graph.dtype(mean);
    let weight = or_filled(call, weight, *channels, 1.0, dtype)?;
    let bias = or_filled(call, bias, *channels, 0.0, dtype)?;
    let inputs = [input, weight, bias, mean, variance];
    let node = Node::new("BatchNormalization").inputs(&inputs).float("epsilon", epsilon);
    let value = call.graph.add_like(node, input);
    call.done(value)
}

/// `(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, ...)`
fn instance_norm(call: &mut Call<'_>) -> Result<Value, Fault> {
    if !call.bool_or(5, "use_input_stats", true)? {
        return with_running_statistics(call);
    }
    let input = call.tensor(0, "input")?;
    let epsilon = call.number_or(7, "eps", 1e-5)?;
    let (shape, dtype) = (call.graph.shape(input), call.graph.dtype(input));
    let [_, channels, _, ..] = shape.as_slice() else {
        return Err(Fault::Mismatch("an instance norm over an input without space".to_owned()));
    };
    let (weight, bias) = (call.optional_tensor(1, "weight")?, call.optional_tensor(2, "bias")?);
    let weight = or_filled(call, weight, *channels, 1.0, dtype)?;
    let bias = or_filled(call, bias, *channels, 0.0, dtype)?;
    let node = Node::new("InstanceNormalization").inputs(&[input, weight, bias]).float("epsilon", epsilon);
    let value = call.graph.add_like(node, input);
    call.done(value)
}

/// `(input, normalized_shape, weight, bias, eps)`: over the last axes.
fn layer_norm(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "input")?;
    let (dtype, shape) = (call.graph.dtype(input), call.graph.shape(input));
    let normalised = call.ints(1, "normalized_shape")?;
    let (weight, bias) = (call.optional_tensor(2, "weight")?, call.optional_tensor(3, "bias")?);
    let epsilon = call.number_or(4, "eps", 1e-5)?;
    let Some(first) = shape.len().checked_sub(normalised.len()).filter(|_| !normalised.is_empty()) else {
        return Err(Fault::Mismatch("a layer norm over more axes than there are".to_owned()));
    };
    for (axis, size) in shape[first..].iter().zip(&normalised) {
        call.graph.symbols_mut().unify(*axis, Dim::Fixed(*size))?;
    }
    let weight = match weight {
        Some(weight) => call.graph.cast(weight, dtype)?,
        None => {
            let one = call.graph.scalar(Number::Float(1.0), dtype)?;
            let ones: Vec<Dim> = normalised.iter().copied().map(Dim::Fixed).collect();
            call.expanded(one, &ones)?
        }
    };
    let bias = bias.map(|bias| call.graph.cast(bias, dtype)).transpose()?;
    let node = Node::new("LayerNormalization").input(input).input(weight).optional(bias);
    let node = node.int("axis", first as i64).float("epsilon", epsilon);
    let value = call.graph.add_like(node, input);
    call.done(value)
}

/// Mean and deviation, which it gives too, are for training.
fn native_layer_norm(call: &mut Call<'_>) -> Result<Value, Fault> {
    let value = layer_norm(call)?;
    Ok(call.heap.add_tuple(vec![value, Value::None, Value::None]))
}

/// `(input, groups, weight, bias, eps)`: an instance norm over groups of channels, then weight and bias per channel.
fn group_norm(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "input")?;
    let (dtype, shape) = (call.graph.dtype(input), call.graph.shape(input));
    let groups = call.int(1, "num_groups")?;
    let (weight, bias) = (call.optional_tensor(2, "weight")?, call.optional_tensor(3, "bias")?);
    let epsilon = call.number_or(4, "eps", 1e-5)?;
    let [batch, channels, ..] = shape.as_slice() else {
        return Err(Fault::Mismatch("a group norm over an input without channels".to_owned()));
    };
    if let Some(weights) = weight.and_then(|weight| fixed(&call.graph.shape(weight))) {
        call.graph.symbols_mut().unify(*channels, Dim::Fixed(weights.iter().product()))?;
    }
    let rest = call.graph.symbols_mut().quotient(&shape[1..], &[Dim::Fixed(groups)])?;
    let rest = rest.ok_or_else(|| Fault::OpenAxis("the size of a group of channels".to_owned()))?;
    let grouped = call.reshaped(input, &[*batch, Dim::Fixed(groups), rest])?;
    let (ones, zeros) =
        (filled(call, Dim::Fixed(groups), 1.0, dtype)?, filled(call, Dim::Fixed(groups), 0.0, dtype)?);
    let node = Node::new("InstanceNormalization").inputs(&[grouped, ones, zeros]).float("epsilon", epsilon);
    let normalised = call.graph.add_like(node, grouped);
    let mut value = call.reshaped(normalised, &shape)?;
    let axes: Vec<i64> = (1..shape.len() as i64 - 1).collect();
    for (op_type, parameter) in [("Mul", weight), ("Add", bias)] {
        if let Some(parameter) = parameter {
            let parameter = call.unsqueezed(parameter, &axes)?;
            value = call.broadcast_node(op_type, &[value, parameter], dtype)?;
        }
    }
    call.done(value)
}
