//! ONNX files: the description that is read of each, and what loading a classical model makes of it.

#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;

/// The reader takes a path; a folder in memory (`TMPDIR=/dev/shm`) makes it quick.
static PLACE: LazyLock<(tempfile::TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    (folder, path)
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    std::fs::write(&PLACE.1, bytes).unwrap();
    let _ = tidegate_serve::read_onnx(&PLACE.1);
});
