//! A strategy's configuration: the `strategyConfig` object of a deployment request.
//!
//! Every key has a default; an unknown key or a value out of range is refused with the field named, before anything
//! happens. Durations are ISO 8601 (`PT5M`); `5m` is accepted too. One file a strategy; reading values is in `reader`.

mod ab_testing;
mod blue_green;
mod canary;
mod reader;
mod rolling;
mod shadow;
mod stages;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidegate_core::StrategyKind;

pub use ab_testing::AbTesting;
pub use blue_green::BlueGreen;
pub use canary::Canary;
use reader::Reader;
pub use rolling::Rolling;
pub use shadow::Shadowing;
pub use stages::Stages;

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
    Canary(Canary),
    BlueGreen(BlueGreen),
    ABTesting(AbTesting),
    Shadow(Shadowing),
    Rolling(Rolling),
}

impl StrategyConfig {
    /// Reads the object with defaults for what is absent; all faults at once.
    pub fn parse(kind: StrategyKind, config: &Map<String, Value>) -> Result<Self, Vec<ConfigFault>> {
        let mut reader = Reader::new(config);
        let parsed = match kind {
            StrategyKind::Canary => Self::Canary(Canary::read(&mut reader)),
            StrategyKind::BlueGreen => Self::BlueGreen(BlueGreen::read(&mut reader)),
            StrategyKind::ABTesting => Self::ABTesting(AbTesting::read(&mut reader)),
            StrategyKind::Shadow => Self::Shadow(Shadowing::read(&mut reader)),
            StrategyKind::Rolling => Self::Rolling(Rolling::read(&mut reader)),
        };
        reader.finish(kind)?;
        Ok(parsed)
    }

    pub fn kind(&self) -> StrategyKind {
        match self {
            Self::Canary(_) => StrategyKind::Canary,
            Self::BlueGreen(_) => StrategyKind::BlueGreen,
            Self::ABTesting(_) => StrategyKind::ABTesting,
            Self::Shadow(_) => StrategyKind::Shadow,
            Self::Rolling(_) => StrategyKind::Rolling,
        }
    }

    /// The whole configuration, defaults filled in, as the API writes it.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Canary(config) => config.to_json(),
            Self::BlueGreen(config) => config.to_json(),
            Self::ABTesting(config) => config.to_json(),
            Self::Shadow(config) => config.to_json(),
            Self::Rolling(config) => config.to_json(),
        }
    }

    /// What every strategy takes, around its own way of moving traffic.
    pub fn stages(&self) -> &Stages {
        match self {
            Self::Canary(config) => &config.stages,
            Self::BlueGreen(config) => &config.stages,
            Self::ABTesting(config) => &config.stages,
            Self::Shadow(config) => &config.stages,
            Self::Rolling(config) => &config.stages,
        }
    }

    /// Whether there must be a version to compare with: without one there is nothing to find out.
    pub fn needs_previous(&self) -> bool {
        matches!(self, Self::ABTesting(_) | Self::Shadow(_))
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
    fn every_strategy_has_defaults_and_reads_what_it_writes() {
        let given = [
            (StrategyKind::Canary, json!({"steps": [5, 20, 100], "minimumSamples": 7})),
            (StrategyKind::BlueGreen, json!({"keepBlueDuration": "1h"})),
            (
                StrategyKind::ABTesting,
                json!({"splitRatio": 0.3, "primaryMetric": "latency", "duration": "P1D", "stickyBy": "principal",
                    "significanceLevel": 0.01, "minimumSamples": 50}),
            ),
            (
                StrategyKind::Shadow,
                json!({"shadowPercentage": 20, "comparisonSamples": 100, "predictionDifferenceThreshold": 0.2,
                    "autoPromote": true, "progressDeadline": "PT2H"}),
            ),
            (StrategyKind::Rolling, json!({"batchSize": 3, "waitDuration": "PT10S", "maxFailures": 0})),
        ];
        for (kind, config) in given {
            for config in [json!({}), config] {
                let read = parse_as(kind, &config).unwrap();
                assert_eq!(read.kind(), kind);
                let written = read.to_json();
                for (key, value) in config.as_object().unwrap() {
                    assert!(
                        key.ends_with("Duration") || key == "duration" || &written[key] == value,
                        "{written}"
                    );
                }
                assert_eq!(parse_as(kind, &written), Ok(read), "what the API writes reads back");
            }
        }
    }

    #[test]
    fn every_fault_of_the_other_strategies_names_its_field() {
        let cases = [
            (StrategyKind::ABTesting, json!({"splitRatio": 1}), "splitRatio"),
            (StrategyKind::ABTesting, json!({"primaryMetric": "profit"}), "primaryMetric"),
            (StrategyKind::ABTesting, json!({"significanceLevel": 0}), "significanceLevel"),
            (StrategyKind::ABTesting, json!({"stickyBy": "cookie"}), "stickyBy"),
            (StrategyKind::ABTesting, json!({"stickyBy": "header:two words"}), "stickyBy"),
            (StrategyKind::ABTesting, json!({"stickyBy": {"header": 5}}), "stickyBy"),
            (StrategyKind::ABTesting, json!({"duration": "P91D"}), "duration"),
            (StrategyKind::Shadow, json!({"shadowPercentage": 0}), "shadowPercentage"),
            (StrategyKind::Shadow, json!({"autoPromote": "yes"}), "autoPromote"),
            (
                StrategyKind::Shadow,
                json!({"predictionDifferenceThreshold": 1.1}),
                "predictionDifferenceThreshold",
            ),
            (StrategyKind::Shadow, json!({"canaryPercentage": 10}), "canaryPercentage"),
            (StrategyKind::Rolling, json!({"batchSize": 0}), "batchSize"),
            (StrategyKind::Rolling, json!({"maxFailures": -1}), "maxFailures"),
            (StrategyKind::Rolling, json!({"progressDeadline": "PT1S"}), "progressDeadline"),
        ];
        for (kind, config, key) in cases {
            let faults = parse_as(kind, &config).unwrap_err();
            let fields: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(fields, [format!("strategyConfig.{key}")], "{config}");
        }
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
                json!({"rollbackThresholds": {"driftScore": 8.5}}),
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
