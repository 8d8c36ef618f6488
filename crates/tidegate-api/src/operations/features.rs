//! From JSON to tensors that fit a signature.
//!
//! `features` come in one of two spellings: by input name, each a number or a nested array whose batch axis may be left
//! out; or, for a model with one input of shape `[N, F]`, as `F` named scalars in the order of the input schema.
//! `inputs` name shape and datatype themselves (Open Inference Protocol, version 2).

mod nested;
mod values;

use serde_json::{Map, Value};
use tidegate_core::tensor::element_count;
use tidegate_core::{DType, Dim, NamedTensor, Signature, TensorSpec};

use super::fault::Fault;
use super::register::kind;
use nested::flatten;
use values::encode;

/// One element of `inputs`.
#[derive(Clone, Debug)]
pub(crate) struct TensorInput {
    pub name: String,
    pub shape: Vec<usize>,
    pub datatype: DType,
    /// Row-major: flat, or nested as the shape says.
    pub data: Value,
}

/// All faults at once; fields are relative to the features object.
pub(crate) fn from_features(
    features: &Map<String, Value>,
    signature: &Signature,
    input_schema: &Value,
) -> Result<Vec<NamedTensor>, Vec<Fault>> {
    let names_an_input = signature.inputs.iter().any(|spec| features.contains_key(&spec.name));
    match packing(signature, input_schema) {
        Some(packing) if !names_an_input => packing.pack(features).map(|tensor| vec![tensor]),
        _ => by_name(features, signature),
    }
}

/// All faults at once; fields are relative to the inputs array.
pub(crate) fn from_inputs(inputs: &[TensorInput]) -> Result<Vec<NamedTensor>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut tensors = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        match from_input(input) {
            Ok(tensor) => tensors.push(tensor),
            Err(fault) => faults.push(fault.within(&format!("[{index}]"))),
        }
    }
    if faults.is_empty() { Ok(tensors) } else { Err(faults) }
}

fn from_input(input: &TensorInput) -> Result<NamedTensor, Fault> {
    let (shape, leaves) = flatten(&input.data).map_err(|fault| fault.within("data"))?;
    let expected = element_count(&input.shape).map_err(|error| Fault::new("shape", error.to_string()))?;
    let is_flat = shape.len() <= 1;
    if leaves.len() != expected || !(is_flat || shape == input.shape) {
        let message =
            format!("shape {:?} needs {expected} elements, the data has shape {shape:?}", input.shape);
        return Err(Fault::new("data", message));
    }
    let tensor = encode(input.datatype, &input.shape, &leaves).map_err(|fault| fault.within("data"))?;
    Ok(NamedTensor { name: input.name.clone(), tensor })
}

fn by_name(features: &Map<String, Value>, signature: &Signature) -> Result<Vec<NamedTensor>, Vec<Fault>> {
    let mut faults = unknown(features, signature.inputs.iter().map(|spec| spec.name.as_str()));
    let mut tensors = Vec::new();
    for spec in &signature.inputs {
        let result = match features.get(&spec.name) {
            Some(value) => fitted(value, spec).map_err(|fault| fault.within(&spec.name)),
            None => {
                Err(Fault::new(&spec.name, format!("missing; give {} {}", spec.datatype, spec.shape_text())))
            }
        };
        match result {
            Ok(tensor) => tensors.push(tensor),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(tensors) } else { Err(faults) }
}

fn unknown<'a>(features: &Map<String, Value>, known: impl Iterator<Item = &'a str> + Clone) -> Vec<Fault> {
    let message = || {
        format!("the model has no such feature; it takes {}", known.clone().collect::<Vec<_>>().join(", "))
    };
    let is_unknown = |name: &&String| !known.clone().any(|known| known == *name);
    features.keys().filter(is_unknown).map(|name| Fault::new(name, message())).collect()
}

/// The value as it is, or with the axes of length one that were left out.
fn fitted(value: &Value, spec: &TensorSpec) -> Result<NamedTensor, Fault> {
    let (shape, leaves) = flatten(value)?;
    let fits = |shape: &[usize]| {
        shape.len() == spec.shape.len() && spec.shape.iter().zip(shape).all(|(dim, size)| dim.accepts(*size))
    };
    let with_batch: Vec<usize> = [&[1], shape.as_slice()].concat();
    let ones = vec![1; spec.shape.len()];
    let shape = if fits(&shape) {
        shape
    } else if fits(&with_batch) {
        with_batch
    } else if shape.is_empty() && fits(&ones) {
        ones
    } else {
        return Err(Fault::new("", format!("expected shape {}, got {shape:?}", spec.shape_text())));
    };
    let tensor = encode(spec.datatype, &shape, &leaves)?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

/// How named scalars become one row.
struct Packing<'a> {
    spec: &'a TensorSpec,
    properties: &'a Map<String, Value>,
}

/// There is one way to pack when the model has one numeric input of shape `[N, F]` and the schema names F scalars.
fn packing<'a>(signature: &'a Signature, input_schema: &'a Value) -> Option<Packing<'a>> {
    let [spec] = signature.inputs.as_slice() else { return None };
    let [batch, Dim::Fixed(n_features)] = spec.shape.as_slice() else { return None };
    let properties = input_schema.get("properties")?.as_object()?;
    let is_scalar = |schema: &Value| {
        let name = schema.get("type").and_then(Value::as_str);
        matches!(name, Some("number" | "integer" | "boolean"))
    };
    let fits = batch.accepts(1)
        && spec.datatype != DType::Bytes
        && properties.len() == *n_features
        && properties.values().all(is_scalar);
    fits.then_some(Packing { spec, properties })
}

impl Packing<'_> {
    fn pack(&self, features: &Map<String, Value>) -> Result<NamedTensor, Vec<Fault>> {
        let mut faults = unknown(features, self.properties.keys().map(String::as_str));
        let mut row = Vec::with_capacity(self.properties.len());
        for (name, schema) in self.properties {
            let expected = schema.get("type").and_then(Value::as_str).unwrap_or("number");
            match features.get(name) {
                Some(value) if is_of(expected, value) => row.push(value),
                Some(value) => {
                    faults.push(Fault::new(
                        name,
                        format!("expected {}, got {}", article(expected), kind(value)),
                    ));
                }
                None => faults.push(Fault::new(name, format!("missing; give {}", article(expected)))),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let names: Vec<_> = self.properties.keys().collect();
        let tensor = encode(self.spec.datatype, &[1, row.len()], &row).map_err(|fault| {
            let index = values::last_index(&fault.field);
            let name = index.and_then(|index| names.get(index)).map_or("", |name| name.as_str());
            vec![Fault::new(name, fault.message)]
        })?;
        Ok(NamedTensor { name: self.spec.name.clone(), tensor })
    }
}

fn is_of(expected: &str, value: &Value) -> bool {
    match expected {
        "boolean" => value.is_boolean() || matches!(value.as_i64(), Some(0 | 1)),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0) || value.is_boolean(),
        _ => value.is_number() || value.is_boolean(),
    }
}

fn article(name: &str) -> String {
    if name == "integer" { format!("an {name}") } else { format!("a {name}") }
}

#[cfg(test)]
mod tests;
