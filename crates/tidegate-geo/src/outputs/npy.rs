//! The NumPy array format, version 1.0
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>).

/// A float32 array of three axes in C order.
pub(super) fn encode(shape: [usize; 3], values: &[f32]) -> Vec<u8> {
    const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
    let sizes = shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({sizes}), }}");
    // Magic, two bytes of length, header and newline together are a multiple of 64.
    let unpadded = MAGIC.len() + 2 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    let length = u16::try_from(header.len()).expect("a shape of a few numbers is far below 64 KiB");

    let mut bytes = Vec::with_capacity(MAGIC.len() + 2 + header.len() + size_of_val(values));
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_that_numpy_writes() {
        // numpy.save of numpy.array([[[0.5, 1.0]]], dtype="float32")
        let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
        expected.extend_from_slice(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 2), }");
        expected.resize(127, b' ');
        expected.extend_from_slice(b"\n\0\0\0\x3f\0\0\x80\x3f");
        assert_eq!(encode([1, 1, 2], &[0.5, 1.0]), expected);
    }
}
