//! What may be bound to a statement.

use tidegate_core::Timestamp;

/// A value with its type, so that an absent one is still typed (PostgreSQL refuses an untyped NULL in places).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
    Real(Option<f64>),
    Bool(bool),
    /// Whole microseconds, the resolution of PostgreSQL, on both databases.
    Time(Option<Timestamp>),
}

/// PostgreSQL cannot store U+0000 in text. Replacing it on both databases keeps them alike and makes no input a server
/// error; JSON is not concerned, it escapes the character.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// RFC 3339 of fixed width, so that comparing text compares time. (Formatting rounds what is finer; this cuts it off, as
/// [`Value::Time`] does.)
pub(crate) fn fixed_width(time: Timestamp) -> String {
    format!("{:.6}", to_microseconds(time))
}

fn to_microseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).expect("rounding towards zero stays in range")
}

/// Text of any length, which is not copied.
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(if text.contains('\0') { storable(&text) } else { text }))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(storable(text)))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(storable))
    }
}

impl From<&serde_json::Value> for Value {
    fn from(json: &serde_json::Value) -> Self {
        Self::Text(Some(json.to_string()))
    }
}

impl From<Option<&serde_json::Value>> for Value {
    fn from(json: Option<&serde_json::Value>) -> Self {
        Self::Text(json.map(ToString::to_string))
    }
}

impl From<u64> for Value {
    /// Sizes, revisions and generations: above `i64::MAX` none occurs, and a wrong size is better than a wrapped one.
    fn from(number: u64) -> Self {
        Self::Int(Some(i64::try_from(number).unwrap_or(i64::MAX)))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Int(Some(i64::from(number)))
    }
}

impl From<u8> for Value {
    fn from(number: u8) -> Self {
        Self::Int(Some(i64::from(number)))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(Some(number))
    }
}

impl From<Option<f64>> for Value {
    fn from(number: Option<f64>) -> Self {
        Self::Real(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Self {
        Self::Time(Some(to_microseconds(time)))
    }
}

impl From<Option<Timestamp>> for Value {
    fn from(time: Option<Timestamp>) -> Self {
        Self::Time(time.map(to_microseconds))
    }
}
