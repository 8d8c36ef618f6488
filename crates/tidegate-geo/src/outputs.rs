//! What a prediction leaves behind: the four files of the geo guide.
//!
//! Renders bytes; writing them is one separate call, so that a server can put them anywhere.

mod metadata;
mod npy;
mod overlay;
pub(crate) mod palette;
mod png_file;

use std::io;
use std::path::{Path, PathBuf};

use tidegate_core::{SemVer, Sha256Digest, Timestamp};

use crate::image::Image;
use crate::segment::Segmentation;
use crate::stac_mlm::ModelItem;

pub(crate) use palette::{class_colors, mask_classes};

/// Where a prediction came from, as far as this crate cannot know it.
#[derive(Clone, Debug, PartialEq)]
pub struct Provenance {
    /// The image's file name, without folders.
    pub input_name: String,
    pub input_sha256: Sha256Digest,
    pub model_name: String,
    pub version: Option<SemVer>,
    /// Of the artifact that was run.
    pub artifact_sha256: Sha256Digest,
    /// In words: `ONNX Runtime 1.31.1, CPU, f32`.
    pub runtime: String,
    /// When the prediction was finished.
    pub created_at: Timestamp,
}

/// A file, rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputFile {
    pub name: &'static str,
    pub content_type: &'static str,
    pub bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error(
        "the segmentation is of {segmented} pixels, the image of {image}: render it over the image that it came from"
    )]
    SizeMismatch { segmented: String, image: String },
    #[error("failed to encode `{name}`")]
    Encode { name: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

/// Raw probabilities, mask, overlay and metadata, in this order.
///
/// - `prediction_raw.npy`: float32, `channels x height x width`, probabilities of 0 to 1;
/// - `prediction_mask.png`: 0 and 255 for a binary model, else a palette image of channel indices;
/// - `prediction_overlay.png`: the image with each class tinted and outlined;
/// - `inference_metadata.json`: how the result was made.
pub fn render(
    image: &Image,
    item: &ModelItem,
    segmentation: &Segmentation,
    provenance: &Provenance,
) -> Result<Vec<OutputFile>, RenderError> {
    check_sizes(image, segmentation)?;
    let colors = class_colors(item, segmentation.n_classes_out);
    let Segmentation { width, height, n_classes_out, .. } = *segmentation;
    Ok(vec![
        OutputFile {
            name: "prediction_raw.npy",
            content_type: "application/x-npy",
            bytes: npy::encode([n_classes_out, height, width], &segmentation.probabilities),
        },
        encoded("prediction_mask.png", "image/png", png_file::mask(segmentation, &colors))?,
        encoded("prediction_overlay.png", "image/png", overlay::encode(image, &segmentation.mask, &colors))?,
        encoded(
            "inference_metadata.json",
            "application/json",
            metadata::encode(image, item, segmentation, provenance),
        )?,
    ])
}

/// The picture of a mask over an image of the same size.
pub(crate) fn overlay_png(
    image: &Image,
    mask: &[u8],
    item: &ModelItem,
    n_channels: usize,
) -> Result<Vec<u8>, RenderError> {
    let bytes = overlay::encode(image, mask, &class_colors(item, n_channels));
    bytes.map_err(|source| RenderError::Encode { name: "prediction_overlay.png", source: Box::new(source) })
}

fn check_sizes(image: &Image, segmentation: &Segmentation) -> Result<(), RenderError> {
    let Segmentation { width, height, n_classes_out, ref probabilities, ref mask, .. } = *segmentation;
    let n_pixels = width * height;
    let fits = (width, height) == (image.width, image.height)
        && n_classes_out > 0
        && probabilities.len() == n_pixels * n_classes_out
        && mask.len() == n_pixels
        && image.n_bands > 0
        && image.pixels.len() == n_pixels * image.n_bands
        && image.valid.as_ref().is_none_or(|valid| valid.len() == n_pixels);
    if fits {
        return Ok(());
    }
    Err(RenderError::SizeMismatch {
        segmented: format!("{width} x {height}"),
        image: format!("{} x {}", image.width, image.height),
    })
}

fn encoded<E: std::error::Error + Send + Sync + 'static>(
    name: &'static str,
    content_type: &'static str,
    bytes: Result<Vec<u8>, E>,
) -> Result<OutputFile, RenderError> {
    match bytes {
        Ok(bytes) => Ok(OutputFile { name, content_type, bytes }),
        Err(source) => Err(RenderError::Encode { name, source: Box::new(source) }),
    }
}

/// Writes the files into `dir`, which is made where it is missing. Each is written under a temporary name and renamed,
/// so that no half-written file ever carries the final name. Returns their paths.
pub fn write_files(dir: &Path, files: &[OutputFile]) -> io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(dir)?;
    let mut paths = Vec::with_capacity(files.len());
    for file in files {
        let partial = dir.join(format!(".{}.{}.partial", file.name, std::process::id()));
        let path = dir.join(file.name);
        let written = std::fs::write(&partial, &file.bytes).and_then(|()| std::fs::rename(&partial, &path));
        if let Err(error) = written {
            // A full disk: what could not be finished should not fill it further.
            let _ = std::fs::remove_file(&partial);
            let message = format!("failed to write `{}`: {error}", path.display());
            return Err(io::Error::new(error.kind(), message));
        }
        paths.push(path);
    }
    Ok(paths)
}
