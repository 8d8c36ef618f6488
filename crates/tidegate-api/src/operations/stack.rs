//! Many instances as one run: stacked along the batch axis, and taken apart again.

use bytes::{Bytes, BytesMut};
use tidegate_core::{Dim, NamedTensor, Signature, Tensor};

/// One row for each instance, or `None` where the model cannot take them together: its batch axis is fixed, or the
/// instances differ in shape.
pub(crate) fn stack(instances: &[Vec<NamedTensor>], signature: &Signature) -> Option<Vec<NamedTensor>> {
    let tensors = signature.inputs.iter().chain(&signature.outputs);
    let is_batched = tensors.into_iter().all(|spec| spec.shape.first() == Some(&Dim::Dynamic));
    let first = instances.first().filter(|_| is_batched)?;
    first.iter().map(|named| stack_one(&named.name, instances)).collect()
}

fn stack_one(name: &str, instances: &[Vec<NamedTensor>]) -> Option<NamedTensor> {
    let rows: Option<Vec<&Tensor>> = instances
        .iter()
        .map(|inputs| inputs.iter().find(|input| input.name == name).map(|input| &input.tensor))
        .collect();
    let rows = rows?;
    let first = rows.first()?;
    let alike = |row: &&Tensor| row.shape() == first.shape() && row.dtype() == first.dtype();
    if first.shape().first() != Some(&1) || !rows.iter().all(alike) {
        return None;
    }
    let mut shape = first.shape().to_vec();
    shape[0] = rows.len();
    let tensor = if first.as_strings().is_some() {
        let strings: Vec<Bytes> = rows.iter().filter_map(|row| row.as_strings()).flatten().cloned().collect();
        Tensor::from_strings(shape, strings)
    } else {
        let mut bytes = BytesMut::with_capacity(first.as_bytes()?.len() * rows.len());
        rows.iter().filter_map(|row| row.as_bytes()).for_each(|row| bytes.extend_from_slice(row));
        Tensor::from_bytes(first.dtype(), shape, bytes.freeze())
    };
    Some(NamedTensor { name: name.to_owned(), tensor: tensor.ok()? })
}

/// The outputs of each of `n_rows` instances, or `None` when some output has not one row for each.
pub(crate) fn split(outputs: &[NamedTensor], n_rows: usize) -> Option<Vec<Vec<NamedTensor>>> {
    (0..n_rows).map(|row| outputs.iter().map(|output| row_of(output, row, n_rows)).collect()).collect()
}

fn row_of(output: &NamedTensor, row: usize, n_rows: usize) -> Option<NamedTensor> {
    let tensor = &output.tensor;
    if tensor.shape().first() != Some(&n_rows) {
        return None;
    }
    let mut shape = tensor.shape().to_vec();
    shape[0] = 1;
    let row = match (tensor.as_bytes(), tensor.as_strings()) {
        (Some(bytes), _) => {
            let size = bytes.len() / n_rows;
            Tensor::from_bytes(tensor.dtype(), shape, bytes.slice(row * size..(row + 1) * size))
        }
        (None, Some(strings)) => {
            let size = strings.len() / n_rows;
            Tensor::from_strings(shape, strings[row * size..(row + 1) * size].to_vec())
        }
        (None, None) => return None,
    };
    Some(NamedTensor { name: output.name.clone(), tensor: row.ok()? })
}

#[cfg(test)]
mod tests {
    use tidegate_core::{DType, TensorSpec};

    use super::*;

    fn signature(batch: Dim) -> Signature {
        let spec =
            TensorSpec { name: "X".to_owned(), datatype: DType::Fp32, shape: vec![batch, Dim::Fixed(2)] };
        Signature { inputs: vec![spec.clone()], outputs: vec![spec] }
    }

    fn instance(shape: &[usize], values: Vec<f32>) -> Vec<NamedTensor> {
        vec![NamedTensor { name: "X".to_owned(), tensor: Tensor::from_vec(shape.to_vec(), values).unwrap() }]
    }

    #[test]
    fn what_is_stacked_comes_apart_as_it_was() {
        let instances = vec![instance(&[1, 2], vec![1.0, 2.0]), instance(&[1, 2], vec![3.0, 4.0])];
        let stacked = stack(&instances, &signature(Dim::Dynamic)).unwrap();
        assert_eq!(stacked[0].tensor.shape(), [2, 2]);
        assert_eq!(split(&stacked, 2).unwrap(), instances);
        assert_eq!(split(&stacked, 3), None);
    }

    #[test]
    fn what_does_not_stack_is_left_alone() {
        let same = || vec![instance(&[1, 2], vec![0.0; 2]), instance(&[1, 2], vec![0.0; 2])];
        assert_eq!(stack(&same(), &signature(Dim::Fixed(1))), None, "the batch axis is fixed");
        let differ = vec![instance(&[1, 2], vec![0.0; 2]), instance(&[2, 2], vec![0.0; 4])];
        assert_eq!(stack(&differ, &signature(Dim::Dynamic)), None);
    }
}
