//! `Cast`: from any type to any other, text included.

use bytes::Bytes;

use super::super::array::{Array, Data};
use super::super::attributes::Attributes;
use super::super::operators::{Kernel, kernel};

pub(super) fn cast(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let to: fn(&Data) -> Result<Data, String> = match attributes.int_or("to", 0)? {
        1 => |data| Ok(Data::F32(floats(data)?.into_iter().map(|value| value as f32).collect())),
        11 => |data| Ok(Data::F64(floats(data)?)),
        6 => |data| Ok(Data::I32(integers(data)?.into_iter().map(|value| value as i32).collect())),
        7 => |data| Ok(Data::I64(integers(data)?)),
        9 => |data| Ok(Data::Bool(truths(data)?)),
        8 => |data| Ok(Data::Text(texts(data))),
        code => return Err(format!("makes the ONNX data type number {code}, which does not run here")),
    };
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        Ok(Array { shape: array.shape.clone(), data: to(&array.data)? })
    })
}

fn floats(data: &Data) -> Result<Vec<f64>, String> {
    Ok(match data {
        Data::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::F64(values) => values.clone(),
        Data::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::I64(values) => values.iter().map(|value| *value as f64).collect(),
        Data::Bool(values) => values.iter().map(|value| f64::from(u8::from(*value))).collect(),
        Data::Text(values) => parsed(values)?,
    })
}

/// Floats are cut off towards zero.
fn integers(data: &Data) -> Result<Vec<i64>, String> {
    Ok(match data {
        Data::F32(values) => values.iter().map(|value| *value as i64).collect(),
        Data::F64(values) => values.iter().map(|value| *value as i64).collect(),
        Data::I32(values) => values.iter().map(|value| i64::from(*value)).collect(),
        Data::I64(values) => values.clone(),
        Data::Bool(values) => values.iter().map(|value| i64::from(*value)).collect(),
        Data::Text(values) => parsed(values)?,
    })
}

fn truths(data: &Data) -> Result<Vec<bool>, String> {
    Ok(match data {
        Data::Bool(values) => values.clone(),
        Data::F32(_) | Data::F64(_) => floats(data)?.into_iter().map(|value| value != 0.0).collect(),
        _ => integers(data)?.into_iter().map(|value| value != 0).collect(),
    })
}

fn texts(data: &Data) -> Vec<Bytes> {
    match data {
        Data::Text(values) => values.clone(),
        Data::F32(values) => values.iter().map(|value| shortest(f64::from(*value), 8).into()).collect(),
        Data::F64(values) => values.iter().map(|value| shortest(*value, 17).into()).collect(),
        Data::I32(values) => values.iter().map(|value| value.to_string().into()).collect(),
        Data::I64(values) => values.iter().map(|value| value.to_string().into()).collect(),
        Data::Bool(values) => values.iter().map(|value| if *value { "1" } else { "0" }.into()).collect(),
    }
}

fn parsed<T: std::str::FromStr>(values: &[Bytes]) -> Result<Vec<T>, String> {
    let parse = |text: &Bytes| {
        let readable = std::str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok());
        readable.ok_or_else(|| format!("finds no number in `{}`", String::from_utf8_lossy(text)))
    };
    values.iter().map(parse).collect()
}

/// As C's `%g` writes it with so many significant digits, which is what ONNX Runtime does: categories are compared by it.
fn shortest(value: f64, n_digits: usize) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "INF" } else { "-INF" }.to_owned();
    }
    let scientific = format!("{value:.*e}", n_digits - 1);
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    let decimals = i32::try_from(n_digits).unwrap_or(i32::MAX) - 1 - exponent;
    match usize::try_from(decimals) {
        Ok(decimals) if exponent >= -4 => trimmed(&format!("{value:.decimals$}")),
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shortest;

    #[test]
    fn numbers_become_the_text_that_printf_makes_of_them() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-2.5, "-2.5"),
            (100.0, "100"),
            (f64::from(0.1f32), "0.1"),
            (1e-5, "1e-05"),
            (f64::from(1e-5f32), "9.9999997e-06"),
            (0.0001234, "0.0001234"),
            (123_456_789.0, "1.2345679e+08"),
            (12_345_678.0, "12345678"),
            (1e30, "1e+30"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-INF"),
        ];
        for (value, expected) in cases {
            assert_eq!(shortest(value, 8), expected);
        }
    }
}
