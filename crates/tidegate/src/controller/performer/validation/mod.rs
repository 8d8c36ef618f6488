//! The gates that a version passes before it gets traffic. Validating twice is harmless, and is done after a crash.
//!
//! Here: whether there is something to serve, and room for it. How well it does on its validation sample is in `sample`, what
//! its precision changes in `precision`.

mod memory;
mod precision;
mod sample;

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::{DeploymentId, Version, VersionId};
use tidegate_delivery::{Check, GateLimits, Measured, ValidationReport};
use tidegate_serve::Slot;

use super::Performer;
use super::placement::PlaceError;

/// What validation lets pass.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest runnable artifact.
    pub max_artifact_bytes: u64,
    /// The most that a loaded version may take.
    pub max_memory_bytes: u64,
    /// What this process may hold, with both versions loaded. `None`: not known, not judged.
    pub memory_limit_bytes: Option<u64>,
    /// Against the running version, on the sample; of a precision, against f32.
    pub gates: GateLimits,
    /// How long the sample, and the comparison of precisions, may take; the cases that have run by then are judged.
    pub max_duration: Duration,
    /// Of an image of the sample.
    pub max_image_pixels: u64,
}

impl Performer {
    /// The gates before traffic, in an order in which each makes sense only after the one before.
    pub(super) async fn validate(
        &self,
        deployment: &DeploymentId,
        version_id: &VersionId,
    ) -> ValidationReport {
        let mut report = ValidationReport::default();
        if let Some(version) = self.check_stored(version_id, &mut report).await {
            self.check_loaded(deployment, &version, &mut report).await;
        }
        report
    }

    /// `None`: there is nothing that could be loaded.
    async fn check_stored(&self, version_id: &VersionId, report: &mut ValidationReport) -> Option<Version> {
        let version = match self.store.versions.get(version_id).await {
            Ok(Some(version)) => version,
            Ok(None) => {
                report.require("registry", Err("the version is not in the registry".to_owned()));
                return None;
            }
            Err(error) => {
                report.require("registry", Err(error.to_string()));
                return None;
            }
        };
        let artifact = &version.primary;
        let limit = self.limits.max_artifact_bytes;
        report.add(at_most("size", "its file", artifact.size_bytes, limit));
        let digest = self.artifacts.verify(&artifact.path, &artifact.sha256).await;
        let digest = digest.map(|()| format!("`{}` has SHA-256 {}", artifact.name, artifact.sha256));
        report.require("artifact", digest.map_err(|error| error.to_string())).then_some(version)
    }

    async fn check_loaded(
        &self,
        deployment: &DeploymentId,
        version: &Version,
        report: &mut ValidationReport,
    ) {
        if let Err(fault) = self.has_room_for(version) {
            report.require("memory", Err(fault));
            return;
        }
        let slot = match self.placement.load(&version.id).await {
            Ok(slot) => slot,
            Err(error) => {
                let check = if matches!(error, PlaceError::NotRunnable { .. }) { "format" } else { "load" };
                report.require(check, Err(error.to_string()));
                return;
            }
        };
        self.hold(deployment, &slot);
        report.add(self.check_memory(&slot));
        let schema = match &version.signature {
            Some(declared) if declared != slot.signature() => {
                Err("the model's inputs and outputs differ from those registered".to_owned())
            }
            _ => Ok(describe_signature(&slot)),
        };
        report.check("schema", schema);
        let probe = self.predict_probe(&slot, 0).await;
        let answers = report.check(
            "probe",
            probe.map(|()| "a probe prediction has the declared outputs, all finite".to_owned()),
        );
        if answers {
            let inputs = self.check_sample(deployment, version, Arc::clone(&slot), report).await;
            self.check_precision(deployment, version, &slot, &inputs, report).await;
        }
    }
}

/// A size and its limit.
fn at_most(name: &str, what: &str, bytes: u64, limit: u64) -> Check {
    let text = format!("{what} has {} of at most {}", mebibytes(bytes), mebibytes(limit));
    let check = Check::new(name, if bytes <= limit { Ok(text) } else { Err(text) });
    check.with_measured(Measured {
        value: number(bytes),
        unit: "bytes".to_owned(),
        limit: Some(number(limit)),
        baseline: None,
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", number(bytes) / (1024.0 * 1024.0))
}

#[expect(clippy::cast_precision_loss, reason = "sizes of files and memory, far below 2^53")]
fn number(bytes: u64) -> f64 {
    bytes as f64
}

fn describe_signature(slot: &Slot) -> String {
    let side = |specs: &[tidegate_core::TensorSpec]| {
        let specs: Vec<_> = specs
            .iter()
            .map(|spec| format!("{} {} {}", spec.name, spec.datatype, spec.shape_text()))
            .collect();
        specs.join(", ")
    };
    format!("takes {}; gives {}", side(&slot.signature().inputs), side(&slot.signature().outputs))
}
