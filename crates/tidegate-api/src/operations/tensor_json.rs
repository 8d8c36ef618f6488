//! JSON arrays straight into a tensor: one pass over text whose syntax is known to be right, and no value per element.

use bytes::Bytes;
use half::{bf16, f16};
use serde_json::value::RawValue;
use tidegate_core::tensor::{Element, element_count};
use tidegate_core::{DType, Tensor, TensorError};

use super::exact::{in_range, out_of_range, whole};
use super::fault::Fault;

/// The tensor of `data`, which is flat in row-major order or nested as `shape` says. The fault's field is `shape`, `data`,
/// or the place in it: `data[0][3]`.
pub(crate) fn tensor_from_json(dtype: DType, shape: &[usize], data: &RawValue) -> Result<Tensor, Fault> {
    element_count(shape).map_err(|error| Fault::new("shape", error.to_string()))?;
    let tensor = match dtype {
        DType::Bool => read(shape, data, boolean)
            .and_then(|values: Vec<bool>| built(Tensor::from_bools(shape.to_vec(), &values))),
        DType::Bytes => {
            read(shape, data, text).and_then(|values| built(Tensor::from_strings(shape.to_vec(), values)))
        }
        DType::Uint8 => numbers(shape, data, integer::<u8>),
        DType::Uint16 => numbers(shape, data, integer::<u16>),
        DType::Uint32 => numbers(shape, data, integer::<u32>),
        DType::Uint64 => numbers(shape, data, integer::<u64>),
        DType::Int8 => numbers(shape, data, integer::<i8>),
        DType::Int16 => numbers(shape, data, integer::<i16>),
        DType::Int32 => numbers(shape, data, integer::<i32>),
        DType::Int64 => numbers(shape, data, integer::<i64>),
        DType::Fp16 => numbers(shape, data, |leaf| float(leaf, f16::from_f64, f16::is_finite)),
        DType::Bf16 => numbers(shape, data, |leaf| float(leaf, bf16::from_f64, bf16::is_finite)),
        DType::Fp32 => numbers(shape, data, |leaf| float(leaf, |value: f32| value, f32::is_finite)),
        DType::Fp64 => numbers(shape, data, |leaf| float(leaf, |value: f64| value, f64::is_finite)),
    };
    tensor.map_err(|fault| fault.within("data"))
}

fn numbers<T: Element>(
    shape: &[usize],
    data: &RawValue,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Tensor, Fault> {
    read(shape, data, parse).and_then(|values| built(Tensor::from_vec(shape.to_vec(), values)))
}

fn built(tensor: Result<Tensor, TensorError>) -> Result<Tensor, Fault> {
    tensor.map_err(|error| Fault::new("", error.to_string()))
}

/// Each leaf parsed, in order; exactly as many as the shape has elements.
fn read<T>(
    shape: &[usize],
    data: &RawValue,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, Fault> {
    let expected = shape.iter().product();
    let text = data.get();
    // A leaf and its comma are two bytes or more: what the shape promises beyond that cannot come.
    let mut values = Vec::with_capacity(text.len().div_ceil(2).min(expected));
    let mut leaves = Leaves::new(text, shape);
    while let Some(leaf) = leaves.next()? {
        if values.len() == expected {
            return Err(leaves.fault(format!("shape {shape:?} has {expected} elements, the data has more")));
        }
        values.push(parse(leaf).map_err(|message| leaves.fault(message))?);
    }
    if values.len() < expected {
        let message = format!("shape {shape:?} needs {expected} elements, the data has {}", values.len());
        return Err(Fault::new("", message));
    }
    Ok(values)
}

/// The scalars of a JSON value, as they are written.
struct Leaves<'a> {
    text: &'a str,
    position: usize,
    shape: &'a [usize],
    /// How many elements each array that is open has so far.
    open: Vec<usize>,
    /// How deep the leaves lie, once the first was met.
    depth: Option<usize>,
}

impl<'a> Leaves<'a> {
    fn new(text: &'a str, shape: &'a [usize]) -> Self {
        Self { text, position: 0, shape, open: Vec::new(), depth: None }
    }

    fn next(&mut self) -> Result<Option<&'a str>, Fault> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.position) {
            match byte {
                b'[' => self.open()?,
                b']' => self.close()?,
                b'{' => {
                    self.count();
                    return Err(self.fault("an object where a value or an array is expected"));
                }
                b' ' | b'\t' | b'\r' | b'\n' | b',' => {}
                _ => return self.leaf().map(Some),
            }
            self.position += 1;
        }
        Ok(None)
    }

    fn open(&mut self) -> Result<(), Fault> {
        self.count();
        if self.open.len() == self.shape.len().max(1) {
            return Err(self.fault(format!("nested deeper than its shape {:?}", self.shape)));
        }
        self.open.push(0);
        Ok(())
    }

    fn close(&mut self) -> Result<(), Fault> {
        let length = self.open.pop().unwrap_or_default();
        let is_nested = self.depth.is_some_and(|depth| depth > 1);
        match self.shape.get(self.open.len()) {
            Some(size) if is_nested && *size != length => {
                Err(self.fault(format!("has {length} elements, its shape {:?} says {size}", self.shape)))
            }
            _ => Ok(()),
        }
    }

    fn leaf(&mut self) -> Result<&'a str, Fault> {
        self.count();
        let depth = *self.depth.get_or_insert(self.open.len());
        if depth != self.open.len() || (depth > 1 && depth != self.shape.len()) {
            return Err(self.fault(format!("a single value where shape {:?} has an array", self.shape)));
        }
        let rest = &self.text[self.position..];
        let end = if rest.starts_with('"') { end_of_string(rest) } else { end_of_word(rest) };
        self.position += end;
        Ok(&rest[..end])
    }

    /// One more element in the array that is open.
    fn count(&mut self) {
        if let Some(length) = self.open.last_mut() {
            *length += 1;
        }
    }

    /// At the element that was met last.
    fn fault(&self, message: impl Into<String>) -> Fault {
        let place = self.open.iter().map(|length| format!("[{}]", length.saturating_sub(1)));
        Fault::new(place.collect::<String>(), message)
    }
}

