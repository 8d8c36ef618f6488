//! Choosing elements by their place.

use tidegate_core::DType;

use super::promote::{Kind, kind};
use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Number, Operation, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("embedding", embedding),
    ("flip", flip),
    ("gather", gather),
    ("index", index),
    ("index_select", index_select),
    ("narrow", narrow),
    ("roll", roll),
    ("select", select),
    ("slice", slice),
    ("tril", |call| triangle(call, false)),
    ("triu", |call| triangle(call, true)),
];

impl Call<'_> {
    /// One place of an axis, which goes away.
    pub(super) fn selected(&mut self, input: ValueId, axis: usize, index: i64) -> Result<ValueId, Fault> {
        let (dtype, mut shape) = (self.graph.dtype(input), self.graph.shape(input));
        if shape.is_empty() {
            return Err(Fault::Mismatch("an item of a scalar".to_owned()));
        }
        if let Dim::Fixed(size) = shape.remove(axis)
            && !(-size..size).contains(&index)
        {
            return Err(Fault::Mismatch(format!("index {index} of an axis of size {size}")));
        }
        let index = self.graph.scalar(Number::Int(index), DType::Int64)?;
        let node = Node::new("Gather").input(input).input(index).int("axis", axis as i64);
        Ok(self.graph.add(node, dtype, shape))
    }

    /// From `start` to before `end` in steps; `size` is what that gives.
    fn sliced(
        &mut self,
        input: ValueId,
        axis: usize,
        [start, end]: [Dim; 2],
        step: i64,
        size: Dim,
    ) -> Result<ValueId, Fault> {
        let (dtype, mut shape) = (self.graph.dtype(input), self.graph.shape(input));
        shape[axis] = size;
        let (start, end) = (self.graph.shape_vector(&[start])?, self.graph.shape_vector(&[end])?);
        let (axes, steps) = (self.graph.int_vector(&[axis as i64])?, self.graph.int_vector(&[step])?);
        Ok(self.graph.add(Node::new("Slice").inputs(&[input, start, end, axes, steps]), dtype, shape))
    }
}

fn select(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axis = call.axis(call.int(1, "dim")?, call.graph.rank(input))?;
    let index = call.int(2, "index")?;
    let value = call.selected(input, axis, index)?;
    call.view(value)
}

fn slice(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let shape = call.graph.shape(input);
    let axis = call.axis(call.int_or(1, "dim", 0)?, shape.len())?;
    let Some(total) = shape.get(axis).copied() else {
        return Err(Fault::Mismatch("a slice of a scalar".to_owned()));
    };
    let given = |call: &Call<'_>, index, name, default| match call.is_given(index, name) {
        true => Ok::<_, Fault>(call.dims(index, name)?[0]),
        false => Ok(Dim::Fixed(default)),
    };
    let (start, end) = (given(call, 2, "start", 0)?, given(call, 3, "end", i64::MAX)?);
    let step = call.int_or(4, "step", 1)?;
    if step < 1 {
        return Err(Fault::malformed("a slice that goes backwards"));
    }
    if (start, end, step) == (Dim::Fixed(0), Dim::Fixed(i64::MAX), 1) {
        return call.view(input);
    }
    let (from, to) = (bound(call, start, total)?, bound(call, end, total)?);
    let mut size = call.graph.symbols_mut().apply(Operation::Sub, to, from)?;
    if matches!(size, Dim::Fixed(..1)) {
        return call.unsupported("to nothing");
    }
    if step > 1 {
        size = call.apply(Operation::Add, size, step - 1)?;
        size = call.apply(Operation::Div, size, step)?;
    }
    let value = call.sliced(input, axis, [start, end], step, size)?;
    call.view(value)
}

/// Where a bound lies on an axis: from its end where negative, and inside it.
fn bound(call: &mut Call<'_>, bound: Dim, total: Dim) -> Result<Dim, Fault> {
    match (bound, total) {
        (Dim::Fixed(bound), Dim::Fixed(total)) => {
            let bound = if bound < 0 { bound.saturating_add(total) } else { bound };
            Ok(Dim::Fixed(bound.clamp(0, total)))
        }
        (Dim::Fixed(0), _) => Ok(Dim::Fixed(0)),
        (Dim::Fixed(i64::MAX), total) => Ok(total),
        (Dim::Fixed(bound @ ..0), total) => call.apply(Operation::Add, total, bound),
        // torch would stop at the end of a shorter axis.
        (Dim::Fixed(bound), Dim::Symbol(_)) => {
            Err(Fault::OpenAxis(format!("a slice to {bound} of an axis that varies")))
        }
        (bound @ Dim::Symbol(_), _) => Ok(bound),
    }
}

fn narrow(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let axis = call.axis(call.int(1, "dim")?, call.graph.rank(input))?;
    let (start, length) = (call.int(2, "start")?, call.dims(3, "length")?[0]);
    if start < 0 || axis >= call.graph.rank(input) {
        return call.unsupported("from the end");
    }
    let end = call.graph.symbols_mut().apply(Operation::Add, length, Dim::Fixed(start))?;
    let value = call.sliced(input, axis, [Dim::Fixed(start), end], 1, length)?;
    call.view(value)
}

