//! In which numbers a version computes.

use serde::{Deserialize, Serialize};

/// The numbers that a version's arithmetic is done in. A part of the version: the same file at another precision is another
/// model, tested and rolled out like one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the file says; 32-bit floats for nearly all of them.
    #[default]
    F32,
    /// bfloat16 inside the run, where the CPU has instructions for it: inputs and outputs stay 32-bit floats.
    Bf16,
    /// 8-bit integers, as a quantised file says.
    Int8,
}

impl Precision {
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    /// The error lists the accepted words.
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| precision.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let got: String = text.chars().take(60).collect();
            format!("`{got}` is not one of f32, bf16, int8")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_reads_as_it_is_written() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            assert_eq!(serde_json::to_value(precision).unwrap(), precision.as_str());
        }
        assert!("fp16".parse::<Precision>().unwrap_err().contains("bf16"));
    }
}
