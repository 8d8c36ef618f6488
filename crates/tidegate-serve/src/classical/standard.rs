//! The standard operators that exporters of classical models put around those of `ai.onnx.ml`.

mod broadcast;
mod cast;
mod elementwise;
mod layout;
mod matrix;
mod reduce;
mod select;

use super::operators::Build;

pub(super) fn find(name: &str) -> Option<Build> {
    Some(match name {
        "Identity" => layout::identity,
        "Constant" => layout::constant,
        "ConstantOfShape" => layout::constant_of_shape,
        "Shape" => layout::shape,
        "Reshape" => layout::reshape,
        "Flatten" => layout::flatten,
        "Squeeze" => layout::squeeze,
        "Unsqueeze" => layout::unsqueeze,
        "Transpose" => layout::transpose,
        "Cast" => cast::cast,
        "Concat" => select::concat,
        "Gather" => select::gather,
        "Slice" => select::slice,
        "MatMul" => matrix::matmul,
        "Gemm" => matrix::gemm,
        "ArgMax" => reduce::arg_max,
        "ArgMin" => reduce::arg_min,
        "Softmax" => reduce::softmax,
        "LpNormalization" => reduce::lp_normalization,
        name => return reduce::find(name).or_else(|| elementwise::find(name)),
    })
}
