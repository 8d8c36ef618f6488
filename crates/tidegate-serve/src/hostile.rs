//! Every way in which our own code reads a model's file, as one function: for `fuzz/`, and for the suite.

use std::path::Path;

use crate::classical;
use crate::load_error::LoadError;
use crate::onnx_file::OnnxFile;

/// Reads an ONNX file's description and, of a classical model, everything.
#[doc(hidden)]
pub fn read_onnx(path: &Path) -> Result<(), LoadError> {
    let file = OnnxFile::read(path)?;
    if classical::is_classical(&file) {
        classical::load(path, file, "")?;
    }
    Ok(())
}
