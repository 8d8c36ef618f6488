//! Operators that treat every element alike.

use super::super::array::{Array, Data};
use super::super::attributes::Attributes;
use super::super::operators::{Build, Inputs, Kernel, kernel};
use super::broadcast::{common_shape, expand, zip};

/// Before this version, shapes met by an attribute instead of by their ends.
const FIRST_BROADCASTING_OPSET: u64 = 7;

pub(super) fn find(name: &str) -> Option<Build> {
    Some(match name {
        "Add" => |attributes, opset| arithmetic::<Add>(attributes, opset),
        "Sub" => |attributes, opset| arithmetic::<Sub>(attributes, opset),
        "Mul" => |attributes, opset| arithmetic::<Mul>(attributes, opset),
        "Div" => |attributes, opset| arithmetic::<Div>(attributes, opset),
        "Pow" => |attributes, opset| arithmetic::<Pow>(attributes, opset),
        "Max" => |_, _| kernel(fold::<Max>),
        "Min" => |_, _| kernel(fold::<Min>),
        "Sum" => |_, _| kernel(fold::<Add>),
        "Equal" => |_, opset| compare(opset, |order| order == Some(std::cmp::Ordering::Equal)),
        "Less" => |_, opset| compare(opset, |order| order.is_some_and(std::cmp::Ordering::is_lt)),
        "LessOrEqual" => |_, opset| compare(opset, |order| order.is_some_and(std::cmp::Ordering::is_le)),
        "Greater" => |_, opset| compare(opset, |order| order.is_some_and(std::cmp::Ordering::is_gt)),
        "GreaterOrEqual" => |_, opset| compare(opset, |order| order.is_some_and(std::cmp::Ordering::is_ge)),
        "And" => |_, opset| logic(opset, |a, b| a && b),
        "Or" => |_, opset| logic(opset, |a, b| a || b),
        "Xor" => |_, opset| logic(opset, |a, b| a != b),
        "Not" => |_, _| kernel(not),
        "IsNaN" => |_, _| kernel(is_nan),
        "Where" => |_, _| kernel(choose),
        "Clip" => clip,
        "Abs" => |_, _| signed(f64::abs, i64::wrapping_abs),
        "Neg" => |_, _| signed(|x| -x, i64::wrapping_neg),
        "Sign" => |_, _| signed(|x| if x == 0.0 { 0.0 } else { x.signum() }, i64::signum),
        "Relu" => |_, _| signed(|x| if x < 0.0 { 0.0 } else { x }, |x| x.max(0)),
        "Sqrt" => |_, _| float(f64::sqrt),
        "Exp" => |_, _| float(f64::exp),
        "Log" => |_, _| float(f64::ln),
        "Tanh" => |_, _| float(f64::tanh),
        "Sigmoid" => |_, _| float(|x| 1.0 / (1.0 + (-x).exp())),
        "Reciprocal" => |_, _| float(f64::recip),
        "Floor" => |_, _| float(f64::floor),
        "Ceil" => |_, _| float(f64::ceil),
        _ => return None,
    })
}

/// What two numbers make. Integers wrap, as they do everywhere in ONNX.
trait Arithmetic: 'static {
    fn of_f32(a: f32, b: f32) -> f32;
    fn of_f64(a: f64, b: f64) -> f64;
    /// `None` where there is no such number.
    fn of_i64(a: i64, b: i64) -> Option<i64>;
}

macro_rules! arithmetic {
    ($name:ident, |$a:ident, $b:ident| $float:expr, $int:expr) => {
        struct $name;
        impl Arithmetic for $name {
            fn of_f32($a: f32, $b: f32) -> f32 {
                $float
            }
            fn of_f64($a: f64, $b: f64) -> f64 {
                $float
            }
            fn of_i64($a: i64, $b: i64) -> Option<i64> {
                $int
            }
        }
    };
}

arithmetic!(Add, |a, b| a + b, Some(a.wrapping_add(b)));
arithmetic!(Sub, |a, b| a - b, Some(a.wrapping_sub(b)));
arithmetic!(Mul, |a, b| a * b, Some(a.wrapping_mul(b)));
arithmetic!(Div, |a, b| a / b, (b != 0).then(|| a.wrapping_div(b)));
arithmetic!(Pow, |a, b| a.powf(b), Some((a as f64).powf(b as f64) as i64));
// What is not a number wins, unlike with Rust's own.
arithmetic!(Max, |a, b| if a.is_nan() || a > b { a } else { b }, Some(a.max(b)));
arithmetic!(Min, |a, b| if a.is_nan() || a < b { a } else { b }, Some(a.min(b)));