fn end_of_string(text: &str) -> usize {
    let mut is_escaped = false;
    let quote = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    quote.map_or(text.len(), |inside| inside + 2)
}

fn end_of_word(text: &str) -> usize {
    text.find([',', ']', '}', ' ', '\t', '\r', '\n']).unwrap_or(text.len())
}

fn boolean(leaf: &str) -> Result<bool, String> {
    match leaf {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(expected("true or false", other)),
    }
}

fn text(leaf: &str) -> Result<Bytes, String> {
    match serde_json::from_str::<String>(leaf) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(expected("a string", leaf)),
    }
}

/// Whole numbers, also written as `3.0`; true and false are 1 and 0.
fn integer<T: Element + TryFrom<i128> + std::str::FromStr>(leaf: &str) -> Result<T, String> {
    if let Ok(value) = leaf.parse() {
        return Ok(value);
    }
    match leaf {
        "true" => return in_range(1),
        "false" => return in_range(0),
        _ => {}
    }
    match (leaf.parse::<i128>(), leaf.parse::<f64>()) {
        (Ok(value), _) => in_range(value),
        (_, Ok(value)) => in_range(whole(value)?),
        _ => Err(expected("a whole number", leaf)),
    }
}

/// Parsed in the type itself where it can, so that the nearest value is taken.
fn float<P: std::str::FromStr + std::fmt::Display + Copy, T: Element>(
    leaf: &str,
    convert: impl Fn(P) -> T,
    is_finite: impl Fn(T) -> bool,
) -> Result<T, String> {
    let leaf = match leaf {
        "true" => "1",
        "false" => "0",
        other => other,
    };
    let value = leaf.parse().map_err(|_| expected("a number", leaf))?;
    let converted = convert(value);
    if is_finite(converted) { Ok(converted) } else { Err(out_of_range(leaf, T::DTYPE)) }
}

