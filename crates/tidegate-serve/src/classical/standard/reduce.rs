//! Operators that look along axes: sums, extremes, where the largest value is, and normalising.

use super::super::array::{Array, Data, around, axis_of};
use super::super::attributes::Attributes;
use super::super::operators::{Build, Kernel, kernel};

/// From this version on, `Softmax` looks along one axis; before, along it and all behind it.
const SOFTMAX_ALONG_ONE_AXIS: u64 = 13;

pub(super) fn find(name: &str) -> Option<Build> {
    Some(match name {
        "ReduceSum" => |attributes, _| reduce(attributes, |values| values.iter().sum()),
        "ReduceMean" => {
            |attributes, _| reduce(attributes, |values| values.iter().sum::<f64>() / values.len() as f64)
        }
        "ReduceProd" => |attributes, _| reduce(attributes, |values| values.iter().product()),
        "ReduceMax" => |attributes, _| {
            reduce(attributes, |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        },
        "ReduceMin" => {
            |attributes, _| reduce(attributes, |values| values.iter().copied().fold(f64::INFINITY, f64::min))
        }
        "ReduceSumSquare" => |attributes, _| reduce(attributes, |values| values.iter().map(|x| x * x).sum()),
        "ReduceL1" => |attributes, _| reduce(attributes, |values| values.iter().map(|x| x.abs()).sum()),
        "ReduceL2" => {
            |attributes, _| reduce(attributes, |values| values.iter().map(|x| x * x).sum::<f64>().sqrt())
        }
        "ReduceLogSumExp" => |attributes, _| reduce(attributes, log_sum_exp),
        _ => return None,
    })
}

fn log_sum_exp(values: &[f64]) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return largest;
    }
    largest + values.iter().map(|x| (x - largest).exp()).sum::<f64>().ln()
}

/// Axes are an attribute in older versions and an input in newer ones; none means all of them.
fn reduce(attributes: &Attributes, of: fn(&[f64]) -> f64) -> Result<Kernel, String> {
    let axes = attributes.ints("axes")?.to_vec();
    let keeps = attributes.flag("keepdims", true)?;
    let none_is_none = attributes.flag("noop_with_empty_axes", false)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let n_axes = array.shape.len();
        let asked = match inputs.optional(1) {
            Some(axes) => axes.data.to_i64()?,
            None => axes.clone(),
        };
        if asked.is_empty() && none_is_none {
            return Ok(array.clone());
        }
        let mut goes = vec![asked.is_empty(); n_axes];
        for axis in asked {
            goes[axis_of(axis, n_axes)?] = true;
        }
        let (shape, groups) = grouped(array, &goes)?;
        let reduced = groups.iter().map(|group| of(group));
        let data = match &array.data {
            Data::F32(_) => Data::F32(reduced.map(|value| value as f32).collect()),
            Data::F64(_) => Data::F64(reduced.collect()),
            Data::I32(_) => Data::I32(reduced.map(|value| value as i32).collect()),
            // Beyond 2^53 a sum of integers rounds; labels and counts are far below.
            Data::I64(_) => Data::I64(reduced.map(|value| value as i64).collect()),
            other => return Err(other.refused()),
        };
        let size = |(axis, size): (usize, &usize)| match (goes[axis], keeps) {
            (false, _) => Some(*size),
            (true, true) => Some(1),
            (true, false) => None,
        };
        Ok(Array { shape: shape.iter().enumerate().filter_map(size).collect(), data })
    })
}

