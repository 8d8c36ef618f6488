//! The zip around a TorchScript module, read with suspicion.
//!
//! Layout (torch/csrc/jit/serialization/export_module.cpp): one folder holding `data.pkl` (the module), `data/N` (its
//! tensors), `constants.pkl` and `constants/N`, and `code/**.py` (the program). Sizes in zip headers are claims; what is
//! inflated is counted as it comes.

mod identify;

use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipError;

use crate::error::ConvertError;

/// The largest networks have a few tens of thousands of tensors.
const MAX_ENTRIES: usize = 200_000;
/// One file of program text, or one pickle. The largest real ones are a few MiB.
const MAX_TEXT_BYTES: u64 = 32 << 20;
/// An ONNX file is one protocol buffer, which cannot exceed 2 GiB.
const MAX_TOTAL_BYTES: u64 = (2 << 30) - (16 << 20);
/// Tensors are stored uncompressed by torch and compress badly when zipped again; a bomb promises a thousandfold.
const MAX_RATIO: u64 = 32;
/// What any archive may inflate to, however small it is.
const FREE_BYTES: u64 = 64 << 20;

pub(crate) struct Archive<R> {
    zip: ZipArchive<R>,
    /// The one folder that everything lies in, with its slash.
    root: String,
    /// What may still be inflated.
    budget: u64,
}

/// One file of the program: its module (`__torch__.torch.nn.functional`) and its text.
pub(crate) struct CodeFile {
    pub(crate) module: String,
    pub(crate) text: String,
}

impl<R: Read + Seek> Archive<R> {
    pub(crate) fn open(mut reader: R) -> Result<Self, ConvertError> {
        let size = reader.seek(SeekFrom::End(0)).map_err(ConvertError::Io)?;
        reader.seek(SeekFrom::Start(0)).map_err(ConvertError::Io)?;
        identify::refuse_other_formats(&mut reader)?;
        // The offset is not guessed: torch writes zip64 records that nothing refers to, and with a first name of a certain
        // length the guess takes the second entry for the first.
        let config = Config { archive_offset: ArchiveOffset::Known(0) };
        let zip = ZipArchive::with_config(config, reader).map_err(damaged_zip)?;
        if zip.len() > MAX_ENTRIES {
            return Err(ConvertError::Limit {
                what: "the number of files in the archive".to_owned(),
                limit: MAX_ENTRIES as u64,
            });
        }
        let names: Vec<String> = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let root = identify::root_of(&names)?;
        let budget = size.saturating_mul(MAX_RATIO).clamp(FREE_BYTES, MAX_TOTAL_BYTES);
        let mut archive = Self { zip, root, budget };
        archive.check_byte_order()?;
        archive.check_has_code(&names)?;
        Ok(archive)
    }

    /// All program text, in the order of module names.
    pub(crate) fn read_code(&mut self) -> Result<Vec<CodeFile>, ConvertError> {
        let prefix = format!("{}code/", self.root);
        let mut modules: Vec<String> = self
            .zip
            .file_names()
            .filter_map(|name| Some(name.ok()?.strip_prefix(&prefix)?.strip_suffix(".py")?.to_owned()))
            .collect();
        modules.sort();
        modules.into_iter().map(|module| self.read_module(&module)).collect()
    }

    fn read_module(&mut self, path: &str) -> Result<CodeFile, ConvertError> {
        let bytes = self.read(&format!("code/{path}.py"), MAX_TEXT_BYTES)?;
        let text = String::from_utf8(bytes)
            .map_err(|_| ConvertError::malformed(format!("`code/{path}.py` is not UTF-8 text")))?;
        Ok(CodeFile { module: path.replace('/', "."), text })
    }

    /// `data.pkl` or `constants.pkl`.
    pub(crate) fn read_pickle(&mut self, name: &str) -> Result<Vec<u8>, ConvertError> {
        self.read(&format!("{name}.pkl"), MAX_TEXT_BYTES)
    }

    pub(crate) fn has_pickle(&self, name: &str) -> bool {
        self.zip.index_for_name(&format!("{}{name}.pkl", self.root)).is_some()
    }

    /// The bytes of one tensor storage: exactly `n_bytes`, as its pickle says.
    pub(crate) fn read_storage(
        &mut self,
        folder: &str,
        key: &str,
        n_bytes: u64,
    ) -> Result<Bytes, ConvertError> {
        let name = format!("{folder}/{key}");
        let bytes = self.read(&name, n_bytes)?;
        if bytes.len() as u64 != n_bytes {
            let what = format!("`{name}` has {} bytes, its tensors need {n_bytes}", bytes.len());
            return Err(ConvertError::Malformed { what });
        }
        Ok(bytes.into())
    }

    /// Reads one file whole. `limit` bounds it whatever its header claims; the archive's budget bounds all together.
    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, ConvertError> {
        let file = self.zip.by_name(&format!("{}{name}", self.root)).map_err(|error| match error {
            ZipError::FileNotFound => ConvertError::malformed(format!("`{name}` is missing")),
            error => damaged_zip(error),
        })?;
        let limit_here = limit.min(self.budget);
        let mut bytes = vec![];
        file.take(limit_here.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| ConvertError::malformed(format!("`{name}` does not read: {error}")))?;
        let n_bytes = bytes.len() as u64;
        if n_bytes > limit_here {
            let what =
                if limit <= self.budget { format!("`{name}`") } else { "all that is inflated".to_owned() };
            return Err(ConvertError::Limit {
                what: format!("the size of {what} in bytes"),
                limit: limit_here,
            });
        }
        self.budget -= n_bytes;
        Ok(bytes)
    }

    /// Counts memory that a tensor takes beyond its storage (one that is expanded or transposed).
    pub(crate) fn spend(&mut self, n_bytes: u64) -> Result<(), ConvertError> {
        self.budget = self.budget.checked_sub(n_bytes).ok_or_else(|| ConvertError::Limit {
            what: "the size of all tensors in bytes".to_owned(),
            limit: MAX_TOTAL_BYTES,
        })?;
        Ok(())
    }

    /// torch 2.1 and later write down the byte order of the tensors; before, it is that of the machine.
    fn check_byte_order(&mut self) -> Result<(), ConvertError> {
        if self.zip.index_for_name(&format!("{}byteorder", self.root)).is_none() {
            return Ok(());
        }
        match self.read("byteorder", 16)?.as_slice() {
            b"little" => Ok(()),
            _ => Err(ConvertError::UnsupportedPickle { global: "big-endian tensor".to_owned() }),
        }
    }

    /// A pickle without code is what `torch.save` writes: weights, or a Python object.
    fn check_has_code(&mut self, names: &[String]) -> Result<(), ConvertError> {
        let prefix = format!("{}code/", self.root);
        if names.iter().any(|name| name.starts_with(&prefix)) {
            return Ok(());
        }
        let pickle = self.read_pickle("data")?;
        Err(ConvertError::NotTorchScript { what_it_looks_like: identify::pickle_without_code(&pickle) })
    }
}

fn damaged_zip(error: ZipError) -> ConvertError {
    match error {
        ZipError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => ConvertError::Io(error),
        error => ConvertError::malformed(format!("the zip does not read: {error}")),
    }
}
