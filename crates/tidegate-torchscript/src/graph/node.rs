//! One ONNX operator applied to values.

use super::ValueId;

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) op_type: &'static str,
    /// `None` is an optional input that is not given.
    pub(crate) inputs: Vec<Option<ValueId>>,
    pub(crate) attributes: Vec<(&'static str, Attribute)>,
}

#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    Int(i64),
    Float(f32),
    Str(String),
    Ints(Vec<i64>),
    /// One 32-bit or 64-bit number as a tensor (the value of `ConstantOfShape`).
    Tensor(ValueId),
}

impl Node {
    pub(crate) fn new(op_type: &'static str) -> Self {
        Self { op_type, inputs: vec![], attributes: vec![] }
    }

    /// Roughly, for a limit.
    pub(super) fn n_bytes(&self) -> usize {
        let attributes = self.attributes.iter().map(|(_, attribute)| match attribute {
            Attribute::Ints(numbers) => size_of::<Attribute>() + numbers.len() * size_of::<i64>(),
            _ => size_of::<Attribute>(),
        });
        size_of::<Self>() + self.inputs.len() * size_of::<Option<ValueId>>() + attributes.sum::<usize>()
    }

    pub(crate) fn input(self, value: ValueId) -> Self {
        self.optional(Some(value))
    }

    pub(crate) fn optional(mut self, value: Option<ValueId>) -> Self {
        self.inputs.push(value);
        self
    }

    pub(crate) fn inputs(mut self, values: &[ValueId]) -> Self {
        self.inputs.extend(values.iter().copied().map(Some));
        self
    }

    pub(crate) fn int(self, name: &'static str, value: i64) -> Self {
        self.attribute(name, Attribute::Int(value))
    }

    /// ONNX attributes are 32-bit floats.
    pub(crate) fn float(self, name: &'static str, value: f64) -> Self {
        self.attribute(name, Attribute::Float(value as f32))
    }

    pub(crate) fn str(self, name: &'static str, value: &str) -> Self {
        self.attribute(name, Attribute::Str(value.to_owned()))
    }

    pub(crate) fn ints(self, name: &'static str, values: &[i64]) -> Self {
        self.attribute(name, Attribute::Ints(values.to_vec()))
    }

    pub(crate) fn tensor(self, name: &'static str, value: ValueId) -> Self {
        self.attribute(name, Attribute::Tensor(value))
    }

    fn attribute(mut self, name: &'static str, value: Attribute) -> Self {
        self.attributes.push((name, value));
        self
    }
}
