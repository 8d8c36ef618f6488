//! Padding: torch counts from the last axis, ONNX from the first.

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Number, Operation};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("constant_pad_nd", |call| padded(call, "constant", 2)),
    ("pad", pad),
    ("reflection_pad1d", |call| padded(call, "reflect", 2)),
    ("reflection_pad2d", |call| padded(call, "reflect", 2)),
    ("reflection_pad3d", |call| padded(call, "reflect", 2)),
    ("replication_pad1d", |call| padded(call, "edge", 2)),
    ("replication_pad2d", |call| padded(call, "edge", 2)),
    ("replication_pad3d", |call| padded(call, "edge", 2)),
];

fn pad(call: &mut Call<'_>) -> Result<Value, Fault> {
    match &*call.str_or(2, "mode", "constant")? {
        "constant" => padded(call, "constant", 3),
        "reflect" => padded(call, "reflect", 3),
        "replicate" => padded(call, "edge", 3),
        mode => call.unsupported(&format!("in mode `{mode}`")),
    }
}

/// `(input, pad, ...)`: pairs of (before, after), the last axis first.
fn padded(call: &mut Call<'_>, mode: &str, value_at: usize) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let pads = call.dims(1, "pad")?;
    let (dtype, mut shape) = (call.graph.dtype(input), call.graph.shape(input));
    let rank = shape.len();
    if pads.len() % 2 != 0 || pads.len() / 2 > rank {
        return Err(Fault::Mismatch("a padding of more axes than there are".to_owned()));
    }
    if pads.iter().any(|pad| matches!(pad, Dim::Fixed(..0))) {
        return call.unsupported("with negative sizes");
    }
    let mut ordered = vec![Dim::Fixed(0); rank * 2];
    for (index, pair) in pads.chunks(2).enumerate() {
        let axis = rank - 1 - index;
        (ordered[axis], ordered[axis + rank]) = (pair[0], pair[1]);
        for pad in pair {
            shape[axis] = call.graph.symbols_mut().apply(Operation::Add, shape[axis], *pad)?;
        }
    }
    let pads = call.graph.shape_vector(&ordered)?;
    let mut node = Node::new("Pad").input(input).input(pads).str("mode", mode);
    if mode == "constant" {
        let fill =
            if call.is_given(value_at, "value") { call.number(value_at, "value")? } else { Number::Int(0) };
        let fill = call.graph.scalar(fill, dtype)?;
        node = node.input(fill);
    }
    let value = call.graph.add(node, dtype, shape);
    call.done(value)
}
