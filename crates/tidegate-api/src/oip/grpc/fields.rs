//! The fields of a Protocol Buffers message, cut out of its bytes
//! (<https://protobuf.dev/programming-guides/encoding/>).

use bytes::{Buf, Bytes};

/// A message whose fields are read one by one.
pub(super) struct Fields(pub Bytes);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Varint(u64),
    Fixed64(Bytes),
    Fixed32(Bytes),
    /// A text, bytes, an embedded message or packed numbers.
    Bytes(Bytes),
}

/// The bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Fields {
    /// Number and value of the next field; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Value)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.take(4)?),
            _ => return Err(Malformed),
        };
        if tag >> 3 == 0 { Err(Malformed) } else { Ok(Some((tag >> 3, value))) }
    }

    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if self.0.is_empty() {
                return Err(Malformed);
            }
            let byte = self.0.get_u8();
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<Bytes, Malformed> {
        match usize::try_from(length) {
            Ok(length) if length <= self.0.len() => Ok(self.0.split_to(length)),
            _ => Err(Malformed),
        }
    }
}

impl Value {
    pub(super) fn text(self) -> Result<String, Malformed> {
        match self {
            Self::Bytes(bytes) => String::from_utf8(bytes.into()).map_err(|_| Malformed),
            _ => Err(Malformed),
        }
    }

    pub(super) fn bytes(self) -> Result<Bytes, Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(u64, Value)>, Malformed> {
        let mut fields = Fields(Bytes::copy_from_slice(bytes));
        let mut read = vec![];
        while let Some(field) = fields.next()? {
            read.push(field);
        }
        Ok(read)
    }

    #[test]
    fn reads_every_wire_type_and_refuses_what_does_not_fit() {
        let bytes = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
        let expected = vec![
            (1, Value::Varint(150)),
            (2, Value::Bytes(Bytes::from_static(b"hi"))),
            (3, Value::Fixed32(Bytes::from_static(&[1, 2, 3, 4]))),
            (4, Value::Fixed64(Bytes::from_static(&[1, 2, 3, 4, 5, 6, 7, 8]))),
        ];
        assert_eq!(all(&bytes), Ok(expected));
        for bad in [
            &[0x12, 3, 1, 2][..],
            &[0x08, 0x80],
            &[0x1d, 0, 0],
            &[0x0b],
            &[0x00, 0x00],
            &[0xff; 16],
            &[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ] {
            assert_eq!(all(bad), Err(Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = all(&bytes);
        }
    }
}
