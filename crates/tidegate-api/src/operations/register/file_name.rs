//! Names of artifact files: they become store keys and, on a desk, files.

use crate::operations::fault::Fault;

/// Bytes of one part of a key that the artifact store takes (`tidegate_store`'s `MAX_SEGMENT_BYTES`).
pub(super) const MAX_LENGTH: usize = 240;

/// Letters, digits, `-`, `_`, `.` and inner spaces; no folders, no hidden files, no Windows devices.
pub(crate) fn check(name: &str) -> Result<(), Fault> {
    let shown: String = name.chars().take(80).collect();
    let fault = |reason: &str| Err(Fault::new("artifact", format!("file name {shown:?}: {reason}")));
    if name.is_empty() {
        return fault("it is empty; send the part with `filename=`, its extension says the format");
    }
    if name.len() > MAX_LENGTH {
        return fault(&format!("it is longer than {MAX_LENGTH} characters"));
    }
    if name.contains(['/', '\\', ':']) {
        return fault("give the name alone, without folders");
    }
    if name.starts_with('.') || name.ends_with(['.', ' ']) || name.starts_with(' ') || name.contains("..") {
        return fault("it may not start or end with a dot or space, nor contain `..`");
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_. ".contains(&b)) {
        return fault("use ASCII letters, digits, `-`, `_`, `.` and spaces");
    }
    let stem = name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    if ["con", "prn", "aux", "nul"].contains(&stem.as_str()) {
        return fault("Windows reserves it for a device");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_plain_names_and_nothing_that_could_leave_the_folder() {
        for good in ["model.onnx", "Model v2 (final).onnx".replace(['(', ')'], "").as_str(), "a-b_c.pt"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let bad =
            ["", ".", "..", "../x.onnx", "a/b", "a\\b", "C:x", ".hidden", "x.", "a..b", "nul.onnx", "é.onnx"];
        for name in bad {
            assert!(check(name).is_err(), "{name}");
        }
        assert!(check("a\nb.onnx").is_err());
        assert!(check(&"a".repeat(MAX_LENGTH)).is_ok());
        assert!(check(&"a".repeat(MAX_LENGTH + 1)).is_err());
    }
}