fn check_opset(opset: u64) -> Result<(), String> {
    if opset >= FIRST_BROADCASTING_OPSET {
        return Ok(());
    }
    Err(format!("is of operator set {opset}; {FIRST_BROADCASTING_OPSET} is the first that runs here"))
}

fn arithmetic<O: Arithmetic>(_: &Attributes, opset: u64) -> Result<Kernel, String> {
    check_opset(opset)?;
    kernel(|inputs| combine::<O>(inputs.get(0)?, inputs.get(1)?))
}

fn combine<O: Arithmetic>(a: &Array, b: &Array) -> Result<Array, String> {
    let division = || "divides by zero".to_owned();
    let (shape, data) = match (&a.data, &b.data) {
        (Data::F32(x), Data::F32(y)) => {
            let (shape, values) = zip((x, &a.shape), (y, &b.shape), O::of_f32)?;
            (shape, Data::F32(values))
        }
        (Data::F64(x), Data::F64(y)) => {
            let (shape, values) = zip((x, &a.shape), (y, &b.shape), O::of_f64)?;
            (shape, Data::F64(values))
        }
        (Data::I64(x), Data::I64(y)) => {
            let (shape, values) = zip((x, &a.shape), (y, &b.shape), O::of_i64)?;
            (shape, Data::I64(values.into_iter().collect::<Option<_>>().ok_or_else(division)?))
        }
        (Data::I32(x), Data::I32(y)) => {
            let narrow = |x, y| O::of_i64(i64::from(x), i64::from(y)).map(|value| value as i32);
            let (shape, values) = zip((x, &a.shape), (y, &b.shape), narrow)?;
            (shape, Data::I32(values.into_iter().collect::<Option<_>>().ok_or_else(division)?))
        }
        // An exponent may be of another type than its base.
        (Data::F32(_) | Data::F64(_), Data::I32(_) | Data::I64(_)) => {
            let exponent = match &a.data {
                Data::F32(_) => Data::F32(b.data.to_f32()?),
                _ => Data::F64(b.data.to_i64()?.iter().map(|value| *value as f64).collect()),
            };
            return combine::<O>(a, &Array { shape: b.shape.clone(), data: exponent });
        }
        _ => return Err(mixed(a, b)),
    };
    Ok(Array { shape, data })
}

fn mixed(a: &Array, b: &Array) -> String {
    format!("does not compute with {} and {}", a.data.type_name(), b.data.type_name())
}

fn fold<O: Arithmetic>(inputs: &Inputs<'_>) -> Result<Array, String> {
    let all = inputs.all()?;
    all[1..].iter().try_fold(all[0].clone(), |sum, next| combine::<O>(&sum, next))
}

fn compare(opset: u64, is_true: fn(Option<std::cmp::Ordering>) -> bool) -> Result<Kernel, String> {
    check_opset(opset)?;
    kernel(move |inputs| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        macro_rules! of {
            ($x:ident, $y:ident) => {
                zip(($x, &a.shape), ($y, &b.shape), |x, y| is_true(x.partial_cmp(&y)))?
            };
        }
        let (shape, truths) = match (&a.data, &b.data) {
            (Data::F32(x), Data::F32(y)) => of!(x, y),
            (Data::F64(x), Data::F64(y)) => of!(x, y),
            (Data::I32(x), Data::I32(y)) => of!(x, y),
            (Data::I64(x), Data::I64(y)) => of!(x, y),
            (Data::Bool(x), Data::Bool(y)) => of!(x, y),
            (Data::Text(x), Data::Text(y)) => {
                let (x, y): (Vec<_>, Vec<_>) = (x.iter().collect(), y.iter().collect());
                zip((&x, &a.shape), (&y, &b.shape), |x, y| is_true(x.partial_cmp(y)))?
            }
            _ => return Err(mixed(a, b)),
        };
        Ok(Array { shape, data: Data::Bool(truths) })
    })
}

