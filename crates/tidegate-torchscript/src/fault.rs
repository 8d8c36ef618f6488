//! What goes wrong while a program runs, before anyone knows where: the interpreter adds the place.

use crate::error::ConvertError;
use crate::heap::Stale;

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// With its namespace, and after it what about the operator is not supported.
    Operator(String),
    Code(String),
    DataDependent,
    /// Something must be computed now that depends on the size of an axis which may vary.
    OpenAxis(String),
    /// The shapes do not fit together.
    Mismatch(String),
    Training,
    Raised(String),
    Limit {
        what: &'static str,
        limit: u64,
    },
    Malformed(String),
}

impl Fault {
    pub(crate) fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed(what.into())
    }

    pub(crate) fn overflow() -> Self {
        Self::Malformed("a size that no tensor can have".to_owned())
    }

    /// Another choice of open axes may succeed.
    pub(crate) fn depends_on_shapes(&self) -> bool {
        matches!(self, Self::OpenAxis(_) | Self::Mismatch(_) | Self::Raised(_))
    }

    /// In words, where it is the reason of another fault.
    pub(crate) fn why(self) -> String {
        match self {
            Self::OpenAxis(why)
            | Self::Mismatch(why)
            | Self::Raised(why)
            | Self::Code(why)
            | Self::Malformed(why) => why,
            Self::Operator(operator) => format!("`{operator}` cannot be converted"),
            Self::DataDependent => "a value of the input decides".to_owned(),
            Self::Training => "the module is in training mode".to_owned(),
            Self::Limit { what, limit } => format!("{what} exceeds {limit}"),
        }
    }

    pub(crate) fn at(self, location: String) -> ConvertError {
        match self {
            Self::Operator(operator) => ConvertError::UnsupportedOperator { operator, location },
            Self::Code(what) => ConvertError::UnsupportedCode { what, location },
            Self::DataDependent => ConvertError::DataDependentControlFlow { location },
            Self::OpenAxis(why) => ConvertError::InputShapeNeeded { why, location },
            Self::Mismatch(why) => ConvertError::ShapeMismatch { why, location },
            Self::Training => ConvertError::TrainingMode { location },
            Self::Raised(message) => ConvertError::Raised { message, location },
            Self::Limit { what, limit } => ConvertError::Limit { what: what.to_owned(), limit },
            Self::Malformed(what) => ConvertError::Malformed { what: format!("{what}, at {location}") },
        }
    }
}

impl From<Stale> for Fault {
    fn from(_: Stale) -> Self {
        Self::Code("reading a tensor after a write to another view of its memory".to_owned())
    }
}
