//! Precision is what somebody asked for, or a refusal that says what to do.

use std::path::{Path, PathBuf};

use tidegate_core::{NamedTensor, Precision};
use tidegate_serve::{
    AcceleratorChoice, LoadError, Runtime, RuntimeChoice, RuntimeError, RuntimeOptions, SessionOptions, Slot,
    SlotSpec, cpu_has_bf16, open_runtime, probe_inputs,
};

use crate::support::{
    ONE_THREAD, SMALL_SLOT, fixture, floats, onnxruntime, onnxruntime_options, openvino, repository, rten,
    spec, tensor,
};

const BF16: SessionOptions = SessionOptions { intra_threads: 1, precision: Precision::Bf16 };

/// A U-Net for images of 256 x 256, kept in the repository.
fn segmenter() -> PathBuf {
    repository().join("examples/refugee-camp/refugee-camp-detector.onnx")
}

fn answer(runtime: &dyn Runtime, options: &SessionOptions) -> Vec<NamedTensor> {
    let mut session = runtime.load(&segmenter(), options).unwrap();
    let inputs = probe_inputs(session.signature(), 7);
    session.run(&inputs).unwrap()
}

#[test]
fn plain_sessions_stay_as_they_are_when_openvino_is_registered() {
    let (Some(plain), Some(options)) = (onnxruntime(), onnxruntime_options(AcceleratorChoice::Auto)) else {
        return;
    };
    let before = answer(&*plain, &ONE_THREAD);
    if openvino().is_none() {
        return;
    }
    assert_eq!(answer(&*plain, &ONE_THREAD), before);
    let auto = open_runtime(&options).unwrap();
    assert_eq!(auto.info().accelerator.name, if cpu_has_bf16() { "openvino" } else { "none" });
    for precision in [Precision::F32, Precision::Int8] {
        let options = SessionOptions { precision, ..ONE_THREAD };
        assert_eq!(answer(&*auto, &options), before, "{precision}");
        assert_eq!(auto.load(&segmenter(), &options).unwrap().runtime(), Some("onnxruntime"));
    }
}

/// An idle server does without its memory.
#[test]
#[cfg(target_os = "linux")]
fn openvino_is_loaded_for_the_first_version_that_needs_it() {
    let Some(options) = onnxruntime_options(AcceleratorChoice::Auto) else { return };
    let auto = open_runtime(&options).unwrap();
    if !auto.info().precisions.contains(&Precision::Bf16) {
        return;
    }
    let is_loaded = || std::fs::read_to_string("/proc/self/maps").unwrap().contains("libopenvino");
    auto.load(&segmenter(), &ONE_THREAD).unwrap();
    assert!(!is_loaded());
    assert_eq!(auto.load(&segmenter(), &BF16).unwrap().runtime(), Some("openvino"));
    assert!(is_loaded());
}

#[test]
fn bf16_is_near_to_f32_and_not_the_same() {
    let Some(runtime) = openvino() else { return };
    assert_eq!(runtime.info().precisions.contains(&Precision::Bf16), cpu_has_bf16());
    if !cpu_has_bf16() {
        let refused = runtime.load(&segmenter(), &BF16).err().unwrap();
        assert!(refused.to_string().contains("this CPU has no instructions for bfloat16"), "{refused}");
        return;
    }
    let (exact, rounded) = (answer(&*runtime, &ONE_THREAD), answer(&*runtime, &BF16));
    let largest = floats(&exact).iter().zip(floats(&rounded)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest > 1e-6, "bf16 gave what f32 does, to {largest}");
    assert!(largest < 0.05, "probabilities differ by {largest}");
}

#[test]
fn a_slot_knows_its_precision_and_what_executes_it() {
    let Some(runtime) = openvino() else { return };
    let load = |precision, path| Slot::load(&*runtime, SlotSpec { precision, ..spec(1, path) }, &SMALL_SLOT);
    let slot = load(Precision::F32, segmenter()).unwrap();
    assert_eq!((slot.runtime(), slot.precision()), ("openvino", Precision::F32));
    let slot = load(Precision::F32, fixture("scaler.onnx")).unwrap();
    assert_eq!((slot.runtime(), slot.precision()), ("onnxruntime", Precision::F32));
    if cpu_has_bf16() {
        let slot = load(Precision::Bf16, segmenter()).unwrap();
        assert_eq!((slot.runtime(), slot.precision()), ("openvino", Precision::Bf16));
    }
}