/// The values that fall into each place of what is left when some axes go, in order.
fn grouped(array: &Array, goes: &[bool]) -> Result<(Vec<usize>, Vec<Vec<f64>>), String> {
    let values = match &array.data {
        Data::F64(values) => values.clone(),
        Data::I64(values) => values.iter().map(|value| *value as f64).collect(),
        Data::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        other => return Err(other.refused()),
    };
    let left = array.shape.iter().zip(goes).filter(|(_, goes)| !**goes);
    let n_groups = left.map(|(size, _)| *size).product();
    let mut groups = vec![vec![]; n_groups];
    for (index, value) in values.into_iter().enumerate() {
        let (mut rest, mut group, mut stride) = (index, 0, 1);
        for (size, goes) in array.shape.iter().zip(goes).rev() {
            if !goes {
                group += rest % size * stride;
                stride *= size;
            }
            rest /= size;
        }
        groups[group].push(value);
    }
    Ok((array.shape.clone(), groups))
}

pub(super) fn arg_max(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    extreme(attributes, |value, best| value > best)
}

pub(super) fn arg_min(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    extreme(attributes, |value, best| value < best)
}

fn extreme(attributes: &Attributes, is_better: fn(f64, f64) -> bool) -> Result<Kernel, String> {
    let axis = attributes.int_or("axis", 0)?;
    let (keeps, takes_last) =
        (attributes.flag("keepdims", true)?, attributes.flag("select_last_index", false)?);
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let axis = axis_of(axis, array.shape.len())?;
        if array.shape[axis] == 0 {
            return Err("looks along an axis without values".to_owned());
        }
        let goes: Vec<bool> = (0..array.shape.len()).map(|other| other == axis).collect();
        let (mut shape, groups) = grouped(array, &goes)?;
        let best = groups.iter().map(|group| {
            let mut best = 0;
            for (index, value) in group.iter().enumerate() {
                if is_better(*value, group[best]) || takes_last && *value == group[best] {
                    best = index;
                }
            }
            best as i64
        });
        let data = Data::I64(best.collect());
        if keeps {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
        Ok(Array { shape, data })
    })
}

pub(super) fn softmax(attributes: &Attributes, opset: u64) -> Result<Kernel, String> {
    let is_along_one = opset >= SOFTMAX_ALONG_ONE_AXIS;
    let axis = attributes.int_or("axis", if is_along_one { -1 } else { 1 })?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let axis = axis_of(axis, array.shape.len())?;
        let (n_outer, size, n_inner) = around(&array.shape, axis);
        let (size, n_inner) = if is_along_one { (size, n_inner) } else { (size * n_inner, 1) };
        along(array, (n_outer, size, n_inner), |values| {
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            values.iter_mut().for_each(|value| *value = (*value - largest).exp());
            let sum: f64 = values.iter().sum();
            values.iter_mut().for_each(|value| *value /= sum);
        })
    })
}

pub(super) fn lp_normalization(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let (axis, is_l1) = (attributes.int_or("axis", -1)?, attributes.int_or("p", 2)? == 1);
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let axis = axis_of(axis, array.shape.len())?;
        along(array, around(&array.shape, axis), |values| {
            let norm: f64 = if is_l1 {
                values.iter().map(|x| x.abs()).sum()
            } else {
                values.iter().map(|x| x * x).sum::<f64>().sqrt()
            };
            if norm != 0.0 {
                values.iter_mut().for_each(|value| *value /= norm);
            }
        })
    })
}

/// Changes the values along one axis together.
fn along(
    array: &Array,
    (n_outer, size, n_inner): (usize, usize, usize),
    change: impl Fn(&mut [f64]),
) -> Result<Array, String> {
    let mut values = match &array.data {
        Data::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::F64(values) => values.clone(),
        other => return Err(other.refused()),
    };
    let mut line = vec![0.0; size];
    for outer in 0..n_outer {
        for inner in 0..n_inner {
            let place = |index| (outer * size + index) * n_inner + inner;
            line.iter_mut().enumerate().for_each(|(index, value)| *value = values[place(index)]);
            change(&mut line);
            line.iter().enumerate().for_each(|(index, value)| values[place(index)] = *value);
        }
    }
    let data = match array.data {
        Data::F32(_) => Data::F32(values.into_iter().map(|value| value as f32).collect()),
        _ => Data::F64(values),
    };
    Ok(Array { shape: array.shape.clone(), data })
}
