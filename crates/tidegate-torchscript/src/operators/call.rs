//! The arguments of one operator call, by position or by name, and its result.

use std::rc::Rc;

use tidegate_core::DType;

use super::convert::dtype_of_code;
use crate::fault::Fault;
use crate::graph::{Dim, Graph, Node, Number, Operation, ValueId, fixed};
use crate::heap::{Heap, TensorId, Value};
use crate::source::ast::Name;

pub(crate) struct Call<'a> {
    pub(crate) graph: &'a mut Graph,
    pub(crate) heap: &'a mut Heap,
    pub(crate) opset: i64,
    /// Without namespace, and without the underscore of an in-place form.
    pub(crate) name: &'a str,
    pub(crate) arguments: Vec<Value>,
    pub(crate) named: Vec<(Name, Value)>,
}

impl Call<'_> {
    /// `None` where the argument is not given, [`Value::None`] where it is given as such.
    pub(crate) fn argument(&self, index: usize, name: &str) -> Option<&Value> {
        let named = || self.named.iter().find(|(given, _)| &**given == name).map(|(_, value)| value);
        self.arguments.get(index).or_else(named)
    }

    /// An argument that can only be given by name.
    pub(crate) fn keyword(&self, name: &str) -> Option<&Value> {
        self.argument(usize::MAX, name).filter(|value| !matches!(value, Value::None))
    }

    pub(crate) fn is_given(&self, index: usize, name: &str) -> bool {
        !matches!(self.argument(index, name), None | Some(Value::None))
    }

    /// What this operator does not support, named.
    pub(crate) fn unsupported<T>(&self, what: &str) -> Result<T, Fault> {
        Err(Fault::Operator(format!("aten::{} ({what})", self.name)))
    }

    fn unexpected(&self, name: &str, value: Option<&Value>) -> Fault {
        let found = value.map_or("nothing", Value::kind);
        Fault::malformed(format!("`{name}` of `{}` is {found}", self.name))
    }

    /// A tensor; a number becomes a constant without axes.
    pub(crate) fn tensor(&mut self, index: usize, name: &str) -> Result<ValueId, Fault> {
        match self.argument(index, name).cloned() {
            Some(Value::Tensor(tensor)) => Ok(self.heap.tensor(tensor)?),
            Some(value) if self.scalar_of(&value).is_some() => self.number_tensor(&value),
            other => Err(self.unexpected(name, other.as_ref())),
        }
    }

    pub(crate) fn optional_tensor(&mut self, index: usize, name: &str) -> Result<Option<ValueId>, Fault> {
        if self.is_given(index, name) { self.tensor(index, name).map(Some) } else { Ok(None) }
    }

    pub(crate) fn tensor_id(&self, index: usize) -> Option<TensorId> {
        match self.arguments.get(index) {
            Some(Value::Tensor(tensor)) => Some(*tensor),
            _ => None,
        }
    }

    fn number_tensor(&mut self, value: &Value) -> Result<ValueId, Fault> {
        match value {
            Value::Bool(value) => self.graph.scalar(Number::Bool(*value), DType::Bool),
            Value::Float(value) => self.graph.scalar(Number::Float(*value), DType::Fp32),
            Value::Int(dim) => self.size_tensor(*dim),
            other => Err(self.unexpected("a number", Some(other))),
        }
    }

    /// The size of an axis as a tensor without axes.
    pub(crate) fn size_tensor(&mut self, dim: Dim) -> Result<ValueId, Fault> {
        match self.graph.symbols().resolve(dim) {
            Dim::Fixed(value) => self.graph.scalar(Number::Int(value), DType::Int64),
            dim @ Dim::Symbol(_) => {
                let vector = self.graph.shape_vector(&[dim])?;
                let axes = self.graph.int_vector(&[0])?;
                Ok(self.graph.add(Node::new("Squeeze").input(vector).input(axes), DType::Int64, vec![]))
            }
        }
    }

    fn scalar_of<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        Some(value).filter(|value| matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_)))
    }

    pub(crate) fn tensors(&mut self, index: usize, name: &str) -> Result<Vec<ValueId>, Fault> {
        let Some(Value::List(list) | Value::Tuple(list)) = self.argument(index, name) else {
            return Err(self.unexpected(name, self.argument(index, name)));
        };
        let items = self.heap.list(*list).clone();
        let tensor = |item: &Value| match item {
            Value::Tensor(tensor) => Ok(self.heap.tensor(*tensor)?),
            other => Err(self.unexpected(name, Some(other))),
        };
        items.iter().map(tensor).collect()
    }

    /// A number that is known now, constants of one element included.
    pub(crate) fn number(&self, index: usize, name: &str) -> Result<Number, Fault> {
        let value = self.argument(index, name);
        match value {
            Some(Value::Bool(value)) => Ok(Number::Bool(*value)),
            Some(Value::Float(value)) => Ok(Number::Float(*value)),
            Some(Value::Int(dim)) => match self.graph.symbols().resolve(*dim) {
                Dim::Fixed(value) => Ok(Number::Int(value)),
                Dim::Symbol(_) => Err(self.open_axis(name)),
            },
            Some(Value::Scaled { .. }) => Err(self.open_axis(name)),
            Some(Value::Tensor(tensor)) => {
                let tensor = self.heap.tensor(*tensor)?;
                match self.graph.number(tensor) {
                    Some(number) => Ok(number),
                    None => self.unsupported(&format!("with a computed `{name}`")),
                }
            }
            other => Err(self.unexpected(name, other)),
        }
    }

    fn open_axis(&self, name: &str) -> Fault {
        Fault::OpenAxis(format!("`{name}` of `{}` is computed from the size of an axis", self.name))
    }

    pub(crate) fn number_or(&self, index: usize, name: &str, default: f64) -> Result<f64, Fault> {
        if self.is_given(index, name) { self.number(index, name).map(Number::as_f64) } else { Ok(default) }
    }

    pub(crate) fn int(&self, index: usize, name: &str) -> Result<i64, Fault> {
        self.number(index, name).map(Number::as_i64)
    }

    pub(crate) fn int_or(&self, index: usize, name: &str, default: i64) -> Result<i64, Fault> {
        if self.is_given(index, name) { self.int(index, name) } else { Ok(default) }
    }

    pub(crate) fn bool_or(&self, index: usize, name: &str, default: bool) -> Result<bool, Fault> {
        Ok(self.int_or(index, name, i64::from(default))? != 0)
    }

    pub(crate) fn str_or(&self, index: usize, name: &str, default: &str) -> Result<Rc<str>, Fault> {
        match self.argument(index, name) {
            None | Some(Value::None) => Ok(default.into()),
            Some(Value::Str(text)) => Ok(Rc::clone(text)),
            other => Err(self.unexpected(name, other)),
        }
    }

    /// Sizes, known or not.
    pub(crate) fn dims(&self, index: usize, name: &str) -> Result<Vec<Dim>, Fault> {
        let value = self.argument(index, name);
        let Some(Value::List(list) | Value::Tuple(list)) = value else {
            return match value {
                Some(Value::Int(dim)) => Ok(vec![self.graph.symbols().resolve(*dim)]),
                other => Err(self.unexpected(name, other)),
            };
        };
        let dim = |item: &Value| match item {
            Value::Int(dim) => Ok(self.graph.symbols().resolve(*dim)),
            Value::Tensor(tensor) => {
                let number = self.graph.number(self.heap.tensor(*tensor)?);
                number.map(|number| Dim::Fixed(number.as_i64())).ok_or(Fault::DataDependent)
            }
            other => Err(self.unexpected(name, Some(other))),
        };
        self.heap.list(*list).iter().map(dim).collect()
    }

    pub(crate) fn ints(&self, index: usize, name: &str) -> Result<Vec<i64>, Fault> {
        fixed(&self.dims(index, name)?).ok_or_else(|| self.open_axis(name))
    }

    /// Empty where not given.
    pub(crate) fn ints_or_none(&self, index: usize, name: &str) -> Result<Vec<i64>, Fault> {
        if self.is_given(index, name) { self.ints(index, name) } else { Ok(vec![]) }
    }

    pub(crate) fn floats(&self, index: usize, name: &str) -> Result<Vec<f64>, Fault> {
        let value = self.argument(index, name);
        let Some(Value::List(list) | Value::Tuple(list)) = value else {
            return Err(self.unexpected(name, value));
        };
        let float = |item: &Value| match item {
            Value::Float(value) => Ok(*value),
            Value::Int(Dim::Fixed(value)) => Ok(*value as f64),
            Value::Int(_) | Value::Scaled { .. } => Err(self.open_axis(name)),
            other => Err(self.unexpected(name, Some(other))),
        };
        self.heap.list(*list).iter().map(float).collect()
    }

    /// `n` numbers, where one stands for all.
    pub(crate) fn spatial(
        &self,
        index: usize,
        name: &str,
        n: usize,
        default: i64,
    ) -> Result<Vec<i64>, Fault> {
        let given = self.ints_or_none(index, name)?;
        match given.as_slice() {
            [] => Ok(vec![default; n]),
            [one] => Ok(vec![*one; n]),
            _ if given.len() == n => Ok(given),
            _ => Err(Fault::malformed(format!("`{name}` of `{}` has {} numbers", self.name, given.len()))),
        }
    }

    pub(crate) fn dtype(&self, index: usize, name: &str) -> Result<Option<DType>, Fault> {
        if !self.is_given(index, name) {
            return Ok(None);
        }
        let code = self.int(index, name)?;
        match dtype_of_code(code) {
            Some(dtype) => Ok(Some(dtype)),
            None => self.unsupported(&format!("with type number {code}")),
        }
    }

    /// An axis as an index; counted from the end where negative.
    pub(crate) fn axis(&self, axis: i64, rank: usize) -> Result<usize, Fault> {
        let rank = rank.max(1) as i64;
        let index = if axis < 0 { axis.checked_add(rank) } else { Some(axis) };
        let index = index.filter(|index| (0..rank).contains(index));
        let outside =
            || Fault::Mismatch(format!("axis {axis} of `{}` is outside a rank of {rank}", self.name));
        index.map(|index| index as usize).ok_or_else(outside)
    }

    pub(crate) fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
        axes.iter().map(|axis| self.axis(*axis, rank)).collect()
    }

    pub(crate) fn apply(&mut self, operation: Operation, left: Dim, right: i64) -> Result<Dim, Fault> {
        self.graph.symbols_mut().apply(operation, left, Dim::Fixed(right))
    }

    /// A new tensor.
    pub(crate) fn done(&mut self, value: ValueId) -> Result<Value, Fault> {
        Ok(self.heap.add_tensor(value))
    }

    /// A tensor that shares the memory of the first argument, as far as torch is concerned.
    pub(crate) fn view(&mut self, value: ValueId) -> Result<Value, Fault> {
        Ok(match self.tensor_id(0) {
            Some(base) => self.heap.add_view(base, value),
            None => self.heap.add_tensor(value),
        })
    }

    pub(crate) fn views(&mut self, values: Vec<ValueId>) -> Result<Value, Fault> {
        let views = values.into_iter().map(|value| self.view(value)).collect::<Result<_, _>>()?;
        Ok(self.heap.add_list(views))
    }
}
