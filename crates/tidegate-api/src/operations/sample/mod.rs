//! A version's validation sample: inputs with what is true of them.
//!
//! Tables are JSON ([`rows`]), segmentation is images with masks ([`scenes`]). Inputs become tensors by the code that
//! serves requests, so that what is measured here is what callers will meet. Registration reads a sample and checks it
//! against the model ([`Sample::check`]); validation runs it on loaded versions ([`Trial`]).

mod compare;
mod overlap;
mod rows;
mod scenes;
mod trial;

pub use trial::{Subject, Trial, TrialError};

use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use tidegate_core::{Artifact, ModelType, Signature};
use tidegate_geo::{ImageLimits, ModelItem};
use tidegate_store::{ArtifactError, ArtifactStore};

use super::fault::{Fault, listed};
use rows::Rows;
use scenes::Scenes;

/// The part of a registration, and the field of its faults.
pub(crate) const FIELD: &str = "validationSample";

/// Files are read whole; a sample decides about a version, it is no data set.
const MAX_BYTES: u64 = 256 << 20;

/// A sample in memory.
pub struct Sample(Cases);

enum Cases {
    Rows(Rows),
    Scenes(Scenes),
}

/// What a sample is held against.
#[derive(Clone, Copy)]
pub(crate) struct Interface<'a> {
    pub signature: &'a Signature,
    pub input_schema: &'a Value,
    pub item: Option<&'a ModelItem>,
    pub model_type: ModelType,
}

/// Why a sample cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error(transparent)]
    Misfit(#[from] SampleMisfit),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("failed to read the validation sample")]
    Read(#[from] std::io::Error),
    #[error("reading the validation sample was cut short: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// What is wrong with it, by file and line.
#[derive(Debug, thiserror::Error)]
#[error("{}", listed(.0))]
pub struct SampleMisfit(pub(crate) Vec<Fault>);

impl Sample {
    /// Reads the files from the store; their names say what they are.
    pub async fn open(
        artifacts: &ArtifactStore,
        cache_dir: &Path,
        files: &[Artifact],
        limits: ImageLimits,
    ) -> Result<Self, SampleError> {
        let size_bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
        if size_bytes > MAX_BYTES {
            let message =
                format!("{size_bytes} bytes; a sample has at most {MAX_BYTES}: take fewer rows or images");
            return Err(misfit(Fault::new(FIELD, message)).into());
        }
        let mut contents = Vec::new();
        for file in files {
            let path = artifacts.local_path(&file.path, &file.sha256, cache_dir).await?;
            contents.push((file.name.clone(), Bytes::from(tokio::fs::read(path).await?)));
        }
        let parsed = tokio::task::spawn_blocking(move || Self::parse(contents, limits)).await?;
        Ok(parsed.map_err(SampleMisfit)?)
    }

    fn parse(files: Vec<(String, Bytes)>, limits: ImageLimits) -> Result<Self, Vec<Fault>> {
        match files.as_slice() {
            [(name, bytes)] if is_rows(name) => Ok(Self(Cases::Rows(Rows::parse(name, bytes)?))),
            _ => match files.iter().find(|(name, _)| is_rows(name)) {
                None => Ok(Self(Cases::Scenes(Scenes::parse(files, limits)?))),
                Some((name, _)) => {
                    let message =
                        format!("`{name}` is a table, which comes alone; put all rows into one file");
                    Err(vec![Fault::new(FIELD, message)])
                }
            },
        }
    }

    /// Rows or images.
    pub fn n_cases(&self) -> usize {
        match &self.0 {
            Cases::Rows(rows) => rows.rows.len(),
            Cases::Scenes(scenes) => scenes.scenes.len(),
        }
    }

    /// How much it is, in words.
    pub fn holds(&self) -> String {
        self.describe(self.n_cases())
    }

    /// `n` cases of it, in words.
    fn describe(&self, n: usize) -> String {
        let (one, many) = match &self.0 {
            Cases::Rows(_) => ("row", "rows"),
            Cases::Scenes(_) => ("image", "images"),
        };
        format!("{n} {}", if n == 1 { one } else { many })
    }

    /// Whether every case fits the model. Decodes images; blocks.
    pub(crate) fn check(&self, interface: &Interface<'_>) -> Result<(), SampleMisfit> {
        match &self.0 {
            Cases::Rows(rows) => rows.check(interface),
            Cases::Scenes(scenes) => scenes.check(interface),
        }
        .map_err(SampleMisfit)
    }
}

fn is_rows(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    [".jsonl", ".ndjson", ".json"].iter().any(|extension| lower.ends_with(extension))
}

fn misfit(fault: Fault) -> SampleMisfit {
    SampleMisfit(vec![fault])
}

/// Enough to see what is wrong with a file; ten thousand lines are wrong in the same way.
const MAX_FAULTS: usize = 20;

/// Collects faults, the first of them.
fn push_all(faults: &mut Vec<Fault>, more: impl IntoIterator<Item = Fault>) {
    let room = MAX_FAULTS.saturating_sub(faults.len());
    faults.extend(more.into_iter().take(room));
}

#[cfg(test)]
mod tests;
