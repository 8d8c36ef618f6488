//! Other sizes by interpolation.
//!
//! torch's rules in ONNX's words: without `align_corners`, linear and cubic interpolation map pixel centres
//! (`half_pixel`), nearest maps corners and rounds down (`asymmetric`, `floor`), and cubics use the coefficient -0.75.

use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Operation, ValueId};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("_upsample_nearest_exact1d", |call| nearest(call, 1, "half_pixel", "round_prefer_ceil")),
    ("_upsample_nearest_exact2d", |call| nearest(call, 2, "half_pixel", "round_prefer_ceil")),
    ("grid_sampler", grid_sampler),
    ("upsample_bicubic2d", |call| interpolated(call, 2, "cubic")),
    ("upsample_bilinear2d", |call| interpolated(call, 2, "linear")),
    ("upsample_linear1d", |call| interpolated(call, 1, "linear")),
    ("upsample_nearest1d", |call| nearest(call, 1, "asymmetric", "floor")),
    ("upsample_nearest2d", |call| nearest(call, 2, "asymmetric", "floor")),
    ("upsample_nearest3d", |call| nearest(call, 3, "asymmetric", "floor")),
    ("upsample_trilinear3d", |call| interpolated(call, 3, "linear")),
];

/// `(input, output_size, scale_factors)`, or a scale per axis in place of the list.
fn nearest(call: &mut Call<'_>, n: usize, coordinates: &str, rounding: &str) -> Result<Value, Fault> {
    let node = |node: Node| {
        node.str("mode", "nearest")
            .str("coordinate_transformation_mode", coordinates)
            .str("nearest_mode", rounding)
    };
    resize(call, n, 2, node)
}

/// `(input, output_size, align_corners, scale_factors)`
fn interpolated(call: &mut Call<'_>, n: usize, mode: &str) -> Result<Value, Fault> {
    let aligns = call.bool_or(2, "align_corners", false)?;
    let coordinates = if aligns { "align_corners" } else { "half_pixel" };
    let node = |node: Node| {
        let node = node.str("mode", mode).str("coordinate_transformation_mode", coordinates);
        if mode == "cubic" { node.float("cubic_coeff_a", -0.75) } else { node }
    };
    resize(call, n, 3, node)
}

fn resize(
    call: &mut Call<'_>,
    n: usize,
    scales_at: usize,
    with_mode: impl Fn(Node) -> Node,
) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let shape = call.spatial_input(input, n)?;
    let scales =
        if call.is_given(scales_at, "scale_factors") { Some(scales(call, n, scales_at)?) } else { None };
    let sizes = match (&scales, call.is_given(1, "output_size")) {
        (_, true) => call.dims(1, "output_size")?,
        (Some(scales), false) => {
            let sizes = shape[2..].iter().zip(scales).map(|(size, scale)| scaled(call, *size, *scale));
            sizes.collect::<Result<Vec<_>, _>>()?
        }
        (None, false) => return Err(Fault::malformed(format!("`{}` to no size", call.name))),
    };
    if sizes.len() != n {
        return Err(Fault::Mismatch("an output size of another rank".to_owned()));
    }
    let out = [&shape[..2], &sizes].concat();
    // Where torch was given a scale it samples by it, even if the size would say otherwise. Whole factors need nothing
    // computed when the model runs.
    let scales = scales.or_else(|| whole_factors(&shape[2..], &sizes));
    let dtype = call.graph.dtype(input);
    let mut node = Node::new("Resize").input(input).optional(None);
    node = match scales {
        Some(scales) => {
            let all: Vec<f32> =
                [1.0, 1.0].into_iter().chain(scales.into_iter().map(|scale| scale as f32)).collect();
            node.input(call.graph.float_vector(&all)?)
        }
        None => node.optional(None).input(call.graph.shape_vector(&out)?),
    };
    let value = call.graph.add(with_mode(node), dtype, out);
    call.done(value)
}

fn scales(call: &Call<'_>, n: usize, at: usize) -> Result<Vec<f64>, Fault> {
    let scales = match call.argument(at, "scale_factors") {
        Some(Value::List(_) | Value::Tuple(_)) => call.floats(at, "scale_factors")?,
        _ => (0..n).map(|axis| call.number_or(at + axis, "scales", 0.0)).collect::<Result<_, _>>()?,
    };
    if scales.len() == n && scales.iter().all(|scale| scale.is_finite() && (1e-6..1e6).contains(scale)) {
        return Ok(scales);
    }
    Err(Fault::malformed("scale factors that make no sense"))
}

/// `floor(size * scale)`, as a size that is only known later where the factor is whole or one over a whole number.
fn scaled(call: &mut Call<'_>, size: Dim, scale: f64) -> Result<Dim, Fault> {
    let is_whole = |number: f64| (number - number.round()).abs() < 1e-9;
    match size {
        Dim::Fixed(size) => Ok(Dim::Fixed((size as f64 * scale).floor() as i64)),
        size if is_whole(scale) => call.apply(Operation::Mul, size, scale.round() as i64),
        size if is_whole(scale.recip()) => call.apply(Operation::Div, size, scale.recip().round() as i64),
        _ => Err(Fault::OpenAxis(format!("`{}` by a fraction", call.name))),
    }
}

fn whole_factors(before: &[Dim], after: &[Dim]) -> Option<Vec<f64>> {
    let factor = |(before, after): (&Dim, &Dim)| match (before, after) {
        (Dim::Fixed(before), Dim::Fixed(after)) if *before > 0 && after % before == 0 => {
            Some((after / before) as f64)
        }
        _ => None,
    };
    before.iter().zip(after).map(factor).collect()
}

/// `(input, grid, interpolation_mode, padding_mode, align_corners)`
fn grid_sampler(call: &mut Call<'_>) -> Result<Value, Fault> {
    let (input, grid): (ValueId, ValueId) = (call.tensor(0, "input")?, call.tensor(1, "grid")?);
    let shape = call.spatial_input(input, 2)?;
    let [_, height, width, _] = call.graph.shape(grid)[..] else {
        return call.unsupported("of another rank");
    };
    let is_new = call.opset >= 20;
    let mode = match call.int(2, "interpolation_mode")? {
        0 => {
            if is_new {
                "linear"
            } else {
                "bilinear"
            }
        }
        1 => "nearest",
        2 => {
            if is_new {
                "cubic"
            } else {
                "bicubic"
            }
        }
        _ => return call.unsupported("in such a mode"),
    };
    let padding = match call.int(3, "padding_mode")? {
        0 => "zeros",
        1 => "border",
        2 => "reflection",
        _ => return call.unsupported("with such a padding"),
    };
    let aligns = call.bool_or(4, "align_corners", false)?;
    let node =
        Node::new("GridSample").input(input).input(grid).str("mode", mode).str("padding_mode", padding);
    let dtype = call.graph.dtype(input);
    let out = vec![shape[0], shape[1], height, width];
    let value = call.graph.add(node.int("align_corners", i64::from(aligns)), dtype, out);
    call.done(value)
}
