use serde_json::json;
use tidegate_core::{DType, Dim, NamedTensor, Tensor, TensorSpec};
use tidegate_delivery::Score;

use super::compare::{Comparison, Tally};
use super::*;
use crate::operations::prediction::Prediction;

fn spec(name: &str, datatype: DType, shape: &[i64]) -> TensorSpec {
    let shape = shape.iter().copied().map(Dim::from).collect();
    TensorSpec { name: name.to_owned(), datatype, shape }
}

/// A model of two numbers.
fn signature(outputs: Vec<TensorSpec>) -> Signature {
    Signature { inputs: vec![spec("x", DType::Fp32, &[-1, 2])], outputs }
}

fn interface(signature: &Signature, model_type: ModelType) -> Interface<'_> {
    static ANY: Value = Value::Null;
    Interface { signature, input_schema: &ANY, item: None, model_type }
}

fn parse(name: &str, text: &str) -> Result<Sample, Vec<Fault>> {
    Sample::parse(vec![(name.to_owned(), Bytes::copy_from_slice(text.as_bytes()))], ImageLimits::default())
}

fn rows(text: &str) -> Rows {
    Rows::parse("s.jsonl", text.as_bytes()).unwrap()
}

#[test]
fn lines_and_arrays_hold_the_same_rows() {
    let lines = "\u{feff}{\"features\": {\"x\": [1, 2]}, \"label\": 1}\r\n\n{\"inputs\": [{\"name\": \"x\", \"shape\": [1, 2], \
                 \"datatype\": \"FP32\", \"data\": [3, 4]}], \"outputs\": {\"y\": 0}}\n";
    let array = r#"  [{"features": {"x": [1, 2]}, "label": 1}, {"features": {"x": [3, 4]}, "label": 0}]"#;
    for (name, text) in [("s.jsonl", lines), ("s.json", array)] {
        let sample = parse(name, text).unwrap();
        assert_eq!((sample.n_cases(), sample.holds().as_str()), (2, "2 rows"), "{name}");
        sample.check(&interface(&signature(vec![spec("y", DType::Int64, &[-1])]), ModelType::Other)).unwrap();
    }
}

