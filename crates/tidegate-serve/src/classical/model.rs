//! The whole graph of an ONNX file: nodes with their attributes, and weights, by field number of `onnx.proto3`.
//!
//! It is read after `onnx_file` has accepted the file, with the same bounded reader. Nothing is larger in memory than a small
//! multiple of what it takes in the file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek};
use std::path::Path;

use bytes::Bytes;

use super::array::{Array, Data};
use super::attributes::{Attribute, Attributes};
use crate::load_error::LoadError;
use crate::onnx_file::Operator;
use crate::onnx_file::wire::{Fault, Value, Wire};

#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) weights: Vec<Weight>,
    /// Weights that are written in a way which is not read here.
    pub(super) has_sparse_weights: bool,
}

pub(super) struct Node {
    pub(super) operator: Operator,
    /// An empty name is an input that is left out.
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    pub(super) attributes: Attributes,
}

pub(super) struct Weight {
    pub(super) name: String,
    /// Or why it cannot be used.
    pub(super) values: Result<Array, String>,
}

pub(super) fn read(path: &Path) -> Result<Graph, LoadError> {
    let file = File::open(path).map_err(|error| LoadError::io(path, error))?;
    let size = file.metadata().map_err(|error| LoadError::io(path, error))?.len();
    let mut graph = Graph::default();
    read_model(&mut Wire::new(BufReader::new(file)), size, &mut graph).map_err(|fault| match fault {
        Fault::Io(error) => LoadError::io(path, error),
        Fault::Truncated | Fault::Malformed => {
            LoadError::NotOnnx { path: path.to_owned(), guess: "its contents are damaged".to_owned() }
        }
    })?;
    Ok(graph)
}

fn read_model<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64, graph: &mut Graph) -> Result<(), Fault> {
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (7, Value::Bytes { end }) => read_graph(wire, end, graph)?,
            _ => wire.skip(value)?,
        }
    }
    Ok(())
}

fn read_graph<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64, graph: &mut Graph) -> Result<(), Fault> {
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => graph.nodes.push(read_node(wire, end)?),
            (5, Value::Bytes { end }) => {
                let tensor = read_tensor(wire, end)?;
                graph.weights.push(Weight { values: tensor.array(), name: tensor.name });
            }
            (15, _) => {
                graph.has_sparse_weights = true;
                wire.skip(value)?;
            }
            _ => wire.skip(value)?,
        }
    }
    Ok(())
}

fn read_node<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<Node, Fault> {
    let mut operator = Operator { domain: String::new(), name: String::new() };
    let (mut inputs, mut outputs, mut attributes) = (vec![], vec![], HashMap::new());
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => inputs.push(wire.text(end)?),
            (2, Value::Bytes { end }) => outputs.push(wire.text(end)?),
            (4, Value::Bytes { end }) => operator.name = wire.text(end)?,
            (5, Value::Bytes { end }) => {
                let (name, attribute) = read_attribute(wire, end)?;
                attributes.insert(name, attribute);
            }
            (7, Value::Bytes { end }) => operator.domain = wire.text(end)?,
            _ => wire.skip(value)?,
        }
    }
    Ok(Node { operator, inputs, outputs, attributes: Attributes(attributes) })
}

/// `AttributeProto`. Its type (field 20) decides; a field of value zero may be left out.
fn read_attribute<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<(String, Attribute), Fault> {
    let (mut name, mut kind) = (String::new(), 0);
    let (mut float, mut int, mut text, mut tensor) = (0f32, 0i64, Bytes::new(), None);
    let (mut floats, mut ints, mut texts) = (vec![], vec![], vec![]);
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Bytes { end }) => name = wire.text(end)?,
            (2, Value::Fixed32(bits)) => float = f32::from_bits(bits),
            (3, Value::Varint(value)) => int = value.cast_signed(),
            (4, Value::Bytes { end }) => text = wire.bytes(end)?.into(),
            (5, Value::Bytes { end }) => tensor = Some(read_tensor(wire, end)?),
            (7, Value::Fixed32(bits)) => floats.push(f32::from_bits(bits)),
            (7, Value::Bytes { end }) => floats.extend(elements(&wire.bytes(end)?, f32::from_le_bytes)?),
            (8, Value::Varint(value)) => ints.push(value.cast_signed()),
            (8, Value::Bytes { end }) => ints.extend(wire.packed(end)?),
            (9, Value::Bytes { end }) => texts.push(wire.bytes(end)?.into()),
            (20, Value::Varint(value)) => kind = value,
            _ => wire.skip(value)?,
        }
    }
    let attribute = match kind {
        1 => Attribute::Float(float),
        2 => Attribute::Int(int),
        3 => Attribute::Text(text),
        4 => match tensor {
            Some(tensor) => Attribute::Tensor(tensor.array()),
            None => Attribute::Other,
        },
        6 => Attribute::Floats(floats),
        7 => Attribute::Ints(ints),
        8 => Attribute::Texts(texts),
        _ => Attribute::Other,
    };
    Ok((name, attribute))
}