fn expected(what: &str, leaf: &str) -> String {
    let got = match leaf.as_bytes().first() {
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    format!("expected {what}, got {got}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(dtype: DType, shape: &[usize], data: &str) -> Result<Tensor, Fault> {
        let raw: Box<RawValue> = serde_json::from_str(data).unwrap();
        tensor_from_json(dtype, shape, &raw)
    }

    #[test]
    fn flat_and_nested_are_the_same() {
        let expected = Tensor::from_vec(vec![2, 2], vec![1f32, 2.5, -3e2, 0.0]).unwrap();
        for data in ["[1, 2.5, -3e2, 0]", "[[1,2.5],[-300.0, false]]", " [ [1,2.50] ,\n[-3E2,0] ] "] {
            assert_eq!(decode(DType::Fp32, &[2, 2], data), Ok(expected.clone()), "{data}");
        }
        assert_eq!(decode(DType::Int64, &[], "7"), Ok(Tensor::from_vec(vec![], vec![7i64]).unwrap()));
        for data in ["[]", "[[],[]]"] {
            assert!(decode(DType::Int8, &[2, 0], data).is_ok(), "{data}");
        }
    }

    #[test]
    fn values_are_exact_or_refused() {
        let max = u64::MAX.to_string();
        let cases = [
            (DType::Uint64, max.as_str(), true),
            (DType::Int64, max.as_str(), false),
            (DType::Int32, "3.0", true),
            (DType::Int32, "3.5", false),
            (DType::Uint8, "256", false),
            (DType::Uint8, "-1", false),
            (DType::Uint8, "true", true),
            (DType::Fp32, "1e39", false),
            (DType::Fp16, "65504", true),
            (DType::Fp16, "70000", false),
            (DType::Bf16, "70000", true),
            (DType::Fp64, "1e400", false),
            (DType::Fp32, "null", false),
            (DType::Fp32, "\"1\"", false),
            (DType::Bool, "1", false),
            (DType::Bool, "true", true),
            (DType::Bytes, "1", false),
        ];
        for (dtype, value, fits) in cases {
            assert_eq!(decode(dtype, &[1], &format!("[{value}]")).is_ok(), fits, "{value} as {dtype}");
        }
        let texts = decode(DType::Bytes, &[3], r#"["a\"]\\", "", "ü\u00e4"]"#).unwrap();
        assert_eq!(texts.as_strings().unwrap(), ["a\"]\\", "", "üä"].map(Bytes::from));
    }

    #[test]
    fn the_place_of_the_first_fault_is_named() {
        for (shape, data, field, message) in [
            (&[2, 2][..], "[1,2,3]", "data", "needs 4 elements, the data has 3"),
            (&[2, 2], "[1,2,3,4,5]", "data[4]", "has more"),
            (&[2, 2], "[[1,2],[3]]", "data[1]", "has 1 elements"),
            (&[2, 2], "[[1,2],[3,4],[5,6]]", "data[2][0]", "has more"),
            (&[2, 2], "[[],[1,2],[3,4]]", "data", "has 3 elements"),
            (&[2, 2], "[[1,2],3,4]", "data[1]", "a single value"),
            (&[2, 2], "[1,[2,3,4]]", "data[1][0]", "a single value"),
            (&[4], "[[1,2,3,4]]", "data[0]", "deeper"),
            (&[2, 1, 2], "[[1,2],[3,4]]", "data[0][0]", "a single value"),
            (&[2, 2], "[[1,2],[3,null]]", "data[1][1]", "null"),
            (&[2, 2], "{\"a\": 1}", "data", "an object"),
            (&[2], "[1, {\"a\": [1]}]", "data[1]", "an object"),
            (&[1], "[\"x\"]", "data[0]", "a string"),
            (&[usize::MAX, 2], "[1]", "shape", "memory"),
        ] {
            let fault = decode(DType::Fp32, shape, data).unwrap_err();
            assert_eq!(fault.field, field, "{data}: {fault}");
            assert!(fault.message.contains(message), "{data}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn every_finite_float_comes_back(values in prop::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 0..50)) {
            let tensor = decode(DType::Fp64, &[values.len()], &json!(values).to_string()).unwrap();
            prop_assert_eq!(tensor.values::<f64>().unwrap().into_owned(), values);
        }

        #[test]
        fn texts_come_back(values: Vec<String>) {
            let tensor = decode(DType::Bytes, &[values.len()], &json!(values).to_string()).unwrap();
            let expected: Vec<Bytes> = values.into_iter().map(Bytes::from).collect();
            prop_assert_eq!(tensor.as_strings().unwrap(), expected);
        }

        /// Whatever valid JSON and whatever shape: an answer, never a panic.
        #[test]
        fn nothing_panics(data in "[\\[\\]0-9,]{0,30}", shape in prop::collection::vec(0usize..4, 0..4)) {
            if let Ok(raw) = serde_json::from_str::<Box<RawValue>>(&data) {
                for dtype in [DType::Fp32, DType::Int8, DType::Bytes, DType::Bool] {
                    let _ = tensor_from_json(dtype, &shape, &raw);
                }
            }
        }
    }
}
