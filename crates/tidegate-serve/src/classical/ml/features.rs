//! Operators that prepare features: scaling, normalising, filling in, choosing and joining columns.

use super::super::array::{Array, Data, axis_of, checked_count};
use super::super::attributes::Attributes;
use super::super::operators::{Kernel, kernel};

/// One number for all features, or one for each.
struct PerFeature(Vec<f32>);

impl PerFeature {
    fn of(&self, name: &str, n_features: usize) -> Result<impl Fn(usize) -> f32, String> {
        let values = &self.0;
        if values.len() != 1 && values.len() != n_features {
            return Err(format!("has {} values of `{name}` for {n_features} features", values.len()));
        }
        Ok(move |feature: usize| values[if values.len() == 1 { 0 } else { feature }])
    }
}

fn n_features(array: &Array) -> Result<usize, String> {
    array.shape.last().copied().ok_or_else(|| "takes features, and got a single number".to_owned())
}

pub(super) fn scaler(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let read = |name, default: f32| match attributes.floats(name)? {
        [] => Ok::<_, String>(PerFeature(vec![default])),
        values => Ok(PerFeature(values.to_vec())),
    };
    let (offset, scale) = (read("offset", 0.0)?, read("scale", 1.0)?);
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let n_features = n_features(array)?;
        let (offset, scale) = (offset.of("offset", n_features)?, scale.of("scale", n_features)?);
        let feature = |index: usize| index % n_features;
        let scaled = match &array.data {
            Data::F64(values) => values
                .iter()
                .enumerate()
                .map(|(index, value)| {
                    ((value - f64::from(offset(feature(index)))) * f64::from(scale(feature(index)))) as f32
                })
                .collect(),
            other => other
                .to_f32()?
                .into_iter()
                .enumerate()
                .map(|(index, value)| (value - offset(feature(index))) * scale(feature(index)))
                .collect(),
        };
        Ok(Array { shape: array.shape.clone(), data: Data::F32(scaled) })
    })
}

pub(super) fn normalizer(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let norm: fn(&[f32]) -> f64 = match attributes.word_or("norm", "MAX")?.as_str() {
        "MAX" => |row| row.iter().map(|x| f64::from(*x)).fold(f64::NEG_INFINITY, f64::max),
        "L1" => |row| row.iter().map(|x| f64::from(x.abs())).sum(),
        "L2" => |row| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt(),
        other => return Err(format!("has the unknown norm `{other}`")),
    };
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let (_, n_features) = array.as_rows()?;
        let mut values = array.data.to_f32()?;
        for row in values.chunks_exact_mut(n_features.max(1)) {
            let norm = norm(row);
            if norm != 0.0 {
                row.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
            }
        }
        Ok(Array { shape: array.shape.clone(), data: Data::F32(values) })
    })
}

pub(super) fn binarizer(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let threshold = attributes.float_or("threshold", 0.0)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let data = match &array.data {
            Data::F32(values) => {
                Data::F32(values.iter().map(|value| f32::from(*value > threshold)).collect())
            }
            Data::F64(values) => {
                Data::F64(values.iter().map(|value| f64::from(*value > f64::from(threshold))).collect())
            }
            Data::I64(values) => {
                Data::I64(values.iter().map(|value| i64::from(*value as f32 > threshold)).collect())
            }
            other => return Err(other.refused()),
        };
        Ok(Array { shape: array.shape.clone(), data })
    })
}

/// What is missing is NaN, or a number of choice.
pub(super) fn imputer(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let (floats, ints) = (
        PerFeature(attributes.floats("imputed_value_floats")?.to_vec()),
        attributes.ints("imputed_value_int64s")?.to_vec(),
    );
    let missing = attributes.float_or("replaced_value_float", 0.0)?;
    let missing_int = attributes.int_or("replaced_value_int64", 0)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let n_features = n_features(array)?;
        let is_missing =
            |value: f64| if missing.is_nan() { value.is_nan() } else { value == f64::from(missing) };
        let data = match &array.data {
            Data::F32(values) => {
                let filling = floats.of("imputed_value_floats", n_features)?;
                let fill = |(index, value): (usize, &f32)| {
                    if is_missing(f64::from(*value)) { filling(index % n_features) } else { *value }
                };
                Data::F32(values.iter().enumerate().map(fill).collect())
            }
            Data::F64(values) => {
                let filling = floats.of("imputed_value_floats", n_features)?;
                let fill = |(index, value): (usize, &f64)| {
                    if is_missing(*value) { f64::from(filling(index % n_features)) } else { *value }
                };
                Data::F64(values.iter().enumerate().map(fill).collect())
            }
            Data::I64(values) => {
                if ints.len() != 1 && ints.len() != n_features {
                    return Err(format!("has {} integers to fill in {n_features} features", ints.len()));
                }
                let fill = |(index, value): (usize, &i64)| match *value == missing_int {
                    true => ints[index % n_features % ints.len()],
                    false => *value,
                };
                Data::I64(values.iter().enumerate().map(fill).collect())
            }
            other => return Err(other.refused()),
        };
        Ok(Array { shape: array.shape.clone(), data })
    })
}

