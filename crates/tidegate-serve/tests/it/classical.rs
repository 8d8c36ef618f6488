//! Models of scikit-learn, XGBoost and LightGBM: both runtimes say what ONNX Runtime said when the fixtures were made.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;
use serde_json::Value;
use tidegate_core::{DType, NamedTensor, Tensor};
use tidegate_serve::{LoadError, RunError, Runtime, Slot, check_outputs, probe_inputs};

use crate::support::{ONE_THREAD, SMALL_SLOT, named, repository, rten, runtimes, spec, tensor};

/// Of one file: inputs, and the outputs that they give.
#[derive(Deserialize)]
struct Case {
    inputs: Vec<Values>,
    outputs: Vec<Values>,
}

#[derive(Deserialize)]
struct Values {
    name: String,
    datatype: DType,
    shape: Vec<usize>,
    /// What is not a number is null.
    data: Vec<Value>,
}

impl Values {
    fn tensor(&self) -> NamedTensor {
        let float = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let (shape, data) = (self.shape.clone(), self.data.iter());
        let tensor = match self.datatype {
            DType::Fp32 => Tensor::from_vec(shape, data.map(|value| float(value) as f32).collect()),
            DType::Fp64 => Tensor::from_vec(shape, data.map(float).collect()),
            DType::Int64 => Tensor::from_vec(shape, data.map(|value| value.as_i64().unwrap()).collect()),
            DType::Bool => {
                let truths: Vec<bool> = data.map(|value| value.as_bool().unwrap()).collect();
                Tensor::from_bools(shape, &truths)
            }
            DType::Bytes => {
                let text = |value: &Value| Bytes::from(value.as_str().unwrap().to_owned());
                Tensor::from_strings(shape, data.map(text).collect())
            }
            other => panic!("no fixture has {other}"),
        };
        named(&self.name, tensor.unwrap())
    }
}

/// They use no operator of `ai.onnx.ml`, and no type that rten lacks.
const RUN_BY_RTEN: [&str; 2] = ["k-means", "quantiles"];

fn fixture(name: &str) -> PathBuf {
    repository().join("fixtures/classical").join(name).with_extension("onnx")
}

