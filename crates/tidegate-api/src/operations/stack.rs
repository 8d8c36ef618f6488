//! Many instances as one run: stacked along the batch axis, and taken apart again.

use tidegate_core::{NamedTensor, Tensor};

/// One row for each instance, or `None` where they do not go together: they differ in shape. For models whose rows are
/// independent.
pub(crate) fn stack(instances: &[Vec<NamedTensor>]) -> Option<Vec<NamedTensor>> {
    let first = instances.first()?;
    first.iter().map(|named| stack_one(&named.name, instances)).collect()
}

fn stack_one(name: &str, instances: &[Vec<NamedTensor>]) -> Option<NamedTensor> {
    let rows: Option<Vec<&Tensor>> = instances
        .iter()
        .map(|inputs| inputs.iter().find(|input| input.name == name).map(|input| &input.tensor))
        .collect();
    let rows = rows?;
    // A row each: with more, nobody could tell afterwards which are whose.
    let are_rows = rows.iter().all(|row| row.shape().first() == Some(&1));
    let tensor = if are_rows { Tensor::concat(&rows) } else { None };
    Some(NamedTensor { name: name.to_owned(), tensor: tensor? })
}

/// The outputs of each of `n_rows` instances, or `None` when some output has not one row for each.
pub(crate) fn split(outputs: &[NamedTensor], n_rows: usize) -> Option<Vec<Vec<NamedTensor>>> {
    (0..n_rows).map(|row| outputs.iter().map(|output| row_of(output, row, n_rows)).collect()).collect()
}

fn row_of(output: &NamedTensor, row: usize, n_rows: usize) -> Option<NamedTensor> {
    let tensor = Some(&output.tensor).filter(|tensor| tensor.shape().first() == Some(&n_rows))?;
    Some(NamedTensor { name: output.name.clone(), tensor: tensor.rows(row..row + 1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(shape: &[usize], values: Vec<f32>) -> Vec<NamedTensor> {
        vec![NamedTensor { name: "X".to_owned(), tensor: Tensor::from_vec(shape.to_vec(), values).unwrap() }]
    }

    #[test]
    fn what_is_stacked_comes_apart_as_it_was() {
        let instances = vec![instance(&[1, 2], vec![1.0, 2.0]), instance(&[1, 2], vec![3.0, 4.0])];
        let stacked = stack(&instances).unwrap();
        assert_eq!(stacked[0].tensor.shape(), [2, 2]);
        assert_eq!(split(&stacked, 2).unwrap(), instances);
        assert_eq!(split(&stacked, 3), None);
    }

    #[test]
    fn what_does_not_stack_is_left_alone() {
        let one = || instance(&[1, 2], vec![0.0; 2]);
        assert_eq!(stack(&[one(), instance(&[1, 3], vec![0.0; 3])]), None);
        assert_eq!(stack(&[one(), instance(&[2, 2], vec![0.0; 4])]), None, "whose row is whose");
    }
}
