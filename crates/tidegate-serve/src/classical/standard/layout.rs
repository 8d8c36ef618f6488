//! Operators that leave the values as they are and change their shape, and constants.

use super::super::array::{Array, Data, axis_of, checked_count};
use super::super::attributes::{Attribute, Attributes};
use super::super::operators::{Inputs, Kernel, kernel};

pub(super) fn identity(_: &Attributes, _: u64) -> Result<Kernel, String> {
    kernel(|inputs| Ok(inputs.get(0)?.clone()))
}

pub(super) fn constant(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let scalar = |data| Array { shape: vec![], data };
    let known = attributes.0.iter().find_map(|(name, attribute)| match (name.as_str(), attribute) {
        ("value", Attribute::Tensor(Ok(array))) => Some(array.clone()),
        ("value_float", Attribute::Float(value)) => Some(scalar(Data::F32(vec![*value]))),
        ("value_int", Attribute::Int(value)) => Some(scalar(Data::I64(vec![*value]))),
        ("value_string", Attribute::Text(value)) => Some(scalar(Data::Text(vec![value.clone()]))),
        ("value_floats", Attribute::Floats(values)) => Some(Array::vector(Data::F32(values.clone()))),
        ("value_ints", Attribute::Ints(values)) => Some(Array::vector(Data::I64(values.clone()))),
        ("value_strings", Attribute::Texts(values)) => Some(Array::vector(Data::Text(values.clone()))),
        _ => None,
    });
    let array = known.ok_or("has no value that is read here")?;
    kernel(move |_| Ok(array.clone()))
}

pub(super) fn constant_of_shape(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let value = attributes.tensor("value")?.map_or(Data::F32(vec![0.0]), |array| array.data.clone());
    if value.len() != 1 {
        return Err(format!("repeats one value, and has {}", value.len()));
    }
    kernel(move |inputs| {
        let size = |size: i64| usize::try_from(size).map_err(|_| format!("makes an axis of size {size}"));
        let shape = inputs.get(0)?.data.to_i64()?.into_iter().map(size).collect::<Result<Vec<_>, _>>()?;
        let count = checked_count(&shape)?;
        Ok(Array { shape, data: value.pick(std::iter::repeat_n(0, count)) })
    })
}

pub(super) fn shape(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let (start, end) = (attributes.int_or("start", 0)?, attributes.int_or("end", i64::MAX)?);
    kernel(move |inputs| {
        let shape = &inputs.get(0)?.shape;
        let n_axes = shape.len() as i64;
        let clamp = |axis: i64| {
            let from_start = if axis < 0 { axis.saturating_add(n_axes) } else { axis };
            from_start.clamp(0, n_axes) as usize
        };
        let sizes = shape.get(clamp(start)..clamp(end)).unwrap_or_default();
        Ok(Array::vector(Data::I64(sizes.iter().map(|size| *size as i64).collect())))
    })
}

/// One size may be -1, to be worked out; zero means the size of the input's axis, unless it is allowed.
pub(super) fn reshape(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let allows_zero = attributes.flag("allowzero", false)?;
    kernel(move |inputs| {
        let (array, asked) = (inputs.get(0)?, inputs.get(1)?.data.to_i64()?);
        let fault = || format!("cannot make the shape {asked:?} of {:?}", array.shape);
        let mut shape = vec![];
        let mut open = None;
        for (axis, size) in asked.iter().enumerate() {
            shape.push(match *size {
                0 if !allows_zero => *array.shape.get(axis).ok_or_else(fault)?,
                -1 if open.replace(axis).is_none() => 1,
                size => usize::try_from(size).map_err(|_| fault())?,
            });
        }
        let known = checked_count(&shape)?;
        if let Some(axis) = open {
            shape[axis] = array.data.len().checked_div(known).ok_or_else(fault)?;
        }
        Array::new(shape, array.data.clone()).map_err(|_| fault())
    })
}

pub(super) fn flatten(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let axis = attributes.int_or("axis", 1)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let n_axes = array.shape.len();
        let axis = if axis == n_axes as i64 { n_axes } else { axis_of(axis, n_axes)? };
        let (rows, columns) = array.shape.split_at(axis);
        let shape = vec![rows.iter().product(), columns.iter().product()];
        Ok(Array { shape, data: array.data.clone() })
    })
}

/// Axes are an attribute before version 13 and an input since.
fn axes(attributes: &Attributes, inputs: &Inputs<'_>) -> Result<Option<Vec<i64>>, String> {
    if attributes.has("axes") {
        return Ok(Some(attributes.ints("axes")?.to_vec()));
    }
    inputs.optional(1).map(|axes| axes.data.to_i64()).transpose()
}

pub(super) fn squeeze(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let attributes = only_axes(attributes)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let n_axes = array.shape.len();
        let goes: Vec<bool> = match axes(&attributes, inputs)? {
            None => array.shape.iter().map(|size| *size == 1).collect(),
            Some(axes) => {
                let mut goes = vec![false; n_axes];
                for axis in axes {
                    goes[axis_of(axis, n_axes)?] = true;
                }
                goes
            }
        };
        let kept = array.shape.iter().zip(goes).filter(|(_, goes)| !goes);
        let shape = kept.map(|(size, _)| *size).collect();
        Array::new(shape, array.data.clone())
            .map_err(|_| format!("removes an axis of {:?} that is not 1", array.shape))
    })
}

pub(super) fn unsqueeze(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let attributes = only_axes(attributes)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let new = axes(&attributes, inputs)?.ok_or("is not told which axes to add")?;
        let n_axes = array.shape.len() + new.len();
        let mut is_new = vec![false; n_axes];
        for axis in &new {
            if std::mem::replace(&mut is_new[axis_of(*axis, n_axes)?], true) {
                return Err(format!("adds the axis {axis} twice"));
            }
        }
        let mut old = array.shape.iter().copied();
        let size = |is_new: bool| if is_new { Some(1) } else { old.next() };
        let shape: Option<_> = is_new.into_iter().map(size).collect();
        Array::new(shape.ok_or("adds more axes than it names")?, array.data.clone())
    })
}

/// A copy that the kernel can keep.
fn only_axes(attributes: &Attributes) -> Result<Attributes, String> {
    let mut kept = Attributes::default();
    if attributes.has("axes") {
        kept.0.insert("axes".to_owned(), Attribute::Ints(attributes.ints("axes")?.to_vec()));
    }
    Ok(kept)
}

pub(super) fn transpose(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let order = attributes.ints("perm")?.to_vec();
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let n_axes = array.shape.len();
        let order: Vec<usize> = if order.is_empty() {
            (0..n_axes).rev().collect()
        } else {
            order.iter().map(|axis| axis_of(*axis, n_axes)).collect::<Result<_, _>>()?
        };
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..n_axes) {
            return Err(format!("orders {n_axes} axes as {order:?}"));
        }
        let mut strides = vec![1; n_axes];
        for axis in (1..n_axes).rev() {
            strides[axis - 1] = strides[axis] * array.shape[axis];
        }
        let shape: Vec<usize> = order.iter().map(|axis| array.shape[*axis]).collect();
        let place = |mut index: usize| {
            let mut place = 0;
            for axis in (0..n_axes).rev() {
                place += index % shape[axis] * strides[order[axis]];
                index /= shape[axis];
            }
            place
        };
        let data = array.data.pick((0..array.data.len()).map(place));
        Ok(Array { shape, data })
    })
}
