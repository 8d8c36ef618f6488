//! What validation found out about a version before it met traffic.

use serde::{Deserialize, Serialize};

/// Every check that ran, in order. Stored with the deployment and shown as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationReport {
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// `artifact`, `size`, `load`, `memory`, `schema`, `probe`, `sample`, `accuracy`, `latency`, `precision`, ...
    pub name: String,
    pub passed: bool,
    /// What was seen and what it was compared with, and what to do where it failed.
    pub detail: String,
    /// The number behind it, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// Without this there is nothing to serve: no override helps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_vital: bool,
}

/// A number that was judged, or only reported where there is no limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    pub value: f64,
    /// `bytes`, `ms`, or what the score is: `accuracy`, `R²`, `IoU`.
    pub unit: String,
    /// The largest value that passes, the smallest for a score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// What the limit was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
}

/// A person's word that failed checks do not stop a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub by: String,
    pub reason: String,
}

impl ValidationReport {
    /// Whether every check passed. A report without checks proves nothing, so it does not pass.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    /// Whether what failed is a matter of judgement.
    pub fn can_be_overridden(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed || !check.is_vital)
    }

    /// Adds a check; whether it passed is returned, so that a caller can stop at the first that makes the rest moot.
    pub fn check(&mut self, name: &str, result: Result<String, String>) -> bool {
        self.add(Check::new(name, result))
    }

    /// The same for a check without which there is nothing to serve.
    pub fn require(&mut self, name: &str, result: Result<String, String>) -> bool {
        self.add(Check { is_vital: true, ..Check::new(name, result) })
    }

    pub fn add(&mut self, check: Check) -> bool {
        let passed = check.passed;
        self.checks.push(check);
        passed
    }

    /// The failed checks in one line.
    pub fn faults(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.passed);
        let faults: Vec<_> = failed.map(|check| format!("{}: {}", check.name, check.detail)).collect();
        if faults.is_empty() { "no check ran".to_owned() } else { faults.join("; ") }
    }
}

impl Check {
    pub fn new(name: &str, result: Result<String, String>) -> Self {
        let passed = result.is_ok();
        let detail = result.unwrap_or_else(|fault| fault);
        Self { name: name.to_owned(), passed, detail, measured: None, is_vital: false }
    }

    pub fn with_measured(self, measured: Measured) -> Self {
        Self { measured: Some(measured), ..self }
    }
}
