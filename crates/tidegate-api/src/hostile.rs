//! Every way in which a tensor comes from outside, as one function of bytes: for `fuzz/`, and for the suite.

use bytes::Bytes;
use serde_json::Value;
use tidegate_core::{DType, Dim, NamedTensor, Signature, TensorSpec};

use crate::native::inference::read_tensors;
use crate::oip::grpc::infer_request;
use crate::oip::rest::infer;
use crate::operations::features::{Features, from_features};

/// How the JSON's length is left out of a request of the Open Inference Protocol.
const NO_LENGTH: u16 = u16::MAX;

/// Reads the bytes as a request would be: the first says by which decoder, the rest is its body. Gives how many tensors came
/// of it, each of which holds what its shape says.
#[doc(hidden)]
pub fn decode_tensors(bytes: &[u8]) -> usize {
    let Some((choice, rest)) = bytes.split_first() else { return 0 };
    let tensors = match choice % 4 {
        0 => oip_rest(rest),
        1 => infer_request::decode(Bytes::copy_from_slice(rest))
            .ok()
            .and_then(|decoded| decoded.request.inputs.ok()),
        2 => read_tensors(rest),
        _ => features(rest),
    };
    let tensors = tensors.unwrap_or_default();
    tensors.iter().for_each(check);
    tensors.len()
}

/// Two bytes for the header that says how long the JSON is, then the body.
fn oip_rest(bytes: &[u8]) -> Option<Vec<NamedTensor>> {
    let (length, body) = bytes.split_first_chunk()?;
    let length = u16::from_le_bytes(*length);
    let json_length = (length != NO_LENGTH).then_some(usize::from(length));
    let (request, _) = infer::read(Bytes::copy_from_slice(body), json_length).ok()?;
    request.inputs.ok()
}

/// A byte for the datatype of the input `x`, of three numbers a row, then the features.
fn features(bytes: &[u8]) -> Option<Vec<NamedTensor>> {
    let (datatype, body) = bytes.split_first()?;
    let datatype = DType::ALL[usize::from(*datatype) % DType::ALL.len()];
    let shape = vec![Dim::Dynamic, Dim::Fixed(3)];
    let inputs = vec![TensorSpec { name: "x".to_owned(), datatype, shape }];
    let features: Features = serde_json::from_slice(body).ok()?;
    from_features(&features, &Signature { inputs, outputs: vec![] }, &Value::Null).ok()
}

fn check(NamedTensor { tensor, .. }: &NamedTensor) {
    let n_elements = tensor.shape().iter().product::<usize>();
    match (tensor.as_bytes(), tensor.as_strings()) {
        (Some(bytes), None) => {
            let size = tensor.dtype().size_bytes().expect("bytes are of a fixed size");
            assert_eq!(bytes.len(), n_elements * size, "{tensor:?}");
        }
        (None, Some(strings)) => assert_eq!(strings.len(), n_elements, "{tensor:?}"),
        other => panic!("a tensor is bytes or strings, not {other:?}"),
    }
}
