//! Where a raster's bytes come from.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Bytes that are read by ranges: a file, or an object on a server.
pub trait ByteSource: Send + Sync {
    fn size_bytes(&self) -> u64;

    /// Each range whole, in the order asked for. A range beyond the end is an error of kind `UnexpectedEof`.
    ///
    /// A caller asks for everything that it needs next in one call, so that a server is asked in parallel.
    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Vec<u8>>>;
}

/// A file on disk.
pub struct FileSource {
    file: Mutex<File>,
    size_bytes: u64,
}

impl FileSource {
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let size_bytes = file.seek(SeekFrom::End(0))?;
        Ok(Self { file: Mutex::new(file), size_bytes })
    }
}

impl ByteSource for FileSource {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Vec<u8>>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut one = |range: &Range<u64>| {
            let mut bytes = buffer(range, self.size_bytes)?;
            file.seek(SeekFrom::Start(range.start))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        ranges.iter().map(&mut one).collect()
    }
}

/// Bytes in memory.
impl ByteSource for Vec<u8> {
    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, ranges: &[Range<u64>]) -> io::Result<Vec<Vec<u8>>> {
        let one = |range: &Range<u64>| {
            buffer(range, self.size_bytes())?;
            Ok(self[range.start as usize..range.end as usize].to_vec())
        };
        ranges.iter().map(one).collect()
    }
}

/// Room for a range, checked against the size before it is taken.
fn buffer(range: &Range<u64>, size_bytes: u64) -> io::Result<Vec<u8>> {
    if range.start > range.end || range.end > size_bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(vec![0; usize::try_from(range.end - range.start).map_err(|_| io::ErrorKind::OutOfMemory)?])
}
