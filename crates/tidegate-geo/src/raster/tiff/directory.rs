//! The structure of a TIFF file: headers, directories, and the values of their entries (TIFF 6.0, section 2, and the
//! BigTIFF extension). Every offset and count is checked before anything is read or allocated.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::image::ImageError;
use crate::raster::ByteSource;

/// A file whose header was read.
pub(super) struct TiffFile {
    source: Arc<dyn ByteSource>,
    /// The beginning of the file: where COGs have their directories, read in one go.
    head: Vec<u8>,
    pub big_endian: bool,
    is_big: bool,
}

pub(super) struct Directory {
    entries: BTreeMap<u16, Entry>,
    /// Where the next directory is.
    pub next: Option<u64>,
}

struct Entry {
    kind: u16,
    count: u64,
    /// The value, or where it is.
    inline: [u8; 8],
}

const HEAD_BYTES: u64 = 64 * 1024;

/// Of one entry's values: the offsets of eight million tiles. What claims more is no raster that anybody has.
const MAX_VALUE_BYTES: u64 = 64 * 1024 * 1024;

impl TiffFile {
    /// Reads the header; gives the place of the first directory too.
    pub fn open(source: Arc<dyn ByteSource>) -> Result<(Self, u64), ImageError> {
        let beginning = 0..source.size_bytes().min(HEAD_BYTES);
        let head = source.read(std::slice::from_ref(&beginning)).map_err(convert)?.pop().unwrap_or_default();
        let big_endian = match head.get(..2) {
            Some(b"II") => false,
            Some(b"MM") => true,
            _ => return Err(ImageError::NotAnImage { looks_like: "no TIFF" }),
        };
        let mut file = Self { source, head, big_endian, is_big: false };
        let first = match file.u16(&file.bytes(2..4)?) {
            42 => u64::from(file.u32(&file.bytes(4..8)?)),
            43 => {
                file.is_big = true;
                file.u64(&file.bytes(8..16)?)
            }
            _ => return Err(damaged("its header is neither TIFF nor BigTIFF".to_owned())),
        };
        Ok((file, first))
    }

    pub fn directory(&self, at: u64) -> Result<Directory, ImageError> {
        let (count_bytes, entry_bytes, offset_bytes) = if self.is_big { (8, 20, 8) } else { (2, 12, 4) };
        let count = self.number(&self.span(at, count_bytes)?);
        // The format's own bound; BigTIFF has none, and no writer comes near it.
        if count == 0 || count > 65_535 {
            return Err(damaged(format!("a directory claims {count} entries")));
        }
        let bytes = self.span(at + count_bytes, count * entry_bytes + offset_bytes)?;
        let (entries, next) = bytes.split_at((count * entry_bytes) as usize);
        let entries = entries.chunks_exact(entry_bytes as usize).map(|entry| {
            let (head, value) = entry.split_at(if self.is_big { 12 } else { 8 });
            let mut inline = [0; 8];
            inline[..value.len()].copy_from_slice(value);
            let count = self.number(&head[4..]);
            (self.u16(head), Entry { kind: self.u16(&head[2..]), count, inline })
        });
        let next = self.number(next);
        Ok(Directory { entries: entries.collect(), next: (next != 0).then_some(next) })
    }

