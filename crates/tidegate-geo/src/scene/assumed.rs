//! A reference system that somebody names in place of the file.

use super::{Projection, Remedy};

/// What the user says of a scene's reference system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssumedCrs {
    Epsg(u32),
    /// Go on without.
    None,
}

/// A scene has a place and does not say in which reference system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the scene does not name its coordinate reference system")]
pub struct UnnamedCrs;

impl UnnamedCrs {
    pub fn remedy(&self) -> Remedy {
        Remedy::NameCrsOrNone
    }
}

impl std::str::FromStr for AssumedCrs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::None);
        }
        let code = text.strip_prefix("EPSG:").or_else(|| text.strip_prefix("epsg:")).unwrap_or(text);
        match code.parse() {
            Ok(code) if Projection::of_epsg(code).is_some() => Ok(Self::Epsg(code)),
            Ok(code) => Err(format!("EPSG:{code} is not a reference system that is known here")),
            Err(_) => Err(format!("`{text}` is not a reference system: write it like EPSG:32645, or `none`")),
        }
    }
}

impl std::fmt::Display for AssumedCrs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Epsg(code) => write!(f, "EPSG:{code}"),
            Self::None => f.write_str("none"),
        }
    }
}
