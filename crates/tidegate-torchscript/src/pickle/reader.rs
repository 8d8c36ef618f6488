//! The bytes of a pickle, and the numbers and texts in them.

use crate::error::ConvertError;

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ConvertError> {
        let (head, rest) = self.bytes.split_at_checked(count).ok_or_else(truncated)?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ConvertError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or_else(truncated)?;
        self.bytes = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, ConvertError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, ConvertError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, ConvertError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, ConvertError> {
        self.array().map(i32::from_le_bytes)
    }

    /// Sizes are 8 bytes in the long opcodes.
    pub(super) fn size(&mut self) -> Result<usize, ConvertError> {
        usize::try_from(self.array().map(u64::from_le_bytes)?).map_err(|_| truncated())
    }

    /// BINFLOAT is big-endian.
    pub(super) fn f64(&mut self) -> Result<f64, ConvertError> {
        self.array().map(f64::from_be_bytes)
    }

    pub(super) fn text(&mut self, count: usize) -> Result<&'a str, ConvertError> {
        std::str::from_utf8(self.take(count)?)
            .map_err(|_| ConvertError::malformed("a text in a pickle is not UTF-8"))
    }

    /// Up to the line end, which is consumed.
    pub(super) fn line(&mut self) -> Result<&'a str, ConvertError> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n').ok_or_else(truncated)?;
        let line = self.text(end)?;
        self.take(1)?;
        Ok(line)
    }

    /// A little-endian two's complement number of `count` bytes.
    pub(super) fn long(&mut self, count: usize) -> Result<i64, ConvertError> {
        let bytes = self.take(count)?;
        if count > 8 {
            return Err(ConvertError::malformed("an integer in a pickle does not fit 64 bits"));
        }
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        wide[..count].copy_from_slice(bytes);
        Ok(i64::from_le_bytes(wide))
    }
}

fn truncated() -> ConvertError {
    ConvertError::malformed("a pickle ends early")
}
