//! Where test data lies.

use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the crate lies in the repository")
}

/// A tiny model of `fixtures/onnx`.
pub fn fixture(name: &str) -> Vec<u8> {
    let path = repository().join("fixtures/onnx").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The real models and imagery beside the repository, or `None` with a line that says so.
pub fn shared_data() -> Option<PathBuf> {
    let named = crate::setting("TIDEGATE_TEST_DATA").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| repository().join("../shared/data"));
    if folder.join("banepa").is_dir() {
        return Some(folder);
    }
    crate::skip(&format!("no test data at {} (set TIDEGATE_TEST_DATA)", folder.display()));
    None
}

/// The Python of the tests (`scripts/install-python-tools.sh`), or `None` with a line that says so.
pub fn test_python() -> Option<PathBuf> {
    let python = repository().join(".tools/python/bin/python");
    if python.is_file() {
        return Some(python);
    }
    crate::skip("no Python tools (run scripts/install-python-tools.sh)");
    None
}
