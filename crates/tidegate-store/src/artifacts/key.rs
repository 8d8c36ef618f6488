//! Keys: slash-separated, safe as a path in a folder and as an object's name.

use object_store::path::Path;

use super::error::ArtifactError;

/// S3's limit for an object's name.
const MAX_KEY_BYTES: usize = 1024;
/// File systems stop at 255; a half-written file has a suffix.
const MAX_SEGMENT_BYTES: usize = 240;

/// Refuses what would leave the folder, collide with half-written files (`#` and a number), or be two names for one file.
pub(super) fn parse(key: &str) -> Result<Path, ArtifactError> {
    let fault = |reason| ArtifactError::InvalidKey { key: key.chars().take(200).collect(), reason };
    if key.is_empty() {
        return Err(fault("it is empty"));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(fault("it is longer than 1024 bytes"));
    }
    if key.contains(['\\', '#']) || key.chars().any(char::is_control) {
        return Err(fault("it may hold no `\\`, no `#` and no control character"));
    }
    for segment in key.split('/') {
        if segment.is_empty() {
            return Err(fault("it may neither start nor end with `/`, nor hold `//`"));
        }
        if segment == "." || segment == ".." {
            return Err(fault("it may hold no `.` or `..` between slashes"));
        }
        if segment.len() > MAX_SEGMENT_BYTES {
            return Err(fault("a part of it is longer than 240 bytes"));
        }
    }
    Path::parse(key).map_err(|_| fault("it holds a character that object stores refuse"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside() {
        for good in ["a", "models/m-1/v-1/net.onnx", "a b/ü%20.pt", "..a/b..", "{x}"] {
            assert_eq!(parse(good).unwrap().as_ref(), good);
        }
        let long = "a".repeat(241);
        for bad in [
            "", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/.", "a\\b", "C:\\a", "a\nb", "a\0b", "a#1",
            &long,
        ] {
            assert!(matches!(parse(bad), Err(ArtifactError::InvalidKey { .. })), "{bad:?}");
        }
    }
}
