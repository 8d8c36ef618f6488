//! Small dense tensors of the types that classical models compute with.

use std::borrow::Cow;

use bytes::Bytes;
use tidegate_core::tensor::{Element, element_count};
use tidegate_core::{DType, Tensor, TensorError};

/// No operator makes more elements than this out of its inputs: a few bytes of a file could ask for any number of them.
pub(super) const MAX_ELEMENTS: usize = 1 << 28;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    Bool(Vec<bool>),
    Text(Vec<Bytes>),
}

/// The same expression over the values of any type, which gives values of that type.
macro_rules! map_values {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            Data::F32($values) => Data::F32($body),
            Data::F64($values) => Data::F64($body),
            Data::I32($values) => Data::I32($body),
            Data::I64($values) => Data::I64($body),
            Data::Bool($values) => Data::Bool($body),
            Data::Text($values) => Data::Text($body),
        }
    };
}

/// The same expression over the values of any type, which gives something else.
macro_rules! with_values {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            Data::F32($values) => $body,
            Data::F64($values) => $body,
            Data::I32($values) => $body,
            Data::I64($values) => $body,
            Data::Bool($values) => $body,
            Data::Text($values) => $body,
        }
    };
}

impl Data {
    pub(super) fn len(&self) -> usize {
        with_values!(self, values => values.len())
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::F32(_) => "FP32",
            Self::F64(_) => "FP64",
            Self::I32(_) => "INT32",
            Self::I64(_) => "INT64",
            Self::Bool(_) => "BOOL",
            Self::Text(_) => "BYTES",
        }
    }

    /// The values at these places, each of which has to be one of the values.
    pub(super) fn pick(&self, places: impl Iterator<Item = usize>) -> Self {
        fn pick<T: Clone>(values: &[T], places: impl Iterator<Item = usize>) -> Vec<T> {
            places.map(|place| values[place].clone()).collect()
        }
        map_values!(self, values => pick(values, places))
    }

    /// As 32-bit floats, as ONNX Runtime reads the features of a classical model.
    pub(super) fn to_f32(&self) -> Result<Vec<f32>, String> {
        Ok(match self {
            Self::F32(values) => values.clone(),
            Self::F64(values) => values.iter().map(|value| *value as f32).collect(),
            Self::I32(values) => values.iter().map(|value| *value as f32).collect(),
            Self::I64(values) => values.iter().map(|value| *value as f32).collect(),
            Self::Bool(_) | Self::Text(_) => return Err(self.refused()),
        })
    }

    /// The one or more integers that say a shape, axes or places.
    pub(super) fn to_i64(&self) -> Result<Vec<i64>, String> {
        match self {
            Self::I64(values) => Ok(values.clone()),
            Self::I32(values) => Ok(values.iter().map(|value| i64::from(*value)).collect()),
            _ => Err(self.refused()),
        }
    }

    pub(super) fn refused(&self) -> String {
        format!("does not compute with {}", self.type_name())
    }
}

impl Array {
    pub(super) fn new(shape: Vec<usize>, data: Data) -> Result<Self, String> {
        let expected = checked_count(&shape)?;
        if expected != data.len() {
            return Err(format!("gives {} values where the shape {shape:?} needs {expected}", data.len()));
        }
        Ok(Self { shape, data })
    }

    /// Of one axis.
    pub(super) fn vector(data: Data) -> Self {
        Self { shape: vec![data.len()], data }
    }

    /// The values of an input, copied.
    pub(super) fn from_tensor(tensor: &Tensor) -> Result<Self, String> {
        fn values<T: Element>(tensor: &Tensor) -> Option<Vec<T>> {
            tensor.values().map(Cow::into_owned)
        }
        let truths = |bytes: &Bytes| bytes.iter().map(|value| *value != 0).collect();
        let data = match tensor.dtype() {
            DType::Fp32 => values(tensor).map(Data::F32),
            DType::Fp64 => values(tensor).map(Data::F64),
            DType::Int32 => values(tensor).map(Data::I32),
            DType::Int64 => values(tensor).map(Data::I64),
            DType::Bool => tensor.as_bytes().map(truths).map(Data::Bool),
            DType::Bytes => tensor.as_strings().map(<[Bytes]>::to_vec).map(Data::Text),
            _ => None,
        };
        let data = data.ok_or_else(|| format!("is {}, which does not run here", tensor.dtype()))?;
        Self::new(tensor.shape().to_vec(), data)
    }

    pub(super) fn into_tensor(self) -> Result<Tensor, TensorError> {
        match self.data {
            Data::F32(values) => Tensor::from_vec(self.shape, values),
            Data::F64(values) => Tensor::from_vec(self.shape, values),
            Data::I32(values) => Tensor::from_vec(self.shape, values),
            Data::I64(values) => Tensor::from_vec(self.shape, values),
            Data::Bool(values) => Tensor::from_bools(self.shape, &values),
            Data::Text(values) => Tensor::from_strings(self.shape, values),
        }
    }

    /// Rows and columns of what most classical operators take; one axis is a single row.
    pub(super) fn as_rows(&self) -> Result<(usize, usize), String> {
        match *self.shape.as_slice() {
            [n_columns] => Ok((1, n_columns)),
            [n_rows, n_columns] => Ok((n_rows, n_columns)),
            _ => Err(format!("takes rows of features, and got the shape {:?}", self.shape)),
        }
    }
}

/// The number of elements of a shape. An axis of size zero does not make the others any smaller: they may be looped over.
pub(super) fn checked_count(shape: &[usize]) -> Result<usize, String> {
    let sizes: Vec<usize> = shape.iter().map(|size| *size.max(&1)).collect();
    match element_count(&sizes) {
        Ok(count) if count <= MAX_ELEMENTS => Ok(if shape.contains(&0) { 0 } else { count }),
        _ => Err(format!("makes more than {MAX_ELEMENTS} values (shape {shape:?})")),
    }
}

/// An axis that may count from the end.
pub(super) fn axis_of(axis: i64, n_axes: usize) -> Result<usize, String> {
    let from_start = if axis < 0 { axis.saturating_add_unsigned(n_axes as u64) } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|axis| *axis < n_axes)
        .ok_or_else(|| format!("has no axis {axis} among {n_axes}"))
}

/// The sizes before an axis, of it and after it, as if there were three axes.
pub(super) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_do_not_fit_or_are_absurd_are_refused() {
        assert!(Array::new(vec![2, 2], Data::F32(vec![0.0; 3])).is_err());
        assert!(Array::new(vec![usize::MAX, 2], Data::F32(vec![])).is_err());
        assert!(checked_count(&[MAX_ELEMENTS, 2]).is_err());
        assert!(checked_count(&[MAX_ELEMENTS, 2, 0]).is_err(), "nothing in it, and long to walk along");
        assert_eq!(checked_count(&[3, 0]), Ok(0));
    }

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!((axis_of(1, 3), axis_of(-1, 3), axis_of(-3, 3)), (Ok(1), Ok(2), Ok(0)));
        for axis in [3, -4, i64::MIN, i64::MAX] {
            assert!(axis_of(axis, 3).is_err(), "{axis}");
        }
        assert_eq!(around(&[2, 3, 4, 5], 1), (2, 3, 20));
    }
}
