//! Polygons as files that a GIS opens.

mod flatgeobuf;
mod geojson;
mod geopackage;
mod geoparquet;
mod wkb;

use std::io;
use std::path::Path;

use geo::{LineString, Polygon, Simplify, Validation};

use tidegate_core::Timestamp;

use super::SceneError;
use super::projection::Projection;
use super::trace::Corner;
use crate::raster::{Georeference, RasterInfo};

/// A file format of polygons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorFormat {
    /// RFC 7946: longitude and latitude on WGS 84.
    GeoJson,
    /// In the raster's coordinates, with a spatial index.
    FlatGeobuf,
    /// Longitude and latitude on WGS 84.
    GeoParquet,
    /// In the raster's coordinates.
    GeoPackage,
}

/// A polygon with what is known of it, in the raster's coordinates.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Feature {
    pub class: u8,
    pub class_name: String,
    /// The outline, anticlockwise on a map, then holes, clockwise; each ends where it began.
    pub rings: Vec<Vec<(f64, f64)>>,
    /// On the ground; `None` where the unit of the coordinates is not known.
    pub area_m2: Option<f64>,
    pub mean_probability: f64,
}

/// Takes polygons one by one.
pub(crate) trait VectorSink: Send {
    fn add(&mut self, feature: &Feature) -> io::Result<()>;
    fn finish(self: Box<Self>) -> io::Result<()>;
}

pub(crate) struct Layer<'a> {
    pub name: &'static str,
    pub georeference: &'a Georeference,
    pub created_at: Timestamp,
}

impl VectorFormat {
    pub const ALL: [Self; 4] = [Self::GeoJson, Self::FlatGeobuf, Self::GeoParquet, Self::GeoPackage];

    pub fn file_name(self) -> &'static str {
        match self {
            Self::GeoJson => "prediction_polygons.geojson",
            Self::FlatGeobuf => "prediction_polygons.fgb",
            Self::GeoParquet => "prediction_polygons.parquet",
            Self::GeoPackage => "prediction_polygons.gpkg",
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::GeoJson => "application/geo+json",
            Self::FlatGeobuf => "application/vnd.flatgeobuf",
            Self::GeoParquet => "application/vnd.apache.parquet",
            Self::GeoPackage => "application/geopackage+sqlite3",
        }
    }

    pub(super) fn asset_key(self) -> &'static str {
        match self {
            Self::GeoJson => "polygons-geojson",
            Self::FlatGeobuf => "polygons-flatgeobuf",
            Self::GeoParquet => "polygons-geoparquet",
            Self::GeoPackage => "polygons-geopackage",
        }
    }

    /// Whether the format can carry polygons of this raster.
    pub(super) fn check(self, info: &RasterInfo) -> Result<(), SceneError> {
        let format = match self {
            Self::GeoJson => "GeoJSON",
            Self::GeoParquet => "GeoParquet",
            Self::FlatGeobuf | Self::GeoPackage => return Ok(()),
        };
        let Georeference { has_crs, epsg, .. } = info.georeference;
        if !has_crs || Projection::of(&info.georeference).is_some() {
            return Ok(());
        }
        let system = epsg.map_or("an unnamed system".to_owned(), |epsg| format!("EPSG:{epsg}"));
        Err(SceneError::Vectors { format, system })
    }

    pub(super) fn create(self, path: &Path, layer: &Layer<'_>) -> io::Result<Box<dyn VectorSink>> {
        Ok(match self {
            Self::GeoJson => Box::new(geojson::GeoJson::create(path, layer)?),
            Self::FlatGeobuf => Box::new(flatgeobuf::FlatGeobuf::create(path, layer)?),
            Self::GeoParquet => Box::new(geoparquet::GeoParquet::create(path, layer)?),
            Self::GeoPackage => Box::new(geopackage::GeoPackage::create(path, layer)?),
        })
    }
}

/// To longitude and latitude, or nowhere: coordinates without a place on Earth stay what they are.
struct ToDegrees(Option<Projection>);

impl ToDegrees {
    fn new(layer: &Layer<'_>) -> Self {
        Self(Projection::of(layer.georeference))
    }

    fn is_on_earth(&self) -> bool {
        self.0.is_some()
    }

    fn rings(&self, rings: &[Vec<(f64, f64)>]) -> io::Result<Vec<Vec<(f64, f64)>>> {
        let Some(projection) = &self.0 else { return Ok(rings.to_vec()) };
        let point = |(x, y): &(f64, f64)| {
            let degrees = projection.to_wgs_84(*x, *y);
            degrees.ok_or_else(|| io::Error::other(format!("{x}, {y} has no longitude and latitude")))
        };
        rings.iter().map(|ring| ring.iter().map(point).collect()).collect()
    }
}

/// Rings with fewer corners, by the algorithm of Ramer, Douglas and Peucker: none strays by more than `tolerance` pixels.
/// `None` where the result would not be a valid polygon.
pub(super) fn simplified(rings: &[Vec<Corner>], tolerance: f64) -> Option<Vec<Vec<(f64, f64)>>> {
    // Checking validity takes the square of the number of corners.
    const MAX_CORNERS: usize = 20_000;
    if rings.iter().map(Vec::len).sum::<usize>() > MAX_CORNERS {
        return None;
    }
    let line = |ring: &Vec<Corner>| {
        ring.iter().map(|(x, y)| (f64::from(*x), f64::from(*y))).collect::<LineString>().simplify(tolerance)
    };
    let mut lines = rings.iter().map(line).collect::<Vec<_>>().into_iter();
    let outline = lines.next()?;
    // A hole that collapses is smaller than the tolerance; an outline must not.
    let holes = lines.filter(|hole| hole.0.len() >= 4).collect();
    let polygon = Polygon::new(outline, holes);
    if polygon.exterior().0.len() < 4 || !polygon.is_valid() {
        return None;
    }
    let points = |line: &LineString| line.0.iter().map(|point| (point.x, point.y)).collect::<Vec<_>>();
    Some(std::iter::once(polygon.exterior()).chain(polygon.interiors()).map(points).collect())
}
