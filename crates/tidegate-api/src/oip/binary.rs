//! Tensors as bytes: row-major and little-endian; a byte string is its length in four bytes, then itself.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tidegate_core::tensor::element_count;
use tidegate_core::{DType, Tensor};

/// Cuts the tensor out of the bytes; nothing is copied. The error says what does not fit.
pub(super) fn tensor_from_binary(datatype: DType, shape: Vec<usize>, bytes: Bytes) -> Result<Tensor, String> {
    let tensor = match datatype {
        DType::Bytes => {
            let n_elements = element_count(&shape).map_err(|error| error.to_string())?;
            Tensor::from_strings(shape, split_strings(bytes, n_elements)?)
        }
        _ => Tensor::from_bytes(datatype, shape, bytes),
    };
    tensor.map_err(|error| error.to_string())
}

/// The tensor as bytes; shared, unless it is one of byte strings.
pub(super) fn binary_of(tensor: &Tensor) -> Bytes {
    match (tensor.as_bytes(), tensor.as_strings()) {
        (Some(bytes), _) => bytes.clone(),
        (None, strings) => join_strings(strings.unwrap_or_default()),
    }
}

fn split_strings(mut bytes: Bytes, n_elements: usize) -> Result<Vec<Bytes>, String> {
    // Each has four bytes of length: more elements than this cannot come, whatever the shape says.
    let mut strings = Vec::with_capacity(n_elements.min(bytes.len() / 4));
    while !bytes.is_empty() {
        let index = strings.len();
        if index == n_elements {
            return Err(format!("{} bytes are left after all {n_elements} elements", bytes.len()));
        }
        if bytes.len() < 4 {
            return Err(format!("element {index} has {} of the 4 bytes of its length", bytes.len()));
        }
        let length = bytes.get_u32_le() as usize;
        if length > bytes.len() {
            return Err(format!("element {index} says it has {length} bytes, {} are left", bytes.len()));
        }
        strings.push(bytes.split_to(length));
    }
    match strings.len() == n_elements {
        true => Ok(strings),
        false => Err(format!("the shape has {n_elements} elements, the data {}", strings.len())),
    }
}

fn join_strings(strings: &[Bytes]) -> Bytes {
    let size = strings.iter().map(|string| 4 + string.len()).sum();
    let mut joined = BytesMut::with_capacity(size);
    for string in strings {
        // A body, and so a string of a tensor, is far below 4 GiB.
        joined.put_u32_le(u32::try_from(string.len()).unwrap_or(u32::MAX));
        joined.extend_from_slice(string);
    }
    joined.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_that_lie_are_refused() {
        let strings = |shape: &[usize], bytes: &'static [u8]| {
            tensor_from_binary(DType::Bytes, shape.to_vec(), Bytes::from_static(bytes))
        };
        assert!(strings(&[2], &[1, 0, 0, 0, b'a', 0, 0, 0, 0]).is_ok());
        for (shape, bytes, words) in [
            (&[1][..], &[2u8, 0, 0, 0, b'a'][..], "says it has 2 bytes, 1 are left"),
            (&[1], &[255, 255, 255, 255, b'a'], "4294967295"),
            (&[1], &[1, 0, 0], "3 of the 4 bytes"),
            (&[1], &[0, 0, 0, 0, 0, 0, 0, 0], "4 bytes are left"),
            (&[3], &[0, 0, 0, 0], "has 3 elements, the data 1"),
            (&[usize::MAX, 2], &[], "memory"),
            (&[1 << 60], &[], "elements"),
        ] {
            let message = strings(shape, bytes).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }

    proptest! {
        /// Any bytes under any shape: a tensor that reads back as the same bytes, or an error.
        #[test]
        fn what_is_taken_comes_back(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            shape in prop::collection::vec(0usize..6, 0..4),
            datatype in prop::sample::select(&DType::ALL),
        ) {
            let bytes = Bytes::from(bytes);
            if let Ok(tensor) = tensor_from_binary(datatype, shape.clone(), bytes.clone()) {
                prop_assert_eq!(tensor.shape(), shape);
                prop_assert_eq!(binary_of(&tensor), bytes);
            }
        }

        /// The length of what the shape asks for: always a tensor.
        #[test]
        fn what_fits_is_taken(
            shape in prop::collection::vec(0usize..5, 0..4),
            datatype in prop::sample::select(&DType::ALL[..13]),
        ) {
            let size = shape.iter().product::<usize>() * datatype.size_bytes().unwrap();
            prop_assert!(tensor_from_binary(datatype, shape, Bytes::from(vec![1; size])).is_ok());
        }

        #[test]
        fn strings_come_back(strings in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20)) {
            let strings: Vec<Bytes> = strings.into_iter().map(Bytes::from).collect();
            let tensor = Tensor::from_strings(vec![strings.len()], strings).unwrap();
            let read = tensor_from_binary(DType::Bytes, tensor.shape().to_vec(), binary_of(&tensor));
            prop_assert_eq!(read.unwrap(), tensor);
        }
    }
}
