//! `LabelEncoder`, `CategoryMapper` and `OneHotEncoder`: categories to numbers and back.

use std::collections::HashMap;

use bytes::Bytes;

use super::super::array::{Array, Data, checked_count};
use super::super::attributes::Attributes;
use super::super::operators::{Kernel, kernel};

/// A category as it is compared. All that are not a number are one, and so are both zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Int(i64),
    Float(u64),
    Text(Bytes),
}

impl Key {
    fn of_float(value: f64) -> Self {
        let canonical = if value.is_nan() { f64::NAN } else { value + 0.0 };
        Self::Float(canonical.to_bits())
    }
}

fn keys(data: &Data) -> Vec<Key> {
    match data {
        Data::F32(values) => values.iter().map(|value| Key::of_float(f64::from(*value))).collect(),
        Data::F64(values) => values.iter().map(|value| Key::of_float(*value)).collect(),
        Data::I32(values) => values.iter().map(|value| Key::Int(i64::from(*value))).collect(),
        Data::I64(values) => values.iter().map(|value| Key::Int(*value)).collect(),
        Data::Bool(values) => values.iter().map(|value| Key::Int(i64::from(*value))).collect(),
        Data::Text(values) => values.iter().map(|value| Key::Text(value.clone())).collect(),
    }
}

/// What each category becomes; the last value is for all others.
struct Table {
    places: HashMap<Key, usize>,
    values: Data,
}

impl Table {
    /// The last of equal keys wins.
    fn new(from: &Data, values: Data, default: &Data) -> Result<Self, String> {
        if from.len() != values.len() {
            return Err(format!("has {} keys and {} values", from.len(), values.len()));
        }
        let places = keys(from).into_iter().enumerate().map(|(place, key)| (key, place)).collect();
        let values = match (values, default) {
            (Data::F32(mut values), Data::F32(default)) => {
                values.extend(default.first());
                Data::F32(values)
            }
            (Data::F64(mut values), Data::F64(default)) => {
                values.extend(default.first());
                Data::F64(values)
            }
            (Data::I64(mut values), Data::I64(default)) => {
                values.extend(default.first());
                Data::I64(values)
            }
            (Data::I32(mut values), Data::I32(default)) => {
                values.extend(default.first());
                Data::I32(values)
            }
            (Data::Text(mut values), Data::Text(default)) => {
                values.extend(default.first().cloned());
                Data::Text(values)
            }
            _ => return Err("has values and a default of different types".to_owned()),
        };
        if values.len() != from.len() + 1 {
            return Err("has no default value".to_owned());
        }
        Ok(Self { places, values })
    }

    fn look_up(&self, array: &Array) -> Array {
        let other = self.values.len() - 1;
        let places = keys(&array.data).into_iter().map(|key| self.places.get(&key).copied().unwrap_or(other));
        Array { shape: array.shape.clone(), data: self.values.pick(places) }
    }
}

const UNUSED: Bytes = Bytes::from_static(b"_Unused");

pub(super) fn label_encoder(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    if attributes.has("classes_strings") {
        return by_place(attributes);
    }
    let from = list(attributes, "keys")?.ok_or("has no keys")?;
    let to = list(attributes, "values")?.ok_or("has no values")?;
    let default = match attributes.tensor("default_tensor")? {
        Some(default) => default.data.clone(),
        None => match to {
            Data::F32(_) => Data::F32(vec![attributes.float_or("default_float", -0.0)?]),
            Data::F64(_) => Data::F64(vec![-0.0]),
            Data::I64(_) => Data::I64(vec![attributes.int_or("default_int64", -1)?]),
            Data::I32(_) => Data::I32(vec![-1]),
            _ => Data::Text(vec![attributes.text("default_string")?.cloned().unwrap_or(UNUSED)]),
        },
    };
    let table = Table::new(&from, to, &default)?;
    kernel(move |inputs| Ok(table.look_up(inputs.get(0)?)))
}

/// `keys_strings`, `keys_tensor` and so on.
fn list(attributes: &Attributes, role: &str) -> Result<Option<Data>, String> {
    let name = |kind: &str| format!("{role}_{kind}");
    if attributes.has(&name("strings")) {
        return Ok(Some(Data::Text(attributes.texts(&name("strings"))?.to_vec())));
    }
    if attributes.has(&name("int64s")) {
        return Ok(Some(Data::I64(attributes.ints(&name("int64s"))?.to_vec())));
    }
    if attributes.has(&name("floats")) {
        return Ok(Some(Data::F32(attributes.floats(&name("floats"))?.to_vec())));
    }
    Ok(attributes.tensor(&name("tensor"))?.map(|array| array.data.clone()))
}

/// The first version: texts become their places in a list, and integers the texts at these places.
fn by_place(attributes: &Attributes) -> Result<Kernel, String> {
    let texts = attributes.texts("classes_strings")?.to_vec();
    both_ways(attributes, (0..texts.len() as i64).collect(), texts)
}

pub(super) fn category_mapper(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let ints = attributes.ints("cats_int64s")?.to_vec();
    both_ways(attributes, ints, attributes.texts("cats_strings")?.to_vec())
}

fn both_ways(attributes: &Attributes, ints: Vec<i64>, texts: Vec<Bytes>) -> Result<Kernel, String> {
    let default_text = attributes.text("default_string")?.cloned().unwrap_or(UNUSED);
    let default_int = attributes.int_or("default_int64", -1)?;
    let (ints, texts) = (Data::I64(ints), Data::Text(texts));
    let to_ints = Table::new(&texts, ints.clone(), &Data::I64(vec![default_int]))?;
    let to_texts = Table::new(&ints, texts, &Data::Text(vec![default_text]))?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        Ok(match array.data {
            Data::Text(_) => to_ints.look_up(array),
            _ => to_texts.look_up(array),
        })
    })
}

/// One more axis, with a one at the place of the category. Numbers are cut off to integers.
pub(super) fn one_hot(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let categories = match attributes.texts("cats_strings")? {
        [] => Data::I64(attributes.ints("cats_int64s")?.to_vec()),
        texts => Data::Text(texts.to_vec()),
    };
    let n_categories = categories.len();
    let places: HashMap<Key, usize> =
        keys(&categories).into_iter().enumerate().map(|(place, key)| (key, place)).collect();
    let allows_others = attributes.flag("zeros", true)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let found = match &array.data {
            Data::F32(values) => keys(&Data::I64(values.iter().map(|value| *value as i64).collect())),
            Data::F64(values) => keys(&Data::I64(values.iter().map(|value| *value as i64).collect())),
            other => keys(other),
        };
        let mut shape = array.shape.clone();
        shape.push(n_categories);
        let mut hot = vec![0f32; checked_count(&shape)?];
        for (index, key) in found.iter().enumerate() {
            match places.get(key) {
                Some(place) => hot[index * n_categories + place] = 1.0,
                None if allows_others => {}
                None => return Err("meets a category that the model does not know".to_owned()),
            }
        }
        Ok(Array { shape, data: Data::F32(hot) })
    })
}
