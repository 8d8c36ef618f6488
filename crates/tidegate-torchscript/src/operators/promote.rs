//! Which type an operator computes in, and broadcasting.
//!
//! torch's rules (<https://pytorch.org/docs/stable/tensor_attributes.html#torch.dtype>): tensors with axes decide; a number
//! or a tensor without axes counts only where it is of a higher kind (truth, integer, float). ONNX has no such rules, so the
//! operands are cast.

use tidegate_core::DType;

use super::Call;
use crate::fault::Fault;
use crate::graph::{Dim, Node, Number, ValueId};
use crate::heap::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Bool,
    Int,
    Float,
}

pub(super) fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::Bool => Kind::Bool,
        DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 => Kind::Float,
        _ => Kind::Int,
    }
}

fn wider(left: DType, right: DType) -> DType {
    let width = |dtype: DType| (kind(dtype), dtype.size_bytes().unwrap_or(0));
    match (left, right) {
        (DType::Fp16, DType::Bf16) | (DType::Bf16, DType::Fp16) => DType::Fp32,
        (DType::Uint8, DType::Int8) | (DType::Int8, DType::Uint8) => DType::Int16,
        _ if width(left) >= width(right) => left,
        _ => right,
    }
}

impl Call<'_> {
    /// The arguments in their common type, and that type.
    pub(super) fn promoted(&mut self, which: &[(usize, &str)]) -> Result<(Vec<ValueId>, DType), Fault> {
        let (mut axes, mut no_axes, mut values) = (None, None, vec![]);
        for (index, name) in which {
            let is_number = !matches!(self.argument(*index, name), Some(Value::Tensor(_)));
            if let Some(Value::Scaled { .. }) = self.argument(*index, name) {
                return Err(Fault::OpenAxis(format!("`{name}` is computed from the size of an axis")));
            }
            let value = self.tensor(*index, name)?;
            let group = if is_number || self.graph.rank(value) == 0 { &mut no_axes } else { &mut axes };
            *group =
                Some(group.map_or(self.graph.dtype(value), |dtype| wider(dtype, self.graph.dtype(value))));
            values.push(value);
        }
        let dtype = match (axes, no_axes) {
            (Some(axes), Some(no_axes)) if kind(no_axes) > kind(axes) => no_axes,
            (Some(dtype), _) | (None, Some(dtype)) => dtype,
            (None, None) => DType::Fp32,
        };
        let values =
            values.into_iter().map(|value| self.graph.cast(value, dtype)).collect::<Result<_, _>>()?;
        Ok((values, dtype))
    }

    /// A layer computes in the type of its weight; torch refuses inputs of another.
    pub(super) fn check_layer_dtype(&mut self, input: ValueId, weight: ValueId) -> Result<(), Fault> {
        let dtype = self.graph.dtype(weight);
        self.graph.expect_input_dtype(input, dtype);
        if self.graph.dtype(input) == dtype {
            return Ok(());
        }
        Err(Fault::Mismatch(format!("`{}` takes {dtype}, got {}", self.name, self.graph.dtype(input))))
    }

    /// A tensor of a floating type: integers become 32-bit floats, as torch's default.
    pub(super) fn float_tensor(&mut self, index: usize, name: &str) -> Result<ValueId, Fault> {
        let value = self.tensor(index, name)?;
        let is_float = kind(self.graph.dtype(value)) == Kind::Float;
        if is_float { Ok(value) } else { self.graph.cast(value, DType::Fp32) }
    }

    /// The shape that all of these have together.
    pub(super) fn broadcast(&mut self, values: &[ValueId]) -> Result<Vec<Dim>, Fault> {
        let mut shape: Vec<Dim> = vec![];
        for value in values {
            let other = self.graph.shape(*value);
            shape = self.broadcast_shapes(&shape, &other)?;
        }
        Ok(shape)
    }

    pub(super) fn broadcast_shapes(&mut self, left: &[Dim], right: &[Dim]) -> Result<Vec<Dim>, Fault> {
        let rank = left.len().max(right.len());
        let at = |dims: &[Dim], axis: usize| match (axis + dims.len()).checked_sub(rank) {
            Some(index) => dims[index],
            None => Dim::Fixed(1),
        };
        (0..rank)
            .map(|axis| match (at(left, axis), at(right, axis)) {
                (Dim::Fixed(1), other) | (other, Dim::Fixed(1)) => Ok(other),
                (left, right) => self.graph.symbols_mut().unify(left, right),
            })
            .collect()
    }

    /// A node over operands that broadcast.
    pub(super) fn broadcast_node(
        &mut self,
        op_type: &'static str,
        operands: &[ValueId],
        dtype: DType,
    ) -> Result<ValueId, Fault> {
        let shape = self.broadcast(operands)?;
        let rank = shape.len();
        let value = self.graph.add(Node::new(op_type).inputs(operands), dtype, shape);
        if let Some(first) = operands.first().filter(|first| self.graph.rank(**first) == rank) {
            self.graph.keep_rank_of(value, *first);
        }
        Ok(value)
    }

    /// A node over a tensor and a number in the tensor's type.
    pub(super) fn with_number(
        &mut self,
        op_type: &'static str,
        value: ValueId,
        number: f64,
    ) -> Result<ValueId, Fault> {
        let dtype = self.graph.dtype(value);
        let number = self.graph.scalar(Number::Float(number), dtype)?;
        Ok(self.graph.add_like(Node::new(op_type).input(value).input(number), value))
    }

    /// A node of one operand and its type and shape.
    pub(super) fn unary(&mut self, op_type: &'static str, value: ValueId) -> ValueId {
        self.graph.add_like(Node::new(op_type).input(value), value)
    }
}
