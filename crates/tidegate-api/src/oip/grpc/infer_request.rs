//! Reading `ModelInferRequest`: tensors are cut out of the message, whether they came raw or typed.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidegate_core::tensor::{Element, element_count};
use tidegate_core::{DType, NamedTensor, Tensor};

use super::fields::{Fields, Malformed, Value};
use super::parameters::Parameters;
use crate::error::{ApiError, ErrorCode};
use crate::oip::MAX_TENSORS;
use crate::oip::binary::tensor_from_binary;
use crate::oip::infer::{Addressee, InferRequest, RequestedOutput};
use crate::operations::fault::Fault;

/// A request, whom it is for, and how it wants to be answered.
pub(crate) struct Decoded {
    pub addressee: Addressee,
    pub request: InferRequest,
    /// The tensors came as numbers of their type, not as bytes: the answer's come so too.
    pub is_typed: bool,
    pub wants_final: bool,
}

#[derive(Default)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    parameters: Parameters,
    contents: Bytes,
}

pub(crate) fn decode(message: Bytes) -> Result<Decoded, ApiError> {
    let malformed = |Malformed| {
        ApiError::new(
            ErrorCode::ValidationError,
            "the message is not a ModelInferRequest; it is cut short or garbled",
        )
    };
    let mut addressee = Addressee { model: String::new(), version: String::new() };
    let (mut id, mut parameters) = (String::new(), Parameters::default());
    let (mut inputs, mut outputs, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut fields = Fields(message);
    while let Some((number, value)) = fields.next().map_err(malformed)? {
        match number {
            1 => addressee.model = value.text().map_err(malformed)?,
            2 => addressee.version = value.text().map_err(malformed)?,
            3 => id = value.text().map_err(malformed)?,
            4 => parameters.read(value.bytes().map_err(malformed)?).map_err(malformed)?,
            5 => push(&mut inputs, input(value).map_err(malformed)?, "inputs")?,
            6 => push(&mut outputs, output(value).map_err(malformed)?, "outputs")?,
            7 => push(&mut raw, value.bytes().map_err(malformed)?, "raw_input_contents")?,
            _ => {}
        }
    }
    parameters.refuse_state("parameters")?;
    for (index, input) in inputs.iter().enumerate() {
        input.parameters.refuse_state(&format!("inputs[{index}].parameters"))?;
    }
    for (index, (_, parameters)) in outputs.iter().enumerate() {
        parameters.refuse_state(&format!("outputs[{index}].parameters"))?;
    }
    let is_typed = raw.is_empty() && !inputs.is_empty();
    let outputs = outputs
        .into_iter()
        .map(|(name, parameters)| RequestedOutput { name, n_classes: parameters.classification });
    let timeout = Some(parameters.timeout_us).filter(|us| *us > 0).map(Duration::from_micros);
    let request = InferRequest { id, inputs: tensors(inputs, raw)?, outputs: outputs.collect(), timeout };
    Ok(Decoded { addressee, request, is_typed, wants_final: parameters.wants_final })
}

fn push<T>(items: &mut Vec<T>, item: T, field: &str) -> Result<(), ApiError> {
    if items.len() == MAX_TENSORS {
        return Err(ApiError::invalid(field, format!("at most {MAX_TENSORS} are taken")));
    }
    items.push(item);
    Ok(())
}

fn input(value: Value) -> Result<Input, Malformed> {
    let (mut input, mut fields) = (Input::default(), Fields(value.bytes()?));
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => input.name = value.text()?,
            2 => input.datatype = value.text()?,
            3 => sizes(value, &mut input.shape)?,
            4 => input.parameters.read(value.bytes()?)?,
            // A message that comes in parts is its parts behind one another.
            5 if input.contents.is_empty() => input.contents = value.bytes()?,
            5 => input.contents = [input.contents, value.bytes()?].concat().into(),
            _ => {}
        }
    }
    Ok(input)
}

