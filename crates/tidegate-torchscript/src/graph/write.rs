//! The finished graph as an ONNX file: what the outputs do not need is left out.

use std::collections::HashSet;

use prost::Message;

use super::symbols::Definition;
use super::{Attribute, Dim, Graph, Node, Origin, SymbolId, ValueId};
use crate::error::ConvertError;
use crate::onnx::{
    AttributeProto, DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, ShapeProto,
    TensorProto, TensorTypeProto, TypeProto, ValueInfoProto, attribute_kind, data_type, ir_version,
};

/// What a protocol buffer can be at most.
const MAX_FILE_BYTES: usize = i32::MAX as usize;

pub(crate) struct Written {
    pub(crate) onnx: Vec<u8>,
    pub(crate) n_nodes: usize,
    pub(crate) n_parameters: u64,
}

impl Graph {
    pub(crate) fn write(mut self, opset: i64) -> Result<Written, ConvertError> {
        self.separate_outputs();
        let used = self.used_values();
        let nodes: Vec<NodeProto> = self
            .nodes
            .iter()
            .filter(|placed| placed.outputs.iter().any(|output| used.contains(output)))
            .map(|placed| self.node_proto(&placed.node, &placed.outputs))
            .collect();
        let (n_nodes, n_parameters) = (nodes.len(), self.n_parameters(&used));
        let graph = GraphProto {
            node: nodes,
            name: "torchscript".to_owned(),
            initializer: self.initializers(&used),
            input: self.inputs.iter().map(|input| self.value_info(&input.name, input.value)).collect(),
            output: self.outputs.iter().map(|(name, value)| self.value_info(name, *value)).collect(),
        };
        let model = ModelProto {
            ir_version: ir_version(opset),
            producer_name: "tidegate".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(graph),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset }],
        };
        if model.encoded_len() > MAX_FILE_BYTES {
            let what = "the size of the ONNX file in bytes".to_owned();
            return Err(ConvertError::Limit { what, limit: MAX_FILE_BYTES as u64 });
        }
        Ok(Written { onnx: model.encode_to_vec(), n_nodes, n_parameters })
    }

    /// Every output needs a name of its own: inputs, constants and values given back twice get a copy.
    fn separate_outputs(&mut self) {
        let mut seen = HashSet::new();
        for index in 0..self.outputs.len() {
            let value = self.outputs[index].1;
            if !matches!(self.values[value.0].origin, Origin::Node) || !seen.insert(value) {
                self.outputs[index].1 = self.add_like(Node::new("Identity").input(value), value);
            }
        }
        self.name_interface();
    }

    /// Inputs keep their names, then outputs; what else has such a name gets another.
    fn name_interface(&mut self) {
        let mut taken: HashSet<String> = self.inputs.iter().map(|input| input.name.clone()).collect();
        for (name, _) in &mut self.outputs {
            while !taken.insert(name.clone()) {
                name.push_str("_out");
            }
        }
        self.names.retain(|_, name| !taken.contains(name));
        self.names.extend(self.outputs.iter().map(|(name, value)| (*value, name.clone())));
        self.names.extend(self.inputs.iter().map(|input| (input.value, input.name.clone())));
    }

    /// Nodes are in the order of their making, so one walk from the end finds all that is needed.
    fn used_values(&self) -> HashSet<ValueId> {
        let mut used: HashSet<ValueId> = self.outputs.iter().map(|(_, value)| *value).collect();
        for placed in self.nodes.iter().rev() {
            if placed.outputs.iter().any(|output| used.contains(output)) {
                used.extend(placed.node.inputs.iter().flatten());
            }
        }
        used
    }

    fn initializers(&self, used: &HashSet<ValueId>) -> Vec<TensorProto> {
        let values = (0..self.values.len()).map(ValueId).filter(|value| used.contains(value));
        values
            .filter_map(|value| {
                let mut proto = self.tensor_proto(value)?;
                proto.name = self.name(value);
                Some(proto)
            })
            .collect()
    }

    fn tensor_proto(&self, value: ValueId) -> Option<TensorProto> {
        let tensor = &self.constant(value)?.tensor;
        Some(TensorProto {
            dims: tensor.shape().iter().map(|size| *size as i64).collect(),
            data_type: data_type(tensor.dtype()),
            name: String::new(),
            raw_data: tensor.as_bytes().cloned().unwrap_or_default(),
        })
    }

    fn n_parameters(&self, used: &HashSet<ValueId>) -> u64 {
        let constants = used.iter().filter_map(|value| self.constant(*value));
        constants
            .filter(|constant| constant.is_parameter)
            .map(|constant| constant.tensor.n_elements() as u64)
            .sum()
    }

    fn node_proto(&self, node: &Node, outputs: &[ValueId]) -> NodeProto {
        let name = |value: &Option<ValueId>| value.map(|value| self.name(value)).unwrap_or_default();
        let mut input: Vec<String> = node.inputs.iter().map(name).collect();
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        let output: Vec<String> = outputs.iter().map(|value| self.name(*value)).collect();
        NodeProto {
            name: format!("{}_{}", node.op_type, output[0]),
            input,
            output,
            op_type: node.op_type.to_owned(),
            attribute: node
                .attributes
                .iter()
                .map(|(name, value)| self.attribute_proto(name, value))
                .collect(),
        }
    }

    fn attribute_proto(&self, name: &str, value: &Attribute) -> AttributeProto {
        let proto = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        match value {
            Attribute::Int(value) => AttributeProto { i: Some(*value), kind: attribute_kind::INT, ..proto },
            Attribute::Float(value) => {
                AttributeProto { f: Some(*value), kind: attribute_kind::FLOAT, ..proto }
            }
            Attribute::Str(value) => {
                AttributeProto { s: Some(value.as_bytes().to_vec()), kind: attribute_kind::STRING, ..proto }
            }
            Attribute::Ints(values) => {
                AttributeProto { ints: values.clone(), kind: attribute_kind::INTS, ..proto }
            }
            Attribute::Tensor(value) => {
                AttributeProto { t: self.tensor_proto(*value), kind: attribute_kind::TENSOR, ..proto }
            }
        }
    }

    /// Names given in the program are paths or arguments, none of which looks like `#12`.
    fn name(&self, value: ValueId) -> String {
        self.names.get(&value).cloned().unwrap_or_else(|| format!("#{}", value.0))
    }

    fn value_info(&self, name: &str, value: ValueId) -> ValueInfoProto {
        let dims = self.shape(value).into_iter().map(|dim| self.dimension(dim)).collect();
        let tensor_type = TensorTypeProto {
            elem_type: data_type(self.dtype(value)),
            shape: Some(ShapeProto { dim: dims }),
        };
        ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
    }

    fn dimension(&self, dim: Dim) -> DimensionProto {
        match dim {
            Dim::Fixed(size) => DimensionProto { dim_value: Some(size), dim_param: None },
            Dim::Symbol(symbol) => DimensionProto { dim_value: None, dim_param: self.axis_name(symbol) },
        }
    }

    /// `batch`, `height`, `width` for images; computed sizes have no name.
    fn axis_name(&self, symbol: SymbolId) -> Option<String> {
        let Definition::Axis { input, axis, .. } = self.symbols.definition(symbol) else { return None };
        let is_image = self.rank(self.inputs[input].value) == 4;
        let name = match (axis, is_image) {
            (0, _) => return Some("batch".to_owned()),
            (2, true) => "height".to_owned(),
            (3, true) => "width".to_owned(),
            (axis, _) => format!("axis{axis}"),
        };
        Some(if input == 0 { name } else { format!("{}_{name}", self.inputs[input].name) })
    }
}
