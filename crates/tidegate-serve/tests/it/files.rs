//! Files that are not models, or not whole: one clear error, the same from every runtime.

use std::path::Path;

use tidegate_core::Precision;
use tidegate_serve::{LoadError, Slot, SlotOptions, describe_onnx};

use crate::support::{ONE_THREAD, SMALL, fixture, runtimes, spec};

/// What every runtime says of the file.
fn check(path: &Path, expected: &str) {
    for runtime in runtimes() {
        let error = match runtime.load(path, &ONE_THREAD) {
            Ok(_) => panic!("{} loaded {}", runtime.info().name, path.display()),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{}: {error}", runtime.info().name);
        let folder = path.parent().unwrap().to_str().unwrap();
        assert!(!error.contains(folder), "{}: tells where the file lies: {error}", runtime.info().name);
    }
}

#[test]
fn what_is_no_model_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[u8], &str); 7] = [
        ("empty", b"", "`empty.onnx` is not an ONNX model: it is empty"),
        ("text", b"name,age\nada,36\n", "it is a text file"),
        ("page", b"<html><body>404</body></html>", "HTML"),
        ("zip", b"PK\x03\x04\x14\0\0\0\0\0", "it is a zip archive"),
        ("noise", &[0x9c, 0x01, 0xff, 0x13, 0x37, 0x00, 0x00, 0xff, 0xff, 0x80], "no known format"),
        ("hostile", &[0x08, 0x08, 0x3a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "ends in the middle"),
        ("no-graph", &[0x08, 0x08], "no graph with outputs"),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name).with_extension("onnx");
        std::fs::write(&path, bytes).unwrap();
        check(&path, expected);
    }
    check(&folder.path().join("absent.onnx"), "failed to read `absent.onnx`");
    let inner = folder.path().join("folder.onnx");
    std::fs::create_dir(&inner).unwrap();
    check(&inner, "it is a folder");
}

#[test]
fn a_truncated_model_never_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let whole = std::fs::read(fixture("linear.onnx")).unwrap();
    for runtime in runtimes() {
        for size in 1..whole.len() {
            std::fs::write(&path, &whole[..size]).unwrap();
            let error =
                runtime.load(&path, &ONE_THREAD).err().unwrap_or_else(|| panic!("{size} bytes loaded"));
            assert!(matches!(error, LoadError::NotOnnx { .. }), "{size} bytes: {error}");
        }
    }
}

/// Every byte of a model flipped in turn: the runtime may load or refuse it, but the process lives.
#[test]
fn a_damaged_model_is_an_error_at_worst() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let whole = std::fs::read(fixture("linear.onnx")).unwrap();
    for runtime in runtimes() {
        let mut n_refused = 0;
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 0x55;
            std::fs::write(&path, &bytes).unwrap();
            n_refused += usize::from(Slot::load(&*runtime, spec(1, path.clone()), &SMALL.slot).is_err());
        }
        assert!(n_refused > whole.len() / 4, "{}: {n_refused} of {}", runtime.info().name, whole.len());
    }
}

#[test]
fn weights_are_read_from_beside_the_model_only() {
    check(&fixture("escaping.onnx"), "the model asks for weights at `../external.onnx.data`");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("external.onnx");
    std::fs::copy(fixture("external.onnx"), &path).unwrap();
    check(&path, "the weights of the model lie in `external.onnx.data`, which is not beside it");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(fixture("external.onnx.data"), folder.path().join("external.onnx.data"))
            .unwrap();
        check(&path, "not beside it");
    }
}

#[test]
fn what_cannot_be_expressed_is_named_with_the_way_out() {
    check(
        &fixture("zipmap.onnx"),
        "output `y` is a sequence, not a tensor; export the model with tensors only",
    );
    check(&fixture("zipmap.onnx"), "'zipmap': False");
    check(&fixture("open-input.onnx"), "input `x` declares no shape");
}

#[test]
fn a_model_without_its_extension_still_loads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("3b7f0c");
    std::fs::copy(fixture("linear.onnx"), &path).unwrap();
    for runtime in runtimes() {
        runtime.load(&path, &ONE_THREAD).unwrap();
    }
}

#[test]
fn a_version_that_fails_its_trial_run_is_not_loaded() {
    let options = SlotOptions { warmup_runs: 1, ..SlotOptions::default() };
    for runtime in runtimes() {
        let error = Slot::load(&*runtime, spec(1, fixture("picky.onnx")), &options).err().unwrap();
        assert!(matches!(error, LoadError::WarmUp { .. }), "{error}");
        assert!(error.to_string().contains("trial run with inputs `x` [1]"), "{error}");
    }
}

#[test]
fn a_file_says_what_it_takes_and_what_computes_its_answer() {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/refugee-camp/refugee-camp-detector.onnx");
    let described = describe_onnx(&example).unwrap();
    assert_eq!((described.ir_version, described.opset), (7, Some(13)));
    assert_eq!(described.inputs[0].shape_text(), "[-1, 3, 256, 256]");
    assert_eq!(described.outputs[0].0, "output");
    assert_eq!(described.final_operator.as_deref(), Some("Sigmoid"));

    let identity = describe_onnx(&fixture("identity-fp32.onnx")).unwrap();
    assert_eq!(identity.final_operator, None, "nothing computes it");
    let linear = describe_onnx(&fixture("linear.onnx")).unwrap();
    assert!(["Gemm", "Add"].contains(&linear.final_operator.as_deref().unwrap()), "{linear:?}");
}

#[test]
fn a_file_says_in_which_precision_it_computes() {
    let precision = |name: &str, asked| describe_onnx(&fixture(name)).unwrap().precision(asked);
    assert_eq!(precision("classes.onnx", None), Ok(Precision::F32));
    assert_eq!(precision("classes.onnx", Some(Precision::Bf16)), Ok(Precision::Bf16));
    assert_eq!(precision("classes-int8.onnx", None), Ok(Precision::Int8));
    assert_eq!(precision("classes-int8.onnx", Some(Precision::Int8)), Ok(Precision::Int8));
    let fix = precision("classes.onnx", Some(Precision::Int8)).unwrap_err();
    assert!(fix.contains("quantize_static"), "{fix}");
    let fix = precision("classes-int8.onnx", Some(Precision::F32)).unwrap_err();
    assert!(fix.contains("leave the precision out"), "{fix}");
}