/// Said at the start and not by the load that would need it.
#[test]
fn openvino_is_offered_on_the_cpus_that_its_plug_in_takes() {
    let options = [AcceleratorChoice::Auto, AcceleratorChoice::OpenVino].map(onnxruntime_options);
    let [Some(auto), Some(asked)] = options else { return };
    let auto = open_runtime(&auto).unwrap();
    match open_runtime(&asked) {
        Ok(asked) => {
            let precisions = &auto.info().precisions;
            assert_eq!(precisions, &asked.info().precisions, "{}", auto.info().accelerator.reason);
        }
        Err(error @ RuntimeError::OpenVinoUnfit { .. }) => {
            assert!(error.to_string().contains("set `runtime.accelerator` to `auto`"), "{error}");
            assert_eq!(auto.info().accelerator.name, "none");
            let refused = auto.load(&segmenter(), &BF16).err().unwrap().to_string();
            assert!(refused.contains("bf16 cannot be computed here"), "{refused}");
        }
        Err(error) => assert!(openvino().is_none(), "{error}"),
    }
}

#[test]
fn bf16_is_refused_where_nothing_computes_in_it() {
    let refusal = |runtime: &dyn Runtime, path: &Path| {
        let refused = runtime.load(path, &BF16).err().unwrap();
        assert!(matches!(refused, LoadError::Precision { precision: Precision::Bf16, .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("f32"), "it names no way out: {text}");
        text
    };
    let text = refusal(&*rten(), &segmenter());
    assert!(text.contains("scripts/install-openvino.sh"), "{text}");
    assert_eq!(rten().info().precisions, [Precision::F32, Precision::Int8]);

    let Some(plain) = onnxruntime() else { return };
    let text = refusal(&*plain, &segmenter());
    assert!(text.contains("`runtime.accelerator` is `none`; set it to `auto`"), "{text}");

    let Some(openvino) = openvino() else { return };
    if cpu_has_bf16() {
        let text = refusal(&*openvino, &fixture("scaler.onnx"));
        assert!(text.contains("OpenVINO has no operators of `ai.onnx.ml`"), "{text}");
        let text = refusal(&*openvino, &fixture("identity-fp64.onnx"));
        assert!(text.contains("OpenVINO is not trusted with FP64"), "{text}");
    }
}

/// OpenVINO would read beyond the input, and cut integers.
#[test]
fn what_openvino_would_get_wrong_is_refused_by_the_run() {
    let Some(runtime) = openvino() else { return };
    let mut session = runtime.load(&fixture("baked-batch.onnx"), &ONE_THREAD).unwrap();
    let row = tensor("x", &[1, 3], &[1f32, 2.0, 3.0]);
    let right = session.run(std::slice::from_ref(&row)).unwrap();
    assert!(session.run(&[tensor("x", &[2, 3], &[1f32; 6])]).is_err());
    assert_eq!(session.run(&[row]).unwrap(), right);

    let mut session = runtime.load(&fixture("identity-int64.onnx"), &ONE_THREAD).unwrap();
    assert_eq!(session.runtime(), Some("openvino"));
    let error = session.run(&[tensor("x", &[1, 3], &[0i64, 1, 1 << 40])]).unwrap_err().to_string();
    assert!(error.contains("1099511627776"), "{error}");
}

#[test]
fn an_accelerator_that_was_asked_for_and_is_missing_fails_the_start() {
    for accelerator in [AcceleratorChoice::OpenVino, AcceleratorChoice::Cuda] {
        let options =
            RuntimeOptions { choice: RuntimeChoice::Rten, accelerator, ..RuntimeOptions::default() };
        let error = open_runtime(&options).err().unwrap();
        assert_eq!(error, RuntimeError::AcceleratorOfAnother { accelerator });
    }
    let Some(options) = onnxruntime_options(AcceleratorChoice::Cuda) else { return };
    let error = open_runtime(&options).err().unwrap().to_string();
    assert!(error.contains("onnxruntime-gpu") && error.contains("runtime.onnxruntime_library"), "{error}");
}
