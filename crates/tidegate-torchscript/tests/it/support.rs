//! Fixtures (`fixtures/make_torchscript.py`), and running what came out of them.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use rten::{ModelOptions, Value, ValueOrView};
use rten_tensor::prelude::*;
use serde::Deserialize;
use tidegate_torchscript::{ConvertError, Converted, Options, convert};

/// What `cases.json` says of an archive.
#[derive(Clone, Deserialize)]
pub struct Case {
    pub name: String,
    pub inputs: Vec<Described>,
    pub outputs: Vec<Described>,
}

#[derive(Clone, Deserialize)]
pub struct Described {
    pub shape: Vec<usize>,
    pub dtype: String,
}

/// All numbers as 32-bit floats: what is compared is small.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub is_int: bool,
    pub values: Vec<f32>,
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub fn fixture(name: &str) -> Vec<u8> {
    let path = repository().join("fixtures/torchscript").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn cases() -> Vec<Case> {
    serde_json::from_slice(&fixture("cases.json")).unwrap()
}

pub fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

impl Case {
    /// The stored inputs, and what torch answered to them.
    pub fn arrays(&self) -> (Vec<Array>, Vec<Array>) {
        let bytes = fixture(&format!("{}.bin", self.name));
        let mut rest = bytes.as_slice();
        let mut read = |described: &Described| {
            let (size, is_int) = match described.dtype.as_str() {
                "float32" => (4, false),
                "float16" => (2, false),
                "int64" => (8, true),
                other => panic!("{other}"),
            };
            let (head, tail) = rest.split_at(size * described.shape.iter().product::<usize>());
            rest = tail;
            let values = head.chunks(size).map(|bytes| match size {
                4 => f32::from_le_bytes(bytes.try_into().unwrap()),
                2 => half::f16::from_le_bytes(bytes.try_into().unwrap()).to_f32(),
                _ => i64::from_le_bytes(bytes.try_into().unwrap()) as f32,
            });
            Array { shape: described.shape.clone(), is_int, values: values.collect() }
        };
        let inputs = self.inputs.iter().map(&mut read).collect();
        let outputs = self.outputs.iter().map(&mut read).collect();
        assert!(rest.is_empty(), "{}: bytes are left over", self.name);
        (inputs, outputs)
    }

    pub fn shapes(&self) -> Vec<Vec<i64>> {
        self.inputs.iter().map(|input| input.shape.iter().map(|size| *size as i64).collect()).collect()
    }

    pub fn convert(&self, input_shapes: Option<Vec<Vec<i64>>>) -> Result<Converted, ConvertError> {
        let options = Options { input_shapes, ..Options::default() };
        convert(Cursor::new(fixture(&format!("{}.pt", self.name))), &options)
    }
}

/// Runs a model on the pure-Rust runtime; what it says where it cannot.
pub fn run(onnx: &[u8], inputs: &[Array]) -> Result<Vec<Array>, String> {
    let model = ModelOptions::with_all_ops().load(onnx.to_vec()).map_err(|error| error.to_string())?;
    let inputs = model.input_ids().iter().copied().zip(inputs.iter().map(to_value)).collect();
    let outputs = model.run(inputs, model.output_ids(), None).map_err(|error| error.to_string())?;
    Ok(outputs.into_iter().map(from_value).collect())
}

fn to_value(array: &Array) -> ValueOrView<'static> {
    let value: Value = if array.is_int {
        let values: Vec<i32> = array.values.iter().map(|value| *value as i32).collect();
        rten_tensor::Tensor::from_data(&array.shape, values).into()
    } else {
        rten_tensor::Tensor::from_data(&array.shape, array.values.clone()).into()
    };
    value.into()
}

fn from_value(value: Value) -> Array {
    match value {
        Value::FloatTensor(values) => {
            Array { shape: values.shape().to_vec(), is_int: false, values: values.to_vec() }
        }
        Value::Int32Tensor(values) => {
            let floats = values.iter().map(|value| *value as f32).collect();
            Array { shape: values.shape().to_vec(), is_int: true, values: floats }
        }
        other => panic!("{:?}", other.dtype()),
    }
}

/// Same shapes, and values that differ by no more than `tolerance`, relative where they are large.
pub fn compare(actual: &[Array], expected: &[Array], tolerance: f32) -> Result<(), String> {
    let shapes = |arrays: &[Array]| arrays.iter().map(|array| array.shape.clone()).collect::<Vec<_>>();
    if shapes(actual) != shapes(expected) {
        return Err(format!("shapes {:?} instead of {:?}", shapes(actual), shapes(expected)));
    }
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        for (at, (actual, expected)) in actual.values.iter().zip(&expected.values).enumerate() {
            let difference = (actual - expected).abs() / expected.abs().max(1.0);
            if difference > tolerance || actual.is_nan() != expected.is_nan() {
                return Err(format!("output {index}, element {at}: {actual} instead of {expected}"));
            }
        }
    }
    Ok(())
}

/// The same samples twice, along the first axis.
pub fn doubled(array: &Array) -> Array {
    let mut shape = array.shape.clone();
    shape[0] *= 2;
    Array { shape, is_int: array.is_int, values: array.values.repeat(2) }
}
