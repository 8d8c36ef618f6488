//! Other shapes for the same elements.

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Operation, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("_unsafe_view", view),
    ("broadcast_to", expand),
    ("channel_shuffle", channel_shuffle),
    ("expand", expand),
    ("expand_as", expand_as),
    ("flatten", flatten),
    ("movedim", movedim),
    ("numpy_T", reverse_axes),
    ("permute", permute),
    ("pixel_shuffle", pixel_shuffle),
    ("pixel_unshuffle", pixel_unshuffle),
    ("repeat", repeat),
    ("reshape", view),
    ("reshape_as", view_as),
    ("squeeze", squeeze),
    ("swapaxes", transpose),
    ("t", reverse_axes),
    ("tile", repeat),
    ("transpose", transpose),
    ("unflatten", unflatten),
    ("unsqueeze", unsqueeze),
    ("view", view),
    ("view_as", view_as),
];

impl Call<'_> {
    /// The caller knows that the elements are as many.
    pub(super) fn reshaped(&mut self, input: ValueId, shape: &[Dim]) -> Result<ValueId, Fault> {
        let before = self.graph.shape(input);
        if before == shape {
            return Ok(input);
        }
        // 0 is the size of the input's axis, -1 is what is left: most shapes need nothing computed.
        let mut is_inferred = false;
        let constant: Option<Vec<i64>> = shape
            .iter()
            .enumerate()
            .map(|(axis, dim)| match dim {
                Dim::Fixed(0) => None,
                Dim::Fixed(size) => Some(*size),
                dim if before.get(axis) == Some(dim) => Some(0),
                _ if !is_inferred => {
                    is_inferred = true;
                    Some(-1)
                }
                _ => None,
            })
            .collect();
        let target = match constant {
            Some(constant) => self.graph.int_vector(&constant)?,
            None => self.graph.shape_vector(shape)?,
        };
        let dtype = self.graph.dtype(input);
        Ok(self.graph.add(Node::new("Reshape").input(input).input(target), dtype, shape.to_vec()))
    }

    pub(super) fn permuted(&mut self, input: ValueId, axes: &[usize]) -> ValueId {
        if axes.iter().copied().eq(0..axes.len()) {
            return input;
        }
        let (dtype, before) = (self.graph.dtype(input), self.graph.shape(input));
        let shape = axes.iter().map(|axis| before[*axis]).collect();
        let order: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        self.graph.add(Node::new("Transpose").input(input).ints("perm", &order), dtype, shape)
    }

    /// New axes of size one, at these places of the result.
    pub(super) fn unsqueezed(&mut self, input: ValueId, axes: &[i64]) -> Result<ValueId, Fault> {
        if axes.is_empty() {
            return Ok(input);
        }
        let (dtype, mut shape) = (self.graph.dtype(input), self.graph.shape(input));
        for axis in axes {
            let axis = self.axis(*axis, shape.len() + 1)?;
            shape.insert(axis, Dim::Fixed(1));
        }
        let axes = self.graph.int_vector(axes)?;
        Ok(self.graph.add(Node::new("Unsqueeze").input(input).input(axes), dtype, shape))
    }

    pub(super) fn expanded(&mut self, input: ValueId, shape: &[Dim]) -> Result<ValueId, Fault> {
        if self.graph.shape(input) == shape {
            return Ok(input);
        }
        let (dtype, target) = (self.graph.dtype(input), self.graph.shape_vector(shape)?);
        Ok(self.graph.add(Node::new("Expand").input(input).input(target), dtype, shape.to_vec()))
    }
}

/// A shape with at most one -1, which takes what is left; the number of elements must provably be the same.
fn view(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let wanted = call.dims(1, "size")?;
    let shape = inferred(call, input, &wanted)?;
    let value = call.reshaped(input, &shape)?;
    call.view(value)
}

fn inferred(call: &mut Call<'_>, input: ValueId, wanted: &[Dim]) -> Result<Vec<Dim>, Fault> {
    let before = call.graph.shape(input);
    let hole = wanted.iter().position(|dim| *dim == Dim::Fixed(-1));
    let known: Vec<Dim> = wanted.iter().copied().filter(|dim| *dim != Dim::Fixed(-1)).collect();
    if known.len() + 1 < wanted.len() || known.iter().any(|dim| matches!(dim, Dim::Fixed(..0))) {
        return Err(Fault::malformed("a shape that makes no sense"));
    }
    let rest = call.graph.symbols_mut().quotient(&before, &known)?;
    let is_known = before.iter().chain(&known).all(|dim| matches!(dim, Dim::Fixed(_)));
    let mut shape = wanted.to_vec();
    match (rest, hole) {
        (Some(rest), Some(hole)) => shape[hole] = rest,
        (Some(Dim::Fixed(1)), None) => {}
        _ if is_known => return Err(Fault::Mismatch(format!("`{}` of {before:?} to {wanted:?}", call.name))),
        _ => {
            return Err(Fault::OpenAxis(format!("`{}` to a shape that fits one input size only", call.name)));
        }
    }
    Ok(shape)
}

