//! What runs models in place of ONNX Runtime's own CPU code, and in which precisions a process can run them at all.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tidegate_core::Precision;

use crate::load_error::LoadError;

/// What the operator lets models run on. Nothing falls back silently: where the one that was asked for is missing, the start
/// fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AcceleratorChoice {
    /// ONNX Runtime's own CPU code, and OpenVINO for versions of bf16 where it is found.
    #[default]
    Auto,
    /// ONNX Runtime's own CPU code only.
    None,
    /// OpenVINO for every version, each in its own precision.
    OpenVino,
    /// A GPU for every version, with a library of ONNX Runtime that has CUDA.
    Cuda,
}

impl AcceleratorChoice {
    pub const ALL: [Self; 4] = [Self::Auto, Self::None, Self::OpenVino, Self::Cuda];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::OpenVino => "openvino",
            Self::Cuda => "cuda",
        }
    }

    /// Whether the start has to fail without it.
    pub(crate) fn is_required(self) -> bool {
        matches!(self, Self::OpenVino | Self::Cuda)
    }
}

impl std::fmt::Display for AcceleratorChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for AcceleratorChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|choice| choice.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let got: String = text.chars().take(60).collect();
            format!("`{got}` is not one of auto, none, openvino, cuda")
        })
    }
}

/// Which accelerator is in use, and why; the log and `/api/v1/server` show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AcceleratorInfo {
    /// `none`, `openvino` or `cuda`.
    pub name: &'static str,
    /// One sentence: what it runs and why, or why there is none.
    pub reason: String,
    /// The shared library it was loaded from, where it has one of its own.
    pub library: Option<PathBuf>,
}

impl AcceleratorInfo {
    pub fn none(reason: impl Into<String>) -> Self {
        Self { name: "none", reason: reason.into(), library: None }
    }
}

/// Why versions of bf16 are refused.
pub(crate) fn no_bf16(missing: &str, fix: &str) -> LoadError {
    LoadError::Precision {
        precision: Precision::Bf16,
        missing: missing.to_owned(),
        fix: format!("{fix}, or deploy the version in f32"),
    }
}

/// Whether the CPU multiplies bfloat16 itself. Where it has AMX for it, it has AVX-512's instructions too; software that
/// imitates them would be slower than f32.
pub fn cpu_has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bf16")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_reads_as_it_is_written() {
        for choice in AcceleratorChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
            assert_eq!(serde_json::to_value(choice).unwrap(), choice.as_str());
        }
        assert!("tpu".parse::<AcceleratorChoice>().unwrap_err().contains("openvino"));
    }

    #[test]
    fn a_refusal_says_what_is_missing_and_what_to_do() {
        let refused = no_bf16("this CPU has no bfloat16", "serve it elsewhere").to_string();
        assert_eq!(
            refused,
            "bf16 cannot be computed here: this CPU has no bfloat16; serve it elsewhere, or deploy the version in f32"
        );
    }
}
