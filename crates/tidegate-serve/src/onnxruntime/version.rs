//! Asks ONNX Runtime's library for its own version, which `ort` reads but does not tell.

use std::ffi::CStr;
use std::path::Path;

use libloading::{Library, Symbol};

/// `1.31.1`, or `unknown`. The library must be loaded already.
pub(super) fn of_library(path: &Path) -> String {
    read(path).unwrap_or_else(|| "unknown".to_owned())
}

#[expect(unsafe_code, reason = "the version is behind a C function pointer only")]
fn read(path: &Path) -> Option<String> {
    // SAFETY: `ort` has this library open, so opening it again only counts a reference: no code of it runs.
    let library = unsafe { Library::new(path) }.ok()?;
    // SAFETY: the C API fixes this signature for the symbol, and `ort` has called it by the same one.
    let base: Symbol<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase") }.ok()?;
    // SAFETY: the function takes nothing and returns a pointer to a static table, or null, which `as_ref` turns to `None`.
    let base = unsafe { base().as_ref() }?;
    // SAFETY: the table's function returns a static, NUL-terminated string.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)()) };
    version.to_str().ok().map(str::to_owned)
}
