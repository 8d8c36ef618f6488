//! Nested JSON arrays as a shape and its leaves.

use serde_json::Value;

use crate::operations::fault::Fault;

/// Row-major. A bare value has the empty shape; a ragged array is a fault that names the odd one out.
pub(super) fn flatten(value: &Value) -> Result<(Vec<usize>, Vec<&Value>), Fault> {
    let mut shape = Vec::new();
    let mut first = value;
    while let Value::Array(items) = first {
        shape.push(items.len());
        match items.first() {
            Some(item) => first = item,
            None => break,
        }
    }
    let mut leaves = Vec::new();
    collect(value, &shape, &mut Vec::new(), &mut leaves)?;
    Ok((shape, leaves))
}

fn collect<'v>(
    value: &'v Value,
    shape: &[usize],
    path: &mut Vec<usize>,
    leaves: &mut Vec<&'v Value>,
) -> Result<(), Fault> {
    let Some((size, inner)) = shape.split_first() else {
        if value.is_array() {
            return Err(Fault::new(index_text(path), "an array where its neighbours are single values"));
        }
        leaves.push(value);
        return Ok(());
    };
    let Value::Array(items) = value else {
        return Err(Fault::new(index_text(path), "a single value where its neighbours are arrays"));
    };
    if items.len() != *size {
        let message = format!("has {} elements, its neighbours have {size}", items.len());
        return Err(Fault::new(index_text(path), message));
    }
    for (index, item) in items.iter().enumerate() {
        path.push(index);
        collect(item, inner, path, leaves)?;
        path.pop();
    }
    Ok(())
}

/// `[0][3]`.
pub(super) fn index_text(path: &[usize]) -> String {
    path.iter().map(|index| format!("[{index}]")).collect()
}
