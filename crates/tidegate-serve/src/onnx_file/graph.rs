//! The messages of `onnx.proto3` that matter here, by field number: the rest is skipped where it lies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, Seek};

use tidegate_core::Dim;

use super::Operator;
use super::wire::{Fault, Value, Wire};

/// Control flow nests graphs in graphs, and sequences nest types in types. Real models stay in single digits; a runtime
/// that recurses deeper could exhaust its stack, which nothing catches.
const MAX_DEPTH: usize = 32;

#[derive(Default)]
pub(super) struct Model {
    pub(super) inputs: Vec<ValueInfo>,
    pub(super) outputs: Vec<ValueInfo>,
    /// Names of the weights of the outermost graph.
    pub(super) initializers: BTreeSet<String>,
    pub(super) operators: BTreeSet<Operator>,
    /// Operators that are told a `mode`, and which: `Resize` and `cubic`.
    pub(super) modes: BTreeSet<(String, String)>,
    /// Whether the file says by which versions of the operators to read it, as it must. Exporters write that last.
    pub(super) imports_operators: bool,
    /// Versions of the operators by domain; empty is the standard one.
    pub(super) opsets: BTreeMap<String, u64>,
    pub(super) ir_version: u64,
    /// What computes each value of the outermost graph.
    pub(super) producers: HashMap<String, Producer>,
    /// Files that hold weights.
    pub(super) external_data: BTreeSet<String>,
}

/// A node, as far as one wants to follow a value back.
pub(super) struct Producer {
    pub(super) operator: String,
    pub(super) first_input: String,
}

pub(super) struct ValueInfo {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Tensors only.
    pub(super) shape: Option<Vec<Dim>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// With its `TensorProto.DataType`.
    Tensor(u64),
    Other(&'static str),
}

/// Reads the `ModelProto` that is the whole file.
pub(super) fn read_model<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<Model, Fault> {
    let mut model = Model::default();
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Varint(version)) => model.ir_version = version,
            (7, Value::Bytes { end }) => read_graph(wire, end, 0, &mut model)?,
            (8, Value::Bytes { end }) => {
                model.imports_operators = true;
                let (domain, version) = read_opset(wire, end)?;
                // Some exporters name a domain twice; the newer one holds.
                let known = model.opsets.entry(domain).or_default();
                *known = (*known).max(version);
            }
            // Local functions: their nodes are inlined by the runtime.
            (25, Value::Bytes { end }) => read_function(wire, end, &mut model)?,
            _ => wire.skip(value)?,
        }
    }
    Ok(model)
}

/// `OperatorSetIdProto`: domain and version. `ai.onnx` is another name of the standard domain.
fn read_opset<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<(String, u64), Fault> {
    let mut opset = (String::new(), 0);
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => opset.0 = wire.text(end)?,
            (2, Value::Varint(version)) => opset.1 = version,
            _ => wire.skip(value)?,
        }
    }
    if opset.0 == "ai.onnx" {
        opset.0.clear();
    }
    Ok(opset)
}

/// `GraphProto`. Only the outermost graph's inputs, outputs and initializers are the model's.
fn read_graph<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    end: u64,
    depth: usize,
    model: &mut Model,
) -> Result<(), Fault> {
    check_depth(depth)?;
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => read_node(wire, end, depth, model)?,
            (5, Value::Bytes { end }) => {
                let name = read_tensor(wire, end, model)?;
                if depth == 0 {
                    model.initializers.insert(name);
                }
            }
            (11, Value::Bytes { end }) => {
                let input = read_value_info(wire, end)?;
                if depth == 0 {
                    model.inputs.push(input);
                }
            }
            (12, Value::Bytes { end }) => {
                let output = read_value_info(wire, end)?;
                if depth == 0 {
                    model.outputs.push(output);
                }
            }
            (13, Value::Bytes { end }) => drop(read_value_info(wire, end)?),
            _ => wire.skip(value)?,
        }
    }
    Ok(())
}

