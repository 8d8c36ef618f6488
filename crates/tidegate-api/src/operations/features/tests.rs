use serde_json::{from_value, json};
use tidegate_core::{DType, Dim};

use super::*;

fn spec(name: &str, datatype: DType, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), datatype, shape: shape.iter().copied().map(Dim::from).collect() }
}

fn convert(
    inputs: Vec<TensorSpec>,
    schema: &Value,
    features: &Value,
) -> Result<Vec<NamedTensor>, Vec<Fault>> {
    let signature = Signature { inputs, outputs: vec![] };
    from_features(&from_value(features.clone()).unwrap(), &signature, schema)
}

#[test]
fn the_batch_axis_may_be_left_out_and_a_scalar_fills_ones() {
    let cases = [
        (&[-1, 2][..], json!([[1, 2]]), vec![1, 2]),
        (&[-1, 2], json!([1, 2]), vec![1, 2]),
        (&[-1, 2], json!([[1, 2], [3, 4], [5, 6]]), vec![3, 2]),
        (&[-1, 1], json!(7), vec![1, 1]),
        (&[-1], json!(7), vec![1]),
        (&[], json!(7), vec![]),
        (&[2, 2], json!([[1, 2], [3, 4]]), vec![2, 2]),
    ];
    for (shape, value, expected) in cases {
        let tensors = convert(vec![spec("X", DType::Fp32, shape)], &json!({}), &json!({"X": value})).unwrap();
        assert_eq!(tensors[0].tensor.shape(), expected, "{value} as {shape:?}");
    }
}

#[test]
fn every_fault_names_its_place() {
    let two = || spec("X", DType::Fp32, &[-1, 2]);
    let cases = [
        (vec![two()], json!({"X": [[1, 2], [3]]}), "X[1]", "has 1 elements"),
        (vec![two()], json!({"X": [[1, 2], 3]}), "X[1]", "single value"),
        (vec![two()], json!({"X": [1, [2]]}), "X[1]", "an array"),
        (vec![two()], json!({"X": [1, 2, 3]}), "X", "expected shape [-1, 2], got [3]"),
        (vec![two()], json!({"X": ["1", "2"]}), "X[0]", "expected a number, got a string"),
        (vec![two()], json!({"X": [1, null]}), "X[1]", "null"),
        (vec![two()], json!({"X": [1, 1e39]}), "X[1]", "out of the range of FP32"),
        (vec![two()], json!({}), "X", "missing; give FP32 [-1, 2]"),
        (vec![spec("X", DType::Fp16, &[1])], json!({"X": 70000}), "X", "out of the range of FP16"),
        (vec![spec("X", DType::Uint8, &[1])], json!({"X": 256}), "X", "out of the range of UINT8"),
        (vec![spec("X", DType::Int64, &[2])], json!({"X": [1, 1.5]}), "X[1]", "a whole number"),
        (vec![spec("X", DType::Bool, &[1])], json!({"X": 1}), "X", "true or false"),
        (vec![spec("X", DType::Bytes, &[1])], json!({"X": 1}), "X", "a string"),
    ];
    for (inputs, features, field, message) in cases {
        let faults = convert(inputs, &json!({}), &features).unwrap_err();
        assert_eq!(faults[0].field, field, "{features}: {faults:?}");
        assert!(faults[0].message.contains(message), "{features}: {faults:?}");
    }
    let faults = convert(vec![two()], &json!({}), &json!({"Y": 1})).unwrap_err();
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["Y", "X"], "unknown and missing, both");
}

#[test]
fn named_scalars_are_packed_in_the_order_of_the_schema() {
    let schema = json!({"type": "object", "properties": {
        "amount": {"type": "number"}, "age_days": {"type": "integer"}, "is_abroad": {"type": "boolean"},
    }});
    let pack = |features: Value| convert(vec![spec("X", DType::Fp32, &[-1, 3])], &schema, &features);
    let tensors = pack(json!({"is_abroad": true, "amount": 0.5, "age_days": 365.0})).unwrap();
    assert_eq!(tensors[0].tensor.values::<f32>().unwrap().as_ref(), [0.5, 365.0, 1.0]);
    assert!(pack(json!({"X": [1, 2, 3]})).is_ok(), "the tensor itself is accepted too");

    let faults = pack(json!({"amount": "much", "age_days": 1.5, "is_aboard": true})).unwrap_err();
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["is_aboard", "amount", "age_days", "is_abroad"]);
    for scalar in [json!(null), json!([1]), json!({"a": 1})] {
        let faults = pack(json!({"amount": scalar, "age_days": 1, "is_abroad": 0})).unwrap_err();
        assert_eq!((faults.len(), faults[0].field.as_str()), (1, "amount"), "{faults:?}");
    }
    let faults = pack(json!({"amount": 1e300, "age_days": 1, "is_abroad": false})).unwrap_err();
    assert_eq!(faults[0].field, "amount");
}
