//! What each torch operator means in ONNX.
//!
//! One file per family, each with a table of names; a function of a table reads the arguments of a [`Call`] and adds
//! nodes. What the operators mean: <https://pytorch.org/docs/stable/torch.html> and
//! `aten/src/ATen/native/native_functions.yaml`; what the nodes mean: <https://onnx.ai/onnx/operators/>.
//!
//! Knows nothing of the language around the operators, nor of archives.

mod activation;
mod arithmetic;
mod call;
mod compare;
mod convert;
mod convolution;
mod create;
mod join;
mod linear;
mod normalisation;
mod pad;
mod pooling;
mod promote;
mod reduction;
mod reshape;
mod resize;
mod select;
mod statistics;
mod window;

use std::collections::HashMap;
use std::sync::LazyLock;

pub(crate) use call::Call;
pub(crate) use convert::code_of_dtype;

use crate::fault::Fault;
use crate::heap::Value;

/// Adds the nodes of one operator, and gives what it gives.
pub(crate) type Emit = fn(&mut Call<'_>) -> Result<Value, Fault>;
type Table = &'static [(&'static str, Emit)];

/// The families, and what a reader calls them.
const FAMILIES: [(&str, Table); 16] = [
    ("convolution", convolution::OPERATORS),
    ("pooling", pooling::OPERATORS),
    ("normalisation", normalisation::OPERATORS),
    ("activation", activation::OPERATORS),
    ("arithmetic", arithmetic::OPERATORS),
    ("comparison and choice", compare::OPERATORS),
    ("types and copies", convert::OPERATORS),
    ("linear algebra", linear::OPERATORS),
    ("reduction", reduction::OPERATORS),
    ("statistics and order", statistics::OPERATORS),
    ("shape", reshape::OPERATORS),
    ("joining and splitting", join::OPERATORS),
    ("selection", select::OPERATORS),
    ("padding", pad::OPERATORS),
    ("resizing", resize::OPERATORS),
    ("creation", create::OPERATORS),
];

/// The operators on tensors that can be converted, by family, each as `aten::relu`. In-place forms (`aten::relu_`) convert
/// too.
pub fn supported_operators() -> Vec<(&'static str, Vec<String>)> {
    let families = FAMILIES.iter().map(|(family, operators)| {
        let mut names: Vec<_> = operators.iter().map(|(name, _)| format!("aten::{name}")).collect();
        names.sort();
        (*family, names)
    });
    families.collect()
}

pub(crate) fn find(namespace: &str, name: &str) -> Option<Emit> {
    static TABLE: LazyLock<HashMap<&str, Emit>> =
        LazyLock::new(|| FAMILIES.iter().flat_map(|(_, operators)| operators.iter().copied()).collect());
    if namespace == "aten" { TABLE.get(name).copied() } else { None }
}