/// `FunctionProto`.
fn read_function<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64, model: &mut Model) -> Result<(), Fault> {
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (7, Value::Bytes { end }) => read_node(wire, end, 0, model)?,
            _ => wire.skip(value)?,
        }
    }
    Ok(())
}

/// `NodeProto`.
fn read_node<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    end: u64,
    depth: usize,
    model: &mut Model,
) -> Result<(), Fault> {
    let mut operator = Operator { domain: String::new(), name: String::new() };
    let mut mode = None;
    let (mut first_input, mut outputs) = (None, vec![]);
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) if depth == 0 && first_input.is_none() => {
                first_input = Some(wire.text(end)?);
            }
            (2, Value::Bytes { end }) if depth == 0 => outputs.push(wire.text(end)?),
            (4, Value::Bytes { end }) => operator.name = wire.text(end)?,
            (5, Value::Bytes { end }) => mode = read_attribute(wire, end, depth, model)?.or(mode),
            (7, Value::Bytes { end }) => operator.domain = wire.text(end)?,
            _ => wire.skip(value)?,
        }
    }
    model.modes.extend(mode.map(|mode| (operator.name.clone(), mode)));
    for output in outputs {
        let first_input = first_input.clone().unwrap_or_default();
        model.producers.insert(output, Producer { operator: operator.name.clone(), first_input });
    }
    model.operators.insert(operator);
    Ok(())
}

/// `AttributeProto`: tensors and graphs hide in it. Gives the text of the attribute `mode`.
fn read_attribute<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    end: u64,
    depth: usize,
    model: &mut Model,
) -> Result<Option<String>, Fault> {
    let (mut is_mode, mut mode) = (false, None);
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => is_mode = wire.text(end)? == "mode",
            (4, Value::Bytes { end }) if is_mode => mode = Some(wire.text(end)?),
            (5 | 10, Value::Bytes { end }) => drop(read_tensor(wire, end, model)?),
            (6 | 11, Value::Bytes { end }) => read_graph(wire, end, depth + 1, model)?,
            (14 | 15, Value::Bytes { end }) => drop(read_type(wire, end, 0)?),
            _ => wire.skip(value)?,
        }
    }
    Ok(mode)
}

/// `TensorProto`: its name, and where its values lie when not in the file. The values are skipped.
fn read_tensor<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64, model: &mut Model) -> Result<String, Fault> {
    let mut name = String::new();
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (8, Value::Bytes { end }) => name = wire.text(end)?,
            (13, Value::Bytes { end }) => {
                let (key, text) = read_entry(wire, end)?;
                if key == "location" {
                    model.external_data.insert(text);
                }
            }
            _ => wire.skip(value)?,
        }
    }
    Ok(name)
}

/// `StringStringEntryProto`: key and value.
fn read_entry<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<(String, String), Fault> {
    let mut entry = (String::new(), String::new());
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => entry.0 = wire.text(end)?,
            (2, Value::Bytes { end }) => entry.1 = wire.text(end)?,
            _ => wire.skip(value)?,
        }
    }
    Ok(entry)
}

/// `ValueInfoProto`.
fn read_value_info<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<ValueInfo, Fault> {
    let mut info = ValueInfo { name: String::new(), kind: Kind::Other("value without a type"), shape: None };
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => info.name = wire.text(end)?,
            (2, Value::Bytes { end }) => (info.kind, info.shape) = read_type(wire, end, 0)?,
            _ => wire.skip(value)?,
        }
    }
    Ok(info)
}

/// `TypeProto`: the outermost kind, and the shape of a tensor.
fn read_type<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    end: u64,
    depth: usize,
) -> Result<(Kind, Option<Vec<Dim>>), Fault> {
    check_depth(depth)?;
    let mut found = (Kind::Other("value without a type"), None);
    while let Some((number, value)) = wire.next(end)? {
        let Value::Bytes { end } = value else { continue };
        match number {
            1 => found = read_tensor_type(wire, end)?,
            4 => {
                read_element_type(wire, end, depth)?;
                found = (Kind::Other("sequence"), None);
            }
            5 => {
                read_element_type(wire, end, depth)?;
                found = (Kind::Other("map"), None);
            }
            8 => {
                wire.skip(value)?;
                found = (Kind::Other("sparse tensor"), None);
            }
            9 => {
                read_element_type(wire, end, depth)?;
                found = (Kind::Other("optional value"), None);
            }
            _ => wire.skip(value)?,
        }
    }
    Ok(found)
}

