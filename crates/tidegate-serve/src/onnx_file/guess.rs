//! What a file that is not an ONNX model most likely is, from its first and last bytes, and what to do about it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// A zip's directory lies at its end; this much of it names the files that tell the formats apart.
const TAIL_BYTES: u64 = 64 * 1024;

/// The format of a file that starts unlike any ONNX model; `None` when it may be one.
pub(super) fn foreign_format(path: &Path, size: u64) -> Option<&'static str> {
    if size == 0 {
        return Some("it is empty");
    }
    let head = read_head(path)?;
    Some(match head.as_slice() {
        [b'P', b'K', 3, 4, ..] => zip_format(path),
        [0x80, 2..=5, ..] => {
            "it is a Python pickle (joblib, scikit-learn or torch); export the model to ONNX"
        }
        [0x89, b'H', b'D', b'F', ..] => "it is an HDF5 file (Keras); export the model with tf2onnx",
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => "it is a TensorFlow Lite model; convert it with tf2onnx",
        [b'G', b'G', b'U', b'F', ..] => "it is a GGUF language model, which needs another server",
        [0x1f, 0x8b, ..] => "it is gzip-compressed; unpack it first",
        [_, _, _, _, _, _, _, 0, b'{', ..] => {
            "it is a safetensors file: weights without a graph; export to ONNX"
        }
        head if head.starts_with(b"version https://git-lfs") => {
            "it is a Git LFS pointer; run `git lfs pull` to get the model itself"
        }
        head if is_text(head) => text_format(head),
        _ => return None,
    })
}

/// What to say of a file that may have been an ONNX model: `fault` when it starts like one.
pub(super) fn damaged(path: &Path, fault: &'static str) -> &'static str {
    // Every exporter writes `ir_version` (field 1, a number) first.
    match read_head(path).as_deref() {
        Some([0x08, ..]) => fault,
        _ => "it has no known format",
    }
}

fn read_head(path: &Path) -> Option<Vec<u8>> {
    let mut head = vec![];
    File::open(path).ok()?.take(512).read_to_end(&mut head).ok()?;
    Some(head)
}

fn zip_format(path: &Path) -> &'static str {
    let tail = read_tail(path).unwrap_or_default();
    let names = |needle: &[u8]| tail.windows(needle.len()).any(|window| window == needle);
    if names(b"constants.pkl") {
        "it is a TorchScript archive; export the model with `torch.onnx.export`"
    } else if names(b"data.pkl") {
        "it is a PyTorch checkpoint: weights without a graph; export the model with `torch.onnx.export`"
    } else if names(b".onnx") {
        "it is a zip archive with an ONNX model inside; unpack it first"
    } else {
        "it is a zip archive"
    }
}

fn read_tail(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
    let mut tail = vec![];
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(tail)
}

/// Printable from the first byte on. An ONNX file starts with the byte 8, a control character.
fn is_text(head: &[u8]) -> bool {
    head.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..))
}

fn text_format(head: &[u8]) -> &'static str {
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
    match head[start..].first() {
        Some(b'<') => "it is an HTML or XML page (a download that answered with an error page?)",
        Some(b'{' | b'[') => "it is JSON",
        _ => "it is a text file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let cases: [(&[u8], &str); 12] = [
            (b"", "empty"),
            (b"PK\x03\x04........model/constants.pkl", "TorchScript"),
            (b"PK\x03\x04........archive/data.pkl", "PyTorch checkpoint"),
            (b"PK\x03\x04........notes.txt", "a zip archive"),
            (b"\x80\x04\x95....", "pickle"),
            (b"\x89HDF\r\n\x1a\n", "HDF5"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"\x40\0\0\0\0\0\0\0{\"w\":", "safetensors"),
            (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
            (b"\n<!DOCTYPE html><html>", "HTML"),
            (b"{\"error\": \"not found\"}", "JSON"),
            (b"hello", "text file"),
        ];
        for (bytes, expected) in cases {
            std::fs::write(&path, bytes).unwrap();
            let guess = foreign_format(&path, bytes.len() as u64).unwrap_or("none");
            assert!(guess.contains(expected), "{}: {guess}", String::from_utf8_lossy(bytes));
        }
        std::fs::write(&path, b"\x08\x08\x12\x04test").unwrap();
        assert_eq!(foreign_format(&path, 8), None, "the start of an ONNX model");
    }
}
