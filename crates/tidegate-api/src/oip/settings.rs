//! The trace and log settings extensions. Traces are lines in the server's log, one for each sampled request; what the
//! operator configured (files, formats, levels of the log) is shown, and not changed over the network.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::ApiError;
use crate::operations::predict::Chosen;

/// By name; each has one or more values, as text. No value clears the setting.
pub(super) type Values = BTreeMap<String, Vec<String>>;

/// Models with settings of their own; more are refused.
const MAX_TRACED_MODELS: usize = 1000;

/// Who is traced: one setting for all models, and those of single models, which come first.
#[derive(Default)]
pub(crate) struct Traces {
    /// Whether anybody is, so that a request asks no more than this.
    is_on: AtomicBool,
    settings: RwLock<Settings>,
}

#[derive(Default)]
struct Settings {
    all: Arc<Trace>,
    by_model: HashMap<String, Arc<Trace>>,
}

struct Trace {
    is_on: bool,
    /// One request in this many.
    rate: u64,
    /// How many are left to trace; below zero: no end.
    remaining: AtomicI64,
    seen: AtomicU64,
}

impl Default for Trace {
    fn default() -> Self {
        Self { is_on: false, rate: 1000, remaining: AtomicI64::new(-1), seen: AtomicU64::new(0) }
    }
}

impl Trace {
    fn samples(&self) -> bool {
        if !self.is_on || !self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.rate) {
            return false;
        }
        let take = |left: i64| match left {
            0 => None,
            left if left < 0 => Some(left),
            left => Some(left - 1),
        };
        self.remaining.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn values(&self) -> Values {
        let level = if self.is_on { "TIMESTAMPS" } else { "OFF" };
        let settings = [
            ("trace_level", level.to_owned()),
            ("trace_rate", self.rate.to_string()),
            ("trace_count", self.remaining.load(Ordering::Relaxed).to_string()),
        ];
        let fixed = FIXED_TRACE.map(|(name, value)| (name, value.to_owned()));
        settings.into_iter().chain(fixed).map(|(name, value)| (name.to_owned(), vec![value])).collect()
    }

    /// This with the changes; a setting without a value is that of `inherited`.
    fn changed(&self, changes: &Values, inherited: &Self) -> Result<Self, ApiError> {
        let mut changed = Self {
            is_on: self.is_on,
            rate: self.rate,
            remaining: AtomicI64::new(self.remaining.load(Ordering::Relaxed)),
            seen: AtomicU64::new(0),
        };
        for (name, values) in changes {
            let value = values.first().map(String::as_str);
            match (name.as_str(), value) {
                ("trace_level", None) => changed.is_on = inherited.is_on,
                ("trace_level", Some(_)) => changed.is_on = level(values)?,
                ("trace_rate", None) => changed.rate = inherited.rate,
                ("trace_rate", Some(text)) => changed.rate = number(name, text, 1)?.unsigned_abs(),
                ("trace_count", None) => changed.remaining = AtomicI64::new(-1),
                ("trace_count", Some(text)) => changed.remaining = AtomicI64::new(number(name, text, -1)?),
                (name, value) => refuse_change(name, value, &FIXED_TRACE)?,
            }
        }
        Ok(changed)
    }
}

/// What Triton lets be set and this server does not.
const FIXED_TRACE: [(&str, &str); 3] = [("log_frequency", "0"), ("trace_file", ""), ("trace_mode", "triton")];

const FIXED_LOG: [(&str, &str); 6] = [
    ("log_error", "true"),
    ("log_file", ""),
    ("log_format", "default"),
    ("log_info", "true"),
    ("log_verbose_level", "0"),
    ("log_warning", "true"),
];

impl Traces {
    /// Those of a model, by its name as the caller writes it, or (empty) of all that have none of their own.
    pub(super) fn get(&self, model: &str) -> Values {
        self.of(model).values()
    }

    pub(super) fn update(&self, model: &str, changes: &Values) -> Result<Values, ApiError> {
        let current = self.of(model);
        let mut settings = self.settings.write().unwrap_or_else(PoisonError::into_inner);
        let trace = Arc::new(current.changed(changes, &settings.all)?);
        if model.is_empty() {
            settings.all = Arc::clone(&trace);
        } else if settings.by_model.len() < MAX_TRACED_MODELS || settings.by_model.contains_key(model) {
            settings.by_model.insert(model.to_owned(), Arc::clone(&trace));
        } else {
            let message = format!("at most {MAX_TRACED_MODELS} models have trace settings of their own");
            return Err(ApiError::invalid("model_name", message));
        }
        let is_on = settings.all.is_on || settings.by_model.values().any(|trace| trace.is_on);
        self.is_on.store(is_on, Ordering::Relaxed);
        Ok(trace.values())
    }