/// `TypeProto.Sequence`, `.Map` and `.Optional` all hold a type; only its depth matters.
fn read_element_type<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64, depth: usize) -> Result<(), Fault> {
    while let Some((_, value)) = wire.next(end)? {
        if let Value::Bytes { end } = value {
            read_type(wire, end, depth + 1)?;
        }
    }
    Ok(())
}

/// `TypeProto.Tensor`.
fn read_tensor_type<R: BufRead + Seek>(
    wire: &mut Wire<R>,
    end: u64,
) -> Result<(Kind, Option<Vec<Dim>>), Fault> {
    let (mut code, mut shape) = (0, None);
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Varint(number)) => code = number,
            (2, Value::Bytes { end }) => shape = Some(read_shape(wire, end)?),
            _ => wire.skip(value)?,
        }
    }
    Ok((Kind::Tensor(code), shape))
}

/// `TensorShapeProto`. An axis with a name, without anything (skl2onnx), or not positive may vary.
fn read_shape<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<Vec<Dim>, Fault> {
    let mut shape = vec![];
    while let Some((number, value)) = wire.next(end)? {
        let (1, Value::Bytes { end }) = (number, value) else {
            wire.skip(value)?;
            continue;
        };
        let mut dim = Dim::Dynamic;
        while let Some((number, value)) = wire.next(end)? {
            match (number, value) {
                (1, Value::Varint(size)) => {
                    let size = usize::try_from(size.cast_signed()).ok().filter(|size| *size > 0);
                    dim = size.map_or(Dim::Dynamic, Dim::Fixed);
                }
                _ => wire.skip(value)?,
            }
        }
        shape.push(dim);
    }
    Ok(shape)
}

fn check_depth(depth: usize) -> Result<(), Fault> {
    if depth > MAX_DEPTH { Err(Fault::Malformed) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A length-delimited field. Larger lengths than these need are not encoded.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let size = u16::try_from(content.len()).unwrap();
        assert!(size < 1 << 14, "two bytes of a varint");
        let mut bytes = vec![number << 3 | 2, (size & 0x7f) as u8 | 0x80, (size >> 7) as u8];
        bytes.extend_from_slice(content);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Model, Fault> {
        read_model(&mut Wire::new(Cursor::new(bytes)), bytes.len() as u64)
    }

    /// A model whose only node holds a graph, whose only node holds a graph, and so on.
    fn nested(depth: usize) -> Vec<u8> {
        let mut graph = vec![];
        for _ in 0..depth {
            let attribute = field(6, &graph);
            let node = field(5, &attribute);
            graph = field(1, &node);
        }
        field(7, &graph)
    }

    #[test]
    fn graphs_nest_so_deep_and_no_deeper() {
        assert!(read(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(read(&nested(MAX_DEPTH + 1)), Err(Fault::Malformed)));
    }

    #[test]
    fn types_nest_so_deep_and_no_deeper() {
        let sequence_of = |depth: usize| {
            let kind = (0..depth).fold(vec![], |inner, _| field(4, &field(1, &inner)));
            let input = field(11, &field(2, &kind));
            field(7, &input)
        };
        assert!(matches!(read(&sequence_of(MAX_DEPTH)).unwrap().inputs[0].kind, Kind::Other("sequence")));
        assert!(matches!(read(&sequence_of(MAX_DEPTH + 1)), Err(Fault::Malformed)));
    }

    #[test]
    fn weights_elsewhere_are_found_inside_attributes_too() {
        let entry = [field(1, b"location"), field(2, b"/etc/passwd")].concat();
        let tensor = field(13, &entry);
        let node = field(5, &field(5, &tensor));
        let model = read(&field(7, &field(1, &node))).unwrap();
        assert!(model.external_data.contains("/etc/passwd"));
    }
}
