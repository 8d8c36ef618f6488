//! Writing `ModelInferResponse`: a head, and behind it each raw output as the model left it.

use std::collections::HashMap;

use bytes::{BufMut, Bytes, BytesMut};
use half::{bf16, f16};
use prost::Message;
use tidegate_core::{DType, Tensor};

use super::exchange::{framed, put_prefix};
use super::messages::{
    InferOutputTensor, InferParameter, InferTensorContents, ModelInferResponse, ParameterChoice,
};
use crate::oip::binary::binary_of;
use crate::oip::infer::InferAnswer;

/// Pieces that are smaller are copied: each piece is a frame of its own.
const ONE_PIECE: usize = 16 << 10;

/// The response to a unary call, framed.
pub(super) fn unary(answer: &InferAnswer, is_typed: bool) -> Vec<Bytes> {
    let (head, tail) = message(answer, is_typed);
    let frame = framed(&head, tail.iter().map(Bytes::len).sum());
    joined(std::iter::once(frame).chain(tail).collect())
}

/// One response of a stream, framed.
pub(super) fn streamed(answer: &InferAnswer, is_typed: bool, wants_final: bool) -> Bytes {
    let (mut head, tail) = message(answer, is_typed);
    if wants_final {
        let is_final = InferParameter { choice: Some(ParameterChoice::Bool(true)) };
        head.parameters = HashMap::from([("triton_final_response".to_owned(), is_final)]);
    }
    let length = head.encoded_len() + tail.iter().map(Bytes::len).sum::<usize>();
    let mut outer = BytesMut::with_capacity(16 + length);
    let mut infer_response = BytesMut::with_capacity(8);
    delimiter(&mut infer_response, INFER_RESPONSE, length);
    put_prefix(&mut outer, infer_response.len() + length);
    outer.extend_from_slice(&infer_response);
    head.encode_raw(&mut outer);
    tail.iter().for_each(|bytes| outer.extend_from_slice(bytes));
    outer.freeze()
}

/// Fields of embedded messages and bytes: the number, and wire type 2.
const RAW_OUTPUT_CONTENTS: u8 = 6 << 3 | 2;
const INFER_RESPONSE: u8 = 2 << 3 | 2;

fn delimiter(buffer: &mut BytesMut, tag: u8, length: usize) {
    buffer.put_u8(tag);
    prost::encode_length_delimiter(length, buffer).expect("the buffer grows");
}

/// The head, and the raw contents that follow it.
fn message(answer: &InferAnswer, is_typed: bool) -> (ModelInferResponse, Vec<Bytes>) {
    // There is no field for numbers of 16 bits; and raw is raw for all or none.
    let is_typed = is_typed
        && !answer.outputs.iter().any(|output| matches!(output.tensor.dtype(), DType::Fp16 | DType::Bf16));
    let mut tail = Vec::new();
    let mut outputs = Vec::with_capacity(answer.outputs.len());
    for output in &answer.outputs {
        let tensor = &output.tensor;
        if !is_typed {
            let bytes = binary_of(tensor);
            let mut head = BytesMut::with_capacity(11);
            delimiter(&mut head, RAW_OUTPUT_CONTENTS, bytes.len());
            tail.extend([head.freeze(), bytes]);
        }
        outputs.push(InferOutputTensor {
            name: output.name.clone(),
            datatype: tensor.dtype().to_string(),
            shape: tensor.shape().iter().map(|size| i64::try_from(*size).unwrap_or(i64::MAX)).collect(),
            contents: is_typed.then(|| contents(tensor)),
        });
    }
    let head = ModelInferResponse {
        model_name: answer.model.clone(),
        model_version: answer.version.clone(),
        id: answer.id.clone(),
        parameters: HashMap::new(),
        outputs,
    };
    (head, tail)
}

fn contents(tensor: &Tensor) -> InferTensorContents {
    let mut contents = InferTensorContents::default();
    macro_rules! fill {
        ($field:ident, $element:ty, $convert:expr) => {
            contents.$field =
                tensor.values::<$element>().unwrap_or_default().iter().copied().map($convert).collect()
        };
    }
    match tensor.dtype() {
        DType::Bool => {
            let bytes = tensor.as_bytes().map_or(&[][..], |bytes| bytes);
            contents.bool_contents = bytes.iter().map(|byte| *byte != 0).collect();
        }
        DType::Int8 => fill!(int_contents, i8, i32::from),
        DType::Int16 => fill!(int_contents, i16, i32::from),
        DType::Int32 => fill!(int_contents, i32, |value| value),
        DType::Int64 => fill!(int64_contents, i64, |value| value),
        DType::Uint8 => fill!(uint_contents, u8, u32::from),
        DType::Uint16 => fill!(uint_contents, u16, u32::from),
        DType::Uint32 => fill!(uint_contents, u32, |value| value),
        DType::Uint64 => fill!(uint64_contents, u64, |value| value),
        DType::Fp16 => fill!(fp32_contents, f16, f16::to_f32),
        DType::Bf16 => fill!(fp32_contents, bf16, bf16::to_f32),
        DType::Fp32 => fill!(fp32_contents, f32, |value| value),
        DType::Fp64 => fill!(fp64_contents, f64, |value| value),
        DType::Bytes => contents.bytes_contents = tensor.as_strings().unwrap_or_default().to_vec(),
    }
    contents
}

fn joined(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let n_bytes = pieces.iter().map(Bytes::len).sum();
    if pieces.len() == 1 || n_bytes > ONE_PIECE {
        return pieces;
    }
    let mut joined = BytesMut::with_capacity(n_bytes);
    pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
    vec![joined.freeze()]
}
