//! The gates that a version passes before it gets traffic. Validating twice is harmless, and is done after a crash.

use tidegate_core::{DeploymentId, VersionId};
use tidegate_delivery::ValidationReport;
use tidegate_serve::Slot;

use super::Performer;
use super::placement::PlaceError;

impl Performer {
    /// The gates before traffic, in an order in which each makes sense only after the one before.
    pub(super) async fn validate(
        &self,
        deployment: &DeploymentId,
        version_id: &VersionId,
    ) -> ValidationReport {
        let mut report = ValidationReport::default();
        let version = match self.store.versions.get(version_id).await {
            Ok(Some(version)) => version,
            Ok(None) => {
                report.require("registry", Err("the version is not in the registry".to_owned()));
                return report;
            }
            Err(error) => {
                report.require("registry", Err(error.to_string()));
                return report;
            }
        };
        let artifact = &version.primary;
        let limit = self.limits.max_artifact_bytes;
        let size = match artifact.size_bytes {
            bytes if bytes > limit => Err(format!("{bytes} bytes; at most {limit} are allowed")),
            bytes => Ok(format!("{bytes} bytes of at most {limit}")),
        };
        report.check("size", size);
        let digest = self.artifacts.verify(&artifact.path, &artifact.sha256).await;
        let digest = digest.map(|()| format!("`{}` has SHA-256 {}", artifact.name, artifact.sha256));
        if !report.require("artifact", digest.map_err(|error| error.to_string())) {
            return report;
        }
        let slot = match self.placement.load(version_id).await {
            Ok(slot) => slot,
            Err(error) => {
                let check = if matches!(error, PlaceError::NotRunnable { .. }) { "format" } else { "load" };
                report.require(check, Err(error.to_string()));
                return report;
            }
        };
        self.hold(deployment, &slot);
        let schema = match &version.signature {
            Some(declared) if declared != slot.signature() => {
                Err("the model's inputs and outputs differ from those registered".to_owned())
            }
            _ => Ok(describe_signature(&slot)),
        };
        report.check("schema", schema);
        let probe = self.predict_probe(&slot, 0).await;
        report.check(
            "probe",
            probe.map(|()| "a probe prediction has the declared outputs, all finite".to_owned()),
        );
        report
    }
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
