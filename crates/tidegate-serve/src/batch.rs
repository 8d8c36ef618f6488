//! Several requests as one run: their inputs below one another along the batch axis, and the outputs taken apart again.

use std::hash::{DefaultHasher, Hash, Hasher};

use tidegate_core::{NamedTensor, Signature, Tensor};

/// What decides which requests go together; see [`crate::pack::Waiting`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// Equal for inputs that differ in their first axis only. Two forms with one id by chance are found out by [`stack`].
    pub(crate) id: u64,
    /// Zero where the inputs have no rows in common.
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl Form {
    /// Of inputs that fit the signature, in its order.
    pub(crate) fn of(inputs: &[NamedTensor]) -> Self {
        let mut hasher = DefaultHasher::new();
        let mut rows = None;
        for input in inputs {
            let (n_rows, row_shape) = input.tensor.shape().split_first().unwrap_or((&0, &[]));
            row_shape.hash(&mut hasher);
            rows = Some(rows.filter(|rows| rows != n_rows).map_or(*n_rows, |_| 0));
        }
        Self { id: hasher.finish(), rows: rows.unwrap_or(0), bytes: size(inputs) }
    }
}

/// The bytes of all tensors.
pub(crate) fn size(tensors: &[NamedTensor]) -> usize {
    tensors.iter().map(|named| named.tensor.size_bytes()).sum()
}

/// Puts inputs that fit the signature into its order.
pub(crate) fn in_order(mut inputs: Vec<NamedTensor>, signature: &Signature) -> Vec<NamedTensor> {
    let place = |input: &NamedTensor| signature.inputs.iter().position(|spec| spec.name == input.name);
    if !inputs.is_sorted_by_key(place) {
        inputs.sort_by_key(place);
    }
    inputs
}

/// The inputs of all requests as one, each request's in the order of the signature; `None` where they do not go together.
pub(crate) fn stack<'a>(
    requests: impl Iterator<Item = &'a [NamedTensor]> + Clone,
) -> Option<Vec<NamedTensor>> {
    let first = requests.clone().next()?;
    let stack_one = |(index, input): (usize, &NamedTensor)| {
        let parts: Option<Vec<&Tensor>> =
            requests.clone().map(|inputs| inputs.get(index).map(|input| &input.tensor)).collect();
        Some(NamedTensor { name: input.name.clone(), tensor: Tensor::concat(&parts?)? })
    };
    first.iter().enumerate().map(stack_one).collect()
}

/// The outputs of each request, which had so many rows; `None` where an output has not one row for each.
pub(crate) fn split(
    outputs: &[NamedTensor],
    rows: impl Iterator<Item = usize>,
) -> Option<Vec<Vec<NamedTensor>>> {
    let mut start = 0;
    let mut parts = vec![];
    for n_rows in rows {
        let end = start + n_rows;
        let part = |output: &NamedTensor| {
            Some(NamedTensor { name: output.name.clone(), tensor: output.tensor.rows(start..end)? })
        };
        parts.push(outputs.iter().map(part).collect::<Option<Vec<_>>>()?);
        start = end;
    }
    outputs.iter().all(|output| output.tensor.shape().first() == Some(&start)).then_some(parts)
}

#[cfg(test)]
mod tests {
    use tidegate_core::{DType, Dim, TensorSpec};

    use super::*;

    fn named(name: &str, shape: &[usize], first: f32) -> NamedTensor {
        let n = shape.iter().product();
        let values = (0..n).map(|index| first + index as f32).collect();
        NamedTensor { name: name.to_owned(), tensor: Tensor::from_vec(shape.to_vec(), values).unwrap() }
    }

    #[test]
    fn forms_differ_where_requests_do_not_go_together() {
        let form = |shapes: &[&[usize]]| {
            let inputs: Vec<_> = shapes.iter().map(|shape| named("x", shape, 0.0)).collect();
            Form::of(&inputs)
        };
        let (one, two) = (form(&[&[1, 3], &[1]]), form(&[&[2, 3], &[2]]));
        assert_eq!((one.id, one.rows, one.bytes), (two.id, 1, 16));
        assert_eq!(two.rows, 2);
        assert_ne!(form(&[&[1, 3]]).id, form(&[&[1, 4]]).id);
        assert_ne!(form(&[&[1, 2, 3]]).id, form(&[&[1, 3, 2]]).id);
        assert_eq!(form(&[&[1, 3], &[2]]).rows, 0, "rows that do not match");
        assert_eq!(form(&[&[]]).rows, 0, "a scalar");
    }

    #[test]
    fn inputs_come_into_the_order_of_the_signature() {
        let spec = |name: &str| TensorSpec {
            name: name.to_owned(),
            datatype: DType::Fp32,
            shape: vec![Dim::Dynamic],
        };
        let signature = Signature { inputs: vec![spec("b"), spec("a")], outputs: vec![] };
        let inputs = vec![named("a", &[1], 0.0), named("b", &[1], 1.0)];
        let names: Vec<_> = in_order(inputs, &signature).into_iter().map(|input| input.name).collect();
        assert_eq!(names, ["b", "a"]);
    }

    #[test]
    fn outputs_that_are_not_a_row_for_each_do_not_come_apart() {
        let requests = [vec![named("x", &[1, 2], 0.0)], vec![named("x", &[2, 2], 9.0)]];
        let stacked = stack(requests.iter().map(Vec::as_slice)).unwrap();
        assert_eq!(stacked[0].tensor.shape(), [3, 2]);
        assert_eq!(split(&stacked, [1, 2].into_iter()).unwrap(), requests);
        assert_eq!(split(&stacked, [1, 1].into_iter()), None);
        assert_eq!(split(&stacked, [1, 3].into_iter()), None);
        assert_eq!(split(&[named("y", &[], 0.0)], [1].into_iter()), None);
        let other = [vec![named("x", &[1, 3], 0.0)], vec![named("x", &[1, 2], 0.0)]];
        assert_eq!(stack(other.iter().map(Vec::as_slice)), None);
    }
}