/// `int64`, packed or not.
fn sizes(value: Value, shape: &mut Vec<i64>) -> Result<(), Malformed> {
    match value {
        Value::Varint(size) => shape.push(size.cast_signed()),
        Value::Bytes(packed) => {
            let mut packed = Fields(packed);
            while !packed.0.is_empty() {
                shape.push(packed.varint()?.cast_signed());
            }
        }
        Value::Fixed32(_) | Value::Fixed64(_) => return Err(Malformed),
    }
    Ok(())
}

fn output(value: Value) -> Result<(String, Parameters), Malformed> {
    let (mut name, mut parameters) = (String::new(), Parameters::default());
    let mut fields = Fields(value.bytes()?);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => parameters.read(value.bytes()?)?,
            _ => {}
        }
    }
    Ok((name, parameters))
}

/// The tensors, or all faults of them by place.
fn tensors(inputs: Vec<Input>, raw: Vec<Bytes>) -> Result<Result<Vec<NamedTensor>, Vec<Fault>>, ApiError> {
    if !raw.is_empty() && raw.len() != inputs.len() {
        let message =
            format!("{} are given for {} inputs; give one for each, or none", raw.len(), inputs.len());
        return Err(ApiError::invalid("raw_input_contents", message));
    }
    let (mut tensors, mut faults) = (Vec::with_capacity(inputs.len()), Vec::new());
    let mut raw = raw.into_iter();
    for (index, input) in inputs.into_iter().enumerate() {
        let name = input.name.clone();
        match tensor(input, raw.next()) {
            Ok(tensor) => tensors.push(NamedTensor { name, tensor }),
            Err(fault) => faults.push(fault.within(&format!("[{index}]"))),
        }
    }
    Ok(if faults.is_empty() { Ok(tensors) } else { Err(faults) })
}

fn tensor(input: Input, raw: Option<Bytes>) -> Result<Tensor, Fault> {
    let datatype = datatype(&input.datatype)?;
    let size = |size: &i64| {
        let message = || format!("{size} in {:?} is no size; give what is sent", input.shape);
        usize::try_from(*size).map_err(|_| Fault::new("shape", message()))
    };
    let shape = input.shape.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    match raw {
        Some(_) if !input.contents.is_empty() => {
            Err(Fault::new("contents", "give `contents` or `raw_input_contents`, not both"))
        }
        Some(raw) => tensor_from_binary(datatype, shape, raw).map_err(|message| Fault::new("data", message)),
        None => typed(datatype, shape, input.contents).map_err(|message| Fault::new("contents", message)),
    }
}

fn datatype(name: &str) -> Result<DType, Fault> {
    DType::named(name).ok_or_else(|| {
        let shown: String = name.chars().take(60).collect();
        Fault::new("datatype", format!("`{shown}` is none; give such as FP32, INT64 or BYTES"))
    })
}

/// `InferTensorContents`: each type has a field of its own.
fn typed(datatype: DType, shape: Vec<usize>, contents: Bytes) -> Result<Tensor, String> {
    let (number, name) = match datatype {
        DType::Bool => (1, "bool_contents"),
        DType::Int8 | DType::Int16 | DType::Int32 => (2, "int_contents"),
        DType::Int64 => (3, "int64_contents"),
        DType::Uint8 | DType::Uint16 | DType::Uint32 => (4, "uint_contents"),
        DType::Uint64 => (5, "uint64_contents"),
        DType::Fp32 => (6, "fp32_contents"),
        DType::Fp64 => (7, "fp64_contents"),
        DType::Bytes => (8, "bytes_contents"),
        DType::Fp16 | DType::Bf16 => return Err(format!("{datatype} comes in raw_input_contents only")),
    };
    let garbled = |Malformed| "is cut short or garbled".to_owned();
    let mut pieces = Vec::new();
    let mut fields = Fields(contents);
    while let Some((field, value)) = fields.next().map_err(garbled)? {
        if field == number {
            pieces.push(value);
        } else if value != Value::Bytes(Bytes::new()) {
            return Err(format!("the data of {datatype} comes in {name}, not in field {field}"));
        }
    }
    match datatype {
        DType::Fp32 | DType::Fp64 => floats(datatype, shape, pieces),
        DType::Bytes => {
            let strings: Result<Vec<Bytes>, Malformed> = pieces.into_iter().map(Value::bytes).collect();
            Tensor::from_strings(shape, strings.map_err(garbled)?).map_err(|error| error.to_string())
        }
        DType::Bool => {
            let values = varints(&shape, pieces, |value| Some(value != 0))?;
            Tensor::from_bools(shape, &values).map_err(|error| error.to_string())
        }
        DType::Int8 => signed::<i8>(shape, pieces),
        DType::Int16 => signed::<i16>(shape, pieces),
        DType::Int32 => signed::<i32>(shape, pieces),
        DType::Int64 => signed::<i64>(shape, pieces),
        DType::Uint8 => unsigned::<u8>(shape, pieces),
        DType::Uint16 => unsigned::<u16>(shape, pieces),
        DType::Uint32 => unsigned::<u32>(shape, pieces),
        _ => unsigned::<u64>(shape, pieces),
    }
}

