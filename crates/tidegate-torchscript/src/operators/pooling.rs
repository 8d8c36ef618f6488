//! Maxima and means over windows.

use tidegate_core::DType;

use super::window::Window;
use super::{Call, Emit};
use crate::fault::Fault;
use crate::graph::{Dim, Node, ValueId, fixed};
use crate::heap::Value;

pub(super) const OPERATORS: &[(&str, Emit)] = &[
    ("adaptive_avg_pool1d", |call| adaptive_mean(call, 1)),
    ("adaptive_avg_pool2d", |call| adaptive_mean(call, 2)),
    ("adaptive_avg_pool3d", |call| adaptive_mean(call, 3)),
    ("adaptive_max_pool1d", |call| adaptive_max(call, 1)),
    ("adaptive_max_pool2d", |call| adaptive_max(call, 2)),
    ("adaptive_max_pool3d", |call| adaptive_max(call, 3)),
    ("avg_pool1d", |call| mean(call, 1)),
    ("avg_pool2d", |call| mean(call, 2)),
    ("avg_pool3d", |call| mean(call, 3)),
    ("max_pool1d", |call| max(call, 1)),
    ("max_pool1d_with_indices", |call| max_without_indices(call, 1)),
    ("max_pool2d", |call| max(call, 2)),
    ("max_pool2d_with_indices", |call| max_without_indices(call, 2)),
    ("max_pool3d", |call| max(call, 3)),
    ("max_pool3d_with_indices", |call| max_without_indices(call, 3)),
];

/// The means of this many windows as one matrix product are still cheap.
const MAX_MATRIX: i64 = 1 << 20;

/// A pool whose size is known: its window, where it pads the ends, and what comes out.
struct Pool {
    window: Window,
    pads: Vec<i64>,
    /// The window may reach past the padding; ONNX then rounds up as torch does.
    is_ceil: bool,
    sizes: Vec<Dim>,
}

/// `(input, kernel, stride, padding, ...)`, with the rest where `dilation_at` and `ceil_at` say.
fn read(
    call: &mut Call<'_>,
    n: usize,
    input: ValueId,
    dilation_at: usize,
    ceil_at: usize,
) -> Result<Pool, Fault> {
    let kernel = call.spatial(1, "kernel_size", n, 1)?;
    let stride = if call.ints_or_none(2, "stride")?.is_empty() {
        kernel.clone()
    } else {
        call.spatial(2, "stride", n, 1)?
    };
    let (padding, dilation) =
        (call.spatial(3, "padding", n, 0)?, call.spatial(dilation_at, "dilation", n, 1)?);
    let window = Window { kernel, stride, padding, dilation };
    window.check()?;
    let is_ceil = call.bool_or(ceil_at, "ceil_mode", false)?;
    let shape = call.spatial_input(input, n)?;
    let mut pool = Pool { pads: window.pads(), window, is_ceil: false, sizes: shape[..2].to_vec() };
    for axis in 0..n {
        let size = shape[axis + 2];
        let out = if is_ceil {
            slid_up(call, &mut pool, axis, size)?
        } else {
            slid(call, &pool.window, axis, size)?
        };
        pool.sizes.push(out);
    }
    Ok(pool)
}

fn slid(call: &mut Call<'_>, window: &Window, axis: usize, size: Dim) -> Result<Dim, Fault> {
    call.slid(size, 2 * window.padding[axis], window.extent(axis)?, window.stride[axis])
}

/// Rounded up, but no window starts in the padding at the end. Where the size is known, more padding does it.
fn slid_up(call: &mut Call<'_>, pool: &mut Pool, axis: usize, size: Dim) -> Result<Dim, Fault> {
    let (padding, stride) = (pool.window.padding[axis], pool.window.stride[axis]);
    let extent = pool.window.extent(axis)?;
    let out = call.slid(size, 2 * padding + stride - 1, extent, stride)?;
    let (Dim::Fixed(size), Dim::Fixed(mut out)) = (size, out) else {
        pool.is_ceil = true;
        return Ok(out);
    };
    if (out - 1) * stride >= size + padding {
        out -= 1;
    }
    let end = pool.window.kernel.len() + axis;
    pool.pads[end] = ((out - 1) * stride + extent - size - padding).max(0);
    Ok(Dim::Fixed(out))
}

