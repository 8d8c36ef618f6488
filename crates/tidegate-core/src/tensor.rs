//! Tensors: a data type, a shape, and bytes that are shared rather than copied.

use std::borrow::Cow;
use std::ops::Range;

use bytemuck::Pod;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The data types of the Open Inference Protocol, version 2, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DType {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Byte strings of any length.
    Bytes,
}

impl DType {
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// The type of that name, written as the protocol writes it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.as_str() == name)
    }

    /// `None` for [`DType::Bytes`], whose elements vary in length.
    pub fn size_bytes(self) -> Option<usize> {
        match self {
            Self::Bool | Self::Uint8 | Self::Int8 => Some(1),
            Self::Uint16 | Self::Int16 | Self::Fp16 | Self::Bf16 => Some(2),
            Self::Uint32 | Self::Int32 | Self::Fp32 => Some(4),
            Self::Uint64 | Self::Int64 | Self::Fp64 => Some(8),
            Self::Bytes => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A Rust type that is one [`DType`] in memory.
pub trait Element: Pod + Send + Sync + 'static {
    const DTYPE: DType;
}

macro_rules! element {
    ($($rust:ty => $dtype:ident),+ $(,)?) => {
        $(impl Element for $rust { const DTYPE: DType = DType::$dtype; })+
    };
}

element! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    half::f16 => Fp16, half::bf16 => Bf16, f32 => Fp32, f64 => Fp64,
}

/// Row-major values with a shape. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    data: Data,
}

#[derive(Clone, Debug, PartialEq)]
enum Data {
    /// Elements of fixed size, little-endian (as every platform we run on).
    Fixed(Bytes),
    Strings(Vec<Bytes>),
}

/// A tensor and the name of the input or output that it is.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub tensor: Tensor,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TensorError {
    #[error("shape {shape:?} has more elements than memory could hold")]
    TooLarge { shape: Vec<usize> },
    #[error("shape {shape:?} of {dtype} needs {expected} elements, got {actual}")]
    LengthMismatch { shape: Vec<usize>, dtype: DType, expected: usize, actual: usize },
    #[error("shape {shape:?} of {dtype} needs {expected} bytes, got {actual}")]
    SizeMismatch { shape: Vec<usize>, dtype: DType, expected: usize, actual: usize },
}

/// The vector stays where it is; only its view as bytes is shared.
struct VecOwner<T>(Vec<T>);

impl<T: Pod> AsRef<[u8]> for VecOwner<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Tensor {
    /// Takes the vector without copying it.
    pub fn from_vec<T: Element>(shape: Vec<usize>, values: Vec<T>) -> Result<Self, TensorError> {
        check_count(&shape, T::DTYPE, values.len())?;
        Ok(Self { dtype: T::DTYPE, shape, data: Data::Fixed(Bytes::from_owner(VecOwner(values))) })
    }

    /// Takes truth values; anything but zero is true.
    pub fn from_bools(shape: Vec<usize>, values: &[bool]) -> Result<Self, TensorError> {
        check_count(&shape, DType::Bool, values.len())?;
        let bytes = values.iter().map(|value| u8::from(*value)).collect::<Vec<_>>();
        Ok(Self { dtype: DType::Bool, shape, data: Data::Fixed(bytes.into()) })
    }

    pub fn from_strings(shape: Vec<usize>, values: Vec<Bytes>) -> Result<Self, TensorError> {
        check_count(&shape, DType::Bytes, values.len())?;
        Ok(Self { dtype: DType::Bytes, shape, data: Data::Strings(values) })
    }

