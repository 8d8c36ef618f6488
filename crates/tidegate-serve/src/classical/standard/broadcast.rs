//! Shapes that differ, brought together as NumPy does: <https://onnx.ai/onnx/repo-docs/Broadcasting.html>.

use super::super::array::{Array, Data, checked_count};

pub(super) fn common_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let n_axes = a.len().max(b.len());
    let size =
        |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(n_axes).map_or(1, |i| shape[i]);
    let mut shape = Vec::with_capacity(n_axes);
    for axis in 0..n_axes {
        shape.push(match (size(a, axis), size(b, axis)) {
            (a, b) if a == b => a,
            (1, b) => b,
            (a, 1) => a,
            _ => return Err(format!("does not fit the shapes {a:?} and {b:?} together")),
        });
    }
    checked_count(&shape)?;
    Ok(shape)
}

/// Where each element of the larger shape is found in the smaller one.
pub(super) struct Places {
    /// The sizes of the larger shape, and how far a step along each moves in the smaller one.
    axes: Vec<(usize, usize)>,
    position: Vec<usize>,
    place: usize,
    left: usize,
}

impl Places {
    /// `shape` has to fit into `whole`, as [`common_shape`] makes it.
    pub(super) fn new(shape: &[usize], whole: &[usize]) -> Self {
        let mut axes = vec![];
        let mut stride = 1;
        for (back, size) in whole.iter().rev().enumerate() {
            let own = shape.len().checked_sub(back + 1).map_or(1, |axis| shape[axis]);
            axes.push((*size, if own == 1 { 0 } else { stride }));
            stride *= own;
        }
        axes.reverse();
        Self { position: vec![0; axes.len()], axes, place: 0, left: whole.iter().product() }
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = self.place;
        for (position, (size, stride)) in self.position.iter_mut().zip(&self.axes).rev() {
            *position += 1;
            self.place += stride;
            if *position < *size {
                break;
            }
            self.place -= stride * *size;
            *position = 0;
        }
        Some(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// `combine` of every pair of elements.
pub(super) fn zip<A: Copy, B: Copy, R>(
    (a, a_shape): (&[A], &[usize]),
    (b, b_shape): (&[B], &[usize]),
    mut combine: impl FnMut(A, B) -> R,
) -> Result<(Vec<usize>, Vec<R>), String> {
    if a_shape == b_shape {
        return Ok((a_shape.to_vec(), a.iter().zip(b).map(|(a, b)| combine(*a, *b)).collect()));
    }
    let whole = common_shape(a_shape, b_shape)?;
    let places = Places::new(a_shape, &whole).zip(Places::new(b_shape, &whole));
    Ok((whole, places.map(|(i, j)| combine(a[i], b[j])).collect()))
}

/// The array repeated to a larger shape, which it has to fit into.
pub(super) fn expand(array: &Array, whole: &[usize]) -> Data {
    array.data.pick(Places::new(&array.shape, whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_meet_from_their_ends() {
        let fit = |a: &[usize], b: &[usize]| common_shape(a, b).ok();
        assert_eq!(fit(&[2, 3], &[2, 3]), Some(vec![2, 3]));
        assert_eq!(fit(&[2, 3], &[3]), Some(vec![2, 3]));
        assert_eq!(fit(&[2, 1], &[1, 3]), Some(vec![2, 3]));
        assert_eq!(fit(&[], &[2]), Some(vec![2]));
        assert_eq!(fit(&[4, 2, 3], &[2, 1]), Some(vec![4, 2, 3]));
        assert_eq!(fit(&[0, 3], &[1, 3]), Some(vec![0, 3]));
        assert_eq!(fit(&[2, 3], &[2]), None);
        assert_eq!(fit(&[1 << 20, 1], &[1, 1 << 20]), None, "absurd");
    }

    #[test]
    fn every_element_meets_its_partner() {
        let column = (&[10, 20][..], &[2, 1][..]);
        let row = (&[1, 2, 3][..], &[3][..]);
        let (shape, sums) = zip(column, row, |a, b| a + b).unwrap();
        assert_eq!((shape, sums), (vec![2, 3], vec![11, 12, 13, 21, 22, 23]));
        let places: Vec<_> = Places::new(&[2, 1, 3], &[2, 2, 3]).collect();
        assert_eq!(places, [0, 1, 2, 0, 1, 2, 3, 4, 5, 3, 4, 5]);
        assert_eq!(Places::new(&[1], &[0, 3]).count(), 0);
    }
}