fn max_value(call: &mut Call<'_>, n: usize) -> Result<ValueId, Fault> {
    let input = call.tensor(0, "self")?;
    let pool = read(call, n, input, 4, 5)?;
    let node = Node::new("MaxPool")
        .input(input)
        .ints("kernel_shape", &pool.window.kernel)
        .ints("strides", &pool.window.stride)
        .ints("pads", &pool.pads)
        .ints("dilations", &pool.window.dilation)
        .int("ceil_mode", i64::from(pool.is_ceil));
    let dtype = call.graph.dtype(input);
    Ok(call.graph.add(node, dtype, pool.sizes))
}

fn max(call: &mut Call<'_>, n: usize) -> Result<Value, Fault> {
    let value = max_value(call, n)?;
    call.done(value)
}

/// The places of the maxima are not computed: a use of them is an error where it is met.
fn max_without_indices(call: &mut Call<'_>, n: usize) -> Result<Value, Fault> {
    let value = max(call, n)?;
    Ok(call.heap.add_tuple(vec![value, Value::None]))
}

/// `(input, kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)`
fn mean(call: &mut Call<'_>, n: usize) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    if call.is_given(6, "divisor_override") {
        return call.unsupported("with a divisor of its own");
    }
    let pool = read(call, n, input, usize::MAX, 4)?;
    let counts_padding = call.bool_or(5, "count_include_pad", true)?;
    let is_padded = pool.window.padding.iter().any(|padding| *padding != 0);
    let reaches_past = pool.is_ceil || pool.pads != pool.window.pads();
    // torch counts its own padding but not what rounding up adds; ONNX counts both or none.
    if reaches_past && is_padded && counts_padding {
        return call.unsupported("with ceil_mode, padding and count_include_pad together");
    }
    let node = Node::new("AveragePool")
        .input(input)
        .ints("kernel_shape", &pool.window.kernel)
        .ints("strides", &pool.window.stride)
        .ints("pads", &pool.pads)
        .int("ceil_mode", i64::from(pool.is_ceil))
        .int("count_include_pad", i64::from(counts_padding && is_padded));
    let dtype = call.graph.dtype(input);
    let value = call.graph.add(node, dtype, pool.sizes);
    call.done(value)
}

/// The size that is asked for on each axis; as it is where none is.
fn adaptive_sizes(call: &mut Call<'_>, n: usize, shape: &[Dim]) -> Result<Vec<Dim>, Fault> {
    let Some(Value::List(list)) = call.argument(1, "output_size").cloned() else {
        let size = call.int(1, "output_size")?;
        return Ok(vec![Dim::Fixed(size); n]);
    };
    let wanted = call.heap.list(list).clone();
    let size = |(axis, wanted): (usize, &Value)| match wanted {
        Value::Int(dim) => Ok(call.graph.symbols().resolve(*dim)),
        Value::None => Ok(shape[axis + 2]),
        other => Err(Fault::malformed(format!("an output size that is {}", other.kind()))),
    };
    let sizes = wanted.iter().take(n).enumerate().map(size).collect::<Result<Vec<_>, _>>()?;
    match sizes.as_slice() {
        [one] => Ok(vec![*one; n]),
        sizes if sizes.len() == n => Ok(sizes.to_vec()),
        _ => Err(Fault::malformed("an output size of another rank")),
    }
}

/// Windows of equal size, where the output divides the input.
fn even_windows(sizes: &[i64], wanted: &[i64]) -> Option<Vec<i64>> {
    let pairs = sizes.iter().zip(wanted);
    pairs.map(|(size, wanted)| (*wanted > 0 && size % wanted == 0).then(|| size / wanted)).collect()
}

