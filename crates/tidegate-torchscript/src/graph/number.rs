//! Numbers of the program, in and out of the types that tensors have.

use tidegate_core::{DType, Tensor};

use crate::fault::Fault;

/// A number in the source of the program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Bool(bool),
    Int(i64),
    Float(f64),
}

impl Number {
    pub(crate) fn as_f64(self) -> f64 {
        match self {
            Self::Bool(value) => f64::from(u8::from(value)),
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// Towards zero, as torch does.
    pub(crate) fn as_i64(self) -> i64 {
        match self {
            Self::Bool(value) => i64::from(value),
            Self::Int(value) => value,
            Self::Float(value) => value as i64,
        }
    }

    /// The only element of a tensor.
    pub(super) fn read(tensor: &Tensor) -> Option<Self> {
        if tensor.n_elements() != 1 {
            return None;
        }
        let bytes = tensor.as_bytes()?;
        Some(match tensor.dtype() {
            DType::Bool => Self::Bool(bytes.first()? != &0),
            DType::Uint8 => Self::Int(i64::from(*bytes.first()?)),
            DType::Int8 => Self::Int(i64::from(*tensor.values::<i8>()?.first()?)),
            DType::Int16 => Self::Int(i64::from(*tensor.values::<i16>()?.first()?)),
            DType::Int32 => Self::Int(i64::from(*tensor.values::<i32>()?.first()?)),
            DType::Int64 => Self::Int(*tensor.values::<i64>()?.first()?),
            DType::Fp16 => Self::Float(tensor.values::<half::f16>()?.first()?.to_f64()),
            DType::Bf16 => Self::Float(tensor.values::<half::bf16>()?.first()?.to_f64()),
            DType::Fp32 => Self::Float(f64::from(*tensor.values::<f32>()?.first()?)),
            DType::Fp64 => Self::Float(*tensor.values::<f64>()?.first()?),
            DType::Uint16 | DType::Uint32 | DType::Uint64 | DType::Bytes => return None,
        })
    }

    /// Little-endian, in another type: rounded, or cut off, as torch does.
    pub(super) fn encode(self, dtype: DType) -> Result<Vec<u8>, Fault> {
        let (int, float) = (self.as_i64(), self.as_f64());
        Ok(match dtype {
            DType::Bool => vec![u8::from(float != 0.0)],
            DType::Uint8 => vec![int as u8],
            DType::Int8 => (int as i8).to_le_bytes().into(),
            DType::Int16 => (int as i16).to_le_bytes().into(),
            DType::Int32 => (int as i32).to_le_bytes().into(),
            DType::Int64 => int.to_le_bytes().into(),
            DType::Fp16 => half::f16::from_f64(float).to_le_bytes().into(),
            DType::Bf16 => half::bf16::from_f64(float).to_le_bytes().into(),
            DType::Fp32 => (float as f32).to_le_bytes().into(),
            DType::Fp64 => float.to_le_bytes().into(),
            DType::Uint16 | DType::Uint32 | DType::Uint64 | DType::Bytes => {
                return Err(Fault::Code(format!("a number of type {dtype}")));
            }
        })
    }
}
