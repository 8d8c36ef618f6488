//! The classification extension: the highest values of an output, as texts `value:index`.

use std::fmt::Display;

use bytes::Bytes;
use half::{bf16, f16};
use tidegate_core::{DType, Tensor};

/// The `n_classes` highest along the last axis, the highest first; `None` where the values have no order or there is no
/// axis.
pub(super) fn classify(tensor: &Tensor, n_classes: usize) -> Option<Tensor> {
    match tensor.dtype() {
        DType::Uint8 => of::<u8>(tensor, n_classes),
        DType::Uint16 => of::<u16>(tensor, n_classes),
        DType::Uint32 => of::<u32>(tensor, n_classes),
        DType::Uint64 => of::<u64>(tensor, n_classes),
        DType::Int8 => of::<i8>(tensor, n_classes),
        DType::Int16 => of::<i16>(tensor, n_classes),
        DType::Int32 => of::<i32>(tensor, n_classes),
        DType::Int64 => of::<i64>(tensor, n_classes),
        DType::Fp16 => of::<f16>(tensor, n_classes),
        DType::Bf16 => of::<bf16>(tensor, n_classes),
        DType::Fp32 => of::<f32>(tensor, n_classes),
        DType::Fp64 => of::<f64>(tensor, n_classes),
        DType::Bool | DType::Bytes => None,
    }
}

fn of<T: tidegate_core::tensor::Element + PartialOrd + Display>(
    tensor: &Tensor,
    n_classes: usize,
) -> Option<Tensor> {
    let values = tensor.values::<T>()?;
    let (n_values, leading) = tensor.shape().split_last()?;
    let n_classes = n_classes.min(*n_values);
    let mut texts = Vec::with_capacity(values.len() / n_values.max(&1) * n_classes);
    for row in values.chunks_exact(*n_values.max(&1)) {
        let mut ranked: Vec<usize> = (0..row.len()).collect();
        // Stable: of equal values the first comes first.
        ranked.sort_by(|a, b| row[*b].partial_cmp(&row[*a]).unwrap_or(std::cmp::Ordering::Equal));
        texts.extend(
            ranked[..n_classes].iter().map(|index| Bytes::from(format!("{:.6}:{index}", row[*index]))),
        );
    }
    Tensor::from_strings([leading, &[n_classes]].concat(), texts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_each_row_come_first() {
        let tensor = Tensor::from_vec(vec![2, 3], vec![0.25f32, 0.5, 0.25, 1.0, -2.0, 3.0]).unwrap();
        let texts = |n| classify(&tensor, n).unwrap();
        assert_eq!(texts(2).shape(), [2, 2]);
        let expected = ["0.500000:1", "0.250000:0", "3.000000:2", "1.000000:0"].map(Bytes::from);
        assert_eq!(texts(2).as_strings().unwrap(), expected);
        assert_eq!(texts(9).shape(), [2, 3], "no more than there are");
        let labels = Tensor::from_vec(vec![4], vec![1i64, 7, 7, 0]).unwrap();
        assert_eq!(classify(&labels, 1).unwrap().as_strings().unwrap(), ["7:1"].map(Bytes::from));
        assert_eq!(classify(&Tensor::from_bools(vec![1], &[true]).unwrap(), 1), None);
        assert_eq!(
            classify(&Tensor::from_vec(vec![2, 0], Vec::<f32>::new()).unwrap(), 1).unwrap().shape(),
            [2, 0]
        );
    }
}
