//! What Python computes while the model runs, computed now: numbers, texts, lists, and questions about tensors.

mod lists;
mod numbers;
mod tensors;

use crate::fault::Fault;
use crate::heap::Value;
use crate::operators::Call;

/// `None` where the call is for the graph.
pub(super) fn call(call: &mut Call<'_>) -> Result<Option<Value>, Fault> {
    if let Some(value) = language(call)? {
        return Ok(Some(value));
    }
    if let Some(value) = lists::call(call)? {
        return Ok(Some(value));
    }
    if let Some(value) = tensors::call(call)? {
        return Ok(Some(value));
    }
    numbers::call(call)
}

fn language(call: &mut Call<'_>) -> Result<Option<Value>, Fault> {
    let value = match (call.name, call.arguments.as_slice()) {
        ("RaiseException", arguments) => {
            let message = match arguments.first() {
                Some(Value::Str(text)) => text.to_string(),
                _ => "an exception".to_owned(),
            };
            return Err(Fault::Raised(message));
        }
        ("__is__", [left, right]) => Value::Bool(is_same(left, right)),
        ("__isnot__", [left, right]) => Value::Bool(!is_same(left, right)),
        ("format" | "percentFormat", [Value::Str(format), ..]) => {
            Value::str(&format!("{format} {:?}", &call.arguments[1..]).chars().take(500).collect::<String>())
        }
        ("str", [value]) => Value::str(&format!("{value:?}").chars().take(500).collect::<String>()),
        ("Print" | "warn" | "_assert" | "manual_seed" | "set_grad_enabled" | "_set_grad_enabled", _) => {
            Value::None
        }
        ("is_scripting" | "is_grad_enabled", _) => Value::Bool(call.name == "is_scripting"),
        ("is_autocast_enabled" | "is_autocast_cpu_enabled" | "_get_tracing_state" | "is_tracing", _) => {
            Value::Bool(false)
        }
        ("device", [device]) => device.clone(),
        ("unchecked_cast" | "unchecked_unwrap_optional" | "data", [value]) => value.clone(),
        ("_unwrap_optional", [value]) => match value {
            Value::None => return Err(Fault::Raised("an optional value is missing".to_owned())),
            value => value.clone(),
        },
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::None, Value::None) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::Object(left), Value::Object(right)) => left == right,
        (Value::List(left), Value::List(right)) => left == right,
        (Value::Tensor(left), Value::Tensor(right)) => left == right,
        _ => false,
    }
}
