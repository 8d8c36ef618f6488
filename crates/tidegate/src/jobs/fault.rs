//! Why a job does not come to its end now, and what that means for it.

use std::io;

use tidegate_core::error_chain;
use tidegate_geo::scene::SceneError;
use tidegate_geo::{ImageError, SegmentError};
use tidegate_serve::InferError;
use tidegate_store::{ArtifactError, PutError, RemoteError, StoreError};

use crate::controller::PlaceError;
use crate::remedies::Face;

#[derive(Debug, thiserror::Error)]
pub enum JobFault {
    /// Told to stop, or the job is no longer ours.
    #[error("stopped")]
    Stopped,
    /// May go better later; what is done is kept.
    #[error("{0}")]
    Passing(String),
    /// Would fail again.
    #[error("{0}")]
    Final(String),
}

const DISK_FULL: &str =
    "the disk of the server is full; nothing was kept: free some space, or give `data_dir` a larger place";

impl JobFault {
    pub fn last(error: impl std::fmt::Display) -> Self {
        Self::Final(error.to_string())
    }

    /// Of the pipeline, with what a caller can do about it.
    pub fn of_pipeline(error: impl Into<anyhow::Error>) -> Self {
        Self::Final(Face::Job.words(&error.into()))
    }

    /// Of opening a scene.
    pub fn of_source(error: &anyhow::Error) -> Self {
        let text = Face::Job.words(error);
        let is_passing = match (error.downcast_ref::<RemoteError>(), error.downcast_ref::<ImageError>()) {
            (Some(error), _) => error.may_pass(),
            (None, Some(error)) => matches!(error, ImageError::Unreadable { .. }),
            (None, None) => false,
        };
        let text = format!("the scene cannot be read: {text}");
        if is_passing { Self::Passing(text) } else { Self::Final(text) }
    }

    /// Of predicting it.
    pub fn of_scene(error: SceneError) -> Self {
        match error {
            SceneError::Stopped => Self::Stopped,
            SceneError::SourceLost(error) => Self::Passing(format!("the scene cannot be read on: {error}")),
            SceneError::Write { source, .. } => Self::of_disk(&source),
            SceneError::Segment(SegmentError::Run(fault)) => {
                match fault.into_inner().downcast::<InferError>() {
                    Ok(error) if *error == InferError::ShuttingDown => Self::Stopped,
                    Ok(error) => Self::Final(format!("the model failed on a tile: {error}")),
                    Err(other) => Self::Final(format!("the model failed on a tile: {other}")),
                }
            }
            error => Self::of_pipeline(error),
        }
    }

    pub fn of_disk(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Final(DISK_FULL.to_owned()),
            _ => Self::Final(format!("failed to write on the server: {error}")),
        }
    }

    /// Of bringing a file into the artifact store.
    pub fn of_put(error: PutError) -> Self {
        match error {
            PutError::NoSpace { .. } => Self::Final("the artifact store is full".to_owned()),
            PutError::Stream { source } => Self::of_disk(&source),
            error => Self::Passing(error_chain(&error)),
        }
    }

    pub fn of_place(error: PlaceError) -> Self {
        match error {
            PlaceError::Store(error) => error.into(),
            PlaceError::Artifact(
                error @ (ArtifactError::Backend { .. } | ArtifactError::Download { .. }),
            ) => Self::Passing(error_chain(&error)),
            error => Self::Final(format!("the version cannot be loaded: {}", error_chain(&error))),
        }
    }
}

impl From<StoreError> for JobFault {
    fn from(error: StoreError) -> Self {
        let text = error_chain(&error);
        if error.retryable() { Self::Passing(text) } else { Self::Final(text) }
    }
}
