//! Real models, kept beside the repository.

use std::sync::Arc;

use tidegate_core::{DType, Dim, NamedTensor};
use tidegate_serve::{Runtime, check_outputs, probe_inputs};

use crate::support::{ONE_THREAD, runtimes, tensor, test_data};

fn run(runtime: &Arc<dyn Runtime>, path: &std::path::Path) -> Vec<NamedTensor> {
    let mut session = runtime.load(path, &ONE_THREAD).unwrap();
    let signature = session.signature().clone();
    let image = vec![Dim::Dynamic, Dim::Fixed(3), Dim::Fixed(256), Dim::Fixed(256)];
    assert_eq!((signature.inputs[0].name.as_str(), &signature.inputs[0].shape), ("input", &image));
    let outputs = session.run(&probe_inputs(&signature, 7)).unwrap();
    check_outputs(&signature, &outputs).unwrap();
    outputs
}

#[test]
fn the_segmentation_models_run_and_the_runtimes_agree() {
    let Some(data) = test_data() else { return };
    for version in ["1.0.0", "1.1.0"] {
        let path = data.join("banepa/model").join(version).join("model.onnx");
        let outputs: Vec<_> = runtimes().iter().map(|runtime| run(runtime, &path)).collect();
        let values: Vec<_> =
            outputs.iter().map(|outputs| outputs[0].tensor.values::<f32>().unwrap()).collect();
        assert!(values[0].iter().all(|value| (0.0..=1.0).contains(value)), "{version} gives probabilities");
        let (ours, others) = values.split_first().unwrap();
        for theirs in others {
            let largest = ours.iter().zip(theirs.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // The 8-bit version rounds differently in each runtime.
            let allowed = if version == "1.0.0" { 1e-3 } else { 0.2 };
            assert!(largest <= allowed, "{version}: the runtimes differ by {largest}");
        }
    }
}

#[test]
fn the_tabular_model_runs_and_the_runtimes_agree() {
    let Some(data) = test_data() else { return };
    let path = data.join("tabular/tabular.onnx");
    let rows: Vec<f32> = (0..200 * 10).map(|index| (index * 37 % 101) as f32 / 20.0 - 2.5).collect();
    let mut answers = vec![];
    for runtime in runtimes() {
        let mut session = runtime.load(&path, &ONE_THREAD).unwrap();
        let signature = session.signature().clone();
        assert_eq!(
            signature.inputs[0].shape,
            [Dim::Dynamic, Dim::Fixed(10)],
            "the unnamed axis is the batch"
        );
        assert_eq!(signature.outputs[0].datatype, DType::Int64);
        let outputs = session.run(&[tensor("X", &[200, 10], &rows)]).unwrap();
        check_outputs(&signature, &outputs).unwrap();
        answers.push(outputs);
    }
    assert_eq!(answers[0][0].tensor.shape(), [200]);
    let (ours, others) = answers.split_first().unwrap();
    for theirs in others {
        assert_eq!(ours[0], theirs[0], "the labels");
        let scores = [ours, theirs].map(|outputs| outputs[1].tensor.values::<f32>().unwrap());
        assert!(scores[0].iter().zip(scores[1].iter()).all(|(a, b)| (a - b).abs() <= 1e-5));
    }
}
