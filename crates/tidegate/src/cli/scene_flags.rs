//! What is wanted of a scene, the same here and on a server.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use tidegate_geo::SegmentOptions;
use tidegate_geo::scene::{AssumedCrs, SceneOptions, VectorFormat};

#[derive(Args, Clone, Debug, PartialEq)]
pub struct SceneFlags {
    /// Only inside these polygons (GeoJSON)
    #[arg(long, value_name = "FILE.geojson")]
    pub aoi: Option<PathBuf>,
    /// The probability from which on a pixel is the class, of a model with one channel [default: the model's]
    #[arg(long, value_name = "PROBABILITY", value_parser = parse_probability)]
    pub threshold: Option<f32>,
    /// Also write prediction_probability.tif
    #[arg(long)]
    pub probability: bool,
    /// Formats of the polygons, or `none`
    #[arg(long, value_name = "FORMATS", value_delimiter = ',', default_value = "geojson")]
    pub polygons: Vec<PolygonFormat>,
    /// Let polygons stray from the edges of the pixels by so many metres
    #[arg(long, value_name = "METRES")]
    pub simplify: Option<f64>,
    /// Leave out smaller polygons
    #[arg(long, value_name = "SQUARE METRES", default_value_t = 0.0)]
    pub min_area: f64,
    /// Do not draw prediction_overlay.png
    #[arg(long)]
    pub no_overlay: bool,
    /// The coordinate reference system where the file names none or a wrong one: EPSG:32645, or `none`
    #[arg(long, value_name = "CRS")]
    pub assume_crs: Option<AssumedCrs>,
    /// Pixels of the model's resolution that neighbouring tiles share at least
    #[arg(long, value_name = "PIXELS", default_value_t = 32)]
    pub overlap: usize,
    /// Test-time augmentation: the mean over flips and quarter turns; eight times the work
    #[arg(long)]
    pub tta: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PolygonFormat {
    Geojson,
    /// FlatGeobuf
    Fgb,
    /// GeoParquet
    Parquet,
    /// GeoPackage
    Gpkg,
    None,
}

fn parse_probability(text: &str) -> Result<f32, String> {
    let value: f32 = text.parse().map_err(|_| "give a number, such as 0.5".to_owned())?;
    if value > 0.0 && value <= 1.0 {
        Ok(value)
    } else {
        Err("give a probability, above 0 and at most 1".to_owned())
    }
}

impl Default for SceneFlags {
    /// As when none is given.
    fn default() -> Self {
        Self {
            aoi: None,
            threshold: None,
            probability: false,
            polygons: vec![PolygonFormat::Geojson],
            simplify: None,
            min_area: 0.0,
            no_overlay: false,
            assume_crs: None,
            overlap: 32,
            tta: false,
        }
    }
}

impl SceneFlags {
    /// The text of the area of interest.
    pub fn area(&self) -> anyhow::Result<Option<String>> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("failed to read `{}`", path.display()))
        };
        self.aoi.as_ref().map(read).transpose()
    }

    /// For a run here; how many tiles at once is the caller's.
    pub fn scene_options(&self, gsd_m: Option<f64>) -> SceneOptions {
        let formats = self.polygons.iter().filter_map(|format| match format {
            PolygonFormat::Geojson => Some(VectorFormat::GeoJson),
            PolygonFormat::Fgb => Some(VectorFormat::FlatGeobuf),
            PolygonFormat::Parquet => Some(VectorFormat::GeoParquet),
            PolygonFormat::Gpkg => Some(VectorFormat::GeoPackage),
            PolygonFormat::None => None,
        });
        SceneOptions {
            segment: SegmentOptions {
                gsd_m,
                overlap_px: self.overlap,
                augment: self.tta,
                ..SegmentOptions::default()
            },
            probability: self.probability,
            vectors: formats.collect(),
            simplify_m: self.simplify,
            min_area_m2: self.min_area,
            overlay: !self.no_overlay,
            ..SceneOptions::default()
        }
    }

    /// For a job: the `options` of `POST /api/v1/jobs/raster`.
    pub fn to_json(&self, gsd_m: Option<f64>) -> anyhow::Result<Value> {
        let formats = self.polygons.iter().filter_map(|format| match format {
            PolygonFormat::Geojson => Some("geojson"),
            PolygonFormat::Fgb => Some("fgb"),
            PolygonFormat::Parquet => Some("parquet"),
            PolygonFormat::Gpkg => Some("gpkg"),
            PolygonFormat::None => None,
        });
        let aoi: Option<Value> = match self.area()? {
            Some(text) => Some(serde_json::from_str(&text).context("the area of interest is not JSON")?),
            None => None,
        };
        Ok(json!({
            "gsd": gsd_m,
            "threshold": self.threshold,
            "aoi": aoi,
            "probability": self.probability,
            "polygons": formats.collect::<Vec<_>>(),
            "simplify": self.simplify,
            "minArea": self.min_area,
            "overlay": !self.no_overlay,
            "assumeCrs": self.assume_crs.map(|crs| crs.to_string()),
            "overlap": self.overlap,
            "tta": self.tta,
        }))
    }
}