/// Packed numbers of fixed width are a tensor's bytes already.
fn floats(datatype: DType, shape: Vec<usize>, pieces: Vec<Value>) -> Result<Tensor, String> {
    let bytes = pieces.into_iter().map(|piece| match piece {
        Value::Bytes(bytes) | Value::Fixed32(bytes) | Value::Fixed64(bytes) => Ok(bytes),
        Value::Varint(_) => Err("is cut short or garbled".to_owned()),
    });
    let bytes = bytes.collect::<Result<Vec<Bytes>, _>>()?;
    let bytes = match <[Bytes; 1]>::try_from(bytes) {
        Ok([bytes]) => bytes,
        Err(many) => {
            let mut joined = BytesMut::with_capacity(many.iter().map(Bytes::len).sum());
            many.iter().for_each(|bytes| joined.extend_from_slice(bytes));
            joined.freeze()
        }
    };
    Tensor::from_bytes(datatype, shape, bytes).map_err(|error| error.to_string())
}

fn signed<T: Element + TryFrom<i64>>(shape: Vec<usize>, pieces: Vec<Value>) -> Result<Tensor, String> {
    let values = varints(&shape, pieces, |value| T::try_from(value.cast_signed()).ok())?;
    Tensor::from_vec(shape, values).map_err(|error| error.to_string())
}

fn unsigned<T: Element + TryFrom<u64>>(shape: Vec<usize>, pieces: Vec<Value>) -> Result<Tensor, String> {
    let values = varints(&shape, pieces, |value| T::try_from(value).ok())?;
    Tensor::from_vec(shape, values).map_err(|error| error.to_string())
}

/// Each number is a byte or more: what the shape promises beyond that cannot come.
fn varints<T>(
    shape: &[usize],
    pieces: Vec<Value>,
    convert: impl Fn(u64) -> Option<T>,
) -> Result<Vec<T>, String> {
    let expected = element_count(shape).map_err(|error| error.to_string())?;
    let n_bytes = pieces.iter().map(|piece| match piece {
        Value::Bytes(packed) => packed.len(),
        _ => 1,
    });
    let mut values = Vec::with_capacity(expected.min(n_bytes.sum()));
    for piece in pieces {
        let mut packed = match piece {
            Value::Bytes(packed) => Fields(packed),
            Value::Varint(value) => {
                values.push(converted(value, values.len(), &convert)?);
                continue;
            }
            Value::Fixed32(_) | Value::Fixed64(_) => return Err("is cut short or garbled".to_owned()),
        };
        while !packed.0.is_empty() {
            let value = packed.varint().map_err(|Malformed| "is cut short or garbled".to_owned())?;
            values.push(converted(value, values.len(), &convert)?);
        }
    }
    Ok(values)
}