#[test]
fn every_fault_names_its_line_and_field() {
    let good = r#"{"features": {"x": [1, 2]}, "label": 1}"#;
    let cases = [
        (r#"{"features": {"x": [1, 2]}}"#, "s.jsonl:2.label", "missing"),
        (r#"{"features": {"x": [1, 2]}, "label": null}"#, "s.jsonl:2.label", "missing"),
        (r#"{"features": {"x": [1, 2]}, "label": 1, "outputs": {"y": 1}}"#, "s.jsonl:2.outputs", "not both"),
        (r#"{"label": 1}"#, "s.jsonl:2.features", "missing"),
        (r#"{"features": {"x": [1, 2]}, "lable": 1}"#, "s.jsonl:2.lable", "unknown field"),
        (r#"{"features": {"x": [1, 2], "label": 1}"#, "s.jsonl:2", "EOF while parsing"),
        (
            r#"{"features": {"x": [1]}, "label": 1}"#,
            "s.jsonl:2.features.x",
            "expected shape [-1, 2], got [1]",
        ),
        (r#"{"features": {"x": [1, "a"]}, "label": 1}"#, "s.jsonl:2.features.x[1]", "string"),
        (r#"{"features": {"z": [1, 2]}, "label": 1}"#, "s.jsonl:2.features.z", "no such feature; it takes x"),
        (
            r#"{"features": {"x": [1, 2]}, "outputs": {"z": 1}}"#,
            "s.jsonl:2.outputs.z",
            "no such output; it gives y",
        ),
        (r#"{"features": {"x": [1, 2]}, "label": {"y": 1}}"#, "s.jsonl:2.label", "an object"),
        (r#"{"features": {"x": [1, 2]}, "label": "cat"}"#, "s.jsonl:2.label", "output `y` is INT64"),
        (
            r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [1]}], "label": 1}"#,
            "s.jsonl:2.inputs[0].data",
            "needs 2 elements",
        ),
    ];
    let signature = signature(vec![spec("y", DType::Int64, &[-1])]);
    for (line, field, message) in cases {
        let checked = parse("s.jsonl", &format!("{good}\n{line}\n")).and_then(|sample| {
            sample.check(&interface(&signature, ModelType::Classification)).map_err(|misfit| misfit.0)
        });
        let faults = checked.err().unwrap_or_default();
        let fault = faults.first().unwrap_or_else(|| panic!("{line} was taken"));
        assert_eq!(fault.field, field, "{line}: {fault}");
        assert!(fault.message.contains(message), "{line}: {fault}");
    }
    assert!(parse("s.jsonl", "\n\n").is_err_and(|faults| faults[0].message.contains("no row")));
    assert!(parse("s.json", "[").is_err_and(|faults| faults[0].field == "s.json:1"));
    let many = "x\n".repeat(1000);
    assert_eq!(parse("s.jsonl", &many).err().map(|faults| faults.len()), Some(MAX_FAULTS));
}

#[test]
fn labels_and_outputs_tell_classes_from_numbers() {
    let int = spec("y", DType::Int64, &[-1]);
    let float = spec("y", DType::Fp32, &[-1, 1]);
    let floats = spec("y", DType::Fp32, &[-1, 3]);
    let text = spec("y", DType::Bytes, &[-1]);
    let (other, regression) = (ModelType::Other, ModelType::Regression);
    let cases = [
        ([json!(3), json!(4)], &int, other, Comparison::Classes),
        ([json!(3), json!(4)], &int, regression, Comparison::Numbers),
        ([json!(2), json!(0)], &floats, other, Comparison::Classes),
        ([json!(1), json!(0)], &float, other, Comparison::Classes),
        ([json!(true), json!(false)], &float, other, Comparison::Classes),
        ([json!(1), json!(0)], &float, regression, Comparison::Numbers),
        ([json!(1), json!(2)], &float, other, Comparison::Numbers),
        ([json!(1), json!(2.5)], &float, other, Comparison::Numbers),
        ([json!([1, 0, 0]), json!([0, 1, 0])], &floats, other, Comparison::Numbers),
        ([json!("cat"), json!("dog")], &text, other, Comparison::Classes),
    ];
    for (labels, spec, model_type, expected) in cases {
        let lines = labels.iter().map(|label| json!({"features": {"x": [1, 2]}, "label": label}).to_string());
        let rows = rows(&lines.collect::<Vec<_>>().join("\n"));
        let signature = signature(vec![spec.clone()]);
        let comparison = rows.comparison(&interface(&signature, model_type));
        assert_eq!(comparison, Ok(expected), "{labels:?} for {spec:?}");
    }
    let refused = |text: &str, outputs: Vec<TensorSpec>| {
        let signature = signature(outputs);
        let faults = rows(text).comparison(&interface(&signature, other)).unwrap_err();
        faults[0].to_string()
    };
    let row = r#"{"features": {"x": [1, 2]}, "label": 1.5}"#;
    assert!(refused(row, vec![float.clone(), int.clone()]).contains("none is called `label`"));
    assert!(refused(&format!("{row}\n{row}"), vec![float.clone()]).contains("all labels are equal"));
    let mixed = row.replace("1.5", "true");
    assert!(refused(&format!("{row}\n{mixed}"), vec![float]).contains("s.jsonl:2.label"));
}

fn score(labels: &[Value], said: &[&[f32]], shape: &[i64]) -> Score {
    let lines = labels.iter().map(|label| json!({"features": {"x": [1, 2]}, "label": label}).to_string());
    let rows = rows(&lines.collect::<Vec<_>>().join("\n"));
    let signature = signature(vec![spec("y", DType::Fp32, shape)]);
    let comparison = rows.comparison(&interface(&signature, ModelType::Other)).unwrap();
    let mut tally = Tally::new(comparison);
    for (row, said) in rows.rows.iter().zip(said) {
        let tensor = Tensor::from_vec(vec![1, said.len()], said.to_vec()).unwrap();
        let outputs = vec![NamedTensor { name: "y".to_owned(), tensor }];
        let prediction = Prediction::new(outputs, &signature).unwrap();
        tally.add(&row.truth, &prediction, &signature.outputs).unwrap();
    }
    tally.score(|n| format!("{n} rows"))
}

#[test]
fn predictions_are_scored_as_people_read_them() {
    let classes = score(
        &[json!(2), json!(0), json!(1)],
        &[&[0.1, 0.2, 0.7], &[0.4, 0.5, 0.1], &[0.0, 0.9, 0.1]],
        &[-1, 3],
    );
    assert_eq!((classes.value, classes.metric, classes.of.as_str()), (2.0 / 3.0, "accuracy", "3 rows"));
    let sure =
        score(&[json!(1), json!(0), json!(true), json!(0)], &[&[0.9], &[0.2], &[0.4], &[0.5]], &[-1, 1]);
    assert_eq!(sure.value, 0.5, "from one half on it is a yes");
    let not_probabilities = score(&[json!(1), json!(0)], &[&[7.0], &[-3.0]], &[-1, 1]);
    assert_eq!(not_probabilities.value, 0.0);
    // scikit-learn: r2_score([3, -0.5, 2, 7], [2.5, 0.0, 2, 8]) = 0.9486081370449679
    let labels = [json!(3), json!(-0.5), json!(2), json!(7)];
    let numbers = score(&labels, &[&[2.5], &[0.0], &[2.0], &[8.0]], &[-1, 1]);
    assert_eq!(numbers.metric, "R²");
    assert!((numbers.value - 0.948_608_137_044_967_9).abs() < 1e-12, "{}", numbers.value);
    // r2_score([[0.5, 1], [-1, 1], [7, -6]], [[0, 2], [-1, 2], [8, -5]], multioutput="variance_weighted") = 0.938256658...
    let labels = [json!([0.5, 1]), json!([-1, 1]), json!([7, -6])];
    let numbers = score(&labels, &[&[0.0, 2.0], &[-1.0, 2.0], &[8.0, -5.0]], &[-1, 2]);
    assert!((numbers.value - 0.938_256_658_595_641_5).abs() < 1e-12, "{}", numbers.value);
}
