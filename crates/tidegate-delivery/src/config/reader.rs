//! Reading a configuration object key by key: what is absent keeps its default, what is wrong is collected, what nobody
//! asked for is unknown.

use jiff::SignedDuration;
use serde_json::{Map, Value};
use tidegate_core::StrategyKind;

use super::ConfigFault;

pub(super) struct Reader<'a> {
    config: &'a Map<String, Value>,
    /// What stands before each key in a fault: `strategyConfig` or an object in it.
    path: String,
    known: Vec<&'static str>,
    faults: Vec<ConfigFault>,
}

impl<'a> Reader<'a> {
    pub fn new(config: &'a Map<String, Value>) -> Self {
        Self { config, path: "strategyConfig".to_owned(), known: Vec::new(), faults: Vec::new() }
    }

    /// The value of a key, which is known from now on.
    pub fn get(&mut self, key: &'static str) -> Option<&'a Value> {
        self.known.push(key);
        self.config.get(key)
    }

    /// A whole number of `min` to `max`.
    pub fn count(&mut self, key: &'static str, min: u64, max: u64) -> Option<u64> {
        let value = self.get(key)?;
        let read = value.as_u64().filter(|count| (min..=max).contains(count));
        if read.is_none() {
            self.fault(key, format!("must be a whole number from {min} to {max}, got {value}"));
        }
        read
    }

    /// A number of `min` to `max`.
    pub fn number(&mut self, key: &'static str, min: f64, max: f64) -> Option<f64> {
        let value = self.get(key)?;
        let read = value.as_f64().filter(|number| (min..=max).contains(number));
        if read.is_none() {
            self.fault(key, format!("must be a number from {min} to {max}, got {value}"));
        }
        read
    }

    pub fn truth(&mut self, key: &'static str) -> Option<bool> {
        let value = self.get(key)?;
        if !value.is_boolean() {
            self.fault(key, format!("must be true or false, got {value}"));
        }
        value.as_bool()
    }

    /// One of `words`, in lower case.
    pub fn word(&mut self, key: &'static str, words: &[&'static str]) -> Option<&'static str> {
        let value = self.get(key)?;
        let said = value.as_str().unwrap_or_default();
        let read = words.iter().find(|word| word.eq_ignore_ascii_case(said)).copied();
        if read.is_none() {
            self.fault(key, format!("must be one of {}, got {value}", words.join(", ")));
        }
        read
    }

    /// A duration of `min` to `max`.
    pub fn duration(
        &mut self,
        key: &'static str,
        min: SignedDuration,
        max: SignedDuration,
    ) -> Option<SignedDuration> {
        let value = self.get(key)?;
        let read = value.as_str().and_then(parse_duration).filter(|duration| (min..=max).contains(duration));
        if read.is_none() {
            let message =
                format!("must be a duration such as \"PT5M\" or \"5m\", from {min} to {max}, got {value}");
            self.fault(key, message);
        }
        read
    }

    /// Reads the object under a key by the same rules.
    pub fn object<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Reader<'_>) -> T) -> Option<T> {
        let value = self.get(key)?;
        let Some(config) = value.as_object() else {
            self.fault(key, format!("must be an object, got {value}"));
            return None;
        };
        let path = format!("{}.{key}", self.path);
        let mut inner = Reader { config, path, known: Vec::new(), faults: Vec::new() };
        let parsed = read(&mut inner);
        inner.refuse_unknown("an object of");
        self.faults.append(&mut inner.faults);
        Some(parsed)
    }

    pub fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.push(ConfigFault { field: format!("{}.{key}", self.path), message: message.into() });
    }

    /// Every fault there is, unknown keys among them.
    pub fn finish(mut self, kind: StrategyKind) -> Result<(), Vec<ConfigFault>> {
        self.refuse_unknown(&format!("{kind} takes"));
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }

    fn refuse_unknown(&mut self, what_takes: &str) {
        let unknown: Vec<&String> =
            self.config.keys().filter(|key| !self.known.contains(&key.as_str())).collect();
        for key in unknown {
            let message = format!("unknown key; {what_takes} {}", self.known.join(", "));
            self.fault(key, message);
        }
    }
}

/// ISO 8601 (`PT5M`, `P7D`) or short (`5m`). A day is 24 hours.
fn parse_duration(text: &str) -> Option<SignedDuration> {
    if let Ok(duration) = text.parse::<SignedDuration>() {
        return Some(duration);
    }
    // `P7D`: jiff keeps calendar units out of `SignedDuration`; we count a day as 24 hours.
    let span: jiff::Span = text.parse().ok()?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()
}
