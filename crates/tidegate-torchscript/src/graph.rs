//! The graph that grows while the program runs: values with type and shape, constants, and nodes.
//!
//! Shapes are exact as far as they can be known: an axis is a number or an expression in the sizes of the inputs' axes
//! ([`symbols`]). Nothing here knows torch; `operators` decides which nodes mean what.

mod node;
mod number;
mod sizes;
mod symbols;
mod write;

use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use tidegate_core::{DType, Tensor};

pub(crate) use node::{Attribute, Node};
pub(crate) use number::Number;
pub(crate) use sizes::fixed;
pub(crate) use symbols::{Dim, Fixable, Operation, SymbolId, Symbols};

use crate::fault::Fault;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ValueId(usize);

#[derive(Clone, Debug)]
struct GraphValue {
    dtype: DType,
    shape: Vec<Dim>,
    origin: Origin,
    /// The input whose rank this has by construction: elementwise from it.
    rank_of: Option<usize>,
}

#[derive(Clone, Debug)]
enum Origin {
    Input,
    Constant(Rc<Constant>),
    Node,
}

#[derive(Debug)]
pub(crate) struct Constant {
    pub(crate) tensor: Tensor,
    /// A weight or buffer of the module, rather than a number that an operator needed.
    is_parameter: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) name: String,
    pub(crate) value: ValueId,
    /// A layer that takes this rank only (or one that usually does) was applied.
    pub(crate) is_rank_confirmed: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Graph {
    values: Vec<GraphValue>,
    nodes: Vec<Placed>,
    inputs: Vec<Input>,
    outputs: Vec<(String, ValueId)>,
    symbols: Symbols,
    /// The path of a weight in the module tree, `features.0.weight`.
    names: HashMap<ValueId, String>,
    small_constants: HashMap<(DType, Vec<usize>, Bytes), ValueId>,
    /// What values and nodes take, weights not counted: roughly, for a limit.
    n_bytes: usize,
    /// Symbols that were written into the graph, as vectors of one element.
    sizes: HashMap<SymbolId, ValueId>,
}

#[derive(Clone, Debug)]
struct Placed {
    node: Node,
    outputs: Vec<ValueId>,
}

impl Graph {
    pub(crate) fn add_input(&mut self, name: &str, dtype: DType, shape: Vec<Dim>) -> ValueId {
        let index = self.inputs.len();
        let value = self.push(GraphValue { dtype, shape, origin: Origin::Input, rank_of: Some(index) });
        self.inputs.push(Input { name: name.to_owned(), value, is_rank_confirmed: false });
        value
    }

    pub(crate) fn add_parameter(&mut self, tensor: Tensor) -> Result<ValueId, Fault> {
        self.push_constant(tensor, true)
    }

    pub(crate) fn name_value(&mut self, value: ValueId, name: String) {
        self.names.entry(value).or_insert(name);
    }

    pub(crate) fn set_outputs(&mut self, outputs: Vec<(String, ValueId)>) {
        self.outputs = outputs;
    }

    /// Adds a node with one output.
    pub(crate) fn add(&mut self, node: Node, dtype: DType, shape: Vec<Dim>) -> ValueId {
        self.add_many(node, vec![(dtype, shape)])[0]
    }

    pub(crate) fn add_many(&mut self, node: Node, outputs: Vec<(DType, Vec<Dim>)>) -> Vec<ValueId> {
        let outputs: Vec<ValueId> = outputs
            .into_iter()
            .map(|(dtype, shape)| self.push(GraphValue { dtype, shape, origin: Origin::Node, rank_of: None }))
            .collect();
        self.n_bytes += node.n_bytes() + outputs.len() * size_of::<ValueId>();
        self.nodes.push(Placed { node, outputs: outputs.clone() });
        outputs
    }

    /// A node whose output has type and shape of its first input.
    pub(crate) fn add_like(&mut self, node: Node, like: ValueId) -> ValueId {
        let (dtype, shape) = (self.dtype(like), self.shape(like));
        let value = self.add(node, dtype, shape);
        self.keep_rank_of(value, like);
        value
    }

    /// `value` has the rank of `like` whatever that is, so an input's rank can still be seen in it.
    pub(crate) fn keep_rank_of(&mut self, value: ValueId, like: ValueId) {
        self.values[value.0].rank_of = self.values[like.0].rank_of;
    }

    pub(crate) fn confirm_rank(&mut self, value: ValueId) {
        if let Some(input) = self.values[value.0].rank_of {
            self.inputs[input].is_rank_confirmed = true;
        }
    }

    /// An operator needs this type: an input that nothing is known of becomes it.
    pub(crate) fn expect_input_dtype(&mut self, value: ValueId, dtype: DType) {
        if let Origin::Input = self.values[value.0].origin {
            self.values[value.0].dtype = dtype;
        }
    }

    pub(crate) fn dtype(&self, value: ValueId) -> DType {
        self.values[value.0].dtype
    }

