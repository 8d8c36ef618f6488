//! Lists, tuples, dictionaries and texts.

use crate::fault::Fault;
use crate::graph::Dim;
use crate::heap::{Dict, Key, ListId, Value};
use crate::interpret::access::{MAX_LIST, key_value, position};
use crate::operators::Call;

pub(super) fn call(call: &mut Call<'_>) -> Result<Option<Value>, Fault> {
    let arguments = call.arguments.clone();
    let value = match (call.name, arguments.as_slice()) {
        ("range" | "__range_length" | "__derive_index", _) => return range(call).map(Some),
        ("len", [Value::List(list) | Value::Tuple(list)]) => length(call.heap.list(*list).len()),
        ("len", [Value::Dict(dict)]) => length(call.heap.dict(*dict).entries.len()),
        ("len", [Value::Str(text)]) => length(text.chars().count()),
        ("append", [list @ Value::List(id), item]) => {
            push(call, *id, item.clone())?;
            list.clone()
        }
        ("extend", [Value::List(id), Value::List(more)]) => {
            for item in call.heap.list(*more).clone() {
                push(call, *id, item)?;
            }
            Value::None
        }
        ("insert", [Value::List(id), Value::Int(Dim::Fixed(index)), item]) => {
            check_length(call.heap.list(*id).len() + 1)?;
            let list = call.heap.list_mut(*id);
            let at = position(*index, list.len()).unwrap_or(if *index < 0 { 0 } else { list.len() });
            list.insert(at, item.clone());
            Value::None
        }
        ("pop", [Value::List(id), rest @ ..]) => {
            let index = match rest.first() {
                Some(Value::Int(Dim::Fixed(index))) => *index,
                _ => -1,
            };
            let list = call.heap.list_mut(*id);
            let at = position(index, list.len())
                .ok_or_else(|| Fault::Raised("pop from a list too short".to_owned()))?;
            list.remove(at)
        }
        ("_set_item", [Value::Dict(dict), key, item]) => {
            let key = key_of(key).ok_or_else(|| Fault::Code("a dictionary key".to_owned()))?;
            call.heap.dict_mut(*dict).insert(key, item.clone());
            Value::None
        }
        ("_set_item", [Value::List(id), Value::Int(Dim::Fixed(index)), item]) => {
            let list = call.heap.list_mut(*id);
            let at = position(*index, list.len())
                .ok_or_else(|| Fault::Raised("an index is outside its list".to_owned()))?;
            list[at] = item.clone();
            Value::None
        }
        ("clear", [Value::List(id)]) => {
            call.heap.list_mut(*id).clear();
            Value::None
        }
        ("reverse", [Value::List(id)]) => {
            call.heap.list_mut(*id).reverse();
            Value::None
        }
        ("list" | "copy", [Value::List(id) | Value::Tuple(id)]) => {
            let items = call.heap.list(*id).clone();
            call.heap.add_list(items)
        }
        ("list" | "keys", [Value::Dict(dict)]) => {
            let keys = call.heap.dict(*dict).entries.iter().map(|(key, _)| key_value(key)).collect();
            call.heap.add_list(keys)
        }
        ("values", [Value::Dict(dict)]) => {
            let values = call.heap.dict(*dict).entries.iter().map(|(_, value)| value.clone()).collect();
            call.heap.add_list(values)
        }
        ("items", [Value::Dict(dict)]) => {
            let entries = call.heap.dict(*dict).entries.clone();
            let pairs =
                entries.iter().map(|(key, value)| call.heap.add_tuple(vec![key_value(key), value.clone()]));
            let pairs = pairs.collect();
            call.heap.add_list(pairs)
        }
        ("dict", []) => call.heap.add_dict(Dict::default()),
        ("get", [Value::Dict(dict), key, rest @ ..]) => {
            let found = key_of(key).and_then(|key| call.heap.dict(*dict).get(&key).cloned());
            found.or_else(|| rest.first().cloned()).unwrap_or(Value::None)
        }
        ("__contains__", [Value::Dict(dict), key]) => {
            let found = key_of(key).is_some_and(|key| call.heap.dict(*dict).get(&key).is_some());
            Value::Bool(found)
        }
        ("__contains__", [Value::Str(text), Value::Str(part)]) => Value::Bool(text.contains(&**part)),
        ("__contains__", [Value::List(list) | Value::Tuple(list), item]) => {
            let key = key_of(item).ok_or_else(|| Fault::Code("a search in a list".to_owned()))?;
            Value::Bool(call.heap.list(*list).iter().any(|other| key_of(other).as_ref() == Some(&key)))
        }
        ("add" | "add_", [Value::List(left), Value::List(right)]) => {
            check_length(call.heap.list(*left).len() + call.heap.list(*right).len())?;
            let joined = [call.heap.list(*left).as_slice(), call.heap.list(*right)].concat();
            call.heap.add_list(joined)
        }
        ("mul", [Value::List(list), Value::Int(Dim::Fixed(count))]) => {
            let (items, count) = (call.heap.list(*list).clone(), usize::try_from(*count).unwrap_or(0));
            check_length(items.len().saturating_mul(count))?;
            call.heap.add_list(std::iter::repeat_n(items, count).flatten().collect())
        }
        ("slice", [Value::List(list) | Value::Tuple(list), ..]) => {
            let items = slice(call, *list)?;
            call.heap.add_list(items)
        }
        ("add", [Value::Str(left), Value::Str(right)]) => {
            check_length(left.len() + right.len())?;
            Value::str(&format!("{left}{right}"))
        }
        ("startswith", [Value::Str(text), Value::Str(part)]) => Value::Bool(text.starts_with(&**part)),
        ("endswith", [Value::Str(text), Value::Str(part)]) => Value::Bool(text.ends_with(&**part)),
        ("find", [Value::Str(text), Value::Str(part), ..]) => {
            Value::int(text.find(&**part).map_or(-1, |at| text[..at].chars().count() as i64))
        }
        ("lower", [Value::Str(text)]) => Value::str(&text.to_lowercase()),
        ("eq", [left, right]) if is_plain(left) && is_plain(right) => {
            Value::Bool(is_equal(call, left, right)?)
        }
        ("ne", [left, right]) if is_plain(left) && is_plain(right) => {
            Value::Bool(!is_equal(call, left, right)?)
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn length(length: usize) -> Value {
    Value::int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn check_length(length: usize) -> Result<(), Fault> {
    let limit = Fault::Limit { what: "the length of a list", limit: MAX_LIST as u64 };
    if length > MAX_LIST { Err(limit) } else { Ok(()) }
}

fn push(call: &mut Call<'_>, list: ListId, item: Value) -> Result<(), Fault> {
    check_length(call.heap.list(list).len() + 1)?;
    call.heap.list_mut(list).push(item);
    Ok(())
}

fn key_of(value: &Value) -> Option<Key> {
    match value {
        Value::Str(text) => Some(Key::Str(text.clone())),
        Value::Int(Dim::Fixed(value)) => Some(Key::Int(*value)),
        Value::Bool(value) => Some(Key::Int(i64::from(*value))),
        _ => None,
    }
}

/// Compared by content; numbers are compared elsewhere.
fn is_plain(value: &Value) -> bool {
    matches!(value, Value::Str(_) | Value::None | Value::List(_) | Value::Tuple(_))
}

fn is_equal(call: &Call<'_>, left: &Value, right: &Value) -> Result<bool, Fault> {
    let resolve = |value: &Value| match value {
        Value::Int(dim) => Value::Int(call.graph.symbols().resolve(*dim)),
        other => other.clone(),
    };
    let item = |left: &Value, right: &Value| match (resolve(left), resolve(right)) {
        (Value::Int(left), Value::Int(right)) if left == right => Ok(true),
        (Value::Int(Dim::Fixed(_)), Value::Int(Dim::Fixed(_))) => Ok(false),
        (Value::Int(_), Value::Int(_)) => Err(Fault::OpenAxis("a comparison of sizes".to_owned())),
        (Value::Float(left), Value::Float(right)) => Ok(left == right),
        (Value::Str(left), Value::Str(right)) => Ok(left == right),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::None, Value::None) => Ok(true),
        (Value::Str(_) | Value::None, _) | (_, Value::Str(_) | Value::None) => Ok(false),
        _ => Err(Fault::Code("a comparison of lists".to_owned())),
    };
    let (
        Value::List(left_list) | Value::Tuple(left_list),
        Value::List(right_list) | Value::Tuple(right_list),
    ) = (left, right)
    else {
        return item(left, right);
    };
    let (left, right) = (call.heap.list(*left_list), call.heap.list(*right_list));
    if left.len() != right.len() {
        return Ok(false);
    }
    for (left, right) in left.iter().zip(right) {
        if !item(left, right)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `slice(list, start, end, step)`.
fn slice(call: &Call<'_>, list: ListId) -> Result<Vec<Value>, Fault> {
    let items = call.heap.list(list);
    let length = items.len() as i64;
    let step = call.int_or(3, "step", 1)?;
    if step <= 0 {
        return Err(Fault::Code("a slice that goes backwards".to_owned()));
    }
    let clip =
        |index: i64| (if index < 0 { index.saturating_add(length) } else { index }).clamp(0, length) as usize;
    let (start, end) = (clip(call.int_or(1, "start", 0)?), clip(call.int_or(2, "end", i64::MAX)?));
    let chosen = items.get(start..end.max(start)).unwrap_or_default();
    Ok(chosen.iter().step_by(usize::try_from(step).unwrap_or(usize::MAX)).cloned().collect())
}

/// `range` as a list, and the two functions that torch writes for loops over one.
fn range(call: &mut Call<'_>) -> Result<Value, Fault> {
    let numbers: Vec<i64> =
        (0..call.arguments.len()).map(|index| call.int(index, "range")).collect::<Result<_, _>>()?;
    if call.name == "__derive_index" {
        let [index, start, step] = numbers.as_slice() else { return Err(Fault::malformed("a loop index")) };
        let derived = index.checked_mul(*step).and_then(|offset| start.checked_add(offset));
        return derived.map(Value::int).ok_or_else(Fault::overflow);
    }
    let (start, end, step) = match numbers.as_slice() {
        [end] => (0, *end, 1),
        [start, end] => (*start, *end, 1),
        [start, end, step] if *step != 0 => (*start, *end, *step),
        _ => return Err(Fault::malformed("a range")),
    };
    let span =
        if step > 0 { i128::from(end) - i128::from(start) } else { i128::from(start) - i128::from(end) };
    let stride = i128::from(step.unsigned_abs());
    let count = usize::try_from((span.max(0) + stride - 1) / stride).unwrap_or(usize::MAX);
    check_length(count)?;
    if call.name == "__range_length" {
        return Ok(length(count));
    }
    let items = (0..count as i64).map(|index| Value::int(start + index * step)).collect();
    Ok(call.heap.add_list(items))
}