fn view_as(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, other) = (call.tensor(0, "self")?, call.tensor(1, "other")?);
    let shape = call.graph.shape(other);
    let shape = inferred(call, input, &shape)?;
    let value = call.reshaped(input, &shape)?;
    call.view(value)
}

fn flatten(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let mut shape = call.graph.shape(input);
    let start = call.axis(call.int_or(1, "start_dim", 0)?, shape.len())?;
    let end = call.axis(call.int_or(2, "end_dim", -1)?, shape.len())?;
    if shape.is_empty() {
        shape = vec![Dim::Fixed(1)];
    } else if end < start {
        return Err(Fault::malformed("flatten of an axis to one before it"));
    } else {
        let product = call.graph.symbols_mut().product(&shape[start..=end])?;
        shape.splice(start..=end, [product]);
    }
    let value = call.reshaped(input, &shape)?;
    call.view(value)
}

fn unflatten(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let before = call.graph.shape(input);
    let axis = call.axis(call.int(1, "dim")?, before.len())?;
    let sizes = call.dims(2, "sizes")?;
    let wanted = [&before[..axis], &sizes, &before[axis + 1..]].concat();
    let shape = inferred(call, input, &wanted)?;
    let value = call.reshaped(input, &shape)?;
    call.view(value)
}

fn permute(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axes = call.axes(&call.ints(1, "dims")?, call.graph.rank(input))?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..call.graph.rank(input)) {
        return Err(Fault::Mismatch("a permutation of other axes than there are".to_owned()));
    }
    let value = call.permuted(input, &axes);
    call.view(value)
}

fn transpose(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let rank = call.graph.rank(input);
    let (first, second) = (call.axis(call.int(1, "dim0")?, rank)?, call.axis(call.int(2, "dim1")?, rank)?);
    let mut axes: Vec<usize> = (0..rank).collect();
    if rank > 0 {
        axes.swap(first, second);
    }
    let value = call.permuted(input, &axes);
    call.view(value)
}

fn reverse_axes(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axes: Vec<usize> = (0..call.graph.rank(input)).rev().collect();
    let value = call.permuted(input, &axes);
    call.view(value)
}

fn movedim(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let rank = call.graph.rank(input);
    let sources = call.axes(&call.ints(1, "source")?, rank)?;
    let targets = call.axes(&call.ints(2, "destination")?, rank)?;
    let mut moves: Vec<(usize, usize)> = targets.into_iter().zip(sources.iter().copied()).collect();
    moves.sort_unstable();
    let mut axes: Vec<usize> = (0..rank).filter(|axis| !sources.contains(axis)).collect();
    for (target, source) in moves {
        axes.insert(target.min(axes.len()), source);
    }
    if axes.len() != rank {
        return Err(Fault::Mismatch("movedim of other axes than there are".to_owned()));
    }
    let value = call.permuted(input, &axes);
    call.view(value)
}

fn squeeze(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let shape = call.graph.shape(input);
    let candidates = match call.is_given(1, "dim") {
        true => call.axes(&call.ints(1, "dim")?, shape.len())?,
        false => (0..shape.len()).collect(),
    };
    let mut axes = vec![];
    for axis in candidates {
        match shape.get(axis) {
            Some(Dim::Fixed(1)) => axes.push(axis as i64),
            // An input of size one would lose the axis, any other would keep it.
            Some(Dim::Symbol(_)) => return Err(Fault::OpenAxis("squeeze of an axis that varies".to_owned())),
            _ => {}
        }
    }
    if axes.is_empty() {
        return call.view(input);
    }
    let is_kept = |axis: &usize| !axes.contains(&(*axis as i64));
    let shape = (0..shape.len()).filter(is_kept).map(|axis| shape[axis]).collect();
    let (dtype, axes) = (call.graph.dtype(input), call.graph.int_vector(&axes)?);
    let value = call.graph.add(Node::new("Squeeze").input(input).input(axes), dtype, shape);
    call.view(value)
}

