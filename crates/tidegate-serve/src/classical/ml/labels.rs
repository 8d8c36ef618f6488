//! The names of classes, which are integers or text.

use bytes::Bytes;

use super::super::array::{Array, Data};
use super::super::attributes::Attributes;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Labels {
    Ints(Vec<i64>),
    Texts(Vec<Bytes>),
}

/// More classes than any data set of the field has; scores of all of them are kept for each row.
pub(super) const MAX_CLASSES: usize = 1 << 16;

impl Labels {
    /// Text wins where a file gives both, as in ONNX Runtime.
    pub(super) fn read(attributes: &Attributes, ints: &str, texts: &str) -> Result<Self, String> {
        let labels = match attributes.texts(texts)? {
            [] => Self::Ints(attributes.ints(ints)?.to_vec()),
            texts => Self::Texts(texts.to_vec()),
        };
        match labels.len() {
            0 => Err("names no classes".to_owned()),
            n if n > MAX_CLASSES => Err(format!("has more than {MAX_CLASSES} classes")),
            _ => Ok(labels),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Ints(labels) => labels.len(),
            Self::Texts(labels) => labels.len(),
        }
    }

    /// The two names between which a single score decides. A file that names one class, or none, means 0 and 1.
    pub(super) fn for_one_score(&self) -> Self {
        match self {
            labels if labels.len() == 2 => labels.clone(),
            Self::Ints(_) => Self::Ints(vec![0, 1]),
            Self::Texts(_) => Self::Texts(vec![Bytes::from_static(b"0"), Bytes::from_static(b"1")]),
        }
    }

    /// One label for each row, by its place, which has to be one of the labels.
    pub(super) fn of(&self, classes: Vec<usize>) -> Array {
        Array::vector(match self {
            Self::Ints(labels) => Data::I64(classes.into_iter().map(|class| labels[class]).collect()),
            Self::Texts(labels) => {
                Data::Text(classes.into_iter().map(|class| labels[class].clone()).collect())
            }
        })
    }
}

/// The first of the largest; what is not a number is never larger.
pub(super) fn largest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}
