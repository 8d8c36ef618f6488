//! Joining tensors and cutting them apart.

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("cat", cat),
    ("chunk", chunk),
    ("concat", cat),
    ("concatenate", cat),
    ("split", split),
    ("split_with_sizes", split),
    ("stack", stack),
    ("tensor_split", tensor_split),
    ("unbind", unbind),
    ("unsafe_chunk", chunk),
    ("unsafe_split", split),
    ("unsafe_split_with_sizes", split),
];

/// More parts than any model splits into.
const MAX_PARTS: i64 = 100_000;

impl Call<'_> {
    /// The parts of an axis, one after the other; their sizes must add up.
    fn parts(&mut self, input: ValueId, axis: usize, sizes: &[i64]) -> Result<Vec<ValueId>, Fault> {
        let (dtype, shape) = (self.graph.dtype(input), self.graph.shape(input));
        let total = sizes
            .iter()
            .try_fold(0i64, |total, size| total.checked_add(*size))
            .ok_or_else(Fault::overflow)?;
        if sizes.is_empty() || sizes.iter().any(|size| *size < 0) || axis >= shape.len() {
            return Err(Fault::malformed(format!("`{}` into such parts", self.name)));
        }
        self.graph.symbols_mut().unify(shape[axis], Dim::Fixed(total))?;
        if let [_] = sizes {
            return Ok(vec![input]);
        }
        let part = |size: &i64| {
            let mut shape = shape.clone();
            shape[axis] = Dim::Fixed(*size);
            (dtype, shape)
        };
        let outputs = sizes.iter().map(part).collect();
        let sizes = self.graph.int_vector(sizes)?;
        let node = Node::new("Split").input(input).input(sizes).int("axis", axis as i64);
        Ok(self.graph.add_many(node, outputs))
    }

    pub(super) fn halves(&mut self, input: ValueId, axis: usize) -> Result<[ValueId; 2], Fault> {
        let size = self.known_size(input, axis)?;
        match self.parts(input, axis, &[size / 2, size / 2])?.as_slice() {
            [first, second] => Ok([*first, *second]),
            _ => Err(Fault::malformed("halves that are not two")),
        }
    }

    fn known_size(&self, input: ValueId, axis: usize) -> Result<i64, Fault> {
        match self.graph.shape(input).get(axis) {
            Some(Dim::Fixed(size)) => Ok(*size),
            Some(Dim::Symbol(_)) => Err(Fault::OpenAxis(format!("`{}` of an axis that varies", self.name))),
            None => Err(Fault::Mismatch(format!("`{}` of a scalar", self.name))),
        }
    }
}

/// The tensors of a list in their common type.
fn promoted_list(call: &mut Call<'_>) -> Result<Vec<ValueId>, Fault> {
    let tensors = call.tensors(0, "tensors")?;
    let Some(widest) = tensors
        .iter()
        .map(|tensor| call.graph.dtype(*tensor))
        .max_by_key(|dtype| (super::promote::kind(*dtype), dtype.size_bytes()))
    else {
        return Err(Fault::malformed(format!("`{}` of nothing", call.name)));
    };
    tensors.into_iter().map(|tensor| call.graph.cast(tensor, widest)).collect()
}

fn cat(call: &mut Call<'_>) -> Result<Value, Fault> {
    let tensors = promoted_list(call)?;
    let value = joined(call, &tensors, None)?;
    call.done(value)
}

fn joined(call: &mut Call<'_>, tensors: &[ValueId], axis: Option<usize>) -> Result<ValueId, Fault> {
    let first = tensors[0];
    let (dtype, mut shape) = (call.graph.dtype(first), call.graph.shape(first));
    let axis = match axis {
        Some(axis) => axis,
        None => call.axis(call.int_or(1, "dim", 0)?, shape.len())?,
    };
    for tensor in &tensors[1..] {
        let other = call.graph.shape(*tensor);
        if other.len() != shape.len() || shape.is_empty() {
            return Err(Fault::Mismatch(format!("`{}` of tensors of different rank", call.name)));
        }
        for (index, size) in other.into_iter().enumerate() {
            shape[index] = if index == axis {
                call.graph.symbols_mut().apply(crate::graph::Operation::Add, shape[index], size)?
            } else {
                call.graph.symbols_mut().unify(shape[index], size)?
            };
        }
    }
    Ok(call.graph.add(Node::new("Concat").inputs(tensors).int("axis", axis as i64), dtype, shape))
}

fn stack(call: &mut Call<'_>) -> Result<Value, Fault> {
    let tensors = promoted_list(call)?;
    let axis = call.axis(call.int_or(1, "dim", 0)?, call.graph.rank(tensors[0]) + 1)?;
    let raised = tensors
        .iter()
        .map(|tensor| call.unsqueezed(*tensor, &[axis as i64]))
        .collect::<Result<Vec<_>, _>>()?;
    let value = joined(call, &raised, Some(axis))?;
    call.done(value)
}

/// Into parts of one size, the last perhaps smaller; or into parts of these sizes.
fn split(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axis = call.axis(call.int_or(2, "dim", 0)?, call.graph.rank(input))?;
    if matches!(call.argument(1, "split_size"), Some(Value::List(_) | Value::Tuple(_))) {
        let sizes = call.ints(1, "split_sizes")?;
        let parts = call.parts(input, axis, &sizes)?;
        return call.views(parts);
    }
    let size = call.int(1, "split_size")?;
    cut(call, input, axis, size)
}

fn cut(call: &mut Call<'_>, input: ValueId, axis: usize, size: i64) -> Result<Value, Fault> {
    let total = call.known_size(input, axis)?;
    if size < 1 || total < 1 || total / size > MAX_PARTS {
        return Err(Fault::malformed(format!("`{}` into parts of {size}", call.name)));
    }
    let mut sizes = vec![size; (total / size) as usize];
    if total % size > 0 {
        sizes.push(total % size);
    }
    let parts = call.parts(input, axis, &sizes)?;
    call.views(parts)
}

/// At most so many parts, all but the last of one size.
fn chunk(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axis = call.axis(call.int_or(2, "dim", 0)?, call.graph.rank(input))?;
    let (total, chunks) = (call.known_size(input, axis)?, call.int(1, "chunks")?);
    if chunks < 1 {
        return Err(Fault::malformed("chunk into no parts"));
    }
    cut(call, input, axis, (total / chunks + i64::from(total % chunks > 0)).max(1))
}

/// So many parts, the first ones one larger where it does not divide.
fn tensor_split(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axis = call.axis(call.int_or(2, "dim", 0)?, call.graph.rank(input))?;
    if !matches!(call.argument(1, "sections"), Some(Value::Int(_))) {
        return call.unsupported("at given places");
    }
    let (total, sections) = (call.known_size(input, axis)?, call.int(1, "sections")?);
    if !(1..=MAX_PARTS).contains(&sections) {
        return Err(Fault::malformed("tensor_split into no parts"));
    }
    let size = |index| total / sections + i64::from(index < total % sections);
    let parts = call.parts(input, axis, &(0..sections).map(size).collect::<Vec<_>>())?;
    call.views(parts)
}

fn unbind(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axis = call.axis(call.int_or(1, "dim", 0)?, call.graph.rank(input))?;
    let size = call.known_size(input, axis)?;
    if size > MAX_PARTS {
        return Err(Fault::malformed("unbind of a very long axis"));
    }
    let parts = (0..size).map(|index| call.selected(input, axis, index)).collect::<Result<_, _>>()?;
    call.views(parts)
}
