//! What converts, and to what.

use std::io::Cursor;

use tidegate_torchscript::{Options, convert};

use crate::support::{Array, Case, case, cases, compare, doubled, fixture, run};

/// What two implementations of the same arithmetic may differ by.
const TOLERANCE: f32 = 1e-4;

/// Half precision has eleven bits.
const HALF_TOLERANCE: f32 = 2e-3;

/// Uses operators that the runtime of these tests lacks, or computes otherwise; it must convert all the same.
const BEYOND_RTEN: &str = "beyond_rten";

fn check_all(check: impl Fn(&Case) -> Result<(), String>) {
    let failures: Vec<String> =
        cases().iter().filter_map(|case| Some(format!("{}: {}", case.name, check(case).err()?))).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

fn tolerance(case: &Case) -> f32 {
    if case.inputs[0].dtype == "float16" { HALF_TOLERANCE } else { TOLERANCE }
}

#[test]
fn every_fixture_gives_what_torch_gave() {
    check_all(|case| {
        let converted = case.convert(Some(case.shapes())).map_err(|error| error.to_string())?;
        let (inputs, expected) = case.arrays();
        if case.name == BEYOND_RTEN {
            return Ok(());
        }
        compare(&run(&converted.onnx, &inputs)?, &expected, tolerance(case))
    });
}

#[test]
fn younger_operator_sets_give_the_same() {
    check_all(|case| {
        let options = Options { input_shapes: Some(case.shapes()), opset: 20 };
        let archive = Cursor::new(fixture(&format!("{}.pt", case.name)));
        let converted = convert(archive, &options).map_err(|error| error.to_string())?;
        let (inputs, expected) = case.arrays();
        if case.name == BEYOND_RTEN {
            return Ok(());
        }
        compare(&run(&converted.onnx, &inputs)?, &expected, tolerance(case))
    });
}

/// A trace of one sample answers for two as if each had come alone, but where the trace forbids it.
#[test]
fn the_batch_varies() {
    check_all(|case| {
        if [BEYOND_RTEN, "baked_batch", "no_batch"].contains(&case.name.as_str()) {
            return Ok(());
        }
        let converted = case.convert(Some(case.shapes())).map_err(|error| error.to_string())?;
        let (inputs, expected) = case.arrays();
        let inputs: Vec<Array> = inputs.iter().map(doubled).collect();
        let expected: Vec<Array> = expected.iter().map(doubled).collect();
        compare(&run(&converted.onnx, &inputs)?, &expected, tolerance(case))
    });
}

/// Archives do not say what goes in; layers that take one shape only do.
#[test]
fn shapes_are_inferred_from_the_first_layers() {
    for name in ["mlp", "unet", "unet_frozen", "resizing", "mobile", "sequence", "half", "scripted_static"] {
        let case = case(name);
        let inferred = case.convert(None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (inputs, expected) = case.arrays();
        let outputs = run(&inferred.onnx, &inputs).unwrap();
        compare(&outputs, &expected, tolerance(&case)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// The convolutional network runs on another size than it was traced with.
#[test]
fn height_and_width_vary_where_no_layer_forbids_it() {
    let converted = case("unet").convert(Some(vec![vec![1, 3, 16, 16]])).unwrap();
    let image = Array { shape: vec![1, 3, 32, 48], is_int: false, values: vec![0.5; 3 * 32 * 48] };
    let output = run(&converted.onnx, &[image]).unwrap();
    assert_eq!(output[0].shape, [1, 1, 32, 48]);

    let fixed = case("classifier").convert(Some(vec![vec![-1, 3, 16, 16]])).unwrap();
    let image = Array { shape: vec![1, 3, 32, 32], is_int: false, values: vec![0.5; 3 * 32 * 32] };
    assert!(
        run(&fixed.onnx, &[image]).is_err(),
        "a classifier takes the size that its last layer was made for"
    );
}

#[test]
fn a_report_says_what_went_in() {
    let converted = case("classifier").convert(Some(vec![vec![-1, 3, 16, 16]])).unwrap();
    assert_eq!(converted.inputs, ["x"]);
    let expected = [
        "aten::_convolution",
        "aten::batch_norm",
        "aten::flatten",
        "aten::linear",
        "aten::max_pool2d",
        "aten::relu_",
    ];
    assert_eq!(converted.operators, expected);
    assert_eq!(converted.n_nodes, 10);
    // Two convolutions (the second with a bias), two norms of four vectors, one linear layer.
    assert_eq!(converted.n_parameters, 8 * 3 * 9 + 8 * 8 * 9 + 8 + 2 * 4 * 8 + 8 * 16 * 5 + 5);
}

#[test]
fn weights_keep_their_names_and_precision() {
    let onnx = case("unet").convert(None).unwrap().onnx;
    let has = |name: &str| onnx.windows(name.len()).any(|window| window == name.as_bytes());
    assert!(has("down1.0.weight") && has("join2.1.running_var"), "the names of `state_dict()`");

    let half = case("half").convert(None).unwrap();
    let archive = fixture("half.pt");
    let weights = archive.windows(48).find(|window| half.onnx.windows(48).any(|other| other == *window));
    assert!(
        weights.is_some(),
        "the 48 bytes of a 4 x 6 weight of half precision are in the ONNX file as they were"
    );
}

/// One weight under four names is stored once.
#[test]
fn shared_weights_stay_shared() {
    let onnx = case("scripted_static").convert(None).unwrap().onnx;
    let count = |name: &str| onnx.windows(name.len()).filter(|window| *window == name.as_bytes()).count();
    assert!(count("tied_1") > 1, "where it is stored, and where it is used");
    assert_eq!(["tied_2", "tied_3", "head.weight"].map(count), [0; 3]);
}

/// Whatever the order of hash tables is.
#[test]
fn the_same_archive_gives_the_same_bytes() {
    for case in cases() {
        let convert = || case.convert(Some(case.shapes())).unwrap();
        let first = convert();
        assert!((0..4).all(|_| convert() == first), "{}", case.name);
    }
}

/// The zip reader took the second entry of such an archive for the first.
#[test]
fn an_archive_whose_first_name_has_thirty_characters_opens() {
    let archive = Cursor::new(fixture("nnnnnnnnnnnnnnnnnnnnn.pt"));
    assert_eq!(convert(archive, &Options::default()).unwrap().n_parameters, 24);
}
