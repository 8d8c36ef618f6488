//! The module tree and the constants of an archive, read from their pickles.
//!
//! A pickle is a program for a small stack machine ([`machine`]); what makes Python's dangerous is that it may call
//! anything. This one calls the handful of functions that torch writes ([`globals`]) and refuses the rest by name.

mod globals;
mod machine;
mod reader;

use std::collections::HashSet;
use std::io::{Read, Seek};

use crate::archive::Archive;
use crate::error::ConvertError;
use crate::graph::Graph;
use crate::heap::{Heap, ObjectId, Value};
use machine::Machine;

/// A module as it was saved: its tree of objects, and its weights as constants of an empty graph.
#[derive(Clone)]
pub(crate) struct Module {
    pub(crate) heap: Heap,
    pub(crate) graph: Graph,
    pub(crate) root: ObjectId,
    /// What the program calls `CONSTANTS.c0`, `CONSTANTS.c1`...
    pub(crate) constants: Vec<Value>,
}

pub(crate) fn load<R: Read + Seek>(archive: &mut Archive<R>) -> Result<Module, ConvertError> {
    let (mut heap, mut graph) = (Heap::default(), Graph::default());
    let root = Machine::new(archive, "data", &mut heap, &mut graph).run()?;
    let Value::Object(root) = root else {
        return Err(ConvertError::malformed("`data.pkl` does not hold a module"));
    };
    let constants = match archive.has_pickle("constants") {
        true => Machine::new(archive, "constants", &mut heap, &mut graph).run()?,
        false => heap.add_tuple(vec![]),
    };
    let (Value::Tuple(constants) | Value::List(constants)) = constants else {
        return Err(ConvertError::malformed("`constants.pkl` does not hold a tuple"));
    };
    let constants = heap.list(constants).clone();
    name_weights(&heap, &mut graph, root, &constants);
    Ok(Module { heap, graph, root, constants })
}

/// A deeper path names nothing that anyone reads.
const MAX_PATH: usize = 500;

/// Gives every weight the path that it has in `state_dict()`; one that has several, the same at every conversion.
fn name_weights(heap: &Heap, graph: &mut Graph, root: ObjectId, constants: &[Value]) {
    let mut open = vec![(String::new(), root)];
    let mut seen = HashSet::from([root]);
    while let Some((path, object)) = open.pop() {
        let mut attributes: Vec<_> = heap.object(object).attributes.iter().collect();
        attributes.sort_unstable_by_key(|(name, _)| &***name);
        for (name, value) in attributes {
            let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            match value {
                Value::Tensor(tensor) => {
                    if let Ok(value) = heap.tensor(*tensor) {
                        graph.name_value(value, path);
                    }
                }
                Value::Object(child) if path.len() <= MAX_PATH && seen.insert(*child) => {
                    open.push((path, *child))
                }
                _ => {}
            }
        }
    }
    for (index, constant) in constants.iter().enumerate() {
        if let Value::Tensor(tensor) = constant
            && let Ok(value) = heap.tensor(*tensor)
        {
            graph.name_value(value, format!("constants.c{index}"));
        }
    }
}
