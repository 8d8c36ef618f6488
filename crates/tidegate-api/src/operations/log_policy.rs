//! What of a request is kept in the inference log: which requests, how much of them, and what is replaced before it is
//! written.
//!
//! Nothing is counted by the log: how a version does is counted where it runs, so a sample takes nothing from any count.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

use serde::Serialize;
use serde_json::Value;
use tidegate_core::RequestId;
use tidegate_store::JsonText;

use super::predict::PredictError;

/// What stands where something was replaced.
pub(crate) const REDACTED: &str = "[redacted]";

/// See the module.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Of all requests, the part whose rows are kept: 0 to 1.
    pub share: f64,
    /// Whether features and predictions are kept, or only that there was a request and how it went.
    pub payloads: bool,
    /// Features or a prediction whose JSON is longer are not kept.
    pub max_payload_bytes: usize,
    pub redact: Vec<Redaction>,
}

impl Default for LogSettings {
    /// Everything, as long as it is no more than some hundred numbers: rows of a table, not images.
    fn default() -> Self {
        Self { share: 1.0, payloads: true, max_payload_bytes: 4 << 10, redact: Vec::new() }
    }
}

/// Which of the two texts of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Features,
    Prediction,
}

impl LogSettings {
    /// By the request's id alone, so that all processes, and whoever asks later, say the same.
    pub(crate) fn keeps(&self, request_id: &RequestId) -> bool {
        let mut hasher = DefaultHasher::new();
        request_id.as_str().hash(&mut hasher);
        // 53 bits: as many as a number of this type has.
        let place = (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64;
        place < self.share
    }

    /// As it goes into the log; `None` where it does not.
    pub(crate) fn kept(
        &self,
        payload: Payload,
        n_elements: usize,
        value: &impl Serialize,
    ) -> Option<JsonText> {
        // Each element is a character and a comma at least.
        if !self.payloads || n_elements.saturating_mul(2) > self.max_payload_bytes {
            return None;
        }
        let text = JsonText::within(value, self.max_payload_bytes)?;
        let redactions = || self.redact.iter().filter(|redaction| redaction.concerns(payload));
        if redactions().next().is_none() {
            return Some(text);
        }
        let mut value = text.value();
        redactions().for_each(|redaction| redaction.apply(&mut value, &redaction.steps));
        JsonText::of(&value).ok()
    }

    /// What went wrong. Words about a misfit may quote what does not fit; where something is to be kept out, only its place
    /// is told.
    pub(crate) fn error(&self, error: &PredictError) -> String {
        match error {
            PredictError::Misfit(faults) if !self.redact.is_empty() => {
                let fields: Vec<_> = faults.iter().map(|fault| format!("`{}`", fault.field)).collect();
                format!("{}: does not fit the model", fields.join(", "))
            }
            error => error.to_string(),
        }
    }
}

/// Whether something in it was replaced.
pub(crate) fn is_redacted(value: &Value) -> bool {
    match value {
        Value::String(text) => text == REDACTED,
        Value::Array(items) => items.iter().any(is_redacted),
        Value::Object(members) => members.values().any(is_redacted),
        _ => false,
    }
}

/// What is replaced: `card`, of the features and of the prediction; or a path: `features.card`, `prediction.scores[2]`,
/// `features.x[*][0]`, `features['a.b']`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redaction {
    /// `None`: of both.
    payload: Option<Payload>,
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
    Each,
}

/// What is no name and no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no name and no path; write `card`, `features.card`, `prediction.scores[2]` or `features['a.b'][*]`"
)]
pub struct InvalidRedaction(String);

impl Redaction {
    fn concerns(&self, payload: Payload) -> bool {
        self.payload.is_none_or(|own| own == payload)
    }

    fn apply(&self, value: &mut Value, steps: &[Step]) {
        let Some((step, rest)) = steps.split_first() else {
            *value = Value::from(REDACTED);
            return;
        };
        match (step, value) {
            (Step::Name(name), Value::Object(members)) => {
                members.get_mut(name).into_iter().for_each(|member| self.apply(member, rest));
            }
            (Step::Index(index), Value::Array(items)) => {
                items.get_mut(*index).into_iter().for_each(|item| self.apply(item, rest));
            }
            (Step::Each, Value::Array(items)) => items.iter_mut().for_each(|item| self.apply(item, rest)),
            // It has no such part.
            _ => {}
        }
    }
}

impl FromStr for Redaction {
    type Err = InvalidRedaction;

