//! What does not convert is refused by name, with what to do.

use std::io::Cursor;

use tidegate_torchscript::{ConvertError, Options, convert};

use crate::support::{case, fixture};

fn refused(bytes: Vec<u8>) -> ConvertError {
    convert(Cursor::new(bytes), &Options::default()).unwrap_err()
}

fn check(error: &ConvertError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn what_the_input_decides_cannot_be_converted() {
    let error = refused(fixture("refused_dynamic.pt"));
    assert!(matches!(error, ConvertError::DataDependentControlFlow { .. }));
    check(&error, &["code/__torch__.py:8", "torch.onnx.export", "dynamo=False"]);
}

#[test]
fn an_unknown_operator_is_named_with_its_place() {
    let error = refused(fixture("refused_operator.pt"));
    let ConvertError::UnsupportedOperator { operator, location } = &error else { panic!("{error}") };
    assert_eq!(operator, "aten::fft_fft2");
    assert!(location.starts_with("code/__torch__.py:"), "{location}");
    check(&error, &["torch.onnx.export"]);
}

#[test]
fn a_module_in_training_mode_is_refused() {
    let error = refused(fixture("refused_training.pt"));
    assert!(matches!(error, ConvertError::TrainingMode { .. }), "{error}");
    check(&error, &[".eval()"]);
}

/// Converted as if the write had not been, it would answer wrongly.
#[test]
fn a_write_through_a_view_is_refused() {
    let error = refused(fixture("refused_view_write.pt"));
    assert!(matches!(error, ConvertError::UnsupportedCode { .. }), "{error}");
    check(&error, &["view", "code/__torch__.py:"]);
}

#[test]
fn weights_without_a_network_are_told_apart() {
    let error = refused(fixture("weights_only.pth"));
    assert!(matches!(error, ConvertError::NotTorchScript { .. }));
    check(&error, &["weights only", "torch.jit.trace", "torch.onnx.export"]);
}

#[test]
fn other_files_are_recognised() {
    let cases: [(&[u8], &str); 8] = [
        (b"", "empty"),
        (b"\x80\x02}q\x00.", "plain pickle"),
        (b"\x08\x08\x12\x07pytorch", "ONNX file already"),
        (b"\x89HDF\r\n\x1a\n....", "tf2onnx"),
        (b"\x1c\0\0\0TFL3....", "TensorFlow Lite"),
        (b"\x40\0\0\0\0\0\0\0{\"weight\":", "safetensors"),
        (b"hello, world", "nothing that is known"),
        (b"\x1f\x8b\x08\0", "gzip"),
    ];
    for (bytes, part) in cases {
        let error = refused(bytes.to_vec());
        assert!(matches!(error, ConvertError::NotTorchScript { .. }), "{error}");
        check(&error, &[part]);
    }
}

#[test]
fn a_shape_that_is_needed_is_asked_for() {
    let error = case("classifier").convert(None).unwrap_err();
    assert!(matches!(error, ConvertError::InputShapeNeeded { .. }), "{error}");
    check(&error, &["128", "input_shapes"]);
}

#[test]
fn a_shape_that_does_not_fit_is_named() {
    let error = case("classifier").convert(Some(vec![vec![-1, 3, 64, 64]])).unwrap_err();
    assert!(matches!(error, ConvertError::ShapeMismatch { .. }), "{error}");
    check(&error, &["2048", "128", "linear"]);

    let error = case("classifier").convert(Some(vec![vec![-1, 4, 16, 16]])).unwrap_err();
    check(&error, &["an axis of size 4 meets one of size 3"]);

    let error = case("elementwise").convert(Some(vec![vec![1, 4, 2, 3]])).unwrap_err();
    assert!(matches!(error, ConvertError::InputShapesMismatch { given: 1, expected: 2, .. }), "{error}");
    check(&error, &["x, y"]);

    let error = case("mlp").convert(Some(vec![vec![-1, 0]])).unwrap_err();
    check(&error, &["[-1, 0] is no shape"]);
}

/// A batch that is written into a trace stays one, and so does one that the answers do not have.
#[test]
fn a_baked_batch_stays_fixed() {
    for (name, shape) in [("baked_batch", vec![1, 4, 3, 3]), ("no_batch", vec![3, 3])] {
        let converted = case(name).convert(Some(vec![shape])).unwrap();
        let has_name = converted.onnx.windows(5).any(|window| window == b"batch");
        assert!(!has_name, "{name}: no axis varies");
    }
    let error = case("baked_batch").convert(Some(vec![vec![-1, 4, 3, 3]])).unwrap_err();
    assert!(matches!(error, ConvertError::InputShapeNeeded { .. }), "{error}");
}

#[test]
fn operator_sets_have_a_range() {
    for opset in [0, 16, 21, i64::MAX] {
        let options = Options { opset, ..Options::default() };
        let error = convert(Cursor::new(fixture("mlp.pt")), &options).unwrap_err();
        assert!(matches!(error, ConvertError::UnsupportedOpset { .. }), "{error}");
    }
}
