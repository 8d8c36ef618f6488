//! Mutating what is inside of a zip. Checksums make nearly every change of a zip's bytes a damaged zip, and the decoders behind
//! it would never be reached.

use std::io::{Cursor, Read, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// One in so many mutations is of the zip itself.
const ONE_OF_THE_ZIP: u32 = 8;

/// As a mutator of libFuzzer: changes one member of the zip in `data[..size]`, and gives the new size. `fallback` mutates bytes.
pub fn mutate(
    data: &mut [u8],
    size: usize,
    seed: u32,
    mut fallback: impl FnMut(&mut [u8], usize, usize) -> usize,
) -> usize {
    let max_size = data.len();
    if seed % ONE_OF_THE_ZIP != 0
        && let Some(mut members) = members(&data[..size])
        && !members.is_empty()
    {
        let index = (seed / ONE_OF_THE_ZIP) as usize % members.len();
        let content = &mut members[index].1;
        let length = content.len();
        let capacity = (length + length / 2 + 64).min(max_size);
        content.resize(capacity.max(length), 0);
        let length = fallback(content, length, capacity.max(length));
        content.truncate(length);
        if let Some(bytes) = zip(&members)
            && bytes.len() <= max_size
        {
            data[..bytes.len()].copy_from_slice(&bytes);
            return bytes.len();
        }
    }
    fallback(data, size, max_size)
}

fn members(bytes: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    const MAX_BYTES: u64 = 1 << 20;
    let mut archive = ZipArchive::new(Cursor::new(bytes)).ok()?;
    (0..archive.len().min(256))
        .map(|index| {
            let entry = archive.by_index(index).ok()?;
            let name = entry.name().ok()?.into_owned();
            let mut content = Vec::new();
            entry.take(MAX_BYTES).read_to_end(&mut content).ok()?;
            Some((name, content))
        })
        .collect()
}

fn zip(members: &[(String, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in members {
        writer.start_file(name.as_str(), options).ok()?;
        writer.write_all(content).ok()?;
    }
    Some(writer.finish().ok()?.into_inner())
}
