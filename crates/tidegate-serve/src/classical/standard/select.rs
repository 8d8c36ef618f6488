//! Operators that choose among values, or put them side by side.

use bytes::Bytes;

use super::super::array::{Array, Data, around, axis_of, checked_count};
use super::super::attributes::Attributes;
use super::super::operators::{Kernel, kernel};

pub(super) fn concat(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let axis = attributes.int_or("axis", 1)?;
    kernel(move |inputs| {
        let parts = inputs.all()?;
        let mut shape = parts[0].shape.clone();
        let axis = axis_of(axis, shape.len())?;
        let mut size = 0usize;
        for part in &parts {
            let is_alike = part.shape.len() == shape.len()
                && (0..shape.len()).all(|other| other == axis || part.shape[other] == shape[other]);
            if !is_alike {
                return Err(format!("cannot put {:?} beside {shape:?}", part.shape));
            }
            size = size.saturating_add(part.shape[axis]);
        }
        shape[axis] = size;
        checked_count(&shape)?;
        let (n_outer, _, n_inner) = around(&shape, axis);
        macro_rules! of {
            ($kind:ident, $type:ty) => {{
                let mut all: Vec<(&[$type], usize)> = vec![];
                for part in &parts {
                    let Data::$kind(values) = &part.data else { return Err("mixes types".to_owned()) };
                    all.push((values, part.shape[axis] * n_inner));
                }
                let rows = (0..n_outer).flat_map(|row| {
                    all.iter().flat_map(move |(values, width)| &values[row * width..(row + 1) * width])
                });
                Data::$kind(rows.cloned().collect())
            }};
        }
        let data = match &parts[0].data {
            Data::F32(_) => of!(F32, f32),
            Data::F64(_) => of!(F64, f64),
            Data::I32(_) => of!(I32, i32),
            Data::I64(_) => of!(I64, i64),
            Data::Bool(_) => of!(Bool, bool),
            Data::Text(_) => of!(Text, Bytes),
        };
        Ok(Array { shape, data })
    })
}

pub(super) fn gather(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let axis = attributes.int_or("axis", 0)?;
    kernel(move |inputs| {
        let (array, indices) = (inputs.get(0)?, inputs.get(1)?);
        let axis = axis_of(axis, array.shape.len())?;
        let (n_outer, size, n_inner) = around(&array.shape, axis);
        let places = indices.data.to_i64()?;
        let places = places.into_iter().map(|index| axis_of(index, size)).collect::<Result<Vec<_>, _>>()?;
        let mut shape = array.shape[..axis].to_vec();
        shape.extend(&indices.shape);
        shape.extend(&array.shape[axis + 1..]);
        checked_count(&shape)?;
        let places = &places;
        let chosen = (0..n_outer).flat_map(|outer| {
            places.iter().flat_map(move |place| {
                let start = (outer * size + place) * n_inner;
                start..start + n_inner
            })
        });
        Ok(Array { shape, data: array.data.pick(chosen) })
    })
}

/// Starts, ends and axes are attributes before version 10 and inputs since, which may have steps.
pub(super) fn slice(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let list = |name| attributes.ints(name).map(<[i64]>::to_vec);
    let is_attributes = attributes.has("starts");
    let (starts, ends, axes) = (list("starts")?, list("ends")?, list("axes")?);
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let listed = |index| match inputs.optional(index) {
            Some(list) => list.data.to_i64().map(Some),
            None => Ok(None),
        };
        let (starts, ends, axes, steps) = if is_attributes {
            (starts.clone(), ends.clone(), Some(axes.clone()).filter(|axes| !axes.is_empty()), None)
        } else {
            (inputs.get(1)?.data.to_i64()?, inputs.get(2)?.data.to_i64()?, listed(3)?, listed(4)?)
        };
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
        if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
            return Err("has starts, ends, axes and steps of different number".to_owned());
        }
        let mut sliced = array.clone();
        for (((start, end), axis), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let axis = axis_of(axis, sliced.shape.len())?;
            let (n_outer, size, n_inner) = around(&sliced.shape, axis);
            let places = steps_along(size, start, end, step)?;
            let chosen = (0..n_outer).flat_map(|outer| {
                places.iter().flat_map(move |place| {
                    let start = (outer * size + place) * n_inner;
                    start..start + n_inner
                })
            });
            sliced.data = sliced.data.pick(chosen);
            sliced.shape[axis] = places.len();
        }
        Ok(sliced)
    })
}

/// The places of an axis that a slice keeps, in its order.
fn steps_along(size: usize, start: i64, end: i64, step: i64) -> Result<Vec<usize>, String> {
    let size = i64::try_from(size).map_err(|_| "is too large".to_owned())?;
    let from_start = |place: i64| if place < 0 { place.saturating_add(size) } else { place };
    let (start, end) = (from_start(start), from_start(end));
    let distance = usize::try_from(step.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(match step {
        0 => return Err("has a step of zero".to_owned()),
        1.. => {
            (start.clamp(0, size)..end.clamp(0, size)).step_by(distance).map(|place| place as usize).collect()
        }
        _ => {
            let (first, last) = (start.clamp(-1, size - 1), end.clamp(-1, size - 1));
            (last + 1..first + 1).rev().step_by(distance).map(|place| place as usize).collect()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::steps_along;

    #[test]
    fn slices_keep_what_python_keeps() {
        let cases: [(i64, i64, i64, &[usize]); 8] = [
            (0, 5, 1, &[0, 1, 2, 3, 4]),
            (1, i64::MAX, 2, &[1, 3]),
            (-2, i64::MAX, 1, &[3, 4]),
            (0, -1, 1, &[0, 1, 2, 3]),
            (-1, i64::MIN, -1, &[4, 3, 2, 1, 0]),
            (i64::MAX, 0, -2, &[4, 2]),
            (3, 1, 1, &[]),
            (0, 5, i64::MAX, &[0]),
        ];
        for (start, end, step, expected) in cases {
            assert_eq!(steps_along(5, start, end, step).unwrap(), expected, "{start}..{end} by {step}");
        }
        assert!(steps_along(5, 0, 5, 0).is_err());
        assert!(steps_along(0, 0, 5, 1).unwrap().is_empty());
        assert!(steps_along(0, 0, 5, -1).unwrap().is_empty());
    }
}
