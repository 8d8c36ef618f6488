//! From JSON features to tensors that fit a signature.
//!
//! They come in one of two spellings: by input name, each a number or a nested array whose batch axis may be left
//! out; or, for a model with one input of shape `[N, F]`, as `F` named scalars in the order of the input schema. Tensors
//! that name shape and datatype themselves are read by `tensor_json`.

mod encode;
mod packing;

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tidegate_core::{NamedTensor, Signature, TensorSpec};

use super::fault::Fault;
use super::nested::Nested;
use encode::encode;
use packing::packing;

/// The features object of a request, by name.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Features(BTreeMap<String, Nested>);

/// A wide table has thousands of columns; more keys are an attack on memory.
const MAX_FEATURES: usize = 10_000;

impl Features {
    /// Numbers, texts and truth values in all.
    pub(crate) fn n_leaves(&self) -> usize {
        self.0.values().map(Nested::n_leaves).sum()
    }
}

/// All faults at once; fields are relative to the features object.
pub(crate) fn from_features(
    features: &Features,
    signature: &Signature,
    input_schema: &Value,
) -> Result<Vec<NamedTensor>, Vec<Fault>> {
    let names_an_input = signature.inputs.iter().any(|spec| features.0.contains_key(&spec.name));
    match packing(signature, input_schema) {
        Some(packing) if !names_an_input => packing.pack(features).map(|tensor| vec![tensor]),
        _ => by_name(features, signature),
    }
}

fn by_name(features: &Features, signature: &Signature) -> Result<Vec<NamedTensor>, Vec<Fault>> {
    let mut faults = unknown(features, signature.inputs.iter().map(|spec| spec.name.as_str()));
    let mut tensors = Vec::new();
    for spec in &signature.inputs {
        let result = match features.0.get(&spec.name) {
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

fn unknown<'a>(features: &Features, known: impl Iterator<Item = &'a str> + Clone) -> Vec<Fault> {
    let message = || {
        format!("the model has no such feature; it takes {}", known.clone().collect::<Vec<_>>().join(", "))
    };
    let is_unknown = |name: &&String| !known.clone().any(|known| known == *name);
    features.0.keys().filter(is_unknown).map(|name| Fault::new(name, message())).collect()
}

/// The value as it is, or with the axes of length one that were left out.
fn fitted(value: &Nested, spec: &TensorSpec) -> Result<NamedTensor, Fault> {
    let (shape, _) = value.regular()?;
    let fits = |shape: &[usize]| {
        shape.len() == spec.shape.len() && spec.shape.iter().zip(shape).all(|(dim, size)| dim.accepts(*size))
    };
    let with_batch: Vec<usize> = [&[1], shape].concat();
    let ones = vec![1; spec.shape.len()];
    let fitting = if fits(shape) {
        shape.to_vec()
    } else if fits(&with_batch) {
        with_batch
    } else if shape.is_empty() && fits(&ones) {
        ones
    } else {
        return Err(Fault::new("", format!("expected shape {}, got {shape:?}", spec.shape_text())));
    };
    let tensor = encode(spec.datatype, &fitting, value)?;
    Ok(NamedTensor { name: spec.name.clone(), tensor })
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FeaturesVisitor)
    }
}

struct FeaturesVisitor;

impl<'de> Visitor<'de> for FeaturesVisitor {
    type Value = Features;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of features by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Features, A::Error> {
        let mut features = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Nested>()? {
            if features.len() == MAX_FEATURES {
                return Err(A::Error::custom(format!("more than {MAX_FEATURES} features")));
            }
            if features.insert(name.clone(), value).is_some() {
                return Err(A::Error::custom(format!("duplicate field `{name}`")));
            }
        }
        Ok(Features(features))
    }
}

#[cfg(test)]
mod tests;
