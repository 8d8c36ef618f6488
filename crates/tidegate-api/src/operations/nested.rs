//! Nested JSON arrays, read and written without building a tree of values: a request of pixels costs 8 to 16 bytes an
//! element, not the 72 of a `serde_json::Value`.

mod read;

use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::fault::Fault;

/// A scalar or an array nested to a regular shape, of one kind of leaf.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Nested {
    /// Empty for a bare scalar.
    shape: Vec<usize>,
    leaves: Leaves,
    /// Why it is not regular, by index; then the rest means nothing.
    misfit: Option<Fault>,
}

/// Row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Leaves {
    /// Holds every `i64` and `u64`.
    Ints(Vec<i128>),
    Floats(Vec<f64>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
}

impl Nested {
    /// Shape and leaves, or the fault that makes it irregular.
    pub(crate) fn regular(&self) -> Result<(&[usize], &Leaves), Fault> {
        match &self.misfit {
            None => Ok((&self.shape, &self.leaves)),
            Some(fault) => Err(fault.clone()),
        }
    }

    pub(crate) fn n_leaves(&self) -> usize {
        self.leaves.len()
    }

    /// What it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match (&self.misfit, self.shape.is_empty()) {
            (Some(fault), true) if fault.message.starts_with("null") => "null",
            (Some(_), true) => "an object",
            (_, false) => "an array",
            (None, true) => self.leaves.kind(),
        }
    }

    /// The `index`-th leaf's place: `[0][3]`.
    pub(crate) fn place(&self, mut index: usize) -> String {
        let mut path = vec![0; self.shape.len()];
        for (axis, size) in self.shape.iter().enumerate().rev() {
            path[axis] = index % size.max(&1);
            index /= size.max(&1);
        }
        index_text(&path)
    }
}

/// `[0][3]`.
fn index_text(path: &[usize]) -> String {
    path.iter().map(|index| format!("[{index}]")).collect()
}

impl Leaves {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ints(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Bools(values) => values.len(),
            Self::Texts(values) => values.len(),
        }
    }

    /// What one of them is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Ints(_) | Self::Floats(_) => "a number",
            Self::Bools(_) => "a boolean",
            Self::Texts(_) => "a string",
        }
    }
}

impl Serialize for Nested {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shape = &self.shape;
        match &self.leaves {
            Leaves::Ints(values) => Rows { shape, values }.serialize(serializer),
            Leaves::Floats(values) => Rows { shape, values }.serialize(serializer),
            Leaves::Bools(values) => Rows { shape, values }.serialize(serializer),
            Leaves::Texts(values) => Rows { shape, values }.serialize(serializer),
        }
    }
}

/// `values` written as arrays nested by `shape`.
pub(crate) struct Rows<'a, T> {
    pub shape: &'a [usize],
    pub values: &'a [T],
}

impl<T: Serialize> Serialize for Rows<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some((size, inner)) = self.shape.split_first() else {
            return match self.values.first() {
                Some(value) => value.serialize(serializer),
                None => serializer.serialize_none(),
            };
        };
        let stride = inner.iter().product::<usize>();
        let mut sequence = serializer.serialize_seq(Some(*size))?;
        for index in 0..*size {
            let values = self.values.get(index * stride..(index + 1) * stride).unwrap_or_default();
            sequence.serialize_element(&Rows { shape: inner, values })?;
        }
        sequence.end()
    }
}
