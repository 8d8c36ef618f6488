//! Arithmetic on numbers, and on sizes of axes as far as they can be written down.

use crate::fault::Fault;
use crate::graph::{Dim, Number, Operation, SymbolId};
use crate::heap::Value;
use crate::operators::Call;

/// A number of the program.
#[derive(Clone, Copy)]
enum Operand {
    Int(Dim),
    Float(f64),
    Scaled(SymbolId, f64),
}

const NAMES: [&str; 33] = [
    "Bool",
    "Float",
    "Int",
    "__not__",
    "abs",
    "add",
    "ceil",
    "div",
    "eq",
    "exp",
    "floor",
    "floor_divide",
    "floordiv",
    "fmod",
    "ge",
    "gt",
    "le",
    "log",
    "lt",
    "mod",
    "mul",
    "ne",
    "neg",
    "pow",
    "reciprocal",
    "remainder",
    "round",
    "rsqrt",
    "rsub",
    "sqrt",
    "sub",
    "trunc",
    "truediv",
];

pub(super) fn call(call: &mut Call<'_>) -> Result<Option<Value>, Fault> {
    match (call.name, call.arguments.as_slice()) {
        ("__not__", [Value::Bool(value)]) => return Ok(Some(Value::Bool(!value))),
        ("__and__" | "__or__" | "__xor__", [Value::Bool(left), Value::Bool(right)]) => {
            return Ok(Some(Value::Bool(match call.name {
                "__and__" => left & right,
                "__or__" => left | right,
                _ => left ^ right,
            })));
        }
        ("sum", [Value::List(list)]) => {
            let items = call.heap.list(*list).clone();
            return sum(call, &items);
        }
        ("min" | "max", [Value::List(list)]) => {
            let items = call.heap.list(*list).clone();
            return extreme(call, &items);
        }
        ("min" | "max", items @ [Value::Int(_) | Value::Float(_), _, ..]) => {
            let items = items.to_vec();
            return extreme(call, &items);
        }
        _ => {}
    }
    if !NAMES.contains(&call.name) {
        return Ok(None);
    }
    let Some(operands) = operands(call)? else { return Ok(None) };
    match operands.as_slice() {
        [operand] => unary(call, *operand),
        [left, right] => binary(call, *left, *right),
        _ => Ok(None),
    }
}

/// One or two numbers; `None` if anything else is among the arguments.
fn operands(call: &Call<'_>) -> Result<Option<Vec<Operand>>, Fault> {
    let mut operands = vec![];
    for value in call.arguments.iter().take(2) {
        operands.push(match value {
            Value::Bool(value) => Operand::Int(Dim::Fixed(i64::from(*value))),
            Value::Int(dim) => Operand::Int(call.graph.symbols().resolve(*dim)),
            Value::Float(value) => Operand::Float(*value),
            Value::Scaled { symbol, factor } => Operand::Scaled(*symbol, *factor),
            Value::Tensor(tensor) => {
                let tensor = call.heap.tensor(*tensor)?;
                match call.graph.number(tensor).filter(|_| call.graph.rank(tensor) == 0) {
                    Some(Number::Float(value)) => Operand::Float(value),
                    Some(number) => Operand::Int(Dim::Fixed(number.as_i64())),
                    None => return Ok(None),
                }
            }
            _ => return Ok(None),
        });
    }
    Ok(Some(operands))
}

fn unary(call: &mut Call<'_>, operand: Operand) -> Result<Option<Value>, Fault> {
    let name = call.name;
    if let Operand::Int(Dim::Symbol(symbol)) | Operand::Scaled(symbol, _) = operand {
        let factor = if let Operand::Scaled(_, factor) = operand { factor } else { 1.0 };
        return Ok(Some(match name {
            "Int" | "floor" | "trunc" | "ceil" | "round" => whole(call, symbol, factor, name == "ceil")?,
            "Float" => Value::Scaled { symbol, factor },
            "neg" => match operand {
                Operand::Int(dim) => Value::Int(call.apply(Operation::Mul, dim, -1)?),
                _ => Value::Scaled { symbol, factor: -factor },
            },
            "Bool" | "__not__" => return Err(open_axis("a condition")),
            _ => return Ok(None),
        }));
    }
    let (number, is_int) = match operand {
        Operand::Int(Dim::Fixed(value)) => (value as f64, Some(value)),
        Operand::Float(value) => (value, None),
        _ => return Ok(None),
    };
    Ok(Some(match (name, is_int) {
        ("Int" | "floor" | "ceil" | "round" | "trunc", Some(value)) => Value::int(value),
        ("Int", None) => Value::int(number as i64),
        ("floor", None) => Value::int(number.floor() as i64),
        ("ceil", None) => Value::int(number.ceil() as i64),
        ("round", None) => Value::Float(number.round_ties_even()),
        ("Float", _) => Value::Float(number),
        ("Bool", _) => Value::Bool(number != 0.0),
        ("__not__", _) => Value::Bool(number == 0.0),
        ("neg", Some(value)) => Value::int(value.checked_neg().ok_or_else(Fault::overflow)?),
        ("neg", None) => Value::Float(-number),
        ("abs", Some(value)) => Value::int(value.checked_abs().ok_or_else(Fault::overflow)?),
        ("abs", None) => Value::Float(number.abs()),
        ("sqrt", _) => Value::Float(number.sqrt()),
        ("rsqrt", _) => Value::Float(number.sqrt().recip()),
        ("exp", _) => Value::Float(number.exp()),
        ("log", _) => Value::Float(number.ln()),
        ("reciprocal", _) => Value::Float(number.recip()),
        _ => return Ok(None),
    }))
}

