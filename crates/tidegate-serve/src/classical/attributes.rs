//! The attributes of a node, read by name and type. Messages complete the sentence "the operator `X` ...".

use std::collections::HashMap;

use bytes::Bytes;

use super::array::{Array, Data};

#[derive(Debug)]
pub(super) enum Attribute {
    Float(f32),
    Int(i64),
    Text(Bytes),
    /// Or why its values cannot be used.
    Tensor(Result<Array, String>),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<Bytes>),
    /// A graph, a type, or one whose type is not said.
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Attributes(pub(super) HashMap<String, Attribute>);

fn mistyped(name: &str) -> String {
    format!("has an attribute `{name}` of another type than its specification says")
}

macro_rules! getter {
    ($method:ident, $variant:ident, $kind:ty) => {
        pub(super) fn $method(&self, name: &str) -> Result<Option<&$kind>, String> {
            match self.0.get(name) {
                None => Ok(None),
                Some(Attribute::$variant(value)) => Ok(Some(value)),
                Some(_) => Err(mistyped(name)),
            }
        }
    };
}

impl Attributes {
    getter!(float, Float, f32);
    getter!(int, Int, i64);
    getter!(text, Text, Bytes);

    pub(super) fn int_or(&self, name: &str, default: i64) -> Result<i64, String> {
        Ok(self.int(name)?.copied().unwrap_or(default))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, String> {
        Ok(self.int(name)?.map_or(default, |value| *value != 0))
    }

    pub(super) fn float_or(&self, name: &str, default: f32) -> Result<f32, String> {
        Ok(self.float(name)?.copied().unwrap_or(default))
    }

    /// One of a few words.
    pub(super) fn word_or(&self, name: &str, default: &str) -> Result<String, String> {
        let text = self.text(name)?.map(|text| String::from_utf8_lossy(text).into_owned());
        Ok(text.unwrap_or_else(|| default.to_owned()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Lists are empty where they are missing: the specification gives both the same meaning.
    pub(super) fn floats(&self, name: &str) -> Result<&[f32], String> {
        match self.0.get(name) {
            None => Ok(&[]),
            Some(Attribute::Floats(values)) => Ok(values),
            Some(_) => Err(mistyped(name)),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<&[i64], String> {
        match self.0.get(name) {
            None => Ok(&[]),
            Some(Attribute::Ints(values)) => Ok(values),
            Some(_) => Err(mistyped(name)),
        }
    }

    pub(super) fn texts(&self, name: &str) -> Result<&[Bytes], String> {
        match self.0.get(name) {
            None => Ok(&[]),
            Some(Attribute::Texts(values)) => Ok(values),
            Some(_) => Err(mistyped(name)),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<&Array>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Attribute::Tensor(Ok(array))) => Ok(Some(array)),
            Some(Attribute::Tensor(Err(reason))) => Err(format!("has an attribute `{name}` that {reason}")),
            Some(_) => Err(mistyped(name)),
        }
    }

    /// A list of floats, or what later versions of the operators have in its place: a tensor of doubles called
    /// `..._as_tensor`. `None` where there is neither.
    pub(super) fn numbers(&self, name: &str) -> Result<Option<Numbers>, String> {
        if let Some(array) = self.tensor(&format!("{name}_as_tensor"))? {
            return Numbers::from_array(array).map(Some).ok_or_else(|| mistyped(name));
        }
        Ok(self
            .0
            .contains_key(name)
            .then_some(self.floats(name)?)
            .map(|values| Numbers::F32(values.to_vec())))
    }
}

/// Weights in the precision that the file has them in.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Numbers {
    F32(Vec<f32>),
    F64(Vec<f64>),
}

impl Numbers {
    pub(super) fn from_array(array: &Array) -> Option<Self> {
        match &array.data {
            Data::F32(values) => Some(Self::F32(values.clone())),
            Data::F64(values) => Some(Self::F64(values.clone())),
            _ => None,
        }
    }

    pub(super) fn is_double(&self) -> bool {
        matches!(self, Self::F64(_))
    }

    pub(super) fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Self::F64(values) => values.clone(),
        }
    }
}
