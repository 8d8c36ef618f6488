//! Compressed tiles on disk, row of tiles after row of tiles: what is done of a raster that is not finished.
//!
//! What comes with the tiles and is never published passes as pieces of rows, in the same way.
//!
//! Each tile, or piece, is its length (four bytes, little-endian) and its bytes. Nothing else is written, so that a spool cut back to
//! the end of a row is what it was when that row was done.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Rows of bytes that are compressed together: enough to compress well, few to hold.
const PIECE_ROWS: usize = 32;

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

    /// Appends rows of bytes that nobody but us reads: compressed quickly rather than well.
    pub fn append_rows(&mut self, rows: &[u8], width: usize) -> io::Result<()> {
        const QUICK: i32 = 1;
        rows.chunks(width * PIECE_ROWS)
            .try_for_each(|piece| self.append(&zstd::bulk::compress(piece, QUICK)?))
    }

    /// Lets readers of the file see everything.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
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

    /// Rows that were appended as such, in one go.
    pub fn rows(&mut self, n_rows: usize, width: usize) -> io::Result<Vec<u8>> {
        let mut rows = Vec::with_capacity(n_rows * width);
        while rows.len() < n_rows * width {
            let n_bytes = PIECE_ROWS.min(n_rows - rows.len() / width) * width;
            let piece = zstd::bulk::decompress(&self.tile()?, n_bytes)?;
            if piece.len() != n_bytes {
                return Err(io::ErrorKind::InvalidData.into());
            }
            rows.extend(piece);
        }
        Ok(rows)
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
