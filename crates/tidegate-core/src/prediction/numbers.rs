//! The elements of a tensor as numbers, whatever their type, without a copy where the bytes are aligned.

use std::borrow::Cow;

use bytes::Bytes;
use half::{bf16, f16};

use crate::tensor::{DType, Tensor};

pub(super) enum Numbers<'a> {
    /// Truth values too.
    Bytes(&'a Bytes),
    U16(Cow<'a, [u16]>),
    U32(Cow<'a, [u32]>),
    U64(Cow<'a, [u64]>),
    I8(Cow<'a, [i8]>),
    I16(Cow<'a, [i16]>),
    I32(Cow<'a, [i32]>),
    I64(Cow<'a, [i64]>),
    F16(Cow<'a, [f16]>),
    Bf16(Cow<'a, [bf16]>),
    F32(Cow<'a, [f32]>),
    F64(Cow<'a, [f64]>),
}

impl<'a> Numbers<'a> {
    /// `None` for byte strings.
    pub fn of(tensor: &'a Tensor) -> Option<Self> {
        Some(match tensor.dtype() {
            DType::Bool | DType::Uint8 => Self::Bytes(tensor.as_bytes()?),
            DType::Uint16 => Self::U16(tensor.values()?),
            DType::Uint32 => Self::U32(tensor.values()?),
            DType::Uint64 => Self::U64(tensor.values()?),
            DType::Int8 => Self::I8(tensor.values()?),
            DType::Int16 => Self::I16(tensor.values()?),
            DType::Int32 => Self::I32(tensor.values()?),
            DType::Int64 => Self::I64(tensor.values()?),
            DType::Fp16 => Self::F16(tensor.values()?),
            DType::Bf16 => Self::Bf16(tensor.values()?),
            DType::Fp32 => Self::F32(tensor.values()?),
            DType::Fp64 => Self::F64(tensor.values()?),
            DType::Bytes => return None,
        })
    }

    /// The element at a place, which must be there. 64-bit integers lose what is beyond 2^53.
    pub fn at(&self, place: usize) -> f64 {
        match self {
            Self::Bytes(values) => f64::from(values[place]),
            Self::U16(values) => f64::from(values[place]),
            Self::U32(values) => f64::from(values[place]),
            Self::U64(values) => values[place] as f64,
            Self::I8(values) => f64::from(values[place]),
            Self::I16(values) => f64::from(values[place]),
            Self::I32(values) => f64::from(values[place]),
            Self::I64(values) => values[place] as f64,
            Self::F16(values) => f64::from(values[place]),
            Self::Bf16(values) => f64::from(values[place]),
            Self::F32(values) => f64::from(values[place]),
            Self::F64(values) => values[place],
        }
    }

    pub fn are_whole(&self) -> bool {
        !matches!(self, Self::F16(_) | Self::Bf16(_) | Self::F32(_) | Self::F64(_))
    }
}
