//! Tensors: a data type, a shape, and bytes that are shared rather than copied.

use std::borrow::Cow;

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

    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same values under another shape with as many elements.
    pub fn reshaped(self, shape: Vec<usize>) -> Result<Self, TensorError> {
        check_count(&shape, self.dtype, self.n_elements())?;
        Ok(Self { shape, ..self })
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

    proptest! {
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
