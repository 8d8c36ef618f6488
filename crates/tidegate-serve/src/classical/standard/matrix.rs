//! Products of matrices. Sums are kept in double precision, so that their order does not matter.

use super::super::array::{Array, Data, checked_count};
use super::super::attributes::Attributes;
use super::super::operators::{Kernel, kernel};
use super::broadcast::{common_shape, expand};

/// Of a product of rows by depth and depth by columns.
struct Sizes {
    n_rows: usize,
    depth: usize,
    n_columns: usize,
    is_a_transposed: bool,
    is_b_transposed: bool,
}

fn product<T: Copy + Into<f64>>(a: &[T], b: &[T], sizes: &Sizes) -> Vec<f64> {
    let Sizes { n_rows, depth, n_columns, .. } = *sizes;
    let (a_row, a_step) = if sizes.is_a_transposed { (1, n_rows) } else { (depth, 1) };
    let (b_column, b_step) = if sizes.is_b_transposed { (depth, 1) } else { (1, n_columns) };
    let mut product = Vec::with_capacity(n_rows * n_columns);
    for row in 0..n_rows {
        for column in 0..n_columns {
            let terms = (0..depth)
                .map(|k| a[row * a_row + k * a_step].into() * b[column * b_column + k * b_step].into());
            product.push(terms.sum());
        }
    }
    product
}

fn multiply(a: &Array, b: &Array, sizes: &Sizes) -> Result<Data, String> {
    checked_count(&[sizes.n_rows, sizes.n_columns])?;
    Ok(match (&a.data, &b.data) {
        (Data::F32(x), Data::F32(y)) => {
            Data::F32(product(x, y, sizes).into_iter().map(|value| value as f32).collect())
        }
        (Data::F64(x), Data::F64(y)) => Data::F64(product(x, y, sizes)),
        _ => return Err(format!("does not multiply {} by {}", a.data.type_name(), b.data.type_name())),
    })
}

fn misfit(a: &Array, b: &Array) -> String {
    format!("does not multiply the shapes {:?} and {:?}", a.shape, b.shape)
}

/// Vectors and matrices; stacks of matrices are none of classical models.
pub(super) fn matmul(_: &Attributes, _: u64) -> Result<Kernel, String> {
    kernel(|inputs| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let (n_rows, depth, mut shape) = match *a.shape.as_slice() {
            [depth] => (1, depth, vec![]),
            [n_rows, depth] => (n_rows, depth, vec![n_rows]),
            _ => return Err(misfit(a, b)),
        };
        let (own_depth, n_columns) = match *b.shape.as_slice() {
            [depth] => (depth, 1),
            [depth, n_columns] => {
                shape.push(n_columns);
                (depth, n_columns)
            }
            _ => return Err(misfit(a, b)),
        };
        if own_depth != depth {
            return Err(misfit(a, b));
        }
        let sizes = Sizes { n_rows, depth, n_columns, is_a_transposed: false, is_b_transposed: false };
        Ok(Array { shape, data: multiply(a, b, &sizes)? })
    })
}

/// `alpha * A * B + beta * C`, either factor transposed on request.
pub(super) fn gemm(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let (alpha, beta) = (attributes.float_or("alpha", 1.0)?, attributes.float_or("beta", 1.0)?);
    let (is_a_transposed, is_b_transposed) =
        (attributes.flag("transA", false)?, attributes.flag("transB", false)?);
    kernel(move |inputs| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let ([a_rows, a_columns], [b_rows, b_columns]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return Err(misfit(a, b));
        };
        let (n_rows, depth) = if is_a_transposed { (*a_columns, *a_rows) } else { (*a_rows, *a_columns) };
        let (own_depth, n_columns) =
            if is_b_transposed { (*b_columns, *b_rows) } else { (*b_rows, *b_columns) };
        if own_depth != depth {
            return Err(misfit(a, b));
        }
        let sizes = Sizes { n_rows, depth, n_columns, is_a_transposed, is_b_transposed };
        let mut data = multiply(a, b, &sizes)?;
        let shape = vec![n_rows, n_columns];
        let added = match inputs.optional(2) {
            None => None,
            Some(c) if common_shape(&c.shape, &shape)? == shape => Some(expand(c, &shape)),
            Some(c) => return Err(format!("does not add the shape {:?} to {shape:?}", c.shape)),
        };
        match (&mut data, &added) {
            (Data::F32(values), None) => values.iter_mut().for_each(|value| *value *= alpha),
            (Data::F64(values), None) => values.iter_mut().for_each(|value| *value *= f64::from(alpha)),
            (Data::F32(values), Some(Data::F32(added))) => {
                values.iter_mut().zip(added).for_each(|(value, c)| *value = alpha * *value + beta * c);
            }
            (Data::F64(values), Some(Data::F64(added))) => {
                let (alpha, beta) = (f64::from(alpha), f64::from(beta));
                values.iter_mut().zip(added).for_each(|(value, c)| *value = alpha * *value + beta * c);
            }
            (data, Some(added)) => {
                return Err(format!("does not add {} to {}", added.type_name(), data.type_name()));
            }
            (data, None) => return Err(data.refused()),
        }
        Ok(Array { shape, data })
    })
}