/// A size times a factor, rounded: exact where the factor is whole or one over a whole number.
fn whole(call: &mut Call<'_>, symbol: SymbolId, factor: f64, is_up: bool) -> Result<Value, Fault> {
    let size = Dim::Symbol(symbol);
    let is_whole =
        |number: f64| (number - number.round()).abs() < 1e-9 && (1.0..1e9).contains(&number.round());
    if is_whole(factor) {
        return call.apply(Operation::Mul, size, factor.round() as i64).map(Value::Int);
    }
    if factor > 0.0 && is_whole(factor.recip()) {
        let divisor = factor.recip().round() as i64;
        let size = if is_up { call.apply(Operation::Add, size, divisor - 1)? } else { size };
        return call.apply(Operation::Div, size, divisor).map(Value::Int);
    }
    Err(open_axis("a size scaled by a fraction"))
}

fn binary(call: &mut Call<'_>, left: Operand, right: Operand) -> Result<Option<Value>, Fault> {
    if call.keyword("alpha").is_some() {
        return Ok(None);
    }
    let (name, left, right) = match (call.name, call.keyword("rounding_mode")) {
        ("div", Some(Value::Str(mode))) if &**mode == "trunc" => ("truncdiv", left, right),
        ("div", Some(_)) => ("floordiv", left, right),
        ("truediv", _) => ("div", left, right),
        ("rsub", _) => ("sub", right, left),
        (name, _) => (name, left, right),
    };
    match (left, right) {
        (Operand::Int(left), Operand::Int(right)) => ints(call, name, left, right),
        (Operand::Int(Dim::Symbol(symbol)), Operand::Float(number)) => {
            scaled(name, symbol, 1.0, number).map(Some)
        }
        (Operand::Float(number), Operand::Int(Dim::Symbol(symbol))) if name == "mul" => {
            scaled(name, symbol, 1.0, number).map(Some)
        }
        (Operand::Scaled(symbol, factor), Operand::Float(number)) => {
            scaled(name, symbol, factor, number).map(Some)
        }
        (Operand::Scaled(symbol, factor), Operand::Int(Dim::Fixed(number))) => {
            scaled(name, symbol, factor, number as f64).map(Some)
        }
        (Operand::Float(left), Operand::Float(right)) => Ok(floats(name, left, right)),
        (Operand::Float(left), Operand::Int(Dim::Fixed(right))) => Ok(floats(name, left, right as f64)),
        (Operand::Int(Dim::Fixed(left)), Operand::Float(right)) => Ok(floats(name, left as f64, right)),
        _ => Err(open_axis("arithmetic on the size of an axis")),
    }
}

fn scaled(name: &str, symbol: SymbolId, factor: f64, number: f64) -> Result<Value, Fault> {
    match name {
        "mul" => Ok(Value::Scaled { symbol, factor: factor * number }),
        "div" => Ok(Value::Scaled { symbol, factor: factor / number }),
        _ => Err(open_axis("arithmetic on the size of an axis")),
    }
}

fn ints(call: &mut Call<'_>, name: &str, left: Dim, right: Dim) -> Result<Option<Value>, Fault> {
    let operation = match name {
        "add" => Operation::Add,
        "sub" => Operation::Sub,
        "mul" => Operation::Mul,
        "floordiv" | "floor_divide" => Operation::Div,
        // Sizes of axes are not negative.
        "truncdiv" if !matches!((left, right), (Dim::Fixed(_), Dim::Fixed(_))) => Operation::Div,
        "remainder" | "fmod" | "mod" => Operation::Mod,
        _ => return int_results(call, name, left, right),
    };
    call.graph.symbols_mut().apply(operation, left, right).map(|dim| Some(Value::Int(dim)))
}

