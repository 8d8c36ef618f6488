//! Writing a package. Times are left out and the order is fixed: the same parts give the same bytes.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tidegate_core::digest::Sha256Hasher;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::definition::Definition;
use super::function;
use super::manifest::{MANIFEST_NAME, Manifest, Member};

/// What goes into a package.
pub struct PackageParts<'a> {
    /// Of the `.emd` and the `.dlpk`, which ArcGIS wants to be called the same.
    pub stem: &'a str,
    pub definition: &'a Definition,
    /// Kept as it is: where everything came from, and what `verify` holds the package against.
    pub item: &'a Value,
    /// The model's file, and files of weights beside it; their names are kept.
    pub model_files: &'a [PathBuf],
}

#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("failed to read `{}`", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("two files of the package are called `{name}`: rename one")]
    Clash { name: String },
    #[error("failed to write the package")]
    Write(#[from] zip::result::ZipError),
    #[error("failed to write the package")]
    Io(#[from] std::io::Error),
}

/// Where a package keeps its model's item.
pub const ITEM_NAME: &str = "stac_item.json";

/// Writes the package and says what is in it.
pub fn write_package<W: Write + Seek>(target: W, parts: &PackageParts<'_>) -> Result<Manifest, PackageError> {
    let mut writer = Writer { zip: ZipWriter::new(target), members: Vec::new() };
    let definition = parts.definition;
    let class_name = definition.inference_function.trim_end_matches(".py");
    let source = function::source(definition.framework, class_name);
    writer.text(&format!("{}.emd", parts.stem), &definition.to_json())?;
    writer.text(&definition.inference_function, &source)?;
    for path in parts.model_files {
        writer.file(path)?;
    }
    writer.text(ITEM_NAME, &format!("{:#}\n", parts.item))?;
    let manifest = Manifest::new(std::mem::take(&mut writer.members));
    writer.text(MANIFEST_NAME, &manifest.to_json())?;
    writer.zip.finish()?;
    Ok(manifest)
}

struct Writer<W: Write + Seek> {
    zip: ZipWriter<W>,
    members: Vec<Member>,
}

impl<W: Write + Seek> Writer<W> {
    fn text(&mut self, name: &str, text: &str) -> Result<(), PackageError> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        self.add(name, &mut text.as_bytes(), options, Path::new(name))
    }

    /// Weights hardly shrink; stored, they unpack as fast as the disk reads.
    fn file(&mut self, path: &Path) -> Result<(), PackageError> {
        let read_error = |source| PackageError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(read_error)?;
        let size_bytes = file.metadata().map_err(read_error)?.len();
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(size_bytes >= u64::from(u32::MAX));
        self.add(&name, &mut file, options, path)
    }

    fn add(
        &mut self,
        name: &str,
        source: &mut dyn Read,
        options: SimpleFileOptions,
        path: &Path,
    ) -> Result<(), PackageError> {
        if self.members.iter().any(|member| member.name.eq_ignore_ascii_case(name)) {
            return Err(PackageError::Clash { name: name.to_owned() });
        }
        self.zip.start_file(name, options.unix_permissions(0o644))?;
        let (mut hasher, mut size_bytes) = (Sha256Hasher::default(), 0);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read_error = |source| PackageError::Read { path: path.to_owned(), source };
            let n = source.read(&mut buffer).map_err(read_error)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            size_bytes += n as u64;
            self.zip.write_all(&buffer[..n])?;
        }
        self.members.push(Member { name: name.to_owned(), sha256: hasher.finish(), size_bytes });
        Ok(())
    }
}