    /// Writes the line of a request, where it is one of those that are traced.
    pub(crate) fn record(&self, request_id: &str, chosen: &Chosen, latency_ms: f64) {
        if !self.is_on.load(Ordering::Relaxed) {
            return;
        }
        let slot = &chosen.resolved.slot;
        if self.of(slot.model_name().as_str()).samples() {
            let (model, version) = (slot.model_name().as_str(), slot.number().to_string());
            tracing::info!(target: "tidegate::trace", request_id, model, version, latency_ms, "traced");
        }
    }

    fn of(&self, model: &str) -> Arc<Trace> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(settings.by_model.get(model).unwrap_or(&settings.all))
    }
}

/// Whether requests are traced.
fn level(values: &[String]) -> Result<bool, ApiError> {
    match values.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["OFF"] => Ok(false),
        ["TIMESTAMPS"] => Ok(true),
        other => {
            let message = format!("`{}` is not one of OFF, TIMESTAMPS", other.join(", "));
            Err(ApiError::invalid("trace_level", message))
        }
    }
}

fn number(name: &str, text: &str, min: i64) -> Result<i64, ApiError> {
    let parsed = text.parse().ok().filter(|number| *number >= min);
    parsed.ok_or_else(|| ApiError::invalid(name, format!("give a whole number from {min} on")))
}

pub(super) fn log_settings() -> Values {
    FIXED_LOG.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect()
}

pub(super) fn update_log_settings(changes: &Values) -> Result<Values, ApiError> {
    for (name, values) in changes {
        refuse_change(name, values.first().map(String::as_str), &FIXED_LOG)?;
    }
    Ok(log_settings())
}

fn refuse_change(name: &str, value: Option<&str>, fixed: &[(&str, &str)]) -> Result<(), ApiError> {
    match fixed.iter().find(|(known, _)| *known == name) {
        Some((_, fixed)) if value.is_none_or(|value| value == *fixed) => Ok(()),
        Some(_) => Err(ApiError::invalid(
            name,
            "is not changed over the network; the server's configuration says what is logged (log.level, log.format)",
        )),
        None => Err(ApiError::invalid(name, "there is no such setting")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, values: &[&str]) -> Values {
        Values::from([(name.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())])
    }

    #[test]
    fn a_model_has_the_settings_of_all_until_it_has_its_own() {
        let traces = Traces::default();
        assert_eq!(traces.get("m")["trace_level"], ["OFF"]);
        traces.update("", &set("trace_level", &["TIMESTAMPS"])).unwrap();
        assert_eq!(traces.get("m")["trace_level"], ["TIMESTAMPS"]);
        traces.update("m", &set("trace_rate", &["5"])).unwrap();
        traces.update("", &set("trace_level", &["OFF"])).unwrap();
        assert_eq!(traces.get("m")["trace_level"], ["TIMESTAMPS"], "its own by now");
        traces.update("m", &set("trace_level", &[])).unwrap();
        assert_eq!(traces.get("m")["trace_level"], ["OFF"], "cleared: that of all");
        assert_eq!(traces.get("m")["trace_rate"], ["5"]);
    }

    #[test]
    fn one_request_in_rate_is_traced_until_the_count_is_used_up() {
        let changes =
            [set("trace_level", &["TIMESTAMPS"]), set("trace_rate", &["3"]), set("trace_count", &["2"])];
        let traces = Traces::default();
        for change in &changes {
            traces.update("", change).unwrap();
        }
        let sampled: Vec<bool> = (0..9).map(|_| traces.of("m").samples()).collect();
        assert_eq!(sampled, [true, false, false, true, false, false, false, false, false]);
    }

    #[test]
    fn what_cannot_be_set_is_refused_by_name() {
        let traces = Traces::default();
        for (name, values) in [
            ("trace_level", &["TENSORS"][..]),
            ("trace_rate", &["0"]),
            ("trace_count", &["-2"]),
            ("trace_file", &["/etc/passwd"]),
            ("colour", &["red"]),
        ] {
            let error = traces.update("", &set(name, values)).unwrap_err();
            assert_eq!(error.details[0].field, name);
        }
        assert!(traces.update("", &set("trace_file", &[""])).is_ok());
        assert!(update_log_settings(&set("log_verbose_level", &["0"])).is_ok());
        assert!(update_log_settings(&set("log_verbose_level", &["3"])).is_err());
    }
}
