//! The model that a real team serves, where its data is at hand.

use std::io::Cursor;
use std::path::PathBuf;

use tidegate_torchscript::{Options, convert};

use crate::support::{Array, compare, repository, run};

/// A folder beside the repository, or one that is named; `None`, said in one line, where there is none.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test may be told where its data is, and says so"
)]
fn banepa() -> Option<PathBuf> {
    let named = std::env::var_os("TIDEGATE_TEST_DATA").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| repository().join("../shared/data")).join("banepa/model/1.0.0");
    if folder.join("model.pt").exists() {
        return Some(folder);
    }
    println!("skipped: no test data beside the repository, nor at TIDEGATE_TEST_DATA");
    None
}

/// Numbers between -1 and 1 from a seed (a linear congruential generator, Knuth's constants).
fn noise(count: usize, mut seed: u64) -> Vec<f32> {
    let next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[test]
fn the_shared_segmenter_answers_as_its_own_export_does() {
    let Some(folder) = banepa() else { return };
    let archive = std::fs::read(folder.join("model.pt")).unwrap();
    let converted = convert(Cursor::new(archive), &Options::default()).unwrap();
    let image = Array { shape: vec![2, 3, 64, 96], is_int: false, values: noise(2 * 3 * 64 * 96, 7) };
    let tile = Array { shape: vec![1, 3, 256, 256], is_int: false, values: noise(3 * 256 * 256, 8) };

    let exported = std::fs::read(folder.join("model.onnx")).unwrap();
    let expected = run(&exported, std::slice::from_ref(&tile)).unwrap();
    compare(&run(&converted.onnx, &[tile]).unwrap(), &expected, 1e-4).unwrap();
    assert_eq!(
        run(&converted.onnx, &[image]).unwrap()[0].shape,
        [2, 1, 64, 96],
        "any size that pools evenly"
    );
}
