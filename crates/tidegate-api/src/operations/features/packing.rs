//! Named scalars as one row of numbers, in the order of the input schema.

use bytes::BytesMut;
use serde_json::{Map, Value};
use tidegate_core::{DType, Dim, NamedTensor, Signature, Tensor, TensorSpec};

use super::{Features, encode, unknown};
use crate::operations::fault::Fault;
use crate::operations::nested::{Leaves, Nested};

pub(super) struct Packing<'a> {
    spec: &'a TensorSpec,
    properties: &'a Map<String, Value>,
}

/// There is one way to pack when the model has one numeric input of shape `[N, F]` and the schema names F scalars.
pub(super) fn packing<'a>(signature: &'a Signature, input_schema: &'a Value) -> Option<Packing<'a>> {
    let [spec] = signature.inputs.as_slice() else { return None };
    let [batch, Dim::Fixed(n_features)] = spec.shape.as_slice() else { return None };
    let properties = input_schema.get("properties")?.as_object()?;
    let is_scalar = |schema: &Value| matches!(type_of(schema), "number" | "integer" | "boolean");
    let fits = batch.accepts(1)
        && spec.datatype != DType::Bytes
        && properties.len() == *n_features
        && properties.values().all(is_scalar);
    fits.then_some(Packing { spec, properties })
}

impl Packing<'_> {
    /// All faults at once.
    pub(super) fn pack(&self, features: &Features) -> Result<NamedTensor, Vec<Fault>> {
        let mut faults = unknown(features, self.properties.keys().map(String::as_str));
        let mut row = BytesMut::new();
        for (name, schema) in self.properties {
            match self.element(features.0.get(name), type_of(schema)) {
                Ok(element) => row.extend_from_slice(element.as_bytes().map_or(&[], |bytes| bytes)),
                Err(fault) => faults.push(fault.within(name)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let shape = vec![1, self.properties.len()];
        let tensor = Tensor::from_bytes(self.spec.datatype, shape, row.freeze());
        let tensor = tensor.map_err(|error| vec![Fault::new(&self.spec.name, error.to_string())])?;
        Ok(NamedTensor { name: self.spec.name.clone(), tensor })
    }

    fn element(&self, value: Option<&Nested>, expected: &str) -> Result<Tensor, Fault> {
        let article = if expected == "integer" { "an" } else { "a" };
        let Some(value) = value else {
            return Err(Fault::new("", format!("missing; give {article} {expected}")));
        };
        match value.regular() {
            Ok(([], leaves)) if is_of(expected, leaves) => encode(self.spec.datatype, &[1], value),
            _ => Err(Fault::new("", format!("expected {article} {expected}, got {}", value.kind()))),
        }
    }
}

fn type_of(schema: &Value) -> &str {
    schema.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Truth values count as 0 and 1, and 0 and 1 as truth values.
fn is_of(expected: &str, leaves: &Leaves) -> bool {
    match (expected, leaves) {
        (_, Leaves::Bools(_)) => true,
        ("boolean", Leaves::Ints(values)) => values.iter().all(|value| matches!(value, 0 | 1)),
        ("integer" | "number", Leaves::Ints(_)) => true,
        ("integer", Leaves::Floats(values)) => values.iter().all(|value| value.fract() == 0.0),
        ("number", Leaves::Floats(_)) => true,
        _ => false,
    }
}