/// Operations on integers whose result is none.
fn int_results(call: &Call<'_>, name: &str, left: Dim, right: Dim) -> Result<Option<Value>, Fault> {
    if let (Dim::Fixed(left), Dim::Fixed(right)) = (left, right) {
        return Ok(match name {
            "div" if right == 0 => return Err(Fault::Raised("division by zero".to_owned())),
            "div" => Some(Value::Float(left as f64 / right as f64)),
            "truncdiv" => Some(Value::int(left.checked_div(right).ok_or_else(Fault::overflow)?)),
            "pow" => Some(match u32::try_from(right).ok().and_then(|exponent| left.checked_pow(exponent)) {
                Some(power) => Value::int(power),
                None => Value::Float((left as f64).powf(right as f64)),
            }),
            "eq" => Some(Value::Bool(left == right)),
            "ne" => Some(Value::Bool(left != right)),
            "lt" => Some(Value::Bool(left < right)),
            "le" => Some(Value::Bool(left <= right)),
            "gt" => Some(Value::Bool(left > right)),
            "ge" => Some(Value::Bool(left >= right)),
            _ => None,
        });
    }
    // Sizes of input axes are at least one, and anything equals itself.
    let is_axis = |dim| matches!(dim, Dim::Symbol(symbol) if call.graph.symbols().is_axis(symbol));
    let order = match (left, right) {
        (left, right) if left == right => std::cmp::Ordering::Equal,
        (axis, Dim::Fixed(..=0)) if is_axis(axis) => std::cmp::Ordering::Greater,
        (Dim::Fixed(..=0), axis) if is_axis(axis) => std::cmp::Ordering::Less,
        (Dim::Symbol(symbol), Dim::Fixed(divisor)) if name == "div" && divisor != 0 => {
            return Ok(Some(Value::Scaled { symbol, factor: (divisor as f64).recip() }));
        }
        _ => return Err(open_axis("a comparison with the size of an axis")),
    };
    Ok(Some(Value::Bool(match name {
        "eq" => order.is_eq(),
        "ne" => order.is_ne(),
        "lt" => order.is_lt(),
        "le" => order.is_le(),
        "gt" => order.is_gt(),
        "ge" => order.is_ge(),
        _ => return Err(open_axis("arithmetic on the size of an axis")),
    })))
}

fn floats(name: &str, left: f64, right: f64) -> Option<Value> {
    Some(match name {
        "add" => Value::Float(left + right),
        "sub" => Value::Float(left - right),
        "mul" => Value::Float(left * right),
        "div" => Value::Float(left / right),
        "floordiv" | "floor_divide" => Value::Float((left / right).floor()),
        "truncdiv" => Value::Float((left / right).trunc()),
        "remainder" => Value::Float(left - (left / right).floor() * right),
        "pow" => Value::Float(left.powf(right)),
        "eq" => Value::Bool(left == right),
        "ne" => Value::Bool(left != right),
        "lt" => Value::Bool(left < right),
        "le" => Value::Bool(left <= right),
        "gt" => Value::Bool(left > right),
        "ge" => Value::Bool(left >= right),
        _ => return None,
    })
}

fn sum(call: &mut Call<'_>, items: &[Value]) -> Result<Option<Value>, Fault> {
    let mut total = Dim::Fixed(0);
    for item in items {
        let Value::Int(dim) = item else { return Ok(None) };
        total = call.graph.symbols_mut().apply(Operation::Add, total, *dim)?;
    }
    Ok(Some(Value::Int(total)))
}

fn extreme(call: &mut Call<'_>, items: &[Value]) -> Result<Option<Value>, Fault> {
    let is_max = call.name == "max";
    let mut best: Option<(f64, &Value)> = None;
    for item in items {
        let number = match item {
            Value::Int(dim) => match call.graph.symbols().resolve(*dim) {
                Dim::Fixed(value) => value as f64,
                Dim::Symbol(_) => return Err(open_axis("a comparison of sizes")),
            },
            Value::Float(value) => *value,
            _ => return Ok(None),
        };
        if best.is_none_or(|(best, _)| if is_max { number > best } else { number < best }) {
            best = Some((number, item));
        }
    }
    Ok(best.map(|(_, item)| item.clone()))
}

fn open_axis(what: &str) -> Fault {
    Fault::OpenAxis(what.to_owned())
}