fn flip(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mut value = call.tensor(0, "self")?;
    let shape = call.graph.shape(value);
    for axis in call.axes(&call.ints(1, "dims")?, shape.len())? {
        value = call.sliced(value, axis, [Dim::Fixed(-1), Dim::Fixed(i64::MIN + 1)], -1, shape[axis])?;
    }
    call.done(value)
}

fn roll(call: &mut Call<'_>) -> Result<Value, Fault> {
    let mut value = call.tensor(0, "self")?;
    let (shifts, axes) = (call.ints(1, "shifts")?, call.ints_or_none(2, "dims")?);
    let shape = call.graph.shape(value);
    if axes.len() != shifts.len() {
        return call.unsupported("without axes");
    }
    let dtype = call.graph.dtype(value);
    for (shift, axis) in shifts.into_iter().zip(call.axes(&axes, shape.len())?) {
        let shift = match shape[axis] {
            Dim::Fixed(size) => shift.rem_euclid(size.max(1)),
            Dim::Symbol(_) => shift,
        };
        if shift == 0 {
            continue;
        }
        let (front, back) = match shift {
            1.. => (Dim::Fixed(shift), call.apply(Operation::Add, shape[axis], -shift)?),
            _ => (call.apply(Operation::Add, shape[axis], shift)?, Dim::Fixed(-shift)),
        };
        let (zero, end) = (Dim::Fixed(0), Dim::Fixed(i64::MAX));
        let last = call.sliced(value, axis, [Dim::Fixed(-shift), end], 1, front)?;
        let first = call.sliced(value, axis, [zero, Dim::Fixed(-shift)], 1, back)?;
        let node = Node::new("Concat").inputs(&[last, first]).int("axis", axis as i64);
        value = call.graph.add(node, dtype, shape.clone());
    }
    call.done(value)
}

fn index_select(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, places) = (call.tensor(0, "self")?, call.tensor(2, "index")?);
    let axis = call.axis(call.int(1, "dim")?, call.graph.rank(input))?;
    let value = picked(call, input, places, axis)?;
    call.done(value)
}

/// The places of an axis that a tensor of integers names; its axes take the place of that one.
fn picked(call: &mut Call<'_>, input: ValueId, places: ValueId, axis: usize) -> Result<ValueId, Fault> {
    let (dtype, mut shape) = (call.graph.dtype(input), call.graph.shape(input));
    if axis >= shape.len() {
        return Err(Fault::Mismatch("an item of a scalar".to_owned()));
    }
    shape.splice(axis..=axis, call.graph.shape(places));
    Ok(call.graph.add(Node::new("Gather").input(input).input(places).int("axis", axis as i64), dtype, shape))
}

/// `input[:, places]`: one tensor of integers, whole axes before and after it.
fn index(call: &mut Call<'_>) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let Some(Value::List(list)) = call.argument(1, "indices") else {
        return Err(Fault::malformed("an index that is no list"));
    };
    let indices: Vec<Value> = call.heap.list(*list).clone();
    let mut given = indices.iter().enumerate().filter(|(_, index)| !matches!(index, Value::None));
    let (Some((axis, Value::Tensor(places))), None) = (given.next(), given.next()) else {
        return call.unsupported("by more than one tensor");
    };
    let places = call.heap.tensor(*places)?;
    if kind(call.graph.dtype(places)) != Kind::Int {
        return call.unsupported("by a mask, whose result has a size that depends on the input");
    }
    let value = picked(call, input, places, axis)?;
    call.done(value)
}

fn gather(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, places) = (call.tensor(0, "self")?, call.tensor(2, "index")?);
    let axis = call.axis(call.int(1, "dim")?, call.graph.rank(input))?;
    let (dtype, shape) = (call.graph.dtype(input), call.graph.shape(places));
    let node = Node::new("GatherElements").input(input).input(places).int("axis", axis as i64);
    let value = call.graph.add(node, dtype, shape);
    call.done(value)
}

/// `(weight, indices, ...)`: rows of a table.
fn embedding(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (table, places) = (call.tensor(0, "weight")?, call.tensor(1, "indices")?);
    if kind(call.graph.dtype(places)) != Kind::Int {
        call.graph.expect_input_dtype(places, DType::Int64);
    }
    if call.graph.rank(places) == 2 {
        // Rows of word numbers are what a network that starts with such a layer takes.
        call.graph.confirm_rank(places);
    }
    let value = picked(call, table, places, 0)?;
    call.done(value)
}

fn triangle(call: &mut Call<'_>, is_upper: bool) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let diagonal = call.int_or(1, "diagonal", 0)?;
    let diagonal = call.graph.scalar(Number::Int(diagonal), DType::Int64)?;
    let node = Node::new("Trilu").input(input).input(diagonal).int("upper", i64::from(is_upper));
    let value = call.graph.add_like(node, input);
    call.done(value)
}
