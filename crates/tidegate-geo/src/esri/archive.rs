//! Unpacking a package that came from somewhere. Everything that a zip file can lie about is checked first.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use tidegate_core::digest::Sha256Hasher;
use zip::ZipArchive;
use zip::result::ZipError;

use super::manifest::{Manifest, Member};

/// A package holds a handful of files; the largest that we know of has a few hundred.
const MAX_MEMBERS: usize = 1000;

/// All members together. Models for desktops stay well below.
const MAX_TOTAL_BYTES: u64 = 8 << 30;

/// Weights hardly shrink, text to a tenth. A bomb has thousands; zeros alone have a thousand.
const MAX_RATIO: u64 = 200;

/// Below this no ratio is suspicious.
const SMALL_BYTES: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("failed to read `{}`", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("`{}` is not a zip file, which a .dlpk is: {reason}", path.display())]
    NotAZip { path: PathBuf, reason: String },
    #[error("refused to unpack: {reason}")]
    Refused { reason: String },
    #[error("`{name}` is damaged: {reason}")]
    Damaged { name: String, reason: String },
    #[error("failed to write `{}`", path.display())]
    Write { path: PathBuf, source: std::io::Error },
}

/// Unpacks every file into `folder`, which exists, and says what there was.
pub fn unpack(package: &Path, folder: &Path) -> Result<Manifest, ArchiveError> {
    let file =
        File::open(package).map_err(|source| ArchiveError::Open { path: package.to_owned(), source })?;
    let not_a_zip =
        |error: ZipError| ArchiveError::NotAZip { path: package.to_owned(), reason: error.to_string() };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(not_a_zip)?;
    // Duplicates, overlaps and hidden members: what another program unpacks would not be what is checked here.
    archive.validate_header_consistency().map_err(|error| refused(error.to_string()))?;
    let names = check_members(&mut archive)?;
    let mut members = Vec::with_capacity(names.len());
    let mut left_bytes = MAX_TOTAL_BYTES;
    for (index, name) in names {
        let member = extract(&mut archive, index, &name, folder, left_bytes)?;
        left_bytes -= member.size_bytes;
        members.push(member);
    }
    Ok(Manifest::new(members))
}

/// Index and name of every file, once all of them are found harmless.
fn check_members(archive: &mut ZipArchive<BufReader<File>>) -> Result<Vec<(usize, String)>, ArchiveError> {
    if archive.len() > MAX_MEMBERS {
        return Err(refused(format!("it has {} members, more than {MAX_MEMBERS}", archive.len())));
    }
    let mut names: Vec<(usize, String)> = Vec::new();
    let mut total_bytes = 0u64;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(|error| refused(error.to_string()))?;
        let name = entry.name().map_err(|error| refused(error.to_string()))?.into_owned();
        check_name(&name)?;
        if entry.is_symlink() {
            return Err(refused(format!("`{name}` is a link")));
        }
        if entry.encrypted() {
            return Err(refused(format!("`{name}` is encrypted")));
        }
        if entry.is_dir() {
            continue;
        }
        let size_bytes = entry.size();
        if size_bytes > SMALL_BYTES && size_bytes / entry.compressed_size().max(1) > MAX_RATIO {
            return Err(refused(format!("`{name}` unpacks to more than {MAX_RATIO} times its size")));
        }
        total_bytes = total_bytes.saturating_add(size_bytes);
        if total_bytes > MAX_TOTAL_BYTES {
            return Err(refused(format!("it unpacks to more than {} GiB", MAX_TOTAL_BYTES >> 30)));
        }
        // Windows and macOS do not tell `Model.py` from `model.py`.
        if names.iter().any(|(_, other)| other.eq_ignore_ascii_case(&name)) {
            return Err(refused(format!("`{name}` is there twice")));
        }
        names.push((index, name));
    }
    Ok(names)
}

/// A relative path that stays below the folder on every system.
fn check_name(name: &str) -> Result<(), ArchiveError> {
    let leaves = |part: &str| matches!(part, ".." | ".") || part.ends_with(['.', ' ']);
    let inner = name.strip_suffix('/').unwrap_or(name);
    let is_harmless = !inner.is_empty()
        && !inner.starts_with('/')
        && !inner.contains(['\\', ':', '\0'])
        && inner.split('/').all(|part| !part.is_empty() && !leaves(part));
    if is_harmless { Ok(()) } else { Err(refused(format!("`{name}` does not lie below the folder"))) }
}

fn refused(reason: String) -> ArchiveError {
    ArchiveError::Refused { reason }
}

/// Headers may lie about the size, so it is counted.
fn extract(
    archive: &mut ZipArchive<BufReader<File>>,
    index: usize,
    name: &str,
    folder: &Path,
    left_bytes: u64,
) -> Result<Member, ArchiveError> {
    let damaged = |reason: String| ArchiveError::Damaged { name: name.to_owned(), reason };
    let mut entry = archive.by_index(index).map_err(|error| damaged(error.to_string()))?;
    let limit_bytes = entry.size().min(left_bytes);
    let path = folder.join(name);
    let write_error = |source| ArchiveError::Write { path: path.clone(), source };
    std::fs::create_dir_all(path.parent().unwrap_or(folder)).map_err(write_error)?;
    let mut target = File::create_new(&path).map_err(write_error)?;
    let (mut hasher, mut size_bytes) = (Sha256Hasher::default(), 0u64);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = entry.read(&mut buffer).map_err(|error| damaged(error.to_string()))?;
        if n == 0 {
            break;
        }
        size_bytes += n as u64;
        if size_bytes > limit_bytes {
            return Err(refused(format!("`{name}` is larger than it says")));
        }
        hasher.update(&buffer[..n]);
        target.write_all(&buffer[..n]).map_err(write_error)?;
    }
    Ok(Member { name: name.to_owned(), sha256: hasher.finish(), size_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_folder_are_harmless() {
        for name in ["model.emd", "folder/", "folder/model.onnx", "a b.py", "..a"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            "/",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "C:/x",
            "a\\b",
            "x\0",
            "./x",
            "a/..",
            "x.",
            "x ",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
