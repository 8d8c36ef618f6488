//! What a caller can do about an error of a scene. Errors here say what is wrong; whoever shows them says what to change, in
//! its own words: a flag of a command line, a field of a request.

use super::{AreaError, SceneError};

/// What to change, or to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Name the scene's reference system.
    NameCrs,
    /// Name it, or say that it has none.
    NameCrsOrNone,
    /// Name it, or write polygons in a format that holds any coordinates.
    NameCrsOrOtherVectors,
    /// Look at the ground resolution that was given.
    CheckGsd,
    /// What is done is kept, and may be gone on with.
    Resume,
    /// Go on with what is there, or throw it away.
    ResumeOrRestart,
    /// Ask for the same as before, or throw away what is there.
    SameOrRestart,
}

impl Remedy {
    pub const ALL: [Self; 7] = [
        Self::NameCrs,
        Self::NameCrsOrNone,
        Self::NameCrsOrOtherVectors,
        Self::CheckGsd,
        Self::Resume,
        Self::ResumeOrRestart,
        Self::SameOrRestart,
    ];
}

impl SceneError {
    /// `None` where the error itself says all there is to say.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::SourceLost(_) | Self::Stopped | Self::Write { resumable: true, .. } => Some(Remedy::Resume),
            Self::Unfinished { .. } => Some(Remedy::ResumeOrRestart),
            Self::Changed { .. } => Some(Remedy::SameOrRestart),
            Self::Vectors { .. } => Some(Remedy::NameCrsOrOtherVectors),
            Self::Memory { .. } => Some(Remedy::CheckGsd),
            Self::Read(_)
            | Self::Segment(_)
            | Self::UnknownChannels
            | Self::Write { resumable: false, .. } => None,
        }
    }
}

impl AreaError {
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::NoProjection => Some(Remedy::NameCrs),
            Self::NotPolygons { .. } | Self::Outside => None,
        }
    }
}
