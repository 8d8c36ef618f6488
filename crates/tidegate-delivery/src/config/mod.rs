//! A strategy's configuration: the `strategyConfig` object of a deployment request.
//!
//! Every key has a default; an unknown key or a value out of range is refused with the field named, before anything
//! happens. Durations are ISO 8601 (`PT5M`); `5m` is accepted too. One file a strategy; reading values is in `reader`.

mod blue_green;
mod canary;
mod reader;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_core::StrategyKind;

pub use blue_green::BlueGreen;
pub use canary::Canary;
use reader::Reader;

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
    Canary(Canary),
}

impl StrategyConfig {
    /// Reads the object with defaults for what is absent; all faults at once.
    pub fn parse(kind: StrategyKind, config: &Map<String, Value>) -> Result<Self, Vec<ConfigFault>> {
        let mut reader = Reader::new(config);
        let parsed = match kind {
            StrategyKind::BlueGreen => Self::BlueGreen(BlueGreen::read(&mut reader)),
            StrategyKind::Canary => Self::Canary(Canary::read(&mut reader)),
            other => {
                let message = format!("{other} is not available in this release; use BlueGreen or Canary");
                return Err(vec![ConfigFault { field: "strategy".to_owned(), message }]);
            }
        };
        reader.finish(kind)?;
        Ok(parsed)
    }

    pub fn kind(&self) -> StrategyKind {
        match self {
            Self::BlueGreen(_) => StrategyKind::BlueGreen,
            Self::Canary(_) => StrategyKind::Canary,
        }
    }

    /// The whole configuration, defaults filled in, as the API writes it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::BlueGreen(config) => config.to_json(),
            Self::Canary(config) => config.to_json(),
        }
    }

    /// The candidate's share of the traffic on a step of the shift, in percent; a switch has one step, the whole.
    pub fn share_of_step(&self, step: usize) -> u8 {
        match self {
            Self::BlueGreen(_) => 100,
            Self::Canary(config) => {
                config.steps.get(step).and_then(|share| u8::try_from(*share).ok()).unwrap_or(100)
            }
        }
    }

    /// What every strategy takes: predictions before traffic, and how long loading, watching and keeping may take.
    pub fn stages(&self) -> Stages {
        match self {
            Self::BlueGreen(config) => config.stages,
            Self::Canary(config) => config.stages,
        }
    }
}

/// The stages that every strategy shares, around its own way of moving traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// Predictions that must succeed before there is traffic.
    pub smoke_test_samples: u32,
    /// How long loading and warming up may take.
    pub warmup_duration: SignedDuration,
    /// How long the new version is watched: after a switch, or on each step.
    pub monitoring_duration: SignedDuration,
    /// How long the previous version stays loaded once the new one has all traffic and is no longer watched.
    pub keep_previous_duration: SignedDuration,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            smoke_test_samples: 100,
            warmup_duration: SignedDuration::from_mins(2),
            monitoring_duration: SignedDuration::from_mins(5),
            keep_previous_duration: SignedDuration::from_mins(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse_as(kind: StrategyKind, config: &Value) -> Result<StrategyConfig, Vec<ConfigFault>> {
        StrategyConfig::parse(kind, config.as_object().unwrap())
    }

    fn parse(config: Value) -> Result<StrategyConfig, Vec<ConfigFault>> {
        parse_as(StrategyKind::BlueGreen, &config)
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
        let faults = StrategyConfig::parse(StrategyKind::Shadow, &Map::new()).unwrap_err();
        assert_eq!(faults[0].field, "strategy");
    }

    fn steps(config: &Value) -> Result<Vec<u32>, Vec<ConfigFault>> {
        match parse_as(StrategyKind::Canary, config)? {
            StrategyConfig::Canary(canary) => Ok(canary.steps),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_canary_grows_by_steps_or_by_increments_to_the_whole() {
        let cases = [
            (json!({}), vec![10, 25, 50, 100]),
            (json!({"canaryPercentage": 10}), vec![10, 25, 50, 100]),
            (json!({"initialPercentage": 30}), vec![30, 50, 100]),
            (json!({"canaryPercentage": 10, "incrementStep": 40}), vec![10, 50, 90, 100]),
            (json!({"steps": [5, 20]}), vec![5, 20, 100]),
            (json!({"canaryPercentage": 100}), vec![100]),
        ];
        for (config, expected) in cases {
            assert_eq!(steps(&config), Ok(expected), "{config}");
        }
        let written =
            parse_as(StrategyKind::Canary, &json!({"steps": [5, 20], "minimumSamples": 7})).unwrap();
        assert_eq!(
            parse_as(StrategyKind::Canary, &written.to_json()),
            Ok(written),
            "what the API writes reads back"
        );
    }

    #[test]
    fn every_canary_fault_names_its_field() {
        let cases = [
            (json!({"canaryPercentage": 0}), "strategyConfig.canaryPercentage"),
            (json!({"canaryPercentage": 101}), "strategyConfig.canaryPercentage"),
            (json!({"canaryPercentage": 5, "initialPercentage": 5}), "strategyConfig.initialPercentage"),
            (json!({"steps": [25, 10]}), "strategyConfig.steps"),
            (json!({"steps": []}), "strategyConfig.steps"),
            (json!({"steps": [10], "incrementStep": 5}), "strategyConfig.incrementStep"),
            (
                json!({"rollbackThresholds": {"latencyIncrease": 0.5}}),
                "strategyConfig.rollbackThresholds.latencyIncrease",
            ),
            (json!({"rollbackThresholds": {"latency": 2}}), "strategyConfig.rollbackThresholds.latency"),
            (
                json!({"rollbackThresholds": {"driftScore": 0.3}}),
                "strategyConfig.rollbackThresholds.driftScore",
            ),
            (json!({"rollbackThresholds": 5}), "strategyConfig.rollbackThresholds"),
            (json!({"minimumSamples": "many"}), "strategyConfig.minimumSamples"),
            (json!({"progressDeadline": "PT1M"}), "strategyConfig.progressDeadline"),
            (json!({"splitRatio": 0.5}), "strategyConfig.splitRatio"),
        ];
        for (config, field) in cases {
            let faults = steps(&config).unwrap_err();
            assert_eq!(
                faults.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
                [field],
                "{config}"
            );
        }
    }
}
