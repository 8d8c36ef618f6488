//! Which operators there are. Each is built once from its attributes, which finds their faults, and then runs on arrays.

use super::array::Array;
use super::attributes::Attributes;
use super::{ml, standard};
use crate::onnx_file::Operator;

/// Messages complete the sentence "the operator `X` ...".
pub(super) type Kernel = Box<dyn Fn(&Inputs<'_>) -> Result<Vec<Array>, String> + Send + Sync>;

/// From the attributes of a node and the version of the standard operators.
pub(super) type Build = fn(&Attributes, u64) -> Result<Kernel, String>;

/// The domain of classical machine learning.
pub(super) const ML_DOMAIN: &str = "ai.onnx.ml";

/// `None` where it is not among those that run here.
pub(super) fn find(operator: &Operator) -> Option<Build> {
    match operator.domain.as_str() {
        "" | "ai.onnx" => standard::find(&operator.name),
        ML_DOMAIN => ml::find(&operator.name),
        _ => None,
    }
}

/// An operator with one output.
pub(super) fn kernel(
    run: impl Fn(&Inputs<'_>) -> Result<Array, String> + Send + Sync + 'static,
) -> Result<Kernel, String> {
    Ok(Box::new(move |inputs| Ok(vec![run(inputs)?])))
}

/// What a node is run on; an input that is left out is `None`.
pub(super) struct Inputs<'a>(pub(super) Vec<Option<&'a Array>>);

impl<'a> Inputs<'a> {
    pub(super) fn get(&self, index: usize) -> Result<&'a Array, String> {
        self.optional(index).ok_or_else(|| format!("lacks its input number {}", index + 1))
    }

    pub(super) fn optional(&self, index: usize) -> Option<&'a Array> {
        self.0.get(index).copied().flatten()
    }

    /// All of them, of which there has to be one at least.
    pub(super) fn all(&self) -> Result<Vec<&'a Array>, String> {
        self.get(0)?;
        (0..self.0.len()).map(|index| self.get(index)).collect()
    }
}
