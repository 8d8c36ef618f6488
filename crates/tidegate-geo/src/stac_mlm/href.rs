//! From an asset's href to a file beside the item, and nowhere else: an item is somebody else's text.

use std::path::{Component, Path, PathBuf};

/// Why an href does not lead to a file in the item's folder.
#[derive(Debug, thiserror::Error)]
pub enum HrefError {
    #[error(
        "`{href}` is an address with scheme `{scheme}`: download the file beside the item and give a relative path"
    )]
    Scheme { href: String, scheme: String },
    #[error("`{href}` is an absolute path: give one relative to the item")]
    Absolute { href: String },
    #[error("`{href}` leads out of the item's folder: keep assets beside the item or below it")]
    Escapes { href: String },
    #[error("`{href}` is not a path: {reason}")]
    Malformed { href: String, reason: &'static str },
    #[error("failed to open `{href}`, looked for `{}`", path.display())]
    NotFound { href: String, path: PathBuf, source: std::io::Error },
    #[error("`{href}` is not a file")]
    NotAFile { href: String },
}

/// The file that `href` names, as a canonical path inside `item_dir`.
///
/// Relative paths with `/` and `file:` addresses that lie within the folder are followed, percent-encoding undone.
/// Absolute paths, other schemes, `..` and symbolic links that leave the folder are refused.
pub fn resolve_href(item_dir: &Path, href: &str) -> Result<PathBuf, HrefError> {
    let not_found =
        |path: &Path, source| HrefError::NotFound { href: href.to_owned(), path: path.to_owned(), source };
    let root = item_dir.canonicalize().map_err(|source| not_found(item_dir, source))?;
    let path = match split_scheme(href) {
        None => root.join(relative_path(href, href)?),
        Some(("file", rest)) => file_url_path(&root, href, rest)?,
        Some((scheme, _)) => {
            return Err(HrefError::Scheme { href: href.to_owned(), scheme: scheme.to_owned() });
        }
    };
    let real = path.canonicalize().map_err(|source| not_found(&path, source))?;
    if !real.starts_with(&root) {
        return Err(HrefError::Escapes { href: href.to_owned() });
    }
    if !real.is_file() {
        return Err(HrefError::NotAFile { href: href.to_owned() });
    }
    Ok(real)
}

/// A URI scheme (RFC 3986 section 3.1) of two letters or more: one letter is a Windows drive.
fn split_scheme(href: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = href.split_once(':')?;
    let is_scheme = scheme.len() >= 2
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    is_scheme.then_some((scheme, rest))
}

/// `file:` with an absolute path is fine as long as it lies within `root`.
fn file_url_path(root: &Path, href: &str, rest: &str) -> Result<PathBuf, HrefError> {
    let path = rest.strip_prefix("//localhost").or_else(|| rest.strip_prefix("//")).unwrap_or(rest);
    if !path.starts_with('/') {
        return Ok(root.join(relative_path(path, href)?));
    }
    let decoded = PathBuf::from(percent_decode(path, href)?);
    let canonical = decoded.canonicalize().unwrap_or_else(|_| decoded.clone());
    // Said before looking whether it exists, so that an item cannot probe the machine for files.
    if canonical.starts_with(root) {
        Ok(canonical)
    } else {
        Err(HrefError::Escapes { href: href.to_owned() })
    }
}

/// Checks `text` as written and decoded, and folds its `.` and `..` without touching the disk.
fn relative_path(text: &str, href: &str) -> Result<PathBuf, HrefError> {
    let decoded = percent_decode(text, href)?;
    let malformed = |reason| HrefError::Malformed { href: href.to_owned(), reason };
    if decoded.contains('\\') {
        return Err(malformed("separate folders with `/`"));
    }
    let is_drive = decoded.as_bytes().get(1) == Some(&b':') && decoded.as_bytes()[0].is_ascii_alphabetic();
    if decoded.starts_with('/') || is_drive {
        return Err(HrefError::Absolute { href: href.to_owned() });
    }
    let mut folded = PathBuf::new();
    for component in Path::new(&decoded).components() {
        match component {
            Component::Normal(name) => folded.push(name),
            Component::CurDir => {}
            Component::ParentDir if folded.pop() => {}
            Component::ParentDir => return Err(HrefError::Escapes { href: href.to_owned() }),
            Component::RootDir | Component::Prefix(_) => {
                return Err(HrefError::Absolute { href: href.to_owned() });
            }
        }
    }
    if folded.as_os_str().is_empty() {
        return Err(malformed("it names no file"));
    }
    Ok(folded)
}

/// Undoes `%20` and the like (RFC 3986 section 2.1). A lone `%` stays as it is: people write file names by hand.
fn percent_decode(text: &str, href: &str) -> Result<String, HrefError> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match byte.filter(|_| bytes[at] == b'%') {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    let malformed = |reason| HrefError::Malformed { href: href.to_owned(), reason };
    let decoded = String::from_utf8(decoded).map_err(|_| malformed("it does not decode to UTF-8"))?;
    if decoded.contains('\0') {
        return Err(malformed("it contains a NUL character"));
    }
    Ok(decoded)
}