fn adaptive_mean(call: &mut Call<'_>, n: usize) -> Result<Value, Fault> {
    let input = call.float_tensor(0, "self")?;
    let dtype = call.graph.dtype(input);
    let shape = call.spatial_input(input, n)?;
    let wanted = adaptive_sizes(call, n, &shape)?;
    let out = [&shape[..2], &wanted].concat();
    if wanted == shape[2..] {
        return call.done(input);
    }
    if wanted.iter().all(|size| *size == Dim::Fixed(1)) {
        let value = call.graph.add(Node::new("GlobalAveragePool").input(input), dtype, out);
        return call.done(value);
    }
    let (sizes, wanted) = known(call, &shape[2..], &wanted)?;
    let value = if let Some(kernel) = even_windows(&sizes, &wanted) {
        let node =
            Node::new("AveragePool").input(input).ints("kernel_shape", &kernel).ints("strides", &kernel);
        call.graph.add(node, dtype, out)
    } else if n == 2 && dtype == DType::Fp32 {
        // Overlapping windows of unequal sizes: rows of means, from the left for the height, from the right for the width.
        let rows = means(call, sizes[0], wanted[0], false)?;
        let columns = means(call, sizes[1], wanted[1], true)?;
        let high = [&out[..3], &shape[3..]].concat();
        let high = call.graph.add(Node::new("MatMul").input(rows).input(input), dtype, high);
        call.graph.add(Node::new("MatMul").input(high).input(columns), dtype, out)
    } else {
        return call.unsupported("to a size that does not divide its input's");
    };
    call.done(value)
}

fn adaptive_max(call: &mut Call<'_>, n: usize) -> Result<Value, Fault> {
    let input = call.tensor(0, "self")?;
    let dtype = call.graph.dtype(input);
    let shape = call.spatial_input(input, n)?;
    let wanted = adaptive_sizes(call, n, &shape)?;
    let out = [&shape[..2], &wanted].concat();
    let node = if wanted.iter().all(|size| *size == Dim::Fixed(1)) {
        Node::new("GlobalMaxPool").input(input)
    } else {
        let (sizes, wanted) = known(call, &shape[2..], &wanted)?;
        let Some(kernel) = even_windows(&sizes, &wanted) else {
            return call.unsupported("to a size that does not divide its input's");
        };
        Node::new("MaxPool").input(input).ints("kernel_shape", &kernel).ints("strides", &kernel)
    };
    let value = call.graph.add(node, dtype, out);
    let value = call.done(value)?;
    Ok(call.heap.add_tuple(vec![value, Value::None]))
}

fn known(call: &Call<'_>, sizes: &[Dim], wanted: &[Dim]) -> Result<(Vec<i64>, Vec<i64>), Fault> {
    let open = || Fault::OpenAxis(format!("the windows of `{}` depend on the size of the input", call.name));
    fixed(sizes).zip(fixed(wanted)).ok_or_else(open)
}

/// The matrix that takes `size` values to `wanted` means: window i covers floor(i size / wanted) to
/// ceil((i + 1) size / wanted), as torch's adaptive pools do.
fn means(call: &mut Call<'_>, size: i64, wanted: i64, is_transposed: bool) -> Result<ValueId, Fault> {
    let n_elements = size.checked_mul(wanted).filter(|n| (1..=MAX_MATRIX).contains(n));
    if n_elements.is_none() {
        return call.unsupported("of such a size");
    }
    let (size, wanted) = (size as usize, wanted as usize);
    let mut matrix = vec![0f32; size * wanted];
    for window in 0..wanted {
        let (start, end) = (window * size / wanted, ((window + 1) * size).div_ceil(wanted));
        for at in start..end {
            let index = if is_transposed { at * wanted + window } else { window * size + at };
            matrix[index] = 1.0 / (end - start) as f32;
        }
    }
    let bytes = matrix.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = if is_transposed { vec![size, wanted] } else { vec![wanted, size] };
    call.graph.small_constant(DType::Fp32, shape, bytes)
}
