//! Models, versions and artifacts: plain data, named as in the API.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::id::{ModelId, VersionId};
use crate::name::ModelName;
use crate::precision::Precision;
use crate::signature::Signature;
use crate::time::Timestamp;

/// An enum that is written as its variant's name, and read back from it without regard to case.
macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($variant:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        pub enum $name { $($variant),+ }

        impl $name {
            pub const ALL: &'static [$name] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant)),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            /// The error lists the accepted words.
            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|v| v.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
                    let words: Vec<_> = Self::ALL.iter().map(|v| v.as_str()).collect();
                    let got: String = text.chars().take(60).collect();
                    format!("`{got}` is not one of {}", words.join(", "))
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for &'static str {
            fn from(value: $name) -> &'static str {
                value.as_str()
            }
        }
    };
}
pub(crate) use text_enum;

text_enum! {
    /// What a model was made with.
    Framework { TensorFlow, PyTorch, ScikitLearn, ONNX, XGBoost, LightGBM, Custom }
}

text_enum! {
    /// What a model does.
    ModelType {
        Classification, Regression, Clustering, Recommendation, NaturalLanguageProcessing, ComputerVision, TimeSeries,
        Other,
    }
}

text_enum! {
    /// How far a version has come.
    VersionStatus { Registered, Validating, Validated, Approved, Deployed, Deprecated, Archived }
}

/// A named thing that predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub id: ModelId,
    pub name: ModelName,
    pub description: Option<String>,
    pub framework: Framework,
    pub model_type: ModelType,
    pub owner: String,
    pub tags: Vec<String>,
    /// The version that answers in Production, by its number.
    pub active_version: Option<semver::Version>,
    pub is_archived: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// One immutable trained artifact set of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub id: VersionId,
    pub model_id: ModelId,
    pub version: semver::Version,
    /// The artifact that runs, or the first one where none can run yet. `artifacts` holds it too.
    pub primary: Artifact,
    pub artifacts: Vec<Artifact>,
    /// In which numbers it computes: the same files at another precision are another version.
    pub precision: Precision,
    /// The version of the same model, by its number, that a quantised one is held against before it gets traffic.
    pub reference: Option<semver::Version>,
    /// Read from the artifact where a runtime understands it.
    pub signature: Option<Signature>,
    /// JSON Schema of the `features` object and of the `prediction`.
    pub input_schema: serde_json::Value,
    pub output_schema: serde_json::Value,
    /// The STAC-MLM item that the version was registered from.
    pub stac_item: Option<serde_json::Value>,
    /// Dataset, hyperparameters, metrics: free form, shown as given.
    pub training_metadata: Option<serde_json::Value>,
    /// What it is said to achieve.
    pub baseline: Option<Baseline>,
    /// What it is tested on before it meets traffic.
    pub validation_sample: Option<ValidationSample>,
    pub status: VersionStatus,
    pub created_at: Timestamp,
}

/// What whoever trained a version declares of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// The higher, the better; at most 1.
    pub accuracy: Option<f64>,
    /// Of one prediction.
    pub latency_ms: Option<f64>,
}

/// Inputs with what is true of them, kept beside the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidationSample {
    /// Names of artifacts of the version.
    pub files: Vec<String>,
    /// How much that is, in words: `200 rows`, `12 images`.
    pub holds: String,
}

/// A file of a version, as it lies in the artifact store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Artifact {
    /// The file's name, without folders.
    pub name: String,
    /// The key in the artifact store.
    pub path: String,
    pub format: ArtifactFormat,
    pub sha256: Sha256Digest,
    pub size_bytes: u64,
}

text_enum! {
    /// What kind of file an artifact is, by its extension.
    ArtifactFormat { Onnx, TorchScript, StateDict, StacItem, EsriModelDefinition, Other }
}

impl ArtifactFormat {
    pub fn of_file_name(name: &str) -> Self {
        let lower = name.to_ascii_lowercase();
        match lower.rsplit_once('.').map_or("", |(_, extension)| extension) {
            "onnx" => Self::Onnx,
            "pt" => Self::TorchScript,
            "pth" => Self::StateDict,
            "emd" => Self::EsriModelDefinition,
            "json" if lower.contains("stac") => Self::StacItem,
            _ => Self::Other,
        }
    }

    /// Whether a runtime of this build can load it.
    pub fn is_runnable(self) -> bool {
        self == Self::Onnx
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enums_read_any_case_and_list_the_words_on_error() {
        assert_eq!("onnx".parse(), Ok(Framework::ONNX));
        assert_eq!("computervision".parse(), Ok(ModelType::ComputerVision));
        let message = "Keras".parse::<Framework>().unwrap_err();
        assert!(message.contains("`Keras`") && message.contains("TensorFlow"), "{message}");
        assert_eq!(serde_json::to_string(&Framework::ONNX).unwrap(), "\"ONNX\"");
    }
}