fn converted<T>(value: u64, index: usize, convert: impl Fn(u64) -> Option<T>) -> Result<T, String> {
    convert(value).ok_or_else(|| format!("element {index} is out of the range of its datatype"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::super::messages::{InferInputTensor, InferTensorContents, ModelInferRequest};
    use super::*;

    fn one(datatype: &str, shape: &[i64], contents: InferTensorContents) -> ModelInferRequest {
        let input = InferInputTensor {
            name: "x".to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
            contents: Some(contents),
        };
        ModelInferRequest { model_name: "m".to_owned(), inputs: vec![input], ..Default::default() }
    }

    fn decoded(message: &ModelInferRequest) -> Result<Vec<NamedTensor>, Vec<Fault>> {
        decode(message.encode_to_vec().into()).unwrap().request.inputs
    }

    #[test]
    fn each_type_is_read_from_its_field() {
        let ints = InferTensorContents { int_contents: vec![-1, 127], ..Default::default() };
        let floats = InferTensorContents { fp32_contents: vec![1.5, -2.0], ..Default::default() };
        let strings =
            InferTensorContents { bytes_contents: vec!["a".into(), "".into()], ..Default::default() };
        let bools = InferTensorContents { bool_contents: vec![true, false], ..Default::default() };
        let wide = InferTensorContents { uint64_contents: vec![u64::MAX, 0], ..Default::default() };
        for (datatype, contents, expected) in [
            ("INT8", ints, Tensor::from_vec(vec![2], vec![-1i8, 127])),
            ("FP32", floats, Tensor::from_vec(vec![2], vec![1.5f32, -2.0])),
            ("BYTES", strings, Tensor::from_strings(vec![2], vec!["a".into(), "".into()])),
            ("BOOL", bools, Tensor::from_bools(vec![2], &[true, false])),
            ("UINT64", wide, Tensor::from_vec(vec![2], vec![u64::MAX, 0])),
        ] {
            assert_eq!(
                decoded(&one(datatype, &[2], contents)).unwrap()[0].tensor,
                expected.unwrap(),
                "{datatype}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_place() {
        let ints = |value| InferTensorContents { int_contents: vec![value], ..Default::default() };
        for (message, field) in [
            (one("INT8", &[1], ints(128)), "[0].contents"),
            (one("FP32", &[1], ints(1)), "[0].contents"),
            (one("FP16", &[1], ints(1)), "[0].contents"),
            (one("INT32", &[2], ints(1)), "[0].contents"),
            (one("INT32", &[-1], ints(1)), "[0].shape"),
            (one("INT32", &[i64::MAX, i64::MAX], ints(1)), "[0].contents"),
            (one("FLOAT", &[1], ints(1)), "[0].datatype"),
        ] {
            assert_eq!(decoded(&message).unwrap_err()[0].field, field, "{message:?}");
        }
        let mut both = one("INT32", &[1], ints(1));
        both.raw_input_contents = vec![Bytes::from_static(&[0; 4])];
        assert_eq!(decoded(&both).unwrap_err()[0].field, "[0].contents");
        both.raw_input_contents.push(Bytes::new());
        assert!(decode(both.encode_to_vec().into()).is_err(), "two raw contents for one input");
        assert!(decode(Bytes::from_static(b"garbage")).is_err());
        let many = ModelInferRequest {
            raw_input_contents: vec![Bytes::new(); MAX_TENSORS + 1],
            ..Default::default()
        };
        assert!(decode(many.encode_to_vec().into()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode(bytes.into());
        }

        /// A good message, cut short or with bytes changed: read or refused.
        #[test]
        fn damaged_messages_are_read_or_refused(
            values: Vec<f32>, raw: Vec<u8>, shape: Vec<i64>, cut in 0usize..200, at in 0usize..200, byte: u8,
        ) {
            let contents = InferTensorContents { fp32_contents: values, ..Default::default() };
            let mut message = one("FP32", &shape, contents);
            message.raw_input_contents = vec![raw.into()];
            let mut bytes = message.encode_to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut % 7));
            let _ = decode(bytes.into());
        }

        #[test]
        fn typed_numbers_come_back(values: Vec<i64>, floats: Vec<f32>) {
            let contents = InferTensorContents { int64_contents: values.clone(), ..Default::default() };
            let read = decoded(&one("INT64", &[values.len() as i64], contents)).unwrap();
            prop_assert_eq!(read[0].tensor.values::<i64>().unwrap().into_owned(), values);
            let contents = InferTensorContents { fp32_contents: floats.clone(), ..Default::default() };
            let read = decoded(&one("FP32", &[floats.len() as i64], contents)).unwrap();
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&read[0].tensor.values::<f32>().unwrap()), bits(&floats));
        }
    }
}
