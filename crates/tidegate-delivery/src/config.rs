//! A strategy's configuration: the `strategyConfig` object of a deployment request.
//!
//! Every key has a default; an unknown key or a value out of range is refused with the field named, before anything
//! happens. Durations are ISO 8601 (`PT5M`); `5m` is accepted too.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tidegate_core::StrategyKind;

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct ConfigFault {
    /// `strategy` or `strategyConfig.<key>`.
    pub field: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "strategy")]
pub enum StrategyConfig {
    BlueGreen(BlueGreen),
}

/// The new version is tested without traffic, then takes all of it at once; the previous one stays warm for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlueGreen {
    /// Predictions that must succeed before the switch.
    pub smoke_test_samples: u32,
    /// How long loading and warming up may take.
    pub warmup_duration: SignedDuration,
    /// How long the new version is watched after the switch.
    pub monitoring_duration: SignedDuration,
    /// How long the previous version then stays loaded.
    pub keep_blue_duration: SignedDuration,
}

impl Default for BlueGreen {
    fn default() -> Self {
        Self {
            smoke_test_samples: 100,
            warmup_duration: SignedDuration::from_mins(2),
            monitoring_duration: SignedDuration::from_mins(5),
            keep_blue_duration: SignedDuration::from_mins(30),
        }
    }
}

const MAX_SMOKE_TEST_SAMPLES: u64 = 100_000;
const MAX_WARMUP: SignedDuration = SignedDuration::from_hours(1);
const MAX_WATCH: SignedDuration = SignedDuration::from_hours(24 * 7);

impl StrategyConfig {
    /// Reads the object with defaults for what is absent; all faults at once.
    pub fn parse(kind: StrategyKind, config: &Map<String, Value>) -> Result<Self, Vec<ConfigFault>> {
        match kind {
            StrategyKind::BlueGreen => parse_blue_green(config).map(Self::BlueGreen),
            other => Err(vec![ConfigFault {
                field: "strategy".to_owned(),
                message: format!("{other} is not available in this release; use BlueGreen"),
            }]),
        }
    }

    pub fn kind(&self) -> StrategyKind {
        match self {
            Self::BlueGreen(_) => StrategyKind::BlueGreen,
        }
    }

    /// The whole configuration, defaults filled in, as the API writes it.
    pub fn to_json(&self) -> Value {
        let Self::BlueGreen(config) = self;
        json!({
            "smokeTestSamples": config.smoke_test_samples,
            "warmupDuration": config.warmup_duration.to_string(),
            "monitoringDuration": config.monitoring_duration.to_string(),
            "keepBlueDuration": config.keep_blue_duration.to_string(),
        })
    }
}

fn parse_blue_green(config: &Map<String, Value>) -> Result<BlueGreen, Vec<ConfigFault>> {
    let mut parsed = BlueGreen::default();
    let mut faults = Vec::new();
    for (key, value) in config {
        let result = match key.as_str() {
            "smokeTestSamples" => count(value, MAX_SMOKE_TEST_SAMPLES).map(|n| parsed.smoke_test_samples = n),
            "warmupDuration" => duration(value, MAX_WARMUP).and_then(|limit| match limit.is_zero() {
                true => Err("must be longer than zero: loading takes time".to_owned()),
                false => {
                    parsed.warmup_duration = limit;
                    Ok(())
                }
            }),
            "monitoringDuration" => duration(value, MAX_WATCH).map(|d| parsed.monitoring_duration = d),
            "keepBlueDuration" => duration(value, MAX_WATCH).map(|d| parsed.keep_blue_duration = d),
            _ => Err("unknown key; BlueGreen takes smokeTestSamples, warmupDuration, monitoringDuration, \
                      keepBlueDuration"
                .to_owned()),
        };
        if let Err(message) = result {
            faults.push(ConfigFault { field: format!("strategyConfig.{key}"), message });
        }
    }
    if faults.is_empty() { Ok(parsed) } else { Err(faults) }
}

fn count(value: &Value, max: u64) -> Result<u32, String> {
    value
        .as_u64()
        .filter(|n| *n <= max)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| format!("must be a whole number from 0 to {max}, got {value}"))
}

fn duration(value: &Value, max: SignedDuration) -> Result<SignedDuration, String> {
    let fault = || format!("must be a duration such as \"PT5M\" or \"5m\", at most {max}, got {value}");
    let parsed = value.as_str().and_then(parse_duration).ok_or_else(fault)?;
    if parsed.is_negative() || parsed > max { Err(fault()) } else { Ok(parsed) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(config: Value) -> Result<StrategyConfig, Vec<ConfigFault>> {
        StrategyConfig::parse(StrategyKind::BlueGreen, config.as_object().unwrap())
    }

    #[test]
    fn absent_keys_have_defaults_and_both_spellings_of_a_duration_are_read() {
        assert_eq!(parse(json!({})), Ok(StrategyConfig::BlueGreen(BlueGreen::default())));
        let iso = parse(json!({"monitoringDuration": "PT90S", "keepBlueDuration": "P1D"})).unwrap();
        let short = parse(json!({"monitoringDuration": "90s", "keepBlueDuration": "24h"})).unwrap();
        assert_eq!(iso, short);
        assert_eq!(parse(iso.to_json()), Ok(iso), "what the API writes reads back");
    }

    #[test]
    fn every_fault_names_its_field() {
        let cases = [
            (json!({"smokeTestSample": 5}), "strategyConfig.smokeTestSample"),
            (json!({"smokeTestSamples": -1}), "strategyConfig.smokeTestSamples"),
            (json!({"smokeTestSamples": 1.5}), "strategyConfig.smokeTestSamples"),
            (json!({"smokeTestSamples": "100"}), "strategyConfig.smokeTestSamples"),
            (json!({"warmupDuration": "PT0S"}), "strategyConfig.warmupDuration"),
            (json!({"warmupDuration": "PT2H"}), "strategyConfig.warmupDuration"),
            (json!({"monitoringDuration": "-PT5M"}), "strategyConfig.monitoringDuration"),
            (json!({"monitoringDuration": "five minutes please"}), "strategyConfig.monitoringDuration"),
            (json!({"keepBlueDuration": 30}), "strategyConfig.keepBlueDuration"),
        ];
        for (config, field) in cases {
            let faults = parse(config.clone()).unwrap_err();
            assert_eq!(faults.len(), 1, "{config}");
            assert_eq!(faults[0].field, field);
        }
        assert_eq!(parse(json!({"a": 1, "b": 2})).unwrap_err().len(), 2, "all faults at once");
    }

    #[test]
    fn a_strategy_that_is_not_built_yet_is_refused_by_name() {
        let faults = StrategyConfig::parse(StrategyKind::Canary, &Map::new()).unwrap_err();
        assert_eq!(faults[0].field, "strategy");
    }
}