fn unsqueeze(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axis = call.axis(call.int(1, "dim")?, call.graph.rank(input) + 1)?;
    let value = call.unsqueezed(input, &[axis as i64])?;
    call.view(value)
}

/// -1 keeps the size of an axis.
fn expand(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let (before, wanted) = (call.graph.shape(input), call.dims(1, "size")?);
    let Some(n_new) = wanted.len().checked_sub(before.len()) else {
        return Err(Fault::Mismatch("expand to fewer axes".to_owned()));
    };
    let mut shape = wanted[..n_new].to_vec();
    for (size, wanted) in before.iter().zip(&wanted[n_new..]) {
        shape.push(match (*size, *wanted) {
            (size, Dim::Fixed(-1)) => size,
            (Dim::Fixed(1), wanted) => wanted,
            (size, wanted) => call.graph.symbols_mut().unify(size, wanted)?,
        });
    }
    let value = call.expanded(input, &shape)?;
    call.view(value)
}

fn expand_as(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, other) = (call.tensor(0, "self")?, call.tensor(1, "other")?);
    let shape = call.graph.shape(other);
    let value = call.expanded(input, &shape)?;
    call.view(value)
}

fn repeat(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mut input = call.tensor(0, "self")?;
    let mut repeats = call.dims(1, "repeats")?;
    let rank = call.graph.rank(input);
    if call.name == "tile" && repeats.len() < rank {
        repeats.splice(0..0, vec![Dim::Fixed(1); rank - repeats.len()]);
    }
    let Some(n_new) = repeats.len().checked_sub(rank) else {
        return Err(Fault::Mismatch("repeat over fewer axes".to_owned()));
    };
    let new: Vec<i64> = (0..n_new as i64).collect();
    input = call.unsqueezed(input, &new)?;
    let before = call.graph.shape(input);
    let mut shape = vec![];
    for (size, times) in before.iter().zip(&repeats) {
        shape.push(call.graph.symbols_mut().apply(Operation::Mul, *size, *times)?);
    }
    let (dtype, times) = (call.graph.dtype(input), call.graph.shape_vector(&repeats)?);
    let value = call.graph.add(Node::new("Tile").input(input).input(times), dtype, shape);
    call.done(value)
}

/// `[n, c r², h, w]` to `[n, c, h r, w r]`.
fn pixel_shuffle(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let factor = call.int(1, "upscale_factor")?;
    let shape = call.spatial_input(input, 2)?;
    let square = factor.checked_mul(factor).filter(|square| *square > 0).ok_or_else(Fault::overflow)?;
    let channels = call.graph.symbols_mut().quotient(&shape[1..2], &[Dim::Fixed(square)])?;
    let channels = channels.ok_or_else(|| Fault::Mismatch("pixel_shuffle of such channels".to_owned()))?;
    let (height, width) =
        (call.apply(Operation::Mul, shape[2], factor)?, call.apply(Operation::Mul, shape[3], factor)?);
    let node = Node::new("DepthToSpace").input(input).int("blocksize", factor).str("mode", "CRD");
    let dtype = call.graph.dtype(input);
    let value = call.graph.add(node, dtype, vec![shape[0], channels, height, width]);
    call.done(value)
}

/// The inverse; ONNX's node orders the channels otherwise.
fn pixel_unshuffle(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let factor = call.int(1, "downscale_factor")?;
    let shape = call.spatial_input(input, 2)?;
    let (height, width) =
        (call.apply(Operation::Div, shape[2], factor)?, call.apply(Operation::Div, shape[3], factor)?);
    let block = Dim::Fixed(factor);
    let split = call.reshaped(input, &[shape[0], shape[1], height, block, width, block])?;
    let ordered = call.permuted(split, &[0, 1, 3, 5, 2, 4]);
    let channels = call.graph.symbols_mut().product(&[shape[1], block, block])?;
    let value = call.reshaped(ordered, &[shape[0], channels, height, width])?;
    call.done(value)
}

fn channel_shuffle(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let groups = Dim::Fixed(call.int(1, "groups")?);
    let shape = call.spatial_input(input, 2)?;
    let each = call.graph.symbols_mut().quotient(&shape[1..2], &[groups])?;
    let each = each.ok_or_else(|| Fault::Mismatch("channel_shuffle of such channels".to_owned()))?;
    let split = call.reshaped(input, &[shape[0], groups, each, shape[2], shape[3]])?;
    let mixed = call.permuted(split, &[0, 2, 1, 3, 4]);
    let value = call.reshaped(mixed, &shape)?;
    call.done(value)
}
