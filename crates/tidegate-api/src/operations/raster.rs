//! A raster job: what is asked for, checked as far as it can be before the scene is opened, and which version does it.
//!
//! The binary's `jobs` does the work; it reads the same types back from the store.

pub(crate) mod source;
mod version;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::{SemVer, Sha256Digest};
use tidegate_geo::SegmentOptions;
use tidegate_geo::scene::{AreaOfInterest, AssumedCrs, SceneOptions, VectorFormat};
use utoipa::ToSchema;

use crate::operations::fault::Fault;
pub use source::{SceneAddress, SceneSources, SourceRefused};
pub use version::{ChooseError, choose_version};

/// What kind of job this is in the store.
pub const RASTER: &str = "raster";

/// A raster job as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RasterJob {
    pub scene: SceneSource,
    /// This version and no other, where the caller says so.
    pub version: Option<SemVer>,
    pub options: RasterOptions,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum SceneSource {
    /// As the caller wrote it. What it means, and whether it is allowed, is decided when it is opened.
    Address { address: String },
    /// In the artifact store.
    #[serde(rename_all = "camelCase")]
    Upload { name: String, key: String, sha256: Sha256Digest, size_bytes: u64 },
}

impl SceneSource {
    /// For people: without a query, which may hold a key.
    pub fn shown(&self) -> &str {
        match self {
            Self::Address { address } => address.split(['?', '#']).next().unwrap_or(address),
            Self::Upload { name, .. } => name,
        }
    }
}

/// What is wanted of the scene, as the options of `tidegate predict` have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RasterOptions {
    /// The scene's ground resolution in metres a pixel, in place of what the file says.
    pub gsd: Option<f64>,
    /// The probability from which on a pixel is the class, of a model with one channel; the model's own where it is missing.
    pub threshold: Option<f64>,
    /// Only inside these polygons: GeoJSON in longitude and latitude.
    #[schema(value_type = Option<Object>)]
    pub aoi: Option<Value>,
    /// Also `prediction_probability.tif`.
    pub probability: bool,
    /// Formats of the polygons; an empty list for none.
    pub polygons: Vec<PolygonFormat>,
    /// Let polygons stray from the edges of the pixels by so many metres.
    pub simplify: Option<f64>,
    /// Leave out polygons of fewer square metres.
    pub min_area: f64,
    /// Draw `prediction_overlay.png`.
    pub overlay: bool,
    /// The coordinate reference system where the file names none or a wrong one: `EPSG:32645`, or `none`.
    #[schema(example = "EPSG:32645")]
    pub assume_crs: Option<String>,
    /// Pixels of the model's resolution that neighbouring tiles share at least.
    pub overlap: u32,
    /// Test-time augmentation: the mean over flips and quarter turns; eight times the work.
    pub tta: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PolygonFormat {
    Geojson,
    /// FlatGeobuf.
    Fgb,
    /// GeoParquet.
    Parquet,
    /// GeoPackage.
    Gpkg,
}

impl PolygonFormat {
    fn vector(self) -> VectorFormat {
        match self {
            Self::Geojson => VectorFormat::GeoJson,
            Self::Fgb => VectorFormat::FlatGeobuf,
            Self::Parquet => VectorFormat::GeoParquet,
            Self::Gpkg => VectorFormat::GeoPackage,
        }
    }
}

impl Default for RasterOptions {
    /// Those of the command line.
    fn default() -> Self {
        Self {
            gsd: None,
            threshold: None,
            aoi: None,
            probability: false,
            polygons: vec![PolygonFormat::Geojson],
            simplify: None,
            min_area: 0.0,
            overlay: true,
            assume_crs: None,
            overlap: 32,
            tta: false,
        }
    }
}

/// Of the area's JSON: the outline of a country. It is stored with the job, and looked at in every row.
const MAX_AOI_BYTES: usize = 1 << 20;

/// Half of the largest tile that anybody trains.
const MAX_OVERLAP: u32 = 4096;

impl RasterOptions {
    /// All faults at once, by field.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut check = |field: &str, holds: bool, message: &str| {
            if !holds {
                faults.push(Fault::new(field, message));
            }
        };
        let positive = |value: Option<f64>| value.is_none_or(|value| value.is_finite() && value > 0.0);
        check("gsd", positive(self.gsd), "give metres per pixel, above 0");
        let is_share = self.threshold.is_none_or(|threshold| threshold > 0.0 && threshold <= 1.0);
        check("threshold", is_share, "give a probability, above 0 and at most 1");
        check("simplify", positive(self.simplify), "give metres, above 0");
        check("minArea", self.min_area.is_finite() && self.min_area >= 0.0, "give square metres, 0 or more");
        check("overlap", self.overlap <= MAX_OVERLAP, "give pixels, at most 4096");
        let mut formats = self.polygons.iter().enumerate();
        let is_repeated = formats.any(|(at, format)| self.polygons[..at].contains(format));
        check("polygons", !is_repeated, "names a format twice");
        if let Some(Err(message)) = self.assume_crs.as_deref().map(str::parse::<AssumedCrs>) {
            check("assumeCrs", false, &message);
        }
        if let Some(aoi) = &self.aoi {
            let fits = aoi.to_string().len() <= MAX_AOI_BYTES;
            check("aoi", fits, "is larger than 1 MiB of JSON; simplify its outlines");
            if let Err(error) = AreaOfInterest::check(aoi) {
                check("aoi", false, &error.to_string());
            }
        }
        faults
    }

    /// `None` where the file is to be believed. Whatever is stored was checked.
    pub fn assumed_crs(&self) -> Option<AssumedCrs> {
        self.assume_crs.as_deref().and_then(|text| text.parse().ok())
    }

    /// As the pipeline takes them. One tile a run: more gain nothing, and the result must not depend on it.
    pub fn scene_options(&self, threads: usize, max_memory_bytes: u64) -> SceneOptions {
        SceneOptions {
            segment: SegmentOptions {
                gsd_m: self.gsd,
                overlap_px: self.overlap as usize,
                batch: 1,
                threads,
                augment: self.tta,
                ..SegmentOptions::default()
            },
            probability: self.probability,
            vectors: self.polygons.iter().map(|format| format.vector()).collect(),
            simplify_m: self.simplify,
            min_area_m2: self.min_area,
            overlay: self.overlay,
            max_memory_bytes,
        }
    }
}

