//! Convolutions and transposed convolutions of one to three axes.

use super::window::Window;
use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, Operation, ValueId, fixed};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("_convolution", general),
    ("_convolution_mode", plain),
    ("conv1d", plain),
    ("conv2d", plain),
    ("conv3d", plain),
    ("conv_transpose1d", transposed),
    ("conv_transpose2d", transposed),
    ("conv_transpose3d", transposed),
    ("convolution", general),
];

struct Convolution {
    input: ValueId,
    weight: ValueId,
    bias: Option<ValueId>,
    window: Window,
    output_padding: Vec<i64>,
    groups: i64,
    is_transposed: bool,
    /// Keep the size by padding, more at the end where it is odd.
    is_same: bool,
}

/// `(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups, ...)`
fn general(call: &mut Call<'_>) -> Result<Value, Fault> {
    let is_transposed = call.bool_or(6, "transposed", false)?;
    let convolution = read(call, is_transposed, [3, 4, 5, 7, 8])?;
    emit(call, convolution)
}

/// `(input, weight, bias, stride, padding, dilation, groups)`
fn plain(call: &mut Call<'_>) -> Result<Value, Fault> {
    let convolution = read(call, false, [3, 4, 5, usize::MAX, 6])?;
    emit(call, convolution)
}

/// `(input, weight, bias, stride, padding, output_padding, groups, dilation)`
fn transposed(call: &mut Call<'_>) -> Result<Value, Fault> {
    let convolution = read(call, true, [3, 4, 7, 5, 6])?;
    emit(call, convolution)
}

/// `at`: where stride, padding, dilation, output padding and groups stand.
fn read(call: &mut Call<'_>, is_transposed: bool, at: [usize; 5]) -> Result<Convolution, Fault> {
    let (input, weight) = (call.tensor(0, "input")?, call.tensor(1, "weight")?);
    let bias = call.optional_tensor(2, "bias")?;
    let shape = fixed(&call.graph.shape(weight)).unwrap_or_default();
    let Some(kernel) = shape.get(2..).filter(|kernel| (1..=3).contains(&kernel.len())) else {
        return call.unsupported("with such a weight");
    };
    let n = kernel.len();
    let is_text = matches!(call.argument(at[1], "padding"), Some(Value::Str(_)));
    let is_same = is_text && &*call.str_or(at[1], "padding", "valid")? == "same";
    let padding = if is_text { vec![0; n] } else { call.spatial(at[1], "padding", n, 0)? };
    let window = Window {
        kernel: kernel.to_vec(),
        stride: call.spatial(at[0], "stride", n, 1)?,
        padding,
        dilation: call.spatial(at[2], "dilation", n, 1)?,
    };
    window.check()?;
    let output_padding = call.spatial(at[3], "output_padding", n, 0)?;
    let groups = call.int_or(at[4], "groups", 1)?;
    if groups < 1 || output_padding.iter().any(|padding| !(0..1 << 24).contains(padding)) {
        return Err(Fault::malformed("groups or output padding that make no sense"));
    }
    Ok(Convolution { input, weight, bias, window, output_padding, groups, is_transposed, is_same })
}

fn emit(call: &mut Call<'_>, convolution: Convolution) -> Result<Value, Fault> {
    let Convolution { input, weight, bias, mut window, output_padding, groups, is_transposed, is_same } =
        convolution;
    let n = window.kernel.len();
    call.check_layer_dtype(input, weight)?;
    let shape = call.spatial_input(input, n)?;
    let weights = fixed(&call.graph.shape(weight)).unwrap_or_default();
    let grouped = weights[1].checked_mul(groups).ok_or_else(Fault::overflow)?;
    let (taken, given) = if is_transposed { (weights[0], grouped) } else { (grouped, weights[0]) };
    call.graph.symbols_mut().unify(shape[1], Dim::Fixed(taken))?;

    let mut pads = window.pads();
    if is_same {
        for axis in 0..n {
            let total = window.extent(axis)? - 1;
            (pads[axis], pads[axis + n]) = (total / 2, total - total / 2);
        }
        window.padding = vec![0; n];
    }
    let mut sizes = vec![shape[0], Dim::Fixed(given)];
    for axis in 0..n {
        let (extent, stride) = (window.extent(axis)?, window.stride[axis]);
        let padding = pads[axis] + pads[axis + n];
        sizes.push(if is_transposed {
            // (size - 1) * stride - padding + extent + output padding
            let spread = call.apply(Operation::Mul, shape[axis + 2], stride)?;
            call.apply(Operation::Add, spread, extent + output_padding[axis] - stride - padding)?
        } else {
            call.slid(shape[axis + 2], padding, extent, stride)?
        });
    }
    let op_type = if is_transposed { "ConvTranspose" } else { "Conv" };
    let mut node = Node::new(op_type).input(input).input(weight).optional(bias);
    node = node.ints("kernel_shape", &window.kernel).ints("strides", &window.stride).ints("pads", &pads);
    node = node.ints("dilations", &window.dilation).int("group", groups);
    if output_padding.iter().any(|padding| *padding != 0) {
        node = node.ints("output_padding", &output_padding);
    }
    let dtype = call.graph.dtype(weight);
    let value = call.graph.add(node, dtype, sizes);
    call.done(value)
}