    /// Ranges of the file, in order.
    pub fn read(&self, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>, ImageError> {
        self.source.read(ranges).map_err(convert)
    }

    pub fn size_bytes(&self) -> u64 {
        self.source.size_bytes()
    }

    /// The bytes of an entry's values; `None` where the entry is absent.
    fn value(&self, directory: &Directory, tag: u16) -> Result<Option<(u16, Vec<u8>)>, ImageError> {
        let Some(entry) = directory.entries.get(&tag) else { return Ok(None) };
        let Some(size) = size_of_kind(entry.kind) else {
            return Err(damaged(format!("tag {tag} has the unknown type {}", entry.kind)));
        };
        let n_bytes = entry.count.checked_mul(size).filter(|bytes| *bytes <= MAX_VALUE_BYTES);
        let Some(n_bytes) = n_bytes else {
            return Err(damaged(format!("tag {tag} claims {} values", entry.count)));
        };
        let in_place = if self.is_big { 8 } else { 4 };
        if n_bytes <= in_place {
            return Ok(Some((entry.kind, entry.inline[..n_bytes as usize].to_vec())));
        }
        let at = self.number(&entry.inline[..in_place as usize]);
        Ok(Some((entry.kind, self.span(at, n_bytes)?)))
    }

    pub fn unsigned(&self, directory: &Directory, tag: u16) -> Result<Option<Vec<u64>>, ImageError> {
        let Some((kind, bytes)) = self.value(directory, tag)? else { return Ok(None) };
        let size = match kind {
            BYTE | UNDEFINED => 1,
            SHORT => 2,
            LONG | IFD => 4,
            LONG8 | IFD8 => 8,
            _ => return Err(damaged(format!("tag {tag} is not of whole numbers"))),
        };
        let number = |bytes: &[u8]| match size {
            1 => u64::from(bytes[0]),
            2 => u64::from(self.u16(bytes)),
            4 => u64::from(self.u32(bytes)),
            _ => self.u64(bytes),
        };
        Ok(Some(bytes.chunks_exact(size).map(number).collect()))
    }

    /// The first value, where there is one.
    pub fn first(&self, directory: &Directory, tag: u16) -> Result<Option<u64>, ImageError> {
        Ok(self.unsigned(directory, tag)?.and_then(|values| values.first().copied()))
    }

    /// Doubles; empty where the entry is absent or of another type.
    pub fn doubles(&self, directory: &Directory, tag: u16) -> Vec<f64> {
        match self.value(directory, tag) {
            Ok(Some((DOUBLE, bytes))) => {
                bytes.chunks_exact(8).map(|bytes| f64::from_bits(self.u64(bytes))).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Text up to its end mark; `None` where the entry is absent or of another type.
    pub fn text(&self, directory: &Directory, tag: u16) -> Option<String> {
        match self.value(directory, tag) {
            Ok(Some((ASCII, bytes))) => {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
            }
            _ => None,
        }
    }

    /// Bytes as they are.
    pub fn opaque(&self, directory: &Directory, tag: u16) -> Result<Option<Vec<u8>>, ImageError> {
        Ok(self.value(directory, tag)?.map(|(_, bytes)| bytes))
    }

    fn span(&self, at: u64, n_bytes: u64) -> Result<Vec<u8>, ImageError> {
        let end = at.checked_add(n_bytes).filter(|end| *end <= self.size_bytes());
        self.bytes(at..end.ok_or(ImageError::Truncated)?)
    }

    fn bytes(&self, range: Range<u64>) -> Result<Vec<u8>, ImageError> {
        if range.end <= self.head.len() as u64 {
            return Ok(self.head[range.start as usize..range.end as usize].to_vec());
        }
        Ok(self.read(&[range])?.pop().unwrap_or_default())
    }

    fn number(&self, bytes: &[u8]) -> u64 {
        match bytes.len() {
            2 => u64::from(self.u16(bytes)),
            4 => u64::from(self.u32(bytes)),
            _ => self.u64(bytes),
        }
    }

    fn u16(&self, bytes: &[u8]) -> u16 {
        let bytes = [bytes[0], bytes[1]];
        if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) }
    }

    fn u32(&self, bytes: &[u8]) -> u32 {
        let bytes = bytes[..4].try_into().expect("four bytes");
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    fn u64(&self, bytes: &[u8]) -> u64 {
        let bytes = bytes[..8].try_into().expect("eight bytes");
        if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
    }
}

// Types of values, TIFF 6.0 section 2 and BigTIFF.
const BYTE: u16 = 1;
const ASCII: u16 = 2;
const SHORT: u16 = 3;
const LONG: u16 = 4;
const UNDEFINED: u16 = 7;
const DOUBLE: u16 = 12;
const IFD: u16 = 13;
const LONG8: u16 = 16;
const IFD8: u16 = 18;

fn size_of_kind(kind: u16) -> Option<u64> {
    match kind {
        BYTE | ASCII | 6 | UNDEFINED => Some(1),
        SHORT | 8 => Some(2),
        LONG | 9 | 11 | IFD => Some(4),
        5 | 10 | DOUBLE | LONG8 | 17 | IFD8 => Some(8),
        _ => None,
    }
}

pub(super) fn damaged(what: String) -> ImageError {
    ImageError::Damaged { what }
}

pub(super) fn unsupported(what: String) -> ImageError {
    ImageError::Unsupported { what }
}

fn convert(error: io::Error) -> ImageError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ImageError::Truncated,
        _ => ImageError::Unreadable { what: error.to_string() },
    }
}