/// What came of a raster job, as it is stored and shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RasterResult {
    pub width: u64,
    pub height: u64,
    pub tiles: u64,
    pub empty_tiles: u64,
    /// Tiles that the process which ended the job did not have to do again.
    pub resumed_tiles: u64,
    pub polygons: u64,
    /// SHA-256 of the artifact that ran.
    #[schema(value_type = String)]
    pub artifact_sha256: Sha256Digest,
    /// Name and version.
    #[schema(example = "ONNX Runtime 1.31.1")]
    pub runtime: String,
    pub outputs: Vec<RasterOutput>,
    pub timings: RasterTimings,
    /// What the user should know about how the scene was read, in sentences.
    pub notes: Vec<String>,
}

/// A file that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RasterOutput {
    #[schema(example = "prediction_mask.tif")]
    pub name: String,
    pub media_type: String,
    pub size_bytes: u64,
    #[schema(value_type = String)]
    pub sha256: Sha256Digest,
}

/// Seconds; of the process that ended the job, where several were at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RasterTimings {
    /// Inside the runtime, over all threads, and of every process that was at it.
    pub runtime_seconds: f64,
    /// From the first strip to the last, of every process that was at it.
    pub inference_seconds: f64,
    /// CPU time, as of probabilities, polygons and overlay: most of it passes beside the inference.
    pub mask_seconds: f64,
    pub probability_seconds: f64,
    pub polygons_seconds: f64,
    pub overlay_seconds: f64,
    /// From the files to the artifact store.
    pub storing_seconds: f64,
}

/// How far a job has come, as it is stored and shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RasterProgress {
    /// `Opening`, `Predicting`, `Writing` or `Storing`.
    #[schema(example = "Predicting")]
    pub phase: String,
    pub tiles_done: u64,
    /// 0 while it is not known.
    pub tiles_total: u64,
    /// Of the tiles, 0 to 1.
    pub share_done: f64,
    /// Until the last tile, at the pace since the work was begun or taken up; null while that is not known.
    pub eta_seconds: Option<f64>,
}

/// Where files of a job lie in the artifact store.
pub fn job_prefix(id: &tidegate_core::JobId) -> String {
    format!("{JOBS_PREFIX}/{id}")
}

pub fn output_key(id: &tidegate_core::JobId, name: &str) -> String {
    format!("{}/outputs/{name}", job_prefix(id))
}

/// The job that a key of the artifact store belongs to.
pub fn job_of_key(key: &str) -> Option<tidegate_core::JobId> {
    let (id, _) = key.strip_prefix(JOBS_PREFIX)?.strip_prefix('/')?.split_once('/')?;
    Some(tidegate_core::JobId::new(id))
}

const JOBS_PREFIX: &str = "jobs";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_names_its_option() {
        let fine = json!({"gsd": 0.3, "threshold": 1.0, "minArea": 2, "polygons": [], "assumeCrs": "EPSG:32645",
            "aoi": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}});
        let options: RasterOptions = serde_json::from_value(fine).unwrap();
        assert_eq!(options.faults(), []);
        assert_eq!(options.overlap, 32, "what is missing is the default");
        let wrong = json!({"gsd": 0, "threshold": 1.5, "simplify": -1, "minArea": -1, "overlap": 5000,
            "polygons": ["fgb", "fgb"], "assumeCrs": "UTM", "aoi": {"type": "Point", "coordinates": [1, 2]}});
        let options: RasterOptions = serde_json::from_value(wrong).unwrap();
        let fields: Vec<_> = options.faults().into_iter().map(|fault| fault.field).collect();
        let expected = ["gsd", "threshold", "simplify", "minArea", "overlap", "polygons", "assumeCrs", "aoi"];
        assert_eq!(fields, expected);
        assert!(serde_json::from_value::<RasterOptions>(json!({"treshold": 0.5})).is_err());
    }

    #[test]
    fn a_key_says_whose_it_is_and_a_shown_address_keeps_its_secret() {
        let id = tidegate_core::JobId::new("job-1");
        assert_eq!(job_of_key(&output_key(&id, "prediction_mask.tif")), Some(id));
        for key in ["models/m/v/net.onnx", "jobs", "jobs/job-1", "jobsx/a/b"] {
            assert_eq!(job_of_key(key), None, "{key}");
        }
        let signed = SceneSource::Address { address: "https://b.example/s.tif?sig=secret".to_owned() };
        assert_eq!(signed.shown(), "https://b.example/s.tif");
    }
}
