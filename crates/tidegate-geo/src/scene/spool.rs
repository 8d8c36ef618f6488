//! Compressed tiles on disk, row of tiles after row of tiles: what is done of a raster that is not finished.
//!
//! Each tile is its length (four bytes, little-endian) and its bytes. Nothing else is written, so that a spool cut back to
//! the end of a row is what it was when that row was done.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

pub(crate) struct TileSpool {
    file: BufWriter<File>,
    length: u64,
}

impl TileSpool {
    /// Opens or makes the spool and cuts it back to `length`.
    pub fn open(path: &Path, length: u64) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        if file.metadata()?.len() < length {
            let message = format!("`{}` is shorter than it was: start again", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        file.set_len(length)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { file: BufWriter::new(file), length })
    }

    pub fn append(&mut self, tile: &[u8]) -> io::Result<()> {
        let size = u32::try_from(tile.len()).map_err(|_| io::ErrorKind::InvalidData)?;
        self.file.write_all(&size.to_le_bytes())?;
        self.file.write_all(tile)?;
        self.length += 4 + tile.len() as u64;
        Ok(())
    }

    /// Brings everything to the disk; gives the length.
    pub fn sync(&mut self) -> io::Result<u64> {
        self.file.flush()?;
        self.file.get_ref().sync_data()?;
        Ok(self.length)
    }
}

pub(crate) struct SpoolReader {
    file: BufReader<File>,
}

impl SpoolReader {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: BufReader::with_capacity(1 << 20, File::open(path)?) })
    }

    pub fn tile(&mut self) -> io::Result<Vec<u8>> {
        let size = self.size()?;
        let mut tile = vec![0; size];
        self.file.read_exact(&mut tile)?;
        Ok(tile)
    }

    /// Passes a tile over; gives its size.
    pub fn skip(&mut self) -> io::Result<usize> {
        let size = self.size()?;
        self.file.seek_relative(size as i64)?;
        Ok(size)
    }

    fn size(&mut self) -> io::Result<usize> {
        let mut size = [0; 4];
        self.file.read_exact(&mut size)?;
        Ok(u32::from_le_bytes(size) as usize)
    }
}
