//! The response to an inference request: JSON, and the bytes of the outputs that were asked for as such.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;

use super::infer::{Forms, JSON_LENGTH_HEADER};
use crate::error::ApiError;
use crate::native::inference::{VERSION_HEADER, with_cache};
use crate::oip::binary::binary_of;
use crate::oip::body::Pieces;
use crate::oip::infer::InferAnswer;
use crate::operations::prediction::FlatValues;

/// How an output is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Json,
    Binary,
}

impl Form {
    pub(super) fn of(is_binary: bool) -> Self {
        if is_binary { Self::Binary } else { Self::Json }
    }
}

#[derive(Serialize)]
struct AnswerJson<'a> {
    model_name: &'a str,
    model_version: &'a str,
    id: &'a str,
    outputs: Vec<OutputJson<'a>>,
}

#[derive(Serialize)]
struct OutputJson<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<BinarySize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<FlatValues<'a>>,
}

#[derive(Serialize)]
struct BinarySize {
    binary_data_size: usize,
}

/// Up to this many bytes, one copy is cheaper than one more piece to send.
const ONE_PIECE: usize = 16 << 10;

pub(super) fn answer(inferred: &InferAnswer, forms: Forms) -> Result<Response, ApiError> {
    let mut binary: Vec<Bytes> = Vec::new();
    let mut json_bytes = 256;
    let outputs = inferred.outputs.iter().enumerate().map(|(index, output)| {
        let (mut parameters, mut data) = (None, None);
        match forms.each.get(index).unwrap_or(&forms.default) {
            Form::Json => {
                json_bytes += 16 * output.tensor.n_elements();
                data = Some(FlatValues(&output.tensor));
            }
            Form::Binary => {
                let bytes = binary_of(&output.tensor);
                parameters = Some(BinarySize { binary_data_size: bytes.len() });
                binary.push(bytes);
            }
        }
        let (datatype, shape) = (output.tensor.dtype().as_str(), output.tensor.shape());
        OutputJson { name: &output.name, datatype, shape, parameters, data }
    });
    let outputs = outputs.collect();
    let answer = AnswerJson {
        model_name: &inferred.model,
        model_version: &inferred.version,
        id: &inferred.id,
        outputs,
    };
    let mut json = Vec::with_capacity(json_bytes);
    serde_json::to_writer(&mut json, &answer).map_err(|error| ApiError::internal(&error))?;
    let mut response = whole(json, binary);
    if let Ok(value) = HeaderValue::from_str(&inferred.version) {
        response.headers_mut().insert(VERSION_HEADER, value);
    }
    Ok(with_cache(response, inferred.cache))
}

fn whole(json: Vec<u8>, binary: Vec<Bytes>) -> Response {
    let json_length = HeaderValue::from(json.len());
    if binary.is_empty() {
        return ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json)
            .into_response();
    }
    let n_bytes = json.len() + binary.iter().map(Bytes::len).sum::<usize>();
    let body = if n_bytes <= ONE_PIECE {
        let mut joined = BytesMut::with_capacity(n_bytes);
        joined.extend_from_slice(&json);
        binary.iter().for_each(|bytes| joined.extend_from_slice(bytes));
        Body::from(joined.freeze())
    } else {
        Body::new(Pieces::new(std::iter::once(Bytes::from(json)).chain(binary), None))
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (HeaderName::from_static(JSON_LENGTH_HEADER), json_length),
    ];
    (headers, body).into_response()
}
