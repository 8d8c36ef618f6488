//! Directories of a TIFF file that is written (TIFF 6.0, section 2, and the BigTIFF extension), little-endian.

use std::collections::BTreeMap;

/// Entries by tag, in the order that the format asks for.
#[derive(Default)]
pub(super) struct Directory {
    entries: BTreeMap<u16, Value>,
}

pub(super) enum Value {
    Short(Vec<u16>),
    Long(Vec<u32>),
    Double(Vec<f64>),
    Ascii(String),
    /// Four bytes each, or eight in a big file.
    Offsets(Vec<u64>),
}

impl Directory {
    pub fn set(&mut self, tag: u16, value: Value) {
        self.entries.insert(tag, value);
    }

    /// With the values that do not fit into their entries.
    pub fn size_bytes(&self, is_big: bool) -> u64 {
        let beside = self.entries.values().map(|value| outside(&value.bytes(is_big), is_big)).sum::<usize>();
        (self.table_bytes(is_big) + beside) as u64
    }

    /// As it is at `start`; the next directory follows at its end.
    pub fn bytes(&self, start: u64, is_big: bool, is_last: bool) -> Vec<u8> {
        let mut table = Vec::new();
        let mut beside = Vec::new();
        let first_beside = start + self.table_bytes(is_big) as u64;
        match is_big {
            true => table.extend_from_slice(&(self.entries.len() as u64).to_le_bytes()),
            false => table.extend_from_slice(&(self.entries.len() as u16).to_le_bytes()),
        }
        for (tag, value) in &self.entries {
            table.extend_from_slice(&tag.to_le_bytes());
            table.extend_from_slice(&value.kind(is_big).to_le_bytes());
            number(&mut table, value.count(), is_big);
            let mut bytes = value.bytes(is_big);
            if outside(&bytes, is_big) == 0 {
                bytes.resize(inline_bytes(is_big), 0);
                table.extend_from_slice(&bytes);
            } else {
                number(&mut table, first_beside + beside.len() as u64, is_big);
                let padded = outside(&bytes, is_big);
                bytes.resize(padded, 0);
                beside.extend_from_slice(&bytes);
            }
        }
        let next = if is_last { 0 } else { first_beside + beside.len() as u64 };
        number(&mut table, next, is_big);
        table.extend_from_slice(&beside);
        table
    }

    fn table_bytes(&self, is_big: bool) -> usize {
        if is_big { 8 + self.entries.len() * 20 + 8 } else { 2 + self.entries.len() * 12 + 4 }
    }
}

impl Value {
    fn kind(&self, is_big: bool) -> u16 {
        match self {
            Self::Ascii(_) => 2,
            Self::Short(_) => 3,
            Self::Long(_) => 4,
            Self::Double(_) => 12,
            Self::Offsets(_) if is_big => 16,
            Self::Offsets(_) => 4,
        }
    }

    fn count(&self) -> u64 {
        let count = match self {
            Self::Short(values) => values.len(),
            Self::Long(values) => values.len(),
            Self::Double(values) => values.len(),
            // With its end mark.
            Self::Ascii(text) => text.len() + 1,
            Self::Offsets(values) => values.len(),
        };
        count as u64
    }

    fn bytes(&self, is_big: bool) -> Vec<u8> {
        match self {
            Self::Short(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Long(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Double(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Ascii(text) => text.bytes().chain([0]).collect(),
            Self::Offsets(values) if is_big => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Offsets(values) => values.iter().flat_map(|value| (*value as u32).to_le_bytes()).collect(),
        }
    }
}

/// A count or an offset.
fn number(bytes: &mut Vec<u8>, value: u64, is_big: bool) {
    match is_big {
        true => bytes.extend_from_slice(&value.to_le_bytes()),
        false => bytes.extend_from_slice(&(value as u32).to_le_bytes()),
    }
}

fn inline_bytes(is_big: bool) -> usize {
    if is_big { 8 } else { 4 }
}

/// Bytes that a value takes beside its entry, at even places.
fn outside(bytes: &[u8], is_big: bool) -> usize {
    if bytes.len() <= inline_bytes(is_big) { 0 } else { bytes.len().next_multiple_of(2) }
}