fn logic(opset: u64, combine: fn(bool, bool) -> bool) -> Result<Kernel, String> {
    check_opset(opset)?;
    kernel(move |inputs| {
        let (a, b) = (inputs.get(0)?, inputs.get(1)?);
        let (Data::Bool(x), Data::Bool(y)) = (&a.data, &b.data) else { return Err(mixed(a, b)) };
        let (shape, truths) = zip((x, &a.shape), (y, &b.shape), combine)?;
        Ok(Array { shape, data: Data::Bool(truths) })
    })
}

fn not(inputs: &Inputs<'_>) -> Result<Array, String> {
    let array = inputs.get(0)?;
    let Data::Bool(truths) = &array.data else { return Err(array.data.refused()) };
    Ok(Array { shape: array.shape.clone(), data: Data::Bool(truths.iter().map(|truth| !truth).collect()) })
}

fn is_nan(inputs: &Inputs<'_>) -> Result<Array, String> {
    let array = inputs.get(0)?;
    let truths = match &array.data {
        Data::F32(values) => values.iter().map(|value| value.is_nan()).collect(),
        Data::F64(values) => values.iter().map(|value| value.is_nan()).collect(),
        other => return Err(other.refused()),
    };
    Ok(Array { shape: array.shape.clone(), data: Data::Bool(truths) })
}

/// `Where`: the second input where the first is true, else the third.
fn choose(inputs: &Inputs<'_>) -> Result<Array, String> {
    let (condition, yes, no) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
    let whole = common_shape(&common_shape(&condition.shape, &yes.shape)?, &no.shape)?;
    let Data::Bool(truths) = expand(condition, &whole) else { return Err(condition.data.refused()) };
    macro_rules! of {
        ($kind:ident, $yes:ident, $no:ident) => {
            Data::$kind(
                truths
                    .iter()
                    .zip($yes.into_iter().zip($no))
                    .map(|(t, (y, n))| if *t { y } else { n })
                    .collect(),
            )
        };
    }
    let data = match (expand(yes, &whole), expand(no, &whole)) {
        (Data::F32(y), Data::F32(n)) => of!(F32, y, n),
        (Data::F64(y), Data::F64(n)) => of!(F64, y, n),
        (Data::I32(y), Data::I32(n)) => of!(I32, y, n),
        (Data::I64(y), Data::I64(n)) => of!(I64, y, n),
        (Data::Bool(y), Data::Bool(n)) => of!(Bool, y, n),
        (Data::Text(y), Data::Text(n)) => of!(Text, y, n),
        _ => return Err(mixed(yes, no)),
    };
    Ok(Array { shape: whole, data })
}

/// Limits are attributes before version 11 and optional inputs since.
fn clip(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let limit =
        |name| Ok::<_, String>(attributes.float(name)?.map(|value| Array::vector(Data::F32(vec![*value]))));
    let (low, high) = (limit("min")?, limit("max")?);
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let mut clipped = array.clone();
        if let Some(low) = inputs.optional(1).or(low.as_ref()) {
            clipped = combine::<Max>(&clipped, low)?;
        }
        if let Some(high) = inputs.optional(2).or(high.as_ref()) {
            clipped = combine::<Min>(&clipped, high)?;
        }
        // A limit is a single number, also where it is written as a vector of one.
        Array::new(array.shape.clone(), clipped.data)
    })
}

fn float(of: fn(f64) -> f64) -> Result<Kernel, String> {
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let data = match &array.data {
            Data::F32(values) => Data::F32(values.iter().map(|value| of(f64::from(*value)) as f32).collect()),
            Data::F64(values) => Data::F64(values.iter().map(|value| of(*value)).collect()),
            other => return Err(other.refused()),
        };
        Ok(Array { shape: array.shape.clone(), data })
    })
}

fn signed(of_float: fn(f64) -> f64, of_int: fn(i64) -> i64) -> Result<Kernel, String> {
    let of_floats = float(of_float)?;
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let data = match &array.data {
            Data::I64(values) => Data::I64(values.iter().map(|value| of_int(*value)).collect()),
            Data::I32(values) => {
                Data::I32(values.iter().map(|value| of_int(i64::from(*value)) as i32).collect())
            }
            _ => return Ok(of_floats(inputs)?.remove(0)),
        };
        Ok(Array { shape: array.shape.clone(), data })
    })
}