    /// Takes little-endian bytes of a fixed-size type, without copying them.
    pub fn from_bytes(dtype: DType, shape: Vec<usize>, bytes: Bytes) -> Result<Self, TensorError> {
        let n_elements = element_count(&shape)?;
        let size = dtype.size_bytes().unwrap_or(1);
        let expected =
            n_elements.checked_mul(size).ok_or_else(|| TensorError::TooLarge { shape: shape.clone() })?;
        if bytes.len() != expected {
            return Err(TensorError::SizeMismatch { shape, dtype, expected, actual: bytes.len() });
        }
        match dtype {
            DType::Bytes => Self::from_strings(shape, bytes.chunks(1).map(Bytes::copy_from_slice).collect()),
            _ => Ok(Self { dtype, shape, data: Data::Fixed(bytes) }),
        }
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How much memory the values take.
    pub fn size_bytes(&self) -> usize {
        match &self.data {
            Data::Fixed(bytes) => bytes.len(),
            Data::Strings(strings) => strings.iter().map(|string| string.len() + size_of::<Bytes>()).sum(),
        }
    }

    /// The same values in memory of their own: what was cut out of a larger piece does not keep that alive.
    pub fn with_own_memory(&self) -> Self {
        let data = match &self.data {
            Data::Fixed(bytes) => Data::Fixed(Bytes::copy_from_slice(bytes)),
            Data::Strings(strings) => {
                Data::Strings(strings.iter().map(|string| Bytes::copy_from_slice(string)).collect())
            }
        };
        Self { dtype: self.dtype, shape: self.shape.clone(), data }
    }

    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same values under another shape with as many elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Result<Self, TensorError> {
        check_count(&shape, self.dtype, self.n_elements())?;
        Ok(Self { shape, ..self })
    }

    /// The tensors below one another, along the first axis; `None` where their types or their other axes differ, or one is a
    /// scalar. Copies the values.
    pub fn concat(tensors: &[&Self]) -> Option<Self> {
        let (first, others) = tensors.split_first()?;
        let (_, row_shape) = first.shape.split_first()?;
        let is_alike =
            |tensor: &&&Self| tensor.dtype == first.dtype && tensor.shape.get(1..) == Some(row_shape);
        if !others.iter().all(|tensor| is_alike(&tensor)) {
            return None;
        }
        let n_rows = tensors.iter().try_fold(0usize, |sum, tensor| sum.checked_add(tensor.shape[0]))?;
        let shape: Vec<usize> = std::iter::once(n_rows).chain(row_shape.iter().copied()).collect();
        match &first.data {
            Data::Strings(_) => {
                let strings = tensors.iter().filter_map(|tensor| tensor.as_strings()).flatten();
                Self::from_strings(shape, strings.cloned().collect()).ok()
            }
            Data::Fixed(_) => {
                let mut bytes = Vec::with_capacity(tensors.iter().map(|tensor| tensor.size_bytes()).sum());
                tensors
                    .iter()
                    .filter_map(|tensor| tensor.as_bytes())
                    .for_each(|part| bytes.extend_from_slice(part));
                Self::from_bytes(first.dtype, shape, bytes.into()).ok()
            }
        }
    }

    /// Some rows of the first axis, sharing the bytes; `None` where there are not so many.
    pub fn rows(&self, rows: Range<usize>) -> Option<Self> {
        let (n_rows, row_shape) = self.shape.split_first()?;
        let n_taken = rows.end.checked_sub(rows.start).filter(|_| rows.end <= *n_rows)?;
        let row_len = row_shape.iter().product::<usize>();
        let data = match &self.data {
            Data::Strings(strings) => {
                Data::Strings(strings[rows.start * row_len..rows.end * row_len].to_vec())
            }
            Data::Fixed(bytes) => {
                let size = row_len * self.dtype.size_bytes().unwrap_or(1);
                Data::Fixed(bytes.slice(rows.start * size..rows.end * size))
            }
        };
        let shape = std::iter::once(n_taken).chain(row_shape.iter().copied()).collect();
        Some(Self { dtype: self.dtype, shape, data })
    }

    /// The raw little-endian bytes; `None` for byte strings.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.data {
            Data::Fixed(bytes) => Some(bytes),
            Data::Strings(_) => None,
        }
    }

    /// The byte strings; `None` for every other type.
    pub fn as_strings(&self) -> Option<&[Bytes]> {
        match &self.data {
            Data::Fixed(_) => None,
            Data::Strings(strings) => Some(strings),
        }
    }

    /// The values, borrowed where the bytes are aligned (they are, unless cut out of a network buffer); `None` when the
    /// tensor has another type.
    pub fn values<T: Element>(&self) -> Option<Cow<'_, [T]>> {
        let bytes = self.as_bytes().filter(|_| self.dtype == T::DTYPE)?;
        Some(match bytemuck::try_cast_slice(bytes) {
            Ok(values) => Cow::Borrowed(values),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)),
        })
    }
}

