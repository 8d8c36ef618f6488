//! What every runtime must do alike, and where one is known to do less.

use bytes::Bytes;
use tidegate_core::{DType, Dim, NamedTensor, Tensor};
use tidegate_serve::{LoadError, RunError, Runtime, Session, check_outputs, probe_inputs};

use crate::support::{ONE_THREAD, fixture, floats, named, onnxruntime, rten, runtimes, tensor};

fn load(runtime: &dyn Runtime, name: &str) -> Box<dyn Session> {
    runtime.load(&fixture(name), &ONE_THREAD).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn failure(runtime: &dyn Runtime, name: &str) -> LoadError {
    runtime.load(&fixture(name), &ONE_THREAD).err().unwrap_or_else(|| panic!("{name} loaded"))
}

/// Two rows of three, the extremes of the type among them.
fn samples() -> Vec<Tensor> {
    let half = |values: [f32; 6]| values.map(half::f16::from_f32).to_vec();
    let brain = |values: [f32; 6]| values.map(half::bf16::from_f32).to_vec();
    let shape = || vec![2, 3];
    let texts = ["", "a", "shelter", "maison", "házak", "避難所"];
    vec![
        Tensor::from_bools(shape(), &[true, false, true, true, false, false]).unwrap(),
        Tensor::from_vec(shape(), vec![0u8, 1, 2, 3, 254, u8::MAX]).unwrap(),
        Tensor::from_vec(shape(), vec![0u16, 1, 2, 3, 4, u16::MAX]).unwrap(),
        Tensor::from_vec(shape(), vec![0u32, 1, 2, 3, 4, u32::MAX]).unwrap(),
        Tensor::from_vec(shape(), vec![0u64, 1, 2, 3, 4, u64::MAX]).unwrap(),
        Tensor::from_vec(shape(), vec![i8::MIN, -1, 0, 1, 2, i8::MAX]).unwrap(),
        Tensor::from_vec(shape(), vec![i16::MIN, -1, 0, 1, 2, i16::MAX]).unwrap(),
        Tensor::from_vec(shape(), vec![i32::MIN, -1, 0, 1, 2, i32::MAX]).unwrap(),
        Tensor::from_vec(shape(), vec![i64::from(i32::MIN), -1, 0, 1, 2, i64::from(i32::MAX)]).unwrap(),
        Tensor::from_vec(shape(), half([0.0, -1.5, 0.333, 65_504.0, 6e-8, f32::INFINITY])).unwrap(),
        Tensor::from_vec(shape(), brain([0.0, -1.5, 0.333, 3e38, 1e-38, f32::INFINITY])).unwrap(),
        Tensor::from_vec(shape(), vec![0f32, -0.0, 1.5, f32::MIN_POSITIVE, f32::MAX, f32::NEG_INFINITY])
            .unwrap(),
        Tensor::from_vec(shape(), vec![0f64, -0.0, 0.1, f64::MIN_POSITIVE, f64::MAX, f64::INFINITY]).unwrap(),
        Tensor::from_strings(shape(), texts.map(|text| Bytes::from_static(text.as_bytes())).to_vec())
            .unwrap(),
    ]
}

#[test]
fn every_datatype_comes_back_as_it_went_in() {
    for runtime in runtimes() {
        for sample in samples() {
            let datatype = sample.dtype();
            let name = format!("identity-{}.onnx", datatype.as_str().to_lowercase());
            let lacks = [DType::Uint16, DType::Uint32, DType::Uint64, DType::Int16, DType::Bf16];
            if runtime.info().name == "rten" && lacks.contains(&datatype) {
                let error = failure(&*runtime, &name);
                assert!(matches!(error, LoadError::Unsupported { .. }), "{error}");
                assert!(error.to_string().contains(datatype.as_str()), "{error}");
                continue;
            }
            let mut session = load(&*runtime, &name);
            assert_eq!(session.signature().inputs[0].datatype, datatype);
            let outputs = session.run(&[named("x", sample.clone())]).unwrap();
            assert_eq!(outputs, [named("y", sample)], "{} {datatype}", runtime.info().name);
        }
    }
}

#[test]
fn models_compute_what_they_say() {
    let cases: [(&str, Vec<NamedTensor>, &[f32]); 6] = [
        (
            "add.onnx",
            vec![tensor("a", &[1, 2], &[1f32, 2.0]), tensor("b", &[1, 2], &[10f32, 20.0])],
            &[11.0, 22.0],
        ),
        // The inputs in another order than the model's.
        (
            "add.onnx",
            vec![tensor("b", &[1, 2], &[10f32, 20.0]), tensor("a", &[1, 2], &[1f32, 2.0])],
            &[11.0, 22.0],
        ),
        ("linear.onnx", vec![tensor("x", &[1, 3], &[1f32, 1.0, 1.0])], &[9.5, 11.5]),
        ("linear.onnx", vec![tensor("x", &[2, 3], &[0f32, 0.0, 0.0, 1.0, 0.0, 0.0])], &[0.5, -0.5, 1.5, 1.5]),
        ("fixed-batch.onnx", vec![tensor("x", &[2, 3], &[1f32; 6])], &[2.0; 6]),
        ("external.onnx", vec![tensor("x", &[1, 3], &[1f32, 1.0, 1.0])], &[9.0, 12.0]),
    ];
    for runtime in runtimes() {
        for (name, inputs, expected) in &cases {
            let outputs = load(&*runtime, name).run(inputs).unwrap();
            assert_eq!(floats(&outputs), *expected, "{} {name}", runtime.info().name);
        }
    }
}

#[test]
fn an_empty_batch_gives_an_empty_answer() {
    for runtime in runtimes() {
        let outputs = load(&*runtime, "linear.onnx").run(&[tensor::<f32>("x", &[0, 3], &[])]).unwrap();
        assert_eq!(outputs[0].tensor.shape(), [0, 2], "{}", runtime.info().name);
    }
}

#[test]
fn signatures_are_read_alike_however_loosely_they_are_declared() {
    let dynamic = |size| vec![Dim::Dynamic, Dim::Fixed(size)];
    let cases = [
        ("linear.onnx", dynamic(3), dynamic(2)),
        ("unnamed-batch.onnx", dynamic(3), dynamic(2)),
        ("open-output.onnx", dynamic(3), vec![Dim::Dynamic; 2]),
        ("weights-as-inputs.onnx", dynamic(3), dynamic(2)),
        ("fixed-batch.onnx", vec![Dim::Fixed(2), Dim::Fixed(3)], vec![Dim::Fixed(2), Dim::Fixed(3)]),
    ];
    for runtime in runtimes() {
        for (name, input, output) in &cases {
            let session = load(&*runtime, name);
            let signature = session.signature();
            assert_eq!(signature.inputs.len(), 1, "{name}: weights are no inputs");
            assert_eq!((&signature.inputs[0].shape, &signature.outputs[0].shape), (input, output), "{name}");
        }
    }
}

#[test]
fn probes_run_and_outputs_are_judged() {
    for runtime in runtimes() {
        for (name, verdict) in [
            ("linear.onnx", ""),
            ("open-output.onnx", ""),
            ("slow.onnx", ""),
            ("nan.onnx", "output `y` holds NaN"),
        ] {
            let mut session = load(&*runtime, name);
            let outputs = session.run(&probe_inputs(session.signature(), 1)).unwrap();
            let judged = check_outputs(session.signature(), &outputs).err().unwrap_or_default();
            assert!(
                judged.starts_with(verdict) && verdict.is_empty() == judged.is_empty(),
                "{name}: {judged}"
            );
        }
    }
}

#[test]
fn values_cut_out_of_a_network_buffer_are_read_whatever_their_alignment() {
    for runtime in runtimes() {
        let mut session = load(&*runtime, "identity-fp32.onnx");
        for offset in 0..4 {
            let values = [1f32, 2.0, 3.0];
            let mut buffer = vec![0u8; offset];
            buffer.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            let bytes = Bytes::from(buffer).slice(offset..);
            let input = named("x", Tensor::from_bytes(DType::Fp32, vec![1, 3], bytes).unwrap());
            assert_eq!(floats(&session.run(&[input]).unwrap()), values);
        }
    }
}

#[test]
fn any_byte_but_zero_is_true() {
    for runtime in runtimes() {
        let mut session = load(&*runtime, "identity-bool.onnx");
        let bytes = Bytes::from_static(&[0, 2, 255]);
        let input = named("x", Tensor::from_bytes(DType::Bool, vec![1, 3], bytes).unwrap());
        let outputs = session.run(&[input]).unwrap();
        assert_eq!(outputs[0].tensor.as_bytes().unwrap().as_ref(), [0, 1, 1], "{}", runtime.info().name);
    }
}

#[test]
fn a_run_that_fails_is_an_error_and_the_session_lives_on() {
    for runtime in runtimes() {
        let mut session = load(&*runtime, "picky.onnx");
        let error = session.run(&[tensor("x", &[5], &[0f32; 5])]).unwrap_err();
        assert!(matches!(error, RunError::Failed { .. }), "{error}");
        let unknown = session.run(&[tensor("z", &[6], &[0f32; 6])]);
        assert!(unknown.is_err(), "{}: an input that the model lacks", runtime.info().name);
        assert_eq!(floats(&session.run(&[tensor("x", &[6], &[7f32; 6])]).unwrap()), [7.0; 6]);
    }
}

#[test]
fn rten_refuses_what_it_would_get_wrong() {
    let runtime = rten();
    let mut session = load(&*runtime, "identity-int64.onnx");
    let error = session.run(&[tensor("x", &[1, 3], &[0i64, 1, 1 << 40])]).unwrap_err().to_string();
    assert!(error.contains("1099511627776") && error.contains("install-onnxruntime.sh"), "{error}");

    let error = failure(&*runtime, "cubic.onnx").to_string();
    assert!(error.contains("cubic") && error.contains("install-onnxruntime.sh"), "{error}");
}

#[test]
fn classical_models_run() {
    for runtime in runtimes() {
        let mut session = load(&*runtime, "scaler.onnx");
        let outputs = session.run(&[tensor("x", &[1, 3], &[1f32, 2.0, 3.0])]).unwrap();
        assert_eq!(floats(&outputs), [0.0, 2.0, 4.0], "{}", runtime.info().name);
        let shared = session.share().map(|mut other| other.run(&[tensor("x", &[1, 3], &[1f32, 2.0, 3.0])]));
        assert!(shared.is_none_or(|again| again == Ok(outputs)), "{}", runtime.info().name);
    }
}

#[test]
fn onnx_runtime_refuses_broken_strings() {
    let Some(runtime) = onnxruntime() else { return };
    assert!(runtime.info().version.starts_with("1."), "{:?}", runtime.info());
    let mut session = load(&*runtime, "identity-bytes.onnx");
    for (text, reason) in [(&b"a\0b"[..], "U+0000"), (&b"\xff"[..], "UTF-8")] {
        let strings = vec![Bytes::from_static(b"fine"), Bytes::from_static(text), Bytes::new()];
        let input = named("x", Tensor::from_strings(vec![1, 3], strings).unwrap());
        let error = session.run(&[input]).unwrap_err().to_string();
        assert!(error.contains("input `x`") && error.contains(reason), "{error}");
    }
}
