//! Well-formed requests of every kind that `decode_tensors` reads: what the suite damages, and what `fuzz/` starts from.

use serde_json::json;

/// The first byte says by which decoder, the next two how long the JSON is.
pub fn oip(json: &serde_json::Value, binary: &[u8]) -> Vec<u8> {
    let json = json.to_string().into_bytes();
    let length = u16::try_from(json.len()).unwrap().to_le_bytes();
    [&[0][..], &length, &json, binary].concat()
}

pub fn binary(datatype: &str, shape: &serde_json::Value, bytes: &[u8]) -> Vec<u8> {
    let parameters = json!({"binary_data_size": bytes.len()});
    let input = json!({"name": "x", "datatype": datatype, "shape": shape, "parameters": parameters});
    oip(&json!({"inputs": [input]}), bytes)
}

/// `ModelInferRequest` with one input: its datatype, shape (as packed varints) and contents, or raw contents.
pub fn grpc(datatype: &str, shape: &[u8], contents: &[u8], raw: Option<&[u8]>) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
    };
    let mut input = [field(1, b"x"), field(2, datatype.as_bytes()), field(3, shape)].concat();
    if !contents.is_empty() {
        input.extend(field(5, contents));
    }
    let raw = raw.map_or(vec![], |raw| field(7, raw));
    [&[1][..], &field(1, b"m"), &field(5, &input), &raw].concat()
}

/// Well-formed requests of every kind.
pub fn well_formed() -> Vec<Vec<u8>> {
    let native =
        json!({"inputs": [{"name": "x", "datatype": "INT8", "shape": [2, 2], "data": [[1, 2], [3, 4]]}]});
    let json = json!({"inputs": [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]}]});
    vec![
        binary("FP32", &json!([1, 3]), &[0; 12]),
        binary("BYTES", &json!([2]), &[1, 0, 0, 0, b'a', 0, 0, 0, 0]),
        binary("BF16", &json!([0, 7]), &[]),
        oip(&json, &[]),
        grpc("FP32", &[1, 2], &[], Some(&[0; 8])),
        grpc("INT64", &[3], &[0x1a, 3, 1, 2, 3], None),
        grpc("BYTES", &[2], &[0x42, 1, b'a', 0x42, 0], None),
        grpc("UINT8", &[2], &[0x22, 2, 7, 8], None),
        [&[2][..], native.to_string().as_bytes()].concat(),
        [&[3, 11][..], br#"{"x": [[1, 2.5, 3e3], [4, 5, 6]]}"#].concat(),
        [&[3, 13][..], br#"{"x": ["a", "b", "c"]}"#].concat(),
    ]
}