/// The product of the axes, or an error where it overflows.
pub fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    shape
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size))
        .filter(|count| *count <= isize::MAX as usize / 8)
        .ok_or_else(|| TensorError::TooLarge { shape: shape.to_vec() })
}

fn check_count(shape: &[usize], dtype: DType, actual: usize) -> Result<(), TensorError> {
    let expected = element_count(shape)?;
    if expected == actual {
        return Ok(());
    }
    Err(TensorError::LengthMismatch { shape: shape.to_vec(), dtype, expected, actual })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_shapes_that_do_not_fit_or_overflow() {
        assert!(Tensor::from_vec(vec![2, 2], vec![1f32; 3]).is_err());
        assert!(Tensor::from_bytes(DType::Fp32, vec![1], Bytes::from_static(&[0; 5])).is_err());
        assert!(Tensor::from_bytes(DType::Fp64, vec![usize::MAX, 2], Bytes::new()).is_err());
        assert!(matches!(element_count(&[usize::MAX / 4]), Err(TensorError::TooLarge { .. })));
        assert_eq!(element_count(&[]), Ok(1), "a scalar has one element");
    }

    #[test]
    fn a_value_of_another_type_is_absent() {
        let tensor = Tensor::from_vec(vec![1], vec![1f32]).unwrap();
        assert!(tensor.values::<i32>().is_none());
        assert!(tensor.as_strings().is_none());
    }

    #[test]
    fn rows_of_other_shapes_or_types_do_not_go_below_one_another() {
        let floats =
            |shape: &[usize]| Tensor::from_vec(shape.to_vec(), vec![1f32; shape.iter().product()]).unwrap();
        let integers = Tensor::from_vec(vec![1, 2], vec![1i32; 2]).unwrap();
        assert_eq!(Tensor::concat(&[]), None);
        assert_eq!(Tensor::concat(&[&floats(&[])]), None);
        assert_eq!(Tensor::concat(&[&floats(&[1, 2]), &floats(&[1, 3])]), None);
        assert_eq!(Tensor::concat(&[&floats(&[1, 2]), &floats(&[2])]), None);
        assert_eq!(Tensor::concat(&[&floats(&[1, 2]), &integers]), None);
        assert_eq!(floats(&[]).rows(0..1), None);
        assert_eq!(floats(&[2, 3]).rows(1..3), None);
        let (two, one) = (2, 1);
        assert_eq!(floats(&[2, 3]).rows(two..one), None);
    }

    proptest! {
        /// What is put together comes apart as it was, for numbers and for strings.
        #[test]
        fn rows_come_apart_as_they_went_together(sizes in prop::collection::vec(0usize..4, 1..6), width in 0usize..4, is_text: bool) {
            let part = |(index, n_rows): (usize, &usize)| {
                let values: Vec<u16> = (0..n_rows * width).map(|i| (index * 100 + i) as u16).collect();
                let shape = vec![*n_rows, width];
                if is_text {
                    let strings = values.iter().map(|value| Bytes::from(value.to_string())).collect();
                    Tensor::from_strings(shape, strings).unwrap()
                } else {
                    Tensor::from_vec(shape, values).unwrap()
                }
            };
            let parts: Vec<Tensor> = sizes.iter().enumerate().map(part).collect();
            let whole = Tensor::concat(&parts.iter().collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(whole.shape(), [sizes.iter().sum::<usize>(), width]);
            let mut start = 0;
            for part in parts {
                let end = start + part.shape()[0];
                prop_assert_eq!(whole.rows(start..end).unwrap(), part);
                start = end;
            }
        }

        /// Bytes cut out of a buffer at any offset, aligned or not, read as the same values.
        #[test]
        fn values_survive_any_alignment(values: Vec<f32>, offset in 0usize..8) {
            let mut buffer = vec![0u8; offset];
            buffer.extend_from_slice(bytemuck::cast_slice(&values));
            let bytes = Bytes::from(buffer).slice(offset..);
            let tensor = Tensor::from_bytes(DType::Fp32, vec![values.len()], bytes).unwrap();
            let read = tensor.values::<f32>().unwrap();
            prop_assert!(read.iter().map(|v| v.to_bits()).eq(values.iter().map(|v| v.to_bits())));
        }
    }
}