    pub(crate) fn shape(&self, value: ValueId) -> Vec<Dim> {
        self.values[value.0].shape.iter().map(|dim| self.symbols.resolve(*dim)).collect()
    }

    pub(crate) fn rank(&self, value: ValueId) -> usize {
        self.values[value.0].shape.len()
    }

    pub(crate) fn constant(&self, value: ValueId) -> Option<&Constant> {
        match &self.values[value.0].origin {
            Origin::Constant(constant) => Some(constant),
            Origin::Input | Origin::Node => None,
        }
    }

    /// A weight or buffer of the module, as it was saved.
    pub(crate) fn is_parameter(&self, value: ValueId) -> bool {
        self.constant(value).is_some_and(|constant| constant.is_parameter)
    }

    /// The number in a constant with one element.
    pub(crate) fn number(&self, value: ValueId) -> Option<Number> {
        self.constant(value).and_then(|constant| Number::read(&constant.tensor))
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    pub(crate) fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The floating type that most weights have: what the inputs of the module are.
    pub(crate) fn weight_dtype(&self) -> DType {
        let count = |dtype: DType| {
            let weights = self.values.iter().filter_map(|value| match &value.origin {
                Origin::Constant(constant) if constant.tensor.dtype() == dtype => {
                    Some(constant.tensor.n_elements())
                }
                _ => None,
            });
            weights.sum::<usize>()
        };
        let others = [DType::Fp16, DType::Bf16, DType::Fp64].into_iter().max_by_key(|dtype| count(*dtype));
        others.filter(|dtype| count(*dtype) > count(DType::Fp32)).unwrap_or(DType::Fp32)
    }

    pub(crate) fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    pub(crate) fn symbols_mut(&mut self) -> &mut Symbols {
        &mut self.symbols
    }

    /// A constant without axes.
    pub(crate) fn scalar(&mut self, number: Number, dtype: DType) -> Result<ValueId, Fault> {
        self.small_constant(dtype, vec![], number.encode(dtype)?)
    }

    /// A vector of 64-bit integers, as shapes and axes are written.
    pub(crate) fn int_vector(&mut self, values: &[i64]) -> Result<ValueId, Fault> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.small_constant(DType::Int64, vec![values.len()], bytes)
    }

    pub(crate) fn float_vector(&mut self, values: &[f32]) -> Result<ValueId, Fault> {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.small_constant(DType::Fp32, vec![values.len()], bytes)
    }

    /// The caller keeps these small; equal ones are shared.
    pub(crate) fn small_constant(
        &mut self,
        dtype: DType,
        shape: Vec<usize>,
        bytes: Vec<u8>,
    ) -> Result<ValueId, Fault> {
        let key = (dtype, shape, Bytes::from(bytes));
        if let Some(value) = self.small_constants.get(&key) {
            return Ok(*value);
        }
        let tensor = Tensor::from_bytes(key.0, key.1.clone(), key.2.clone())
            .map_err(|error| Fault::malformed(error.to_string()))?;
        let value = self.push_constant(tensor, false)?;
        self.small_constants.insert(key, value);
        Ok(value)
    }

    pub(crate) fn cast(&mut self, value: ValueId, dtype: DType) -> Result<ValueId, Fault> {
        if self.dtype(value) == dtype {
            return Ok(value);
        }
        if let (Some(number), 0) = (self.number(value), self.rank(value)) {
            return self.scalar(number, dtype);
        }
        let shape = self.shape(value);
        if dtype == DType::Bool {
            // Not every runtime's cast makes 0.5 true.
            let zero = self.scalar(Number::Int(0), self.dtype(value))?;
            let is_zero = self.add(Node::new("Equal").input(value).input(zero), DType::Bool, shape);
            return Ok(self.add_like(Node::new("Not").input(is_zero), is_zero));
        }
        let node = Node::new("Cast").input(value).int("to", i64::from(crate::onnx::data_type(dtype)));
        let cast = self.add(node, dtype, shape);
        self.keep_rank_of(cast, value);
        Ok(cast)
    }

    fn push_constant(&mut self, tensor: Tensor, is_parameter: bool) -> Result<ValueId, Fault> {
        let shape = tensor.shape().iter().map(|size| i64::try_from(*size).map(Dim::Fixed));
        let shape = shape.collect::<Result<_, _>>().map_err(|_| Fault::overflow())?;
        let dtype = tensor.dtype();
        if !is_parameter {
            self.n_bytes += tensor.as_bytes().map_or(0, Bytes::len);
        }
        let origin = Origin::Constant(Rc::new(Constant { tensor, is_parameter }));
        Ok(self.push(GraphValue { dtype, shape, origin, rank_of: None }))
    }

    fn push(&mut self, value: GraphValue) -> ValueId {
        self.n_bytes += size_of::<GraphValue>() + value.shape.len() * size_of::<Dim>();
        self.values.push(value);
        ValueId(self.values.len() - 1)
    }
}
