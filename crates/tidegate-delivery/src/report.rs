//! What validation found out about a version before it met traffic.

use serde::{Deserialize, Serialize};

/// Every check that ran, in order. Stored with the deployment and shown as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationReport {
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// `artifact`, `format`, `size`, `schema`, `probe`.
    pub name: String,
    pub passed: bool,
    /// What was seen, and what to do where it failed.
    pub detail: String,
}

impl ValidationReport {
    /// Whether every check passed. A report without checks proves nothing, so it does not pass.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.passed)
    }

    /// Adds a check; whether it passed is returned, so that a caller can stop at the first that makes the rest moot.
    pub fn check(&mut self, name: &str, result: Result<String, String>) -> bool {
        let passed = result.is_ok();
        let detail = result.unwrap_or_else(|fault| fault);
        self.checks.push(Check { name: name.to_owned(), passed, detail });
        passed
    }

    /// The failed checks in one line.
    pub fn faults(&self) -> String {
        let failed = self.checks.iter().filter(|check| !check.passed);
        let faults: Vec<_> = failed.map(|check| format!("{}: {}", check.name, check.detail)).collect();
        if faults.is_empty() { "no check ran".to_owned() } else { faults.join("; ") }
    }
}
