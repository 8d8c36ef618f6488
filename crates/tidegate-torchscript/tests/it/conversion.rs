//! What converts, and to what.

use crate::support::{Case, cases, compare, run};

/// What two implementations of the same arithmetic may differ by.
const TOLERANCE: f32 = 1e-4;

/// Half precision has eleven bits.
const HALF_TOLERANCE: f32 = 2e-3;

fn check_all(check: impl Fn(&Case) -> Result<(), String>) {
    let failures: Vec<String> =
        cases().iter().filter_map(|case| Some(format!("{}: {}", case.name, check(case).err()?))).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_fixture_gives_what_torch_gave() {
    check_all(|case| {
        let converted = case.convert(Some(case.shapes())).map_err(|error| error.to_string())?;
        let (inputs, expected) = case.arrays();
        let tolerance = if case.inputs[0].dtype == "float16" { HALF_TOLERANCE } else { TOLERANCE };
        compare(&run(&converted.onnx, &inputs)?, &expected, tolerance)
    });
}
