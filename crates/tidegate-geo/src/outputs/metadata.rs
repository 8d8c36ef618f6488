//! `inference_metadata.json`: enough to know what made a mask, and to make it again.

use serde::Serialize;

use super::Provenance;
use super::palette::mask_classes;
use crate::image::Image;
use crate::segment::{Placement, Segmentation};
use crate::stac_mlm::{Activation, ModelItem, Scaling};

pub(super) fn encode(
    image: &Image,
    item: &ModelItem,
    segmentation: &Segmentation,
    provenance: &Provenance,
) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec_pretty(&Metadata::new(image, item, segmentation, provenance))
}

#[derive(Serialize)]
struct Metadata<'a> {
    /// RFC 3339, UTC.
    created_at: String,
    software: Software,
    input: Input<'a>,
    model: Model<'a>,
    preprocessing: Preprocessing<'a>,
    postprocessing: Postprocessing,
    classes: Vec<ClassCount<'a>>,
    timings: Timings,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Software {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Input<'a> {
    name: &'a str,
    sha256: &'a str,
    width: usize,
    height: usize,
    bands: usize,
    valid_pixels: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsg: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gsd_m: Option<f64>,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    artifact_sha256: &'a str,
    runtime: &'a str,
    stac_item: &'a str,
}

#[derive(Serialize)]
struct Preprocessing<'a> {
    bands: &'a [String],
    tile_height: usize,
    tile_width: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    model_gsd_m: Option<f64>,
    placement: Placement,
    value_scaling: Vec<ScalingEntry>,
}

/// As the item writes it.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum ScalingEntry {
    None,
    MinMax { minimum: f64, maximum: f64 },
    ZScore { mean: f64, stddev: f64 },
    Clip { minimum: f64, maximum: f64 },
    ClipMin { minimum: f64 },
    ClipMax { maximum: f64 },
    Offset { value: f64 },
    Scale { value: f64 },
}

#[derive(Serialize)]
struct Postprocessing {
    activation: Activation,
    /// Of a binary model.
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f32>,
    tiles: usize,
    empty_tiles: usize,
}

#[derive(Serialize)]
struct ClassCount<'a> {
    value: usize,
    name: &'a str,
    pixels: usize,
    /// Of the valid pixels.
    fraction: f64,
}

#[derive(Serialize)]
struct Timings {
    preprocess_seconds: f64,
    runtime_seconds: f64,
    postprocess_seconds: f64,
}

impl<'a> Metadata<'a> {
    fn new(
        image: &'a Image,
        item: &'a ModelItem,
        segmentation: &'a Segmentation,
        provenance: &'a Provenance,
    ) -> Self {
        let is_binary = segmentation.n_classes_out == 1;
        Self {
            created_at: provenance.created_at.to_string(),
            software: Software { name: "tidegate", version: env!("CARGO_PKG_VERSION") },
            input: Input {
                name: &provenance.input_name,
                sha256: provenance.input_sha256.as_str(),
                width: image.width,
                height: image.height,
                bands: image.n_bands,
                valid_pixels: n_valid(image),
                epsg: image.geo.as_ref().and_then(|geo| geo.epsg),
                gsd_m: segmentation.image_gsd_m,
            },
            model: Model {
                name: &provenance.model_name,
                version: provenance.version.as_ref().map(ToString::to_string),
                artifact_sha256: provenance.artifact_sha256.as_str(),
                runtime: &provenance.runtime,
                stac_item: &item.id,
            },
            preprocessing: Preprocessing {
                bands: &item.input.bands,
                tile_height: item.input.height,
                tile_width: item.input.width,
                model_gsd_m: item.gsd,
                placement: segmentation.placement,
                value_scaling: item.input.scaling.iter().map(|scaling| (*scaling).into()).collect(),
            },
            postprocessing: Postprocessing {
                activation: item.output.activation,
                threshold: is_binary.then_some(item.output.threshold),
                tiles: segmentation.n_tiles,
                empty_tiles: segmentation.n_empty_tiles,
            },
            classes: class_counts(image, item, segmentation),
            timings: Timings {
                preprocess_seconds: segmentation.preprocess_seconds,
                runtime_seconds: segmentation.runtime_seconds,
                postprocess_seconds: segmentation.postprocess_seconds,
            },
            notes: &segmentation.notes,
        }
    }
}

fn n_valid(image: &Image) -> usize {
    match &image.valid {
        Some(valid) => valid.iter().filter(|valid| **valid).count(),
        None => image.width * image.height,
    }
}

/// Every mask value that can occur, named after the item's class of that value.
fn class_counts<'a>(image: &Image, item: &'a ModelItem, segmentation: &Segmentation) -> Vec<ClassCount<'a>> {
    let mut counts = [0usize; 256];
    for (pixel, value) in segmentation.mask.iter().enumerate() {
        if image.valid.as_ref().is_none_or(|valid| valid[pixel]) {
            counts[usize::from(*value)] += 1;
        }
    }
    let n_valid = n_valid(image).max(1) as f64;
    let classes = mask_classes(item, segmentation.n_classes_out).into_iter();
    classes
        .map(|(value, name)| ClassCount {
            value,
            name,
            pixels: counts[value],
            fraction: counts[value] as f64 / n_valid,
        })
        .collect()
}

impl From<Scaling> for ScalingEntry {
    fn from(scaling: Scaling) -> Self {
        match scaling {
            Scaling::None => Self::None,
            Scaling::MinMax { min, max } => Self::MinMax { minimum: min, maximum: max },
            Scaling::ZScore { mean, stddev } => Self::ZScore { mean, stddev },
            Scaling::Clip { min, max } => Self::Clip { minimum: min, maximum: max },
            Scaling::ClipMin { min } => Self::ClipMin { minimum: min },
            Scaling::ClipMax { max } => Self::ClipMax { maximum: max },
            Scaling::Offset { value } => Self::Offset { value },
            Scaling::Scale { value } => Self::Scale { value },
        }
    }
}