fn cases() -> BTreeMap<String, Case> {
    let text = std::fs::read(repository().join("fixtures/classical/cases.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Labels and texts are equal, scores within 1e-5 of their size.
fn is_alike(a: &Tensor, b: &Tensor) -> bool {
    let floats = |tensor: &Tensor| match tensor.dtype() {
        DType::Fp32 => tensor.values::<f32>().map(|values| values.iter().map(|v| f64::from(*v)).collect()),
        _ => tensor.values::<f64>().map(|values| values.into_owned()),
    };
    let is_close =
        |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-5 * b.abs().max(1.0) || a.is_nan() && b.is_nan();
    match (floats(a), floats(b)) {
        (Some(x), Some(y)) => {
            (a.dtype(), a.shape()) == (b.dtype(), b.shape()) && x.iter().zip(&y).all(is_close)
        }
        _ => a == b,
    }
}

#[test]
fn every_model_answers_as_onnx_runtime_does() {
    for runtime in runtimes() {
        let mut wrong = vec![];
        for (name, case) in cases() {
            let inputs: Vec<_> = case.inputs.iter().map(Values::tensor).collect();
            let session = runtime.load(&fixture(&name), &ONE_THREAD);
            let answered = session
                .map_err(|error| error.to_string())
                .and_then(|mut session| session.run(&inputs).map_err(|error| error.to_string()));
            let outputs = match answered {
                Ok(outputs) => outputs,
                Err(error) => {
                    wrong.push(format!("{name}: {error}"));
                    continue;
                }
            };
            for expected in &case.outputs {
                let found = outputs.iter().find(|output| output.name == expected.name).unwrap();
                if !is_alike(&found.tensor, &expected.tensor().tensor) {
                    wrong.push(format!("{name}: {found:?}, not {:?}", expected.tensor()));
                }
            }
        }
        assert!(wrong.is_empty(), "{}:\n{}", runtime.info().name, wrong.join("\n"));
    }
}

#[test]
fn every_model_makes_a_slot_that_says_what_runs_it() {
    let runtime = rten();
    for name in cases().keys() {
        let slot = Slot::load(&*runtime, spec(1, fixture(name)), &SMALL_SLOT);
        let slot = slot.unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = if RUN_BY_RTEN.contains(&name.as_str()) { "rten" } else { "classical" };
        assert_eq!(slot.runtime(), expected, "{name}");
    }
}

#[test]
fn an_operator_that_is_lacking_is_named() {
    let error = rten().load(&fixture("refused"), &ONE_THREAD).err().unwrap();
    assert!(
        matches!(&error, LoadError::UnsupportedOperator { operator, .. } if operator == "Erf"),
        "{error}"
    );
    let expected = "the built-in runtime has no operator `Erf`; install ONNX Runtime";
    assert!(error.to_string().starts_with(expected), "{error}");
}

#[test]
fn inputs_that_do_not_fit_are_errors_that_name_the_operator() {
    let mut session = rten().load(&fixture("random-forest"), &ONE_THREAD).unwrap();
    let mut failure = |input: NamedTensor| session.run(&[input]).unwrap_err().to_string();
    let narrow = failure(tensor("X", &[1, 2], &[0f32; 2]));
    assert!(
        narrow.contains("the operator `TreeEnsembleClassifier` takes 6 features at least, and got 2"),
        "{narrow}"
    );
    assert!(failure(tensor("X", &[1, 1, 6], &[0f32; 6])).contains("rows of features"));
    assert!(failure(tensor("Y", &[1, 6], &[0f32; 6])).contains("no such input"));
    let long_and_empty = failure(tensor::<f32>("X", &[1 << 40, 0], &[]));
    assert!(long_and_empty.contains("more than"), "{long_and_empty}");
    let text = Tensor::from_strings(vec![1, 6], vec![Bytes::from_static(b"a"); 6]).unwrap();
    assert!(failure(named("X", text)).contains("does not compute with BYTES"));
}

#[test]
fn a_batch_may_be_empty() {
    let mut session = rten().load(&fixture("random-forest"), &ONE_THREAD).unwrap();
    let outputs = session.run(&[tensor::<f32>("X", &[0, 6], &[])]).unwrap();
    check_outputs(session.signature(), &outputs).unwrap();
    assert_eq!((outputs[0].tensor.shape(), outputs[1].tensor.shape()), (&[0][..], &[0, 3][..]));
}

/// Loads and runs a file that may be damaged; whatever comes of it, nothing in it panicked.
fn try_out(runtime: &dyn Runtime, path: &std::path::Path, what: &str) -> bool {
    let error = match runtime.load(path, &ONE_THREAD) {
        Ok(mut session) => {
            let inputs = probe_inputs(session.signature(), 0);
            session.run(&inputs).err().map(|error: RunError| error.to_string())
        }
        Err(error) => Some(error.to_string()),
    };
    assert!(!error.as_ref().is_some_and(|error| error.contains("panicked")), "{what}: {error:?}");
    error.is_some()
}

#[test]
fn a_damaged_model_is_an_error_at_worst() {
    let (runtime, mut rng) = (rten(), StdRng::seed_from_u64(3));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let (mut n_refused, mut n_tried) = (0, 0);
    for name in cases().keys().filter(|name| !RUN_BY_RTEN.contains(&name.as_str())) {
        let whole = std::fs::read(fixture(name)).unwrap();
        for _ in 0..25 {
            let mut bytes = whole.clone();
            let place = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes.truncate(place),
                1 => bytes[place] ^= 1 << rng.random_range(0..8),
                _ => bytes[place] = rng.random(),
            }
            std::fs::write(&path, &bytes).unwrap();
            n_refused += usize::from(try_out(&*runtime, &path, &format!("{name} at {place}")));
            n_tried += 1;
        }
    }
    assert!(n_refused > n_tried / 4, "{n_refused} of {n_tried}");
}
