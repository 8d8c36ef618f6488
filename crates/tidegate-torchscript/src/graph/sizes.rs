//! Sizes as values of the graph: where a shape is known only when the model runs, nodes compute it.

use std::collections::HashSet;

use tidegate_core::DType;

use super::symbols::Definition;
use super::{Dim, Graph, Node, Operation, SymbolId, ValueId};
use crate::fault::Fault;

impl Graph {
    /// A vector of 64-bit integers holding `dims`, constant where all are.
    pub(crate) fn shape_vector(&mut self, dims: &[Dim]) -> Result<ValueId, Fault> {
        let dims: Vec<Dim> = dims.iter().map(|dim| self.symbols.resolve(*dim)).collect();
        if let Some(sizes) = fixed(&dims) {
            return self.int_vector(&sizes);
        }
        let parts = dims.iter().map(|dim| self.size(*dim)).collect::<Result<Vec<_>, _>>()?;
        if let [only] = parts.as_slice() {
            return Ok(*only);
        }
        let shape = vec![Dim::Fixed(dims.len() as i64)];
        Ok(self.add(Node::new("Concat").inputs(&parts).int("axis", 0), DType::Int64, shape))
    }

    /// One size as a vector of one element.
    fn size(&mut self, dim: Dim) -> Result<ValueId, Fault> {
        match self.symbols.resolve(dim) {
            Dim::Fixed(size) => self.int_vector(&[size]),
            Dim::Symbol(symbol) => self.symbol_size(symbol),
        }
    }

    /// Nodes for every part of an expression, operands first, each once. Parts look back only, so sorting orders them.
    fn symbol_size(&mut self, symbol: SymbolId) -> Result<ValueId, Fault> {
        let mut needed = vec![symbol];
        let mut seen = HashSet::from([symbol]);
        let mut next = 0;
        while let Some(part) = needed.get(next).copied() {
            next += 1;
            if let Definition::Of(_, left, right) = self.symbols.definition(part) {
                for dim in [left, right] {
                    if let Dim::Symbol(operand) = self.symbols.resolve(dim)
                        && !self.sizes.contains_key(&operand)
                        && seen.insert(operand)
                    {
                        needed.push(operand);
                    }
                }
            }
        }
        needed.sort_unstable();
        for part in needed {
            if !self.sizes.contains_key(&part) {
                let value = self.part_size(part)?;
                self.sizes.insert(part, value);
            }
        }
        Ok(self.sizes[&symbol])
    }

    fn part_size(&mut self, symbol: SymbolId) -> Result<ValueId, Fault> {
        let one = vec![Dim::Fixed(1)];
        match self.symbols.definition(symbol) {
            Definition::Axis { input, axis, .. } => {
                let input = self.inputs[input].value;
                let rank = vec![Dim::Fixed(self.rank(input) as i64)];
                let shape = self.add(Node::new("Shape").input(input), DType::Int64, rank);
                let index = self.int_vector(&[axis as i64])?;
                Ok(self.add(Node::new("Gather").input(shape).input(index).int("axis", 0), DType::Int64, one))
            }
            Definition::Of(operation, left, right) => {
                // Operands are in `sizes` already, or numbers.
                let (left, right) = (self.known_size(left)?, self.known_size(right)?);
                let op_type = match operation {
                    Operation::Add => "Add",
                    Operation::Sub => "Sub",
                    Operation::Mul => "Mul",
                    Operation::Div => "Div",
                    Operation::Mod => "Mod",
                };
                Ok(self.add(Node::new(op_type).input(left).input(right), DType::Int64, one))
            }
            Definition::Same(dim) => self.known_size(dim),
        }
    }

    fn known_size(&mut self, dim: Dim) -> Result<ValueId, Fault> {
        match self.symbols.resolve(dim) {
            Dim::Fixed(size) => self.int_vector(&[size]),
            Dim::Symbol(symbol) => {
                Ok(*self.sizes.get(&symbol).expect("operands of an expression are written before it"))
            }
        }
    }
}

/// All sizes, where all are known.
pub(crate) fn fixed(dims: &[Dim]) -> Option<Vec<i64>> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Some(*size),
        Dim::Symbol(_) => None,
    };
    dims.iter().map(size).collect()
}