/// Columns side by side, each input cut or filled with zeros to its number of them.
pub(super) fn vectorizer(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let width =
        |width: &i64| usize::try_from(*width).map_err(|_| format!("takes {width} features of an input"));
    let widths = attributes.ints("inputdimensions")?.iter().map(width).collect::<Result<Vec<_>, _>>()?;
    let mut n_columns = 0usize;
    for width in &widths {
        n_columns = n_columns.saturating_add(*width);
    }
    kernel(move |inputs| {
        let all = inputs.all()?;
        if all.len() != widths.len() {
            return Err(format!("has {} inputs and the widths of {}", all.len(), widths.len()));
        }
        let (n_rows, _) = all[0].as_rows()?;
        let count = checked_count(&[n_rows, n_columns])?;
        let mut joined = vec![0.0; count];
        let mut start = 0;
        for (array, width) in all.into_iter().zip(&widths) {
            let (own_rows, n_features) = array.as_rows()?;
            if own_rows != n_rows {
                return Err(format!("has inputs of {n_rows} and {own_rows} rows"));
            }
            let values = array.data.to_f32()?;
            let n_taken = n_features.min(*width);
            for row in 0..n_rows {
                let target = row * n_columns + start;
                let source = row * n_features;
                joined[target..target + n_taken].copy_from_slice(&values[source..source + n_taken]);
            }
            start += width;
        }
        Ok(Array { shape: vec![n_rows, n_columns], data: Data::F32(joined) })
    })
}

/// Some of the columns, in the order that the second input says.
pub(super) fn extractor(_: &Attributes, _: u64) -> Result<Kernel, String> {
    kernel(|inputs| {
        let (array, columns) = (inputs.get(0)?, inputs.get(1)?);
        let n_features = n_features(array)?;
        let columns = columns.data.to_i64()?;
        let place = |column: &i64| axis_of(*column, n_features);
        let columns = columns.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let mut shape = array.shape.clone();
        match shape.as_mut_slice() {
            [_] => shape = vec![1, columns.len()],
            [.., last] => *last = columns.len(),
            [] => {}
        }
        checked_count(&shape)?;
        let n_rows = array.data.len() / n_features.max(1);
        let columns = &columns;
        let places = (0..n_rows).flat_map(|row| columns.iter().map(move |column| row * n_features + column));
        Ok(Array { shape, data: array.data.pick(places) })
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::attributes::Attribute;
    use super::super::super::operators::Inputs;
    use super::*;

    fn run(kernel: Result<Kernel, String>, inputs: &[Array]) -> Result<Array, String> {
        kernel?(&Inputs(inputs.iter().map(Some).collect())).map(|mut outputs| outputs.remove(0))
    }

    fn attributes(list: Vec<(&str, Attribute)>) -> Attributes {
        Attributes(list.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn floats(shape: &[usize], values: &[f32]) -> Array {
        Array::new(shape.to_vec(), Data::F32(values.to_vec())).unwrap()
    }

    #[test]
    fn inputs_are_cut_and_filled_to_their_widths() {
        let widths = attributes(vec![("inputdimensions", Attribute::Ints(vec![1, 3]))]);
        let inputs = [floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]), floats(&[2, 1], &[5.0, 6.0])];
        let joined = run(vectorizer(&widths, 0), &inputs).unwrap();
        assert_eq!(joined, floats(&[2, 4], &[1.0, 5.0, 0.0, 0.0, 3.0, 6.0, 0.0, 0.0]));
        assert!(run(vectorizer(&widths, 0), &inputs[..1]).unwrap_err().contains("the widths of 2"));
        let absurd = attributes(vec![("inputdimensions", Attribute::Ints(vec![i64::MAX, i64::MAX]))]);
        assert!(run(vectorizer(&absurd, 0), &inputs).is_err());
    }

    #[test]
    fn features_of_another_number_are_refused_by_name() {
        let three = attributes(vec![("offset", Attribute::Floats(vec![1.0; 3]))]);
        let error = run(scaler(&three, 0), &[floats(&[1, 2], &[1.0, 2.0])]).unwrap_err();
        assert_eq!(error, "has 3 values of `offset` for 2 features");
        let none = run(imputer(&Attributes::default(), 0), &[floats(&[1, 2], &[1.0, 2.0])]);
        assert!(none.is_err());
    }

    #[test]
    fn columns_outside_the_table_are_refused() {
        let table = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let columns = |places: &[i64]| Array::vector(Data::I64(places.to_vec()));
        let run =
            |places: &[i64]| run(extractor(&Attributes::default(), 0), &[table.clone(), columns(places)]);
        assert_eq!(run(&[1, 1, 0]).unwrap(), floats(&[2, 3], &[2.0, 2.0, 1.0, 4.0, 4.0, 3.0]));
        assert!(run(&[2]).is_err());
    }
}
