//! An image in, a mask out: decodes and renders on a blocking thread, runs every tile on the one slot that was chosen.

mod runner;

pub use runner::infer_behind_callers;
pub use runner::{CallerGuard, TileRunner};

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tidegate_core::{RequestId, Sha256Digest, Timestamp};
use tidegate_geo::{
    ImageError, ImageLimits, OutputFile, Provenance, RenderError, SegmentError, SegmentOptions, Segmentation,
    decode, render, segment,
};
use tidegate_serve::InferError;

use super::predict::{Chosen, PredictError};
use super::shadow::{ShadowCopy, TileSample};
use crate::context::Context;

/// An image and how to read it.
pub(crate) struct ImageQuery {
    pub request_id: RequestId,
    pub bytes: Bytes,
    /// Without folders; for the record.
    pub name: String,
    pub options: SegmentOptions,
}

/// A segmented image.
pub(crate) struct Segmented {
    pub width: usize,
    pub height: usize,
    /// Mean over the valid pixels of the probability of what the mask says.
    pub confidence: Option<f64>,
    /// Raw probabilities, mask, overlay and metadata.
    pub files: Vec<OutputFile>,
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SegmentImageError {
    #[error("version {version} was registered without a STAC-MLM item")]
    NoItem { version: String },
    #[error("too many images are at work")]
    Busy,
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Segment(SegmentError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Render(#[from] RenderError),
    #[error("the image's thread ended: {0}")]
    Thread(String),
}

/// Segments the image with the chosen version. The copy is to be held until the answer is written. A caller that goes away
/// stops the work at the next tile.
pub(crate) async fn segment_image(
    context: &Context,
    chosen: &Chosen,
    query: ImageQuery,
) -> Result<(Segmented, Option<ShadowCopy>), SegmentImageError> {
    let slot = Arc::clone(&chosen.resolved.slot);
    if chosen.facts.item.is_none() {
        return Err(SegmentImageError::NoItem { version: slot.number().to_string() });
    }
    let slots = Arc::clone(&context.inner().image_slots);
    let permit = slots.try_acquire_owned().map_err(|_| SegmentImageError::Busy)?;
    let shadow = chosen.resolved.shadow.clone();
    let sample = shadow.map(|shadow| TileSample::new(shadow, query.request_id.clone()));
    let (runner, guard) = TileRunner::new(Arc::clone(&context.server), slot, chosen.resolved.standing());
    let runner = runner.with_sample(sample);
    let runtime = context.server.runtime();
    let job = Job {
        facts: Arc::clone(&chosen.facts),
        runtime: format!("{} {}", runtime.name, runtime.version),
        max_pixels: context.settings.max_image_pixels,
        now: context.clock.now(),
    };
    let work = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let segmented = job.run(&query, &runner)?;
        Ok::<_, SegmentImageError>((segmented, runner.into_sample()))
    });
    let segmented = work.await.map_err(|error| SegmentImageError::Thread(error.to_string()))?;
    drop(guard);
    let (segmented, sample) = segmented?;
    Ok((segmented, sample.and_then(|sample| sample.into_copy(context))))
}

/// What the blocking thread needs beside the image.
struct Job {
    facts: Arc<super::facts::VersionFacts>,
    runtime: String,
    max_pixels: u64,
    now: Timestamp,
}

impl Job {
    fn run(&self, query: &ImageQuery, runner: &TileRunner) -> Result<Segmented, SegmentImageError> {
        let version = runner.slot().number();
        let item = self.facts.item.as_ref();
        let item = item.ok_or_else(|| SegmentImageError::NoItem { version: version.to_string() })?;
        let image = decode(&query.bytes, &ImageLimits::with_max_pixels(self.max_pixels))?;
        let segmentation =
            segment(&image, item, &query.options, &mut |tile| runner.run(runner.inputs(tile)?), &mut |_| {})
                .map_err(unwrap_run)?;
        let provenance = Provenance {
            input_name: query.name.clone(),
            input_sha256: Sha256Digest::of(&query.bytes),
            model_name: runner.slot().model_name().to_string(),
            version: Some(version.clone()),
            artifact_sha256: self.facts.artifact_sha256.clone(),
            runtime: self.runtime.clone(),
            created_at: self.now,
        };
        let files = render(&image, item, &segmentation, &provenance)?;
        Ok(Segmented {
            width: segmentation.width,
            height: segmentation.height,
            confidence: confidence(&segmentation, image.valid.as_deref()),
            files,
            notes: segmentation.notes,
        })
    }
}

/// An error of the server comes out of the closure as what it was.
fn unwrap_run(error: SegmentError) -> SegmentImageError {
    match error {
        SegmentError::Run(fault) => match fault.into_inner().downcast::<InferError>() {
            Ok(error) => PredictError::from(*error).into(),
            Err(other) => PredictError::Failed(other.to_string()).into(),
        },
        other => SegmentImageError::Segment(other),
    }
}

/// How sure the mask is on average: `max(p, 1 - p)` for a binary model, the largest probability otherwise. `None` when
/// nothing is valid or the values are no probabilities.
fn confidence(segmentation: &Segmentation, valid: Option<&[bool]>) -> Option<f64> {
    let n_pixels = segmentation.width * segmentation.height;
    let probabilities = &segmentation.probabilities;
    if n_pixels == 0 || probabilities.iter().any(|p| !(0.0..=1.0).contains(p)) {
        return None;
    }
    let is_valid = |pixel: &usize| valid.is_none_or(|valid| valid[*pixel]);
    let sureness = |pixel: usize| match segmentation.n_classes_out {
        1 => probabilities[pixel].max(1.0 - probabilities[pixel]),
        _ => probabilities[pixel..].iter().step_by(n_pixels).copied().fold(0.0, f32::max),
    };
    let (sum, n_valid) = (0..n_pixels)
        .filter(is_valid)
        .fold((0.0f64, 0u64), |(sum, n_valid), pixel| (sum + f64::from(sureness(pixel)), n_valid + 1));
    (n_valid > 0).then(|| sum / n_valid as f64)
}

impl Segmented {
    pub(crate) fn file(&self, name: &str) -> Option<&OutputFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Per class: value, name, pixels, fraction; as the metadata file counts them.
    pub(crate) fn classes(&self) -> Value {
        let metadata = self.file("inference_metadata.json").map(|file| file.bytes.as_slice());
        let metadata: Option<Value> = metadata.and_then(|bytes| serde_json::from_slice(bytes).ok());
        metadata.and_then(|metadata| metadata.get("classes").cloned()).unwrap_or_else(|| Value::Array(vec![]))
    }
}