    fn from_str(text: &str) -> Result<Self, InvalidRedaction> {
        let invalid = || InvalidRedaction(text.chars().take(100).collect());
        let (first, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
        let payload = match first {
            "features" => Payload::Features,
            "prediction" => Payload::Prediction,
            "" => return Err(invalid()),
            name if rest.is_empty() => {
                return Ok(Self { payload: None, steps: vec![Step::Name(name.to_owned())] });
            }
            _ => return Err(invalid()),
        };
        Ok(Self { payload: Some(payload), steps: steps(rest).ok_or_else(invalid)? })
    }
}

fn steps(mut rest: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (step, behind) = if let Some(name) = rest.strip_prefix('.') {
            let (name, behind) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
            (Some(Step::Name(name.to_owned())).filter(|_| !name.is_empty()), behind)
        } else if let Some(quoted) = rest.strip_prefix("['") {
            let (name, behind) = quoted.split_once("']")?;
            (Some(Step::Name(name.to_owned())), behind)
        } else {
            let (index, behind) = rest.strip_prefix('[')?.split_once(']')?;
            let step = if index == "*" { Some(Step::Each) } else { index.parse().ok().map(Step::Index) };
            (step, behind)
        };
        steps.push(step?);
        rest = behind;
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(redact: &[&str]) -> LogSettings {
        let redact = redact.iter().map(|text| text.parse().unwrap()).collect();
        LogSettings { redact, ..LogSettings::default() }
    }

    #[track_caller]
    fn check(redact: &[&str], payload: Payload, value: &Value, expected: &Value) {
        let kept = settings(redact).kept(payload, 3, value).unwrap();
        assert_eq!(kept.value(), *expected, "{redact:?}");
        assert_eq!(is_redacted(&kept.value()), expected.to_string().contains(REDACTED));
    }

    #[test]
    fn what_is_named_is_replaced_and_nothing_else() {
        let value = json!({"card": 1234, "a.b": [[1, 2], [3, 4]], "note": "card"});
        let card = json!({"card": REDACTED, "a.b": [[1, 2], [3, 4]], "note": "card"});
        let cells = json!({"card": 1234, "a.b": [[1, REDACTED], [3, REDACTED]], "note": "card"});
        check(&["card"], Payload::Features, &value, &card);
        check(&["card"], Payload::Prediction, &value, &card);
        check(&["features.card"], Payload::Features, &value, &card);
        check(&["features.card"], Payload::Prediction, &value, &value);
        check(&["prediction['a.b'][*][1]"], Payload::Prediction, &value, &cells);
        check(&["features"], Payload::Features, &value, &json!(REDACTED));
        check(
            &["features.none", "features.card[0]", "features['a.b'][7]"],
            Payload::Features,
            &value,
            &value,
        );
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in
            ["", "a.b", "features.", "features[", "features[x]", "features['a", "prediction..y", "x[0]"]
        {
            assert!(text.parse::<Redaction>().is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_kept_as_they_are_written() {
        let kept = settings(&["none"]).kept(Payload::Prediction, 1, &vec![0.1f32]).unwrap();
        assert_eq!(kept.as_str(), "[0.1]");
    }

    #[test]
    fn what_is_too_long_is_left_out() {
        let settings = LogSettings { max_payload_bytes: 10, ..LogSettings::default() };
        assert!(settings.kept(Payload::Features, 1, &"12345678").is_some());
        assert!(settings.kept(Payload::Features, 1, &"123456789").is_none());
        assert!(settings.kept(Payload::Features, 6, &"").is_none(), "known without writing it");
        let without = LogSettings { payloads: false, ..LogSettings::default() };
        assert!(without.kept(Payload::Features, 1, &"").is_none());
    }

    #[test]
    fn a_share_of_requests_is_kept() {
        let n_kept = |share: f64| {
            let settings = LogSettings { share, ..LogSettings::default() };
            (0..10_000).filter(|index| settings.keeps(&RequestId::new(format!("req-{index}")))).count()
        };
        assert_eq!((n_kept(0.0), n_kept(1.0)), (0, 10_000));
        assert!(n_kept(0.1).abs_diff(1_000) < 150, "{}", n_kept(0.1));
    }

    #[test]
    fn words_about_what_is_kept_out_are_kept_out() {
        let fault = crate::operations::fault::Fault::new("features.card", "1234 is out of the range of INT8");
        let error = PredictError::Misfit(vec![fault]);
        assert!(settings(&[]).error(&error).contains("1234"));
        assert_eq!(settings(&["card"]).error(&error), "`features.card`: does not fit the model");
    }
}