/// `TensorProto`, its values still as they were written.
#[derive(Default)]
struct RawTensor {
    name: String,
    dims: Vec<i64>,
    code: u64,
    floats: Vec<f32>,
    doubles: Vec<f64>,
    /// Of 32 bits or fewer, and bool.
    small_ints: Vec<i64>,
    ints: Vec<i64>,
    texts: Vec<Bytes>,
    raw: Option<Vec<u8>>,
    is_elsewhere: bool,
}

fn read_tensor<R: BufRead + Seek>(wire: &mut Wire<R>, end: u64) -> Result<RawTensor, Fault> {
    let mut tensor = RawTensor::default();
    while let Some((number, value)) = wire.next(end)? {
        match (number, value) {
            (1, Value::Varint(size)) => tensor.dims.push(size.cast_signed()),
            (1, Value::Bytes { end }) => tensor.dims.extend(wire.packed(end)?),
            (2, Value::Varint(code)) => tensor.code = code,
            (4, Value::Fixed32(bits)) => tensor.floats.push(f32::from_bits(bits)),
            (4, Value::Bytes { end }) => {
                tensor.floats.extend(elements(&wire.bytes(end)?, f32::from_le_bytes)?);
            }
            (5, Value::Varint(value)) => tensor.small_ints.push(value.cast_signed()),
            (5, Value::Bytes { end }) => tensor.small_ints.extend(wire.packed(end)?),
            (6, Value::Bytes { end }) => tensor.texts.push(wire.bytes(end)?.into()),
            (7, Value::Varint(value)) => tensor.ints.push(value.cast_signed()),
            (7, Value::Bytes { end }) => tensor.ints.extend(wire.packed(end)?),
            (8, Value::Bytes { end }) => tensor.name = wire.text(end)?,
            (9, Value::Bytes { end }) => tensor.raw = Some(wire.bytes(end)?),
            (10, Value::Fixed64(bits)) => tensor.doubles.push(f64::from_bits(bits)),
            (10, Value::Bytes { end }) => {
                tensor.doubles.extend(elements(&wire.bytes(end)?, f64::from_le_bytes)?);
            }
            (14, Value::Varint(location)) => tensor.is_elsewhere = location != 0,
            _ => wire.skip(value)?,
        }
    }
    Ok(tensor)
}

impl RawTensor {
    fn array(&self) -> Result<Array, String> {
        if self.is_elsewhere {
            return Err("has its values in another file, which are not read for classical models".to_owned());
        }
        let size = |dim: &i64| usize::try_from(*dim).map_err(|_| format!("has an axis of size {dim}"));
        let shape = self.dims.iter().map(size).collect::<Result<Vec<_>, _>>()?;
        Array::new(shape, self.data()?)
    }

    /// The raw bytes where there are any, else the field of the type.
    fn data(&self) -> Result<Data, String> {
        let raw = self.raw.as_deref();
        let damaged = |_| "does not have whole values".to_owned();
        Ok(match (self.code, raw) {
            (1, Some(raw)) => Data::F32(elements(raw, f32::from_le_bytes).map_err(damaged)?),
            (1, None) => Data::F32(self.floats.clone()),
            (11, Some(raw)) => Data::F64(elements(raw, f64::from_le_bytes).map_err(damaged)?),
            (11, None) => Data::F64(self.doubles.clone()),
            (6, Some(raw)) => Data::I32(elements(raw, i32::from_le_bytes).map_err(damaged)?),
            (6, None) => Data::I32(self.small_ints.iter().map(|value| *value as i32).collect()),
            (7, Some(raw)) => Data::I64(elements(raw, i64::from_le_bytes).map_err(damaged)?),
            (7, None) => Data::I64(self.ints.clone()),
            (9, Some(raw)) => Data::Bool(raw.iter().map(|value| *value != 0).collect()),
            (9, None) => Data::Bool(self.small_ints.iter().map(|value| *value != 0).collect()),
            (8, _) => Data::Text(self.texts.clone()),
            // The modes of tree nodes are written so; no operator here gives or takes it otherwise.
            (2, Some(raw)) => Data::I32(raw.iter().map(|value| i32::from(*value)).collect()),
            (2, None) => Data::I32(self.small_ints.iter().map(|value| *value as i32).collect()),
            (code, _) => return Err(format!("is of the ONNX data type number {code}")),
        })
    }
}

fn elements<T, const N: usize>(bytes: &[u8], from_bytes: fn([u8; N]) -> T) -> Result<Vec<T>, Fault> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    if rest.is_empty() {
        Ok(chunks.iter().map(|chunk| from_bytes(*chunk)).collect())
    } else {
        Err(Fault::Malformed)
    }
}
