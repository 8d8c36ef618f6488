//! Walks the fields of a Protocol Buffers message in a file, skipping what nobody asked for.
//!
//! Wire format: <https://protobuf.dev/programming-guides/encoding/>. Every length is checked against the message around it
//! before anything is allocated, which the runtimes' own parsers do not all do: a file that passes here cannot make them
//! reserve more memory than it has bytes.

use std::io::{BufRead, Seek};

/// Names and paths in a model are short; anything longer is damage.
const MAX_TEXT_BYTES: u64 = 64 * 1024;

pub(crate) struct Wire<R> {
    inner: R,
    position: u64,
}

/// Where a message went wrong.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A field is longer than what is left of the message around it.
    Truncated,
    Malformed,
    Io(std::io::Error),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Varint(u64),
    /// A text, bytes or an embedded message, from here up to `end`.
    Bytes {
        end: u64,
    },
    /// Fixed-width numbers, as their bits.
    Fixed32(u32),
    Fixed64(u64),
}

impl<R: BufRead + Seek> Wire<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, position: 0 }
    }

    /// The next field of the message that ends at `end`, as its number and value; `None` at the end. The caller must read
    /// or [`skip`](Self::skip) the value before the next call.
    pub(crate) fn next(&mut self, end: u64) -> Result<Option<(u64, Value)>, Fault> {
        if self.position == end {
            return Ok(None);
        }
        let tag = self.varint(end)?;
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint(end)?),
            1 => Value::Fixed64(u64::from_le_bytes(self.fixed(end)?)),
            2 => {
                let size = self.varint(end)?;
                let end_of_field = self.position.checked_add(size).filter(|field_end| *field_end <= end);
                Value::Bytes { end: end_of_field.ok_or(Fault::Truncated)? }
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.fixed(end)?)),
            _ => return Err(Fault::Malformed),
        };
        if number == 0 { Err(Fault::Malformed) } else { Ok(Some((number, value))) }
    }

    pub(crate) fn skip(&mut self, value: Value) -> Result<(), Fault> {
        match value {
            Value::Bytes { end } => self.seek_to(end),
            Value::Varint(_) | Value::Fixed32(_) | Value::Fixed64(_) => Ok(()),
        }
    }

    /// The text from here up to `end`.
    pub(crate) fn text(&mut self, end: u64) -> Result<String, Fault> {
        if end - self.position > MAX_TEXT_BYTES {
            return Err(Fault::Malformed);
        }
        String::from_utf8(self.bytes(end)?).map_err(|_| Fault::Malformed)
    }

    /// The bytes from here up to `end`: at most as many as the file has.
    pub(crate) fn bytes(&mut self, end: u64) -> Result<Vec<u8>, Fault> {
        let size = usize::try_from(end - self.position).map_err(|_| Fault::Malformed)?;
        let mut bytes = vec![0; size];
        self.inner.read_exact(&mut bytes)?;
        self.position = end;
        Ok(bytes)
    }

    /// The packed integers from here up to `end`.
    pub(crate) fn packed(&mut self, end: u64) -> Result<Vec<i64>, Fault> {
        let mut values = vec![];
        while self.position < end {
            values.push(self.varint(end)?.cast_signed());
        }
        Ok(values)
    }

    fn varint(&mut self, end: u64) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if self.position == end {
                return Err(Fault::Truncated);
            }
            let mut byte = [0];
            self.inner.read_exact(&mut byte)?;
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Malformed)
    }

    fn fixed<const N: usize>(&mut self, end: u64) -> Result<[u8; N], Fault> {
        if end - self.position < N as u64 {
            return Err(Fault::Truncated);
        }
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn seek_to(&mut self, end: u64) -> Result<(), Fault> {
        let distance = i64::try_from(end - self.position).map_err(|_| Fault::Malformed)?;
        self.inner.seek_relative(distance)?;
        self.position = end;
        Ok(())
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Io(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn walk(bytes: &[u8]) -> Result<Vec<(u64, Value)>, Fault> {
        let mut wire = Wire::new(Cursor::new(bytes));
        let mut fields = vec![];
        while let Some((number, value)) = wire.next(bytes.len() as u64)? {
            fields.push((number, value));
            wire.skip(value)?;
        }
        Ok(fields)
    }

    #[test]
    fn reads_every_wire_type() {
        // The encoding guide's own example (field 1 = 150), then a text, a float and a double.
        let bytes =
            [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 0, 0, 0, 0, 0x21, 0, 0, 0, 0, 0, 0, 0, 0, 0x28, 7];
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes { end: 7 }),
            (3, Value::Fixed32(0)),
            (4, Value::Fixed64(0)),
            (5, Value::Varint(7)),
        ];
        assert_eq!(walk(&bytes).unwrap(), expected);
    }

    #[test]
    fn refuses_what_does_not_fit_without_allocating_for_it() {
        let huge = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(matches!(walk(&huge), Err(Fault::Truncated)));
        assert!(matches!(walk(&[0x12, 3, 1, 2]), Err(Fault::Truncated)));
        assert!(matches!(walk(&[0x08, 0x80]), Err(Fault::Truncated)));
        assert!(matches!(walk(&[0x1d, 0, 0]), Err(Fault::Truncated)));
        assert!(matches!(walk(&[0xff; 16]), Err(Fault::Malformed)));
        assert!(matches!(walk(&[0x0b]), Err(Fault::Malformed)), "groups are not used by ONNX");
        assert!(matches!(walk(&[0x00, 0x00]), Err(Fault::Malformed)), "field numbers start at one");
    }
}
