//! An area of interest: polygons, as pixels of a raster.

use serde_json::Value;

use super::Projection;
use crate::raster::RasterInfo;
use crate::segment::reader::Area;

/// Polygons whose rings are given in pixels of the raster. Inside is by the even-odd rule over all rings, so that holes
/// are left out.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaOfInterest {
    /// Upper end and lower end of each edge that is not level.
    edges: Vec<[(f64, f64); 2]>,
}

/// Why an area cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AreaError {
    #[error("the area of interest is not GeoJSON with polygons: {what}")]
    NotPolygons { what: String },
    #[error(
        "the area of interest is in longitude and latitude, and there is no way from them to the scene's coordinates"
    )]
    NoProjection,
    #[error("the area of interest does not touch the scene")]
    Outside,
}

impl AreaOfInterest {
    /// From GeoJSON (RFC 7946: longitude and latitude): the polygons of a geometry, a feature or a collection.
    pub fn of_geojson(text: &str, info: &RasterInfo) -> Result<Self, AreaError> {
        let json =
            serde_json::from_str(text).map_err(|error| AreaError::NotPolygons { what: error.to_string() })?;
        Self::of_json(&json, info)
    }

    /// The same of GeoJSON that is parsed already.
    pub fn of_json(json: &Value, info: &RasterInfo) -> Result<Self, AreaError> {
        let rings = rings(json)?;
        let georeference = &info.georeference;
        let to_pixels = georeference.transform.and_then(|transform| transform.inverse());
        let (Some(projection), Some(to_pixels)) = (Projection::of(georeference), to_pixels) else {
            return Err(AreaError::NoProjection);
        };
        let pixel = |point: &(f64, f64)| {
            let (x, y) = projection.from_wgs_84(point.0, point.1)?;
            Some(to_pixels.apply(x, y))
        };
        let rings = rings.iter().map(|ring| ring.iter().map(pixel).collect::<Option<Vec<_>>>());
        let area = Self::new(&rings.collect::<Option<Vec<_>>>().ok_or(AreaError::Outside)?);
        if area.touches(info.width, info.height) { Ok(area) } else { Err(AreaError::Outside) }
    }

    /// What can be said of GeoJSON before there is a raster.
    pub fn check(json: &Value) -> Result<(), AreaError> {
        rings(json).map(drop)
    }

    /// Whether the box around the area and the raster overlap.
    fn touches(&self, width: usize, height: usize) -> bool {
        let ends = || self.edges.iter().flatten();
        ends().any(|end| end.0 > 0.0)
            && ends().any(|end| end.0 < width as f64)
            && ends().any(|end| end.1 > 0.0)
            && ends().any(|end| end.1 < height as f64)
    }

    pub fn new(rings: &[Vec<(f64, f64)>]) -> Self {
        let edges = rings.iter().flat_map(|ring| ring.windows(2)).filter(|edge| edge[0].1 != edge[1].1);
        let downwards = |edge: &[(f64, f64)]| {
            if edge[0].1 < edge[1].1 { [edge[0], edge[1]] } else { [edge[1], edge[0]] }
        };
        Self { edges: edges.map(downwards).collect() }
    }
}

/// Every polygon's rings, at least one.
fn rings(json: &Value) -> Result<Vec<Vec<(f64, f64)>>, AreaError> {
    let mut rings = Vec::new();
    collect(json, &mut rings);
    if rings.is_empty() {
        return Err(AreaError::NotPolygons { what: "it holds none".to_owned() });
    }
    Ok(rings)
}

/// The rings of every polygon in a GeoJSON value.
fn collect(json: &Value, rings: &mut Vec<Vec<(f64, f64)>>) {
    for key in ["features", "geometries"] {
        json.get(key).and_then(Value::as_array).into_iter().flatten().for_each(|part| collect(part, rings));
    }
    if let Some(geometry) = json.get("geometry") {
        collect(geometry, rings);
    }
    let polygons = match (json.get("type").and_then(Value::as_str), json.get("coordinates")) {
        (Some("Polygon"), Some(polygon)) => vec![polygon],
        (Some("MultiPolygon"), Some(Value::Array(polygons))) => polygons.iter().collect(),
        _ => return,
    };
    let point = |point: &Value| Some((point.get(0)?.as_f64()?, point.get(1)?.as_f64()?));
    for ring in polygons.into_iter().filter_map(Value::as_array).flatten() {
        let points = ring.as_array().into_iter().flatten().filter_map(point).collect::<Vec<_>>();
        if points.len() > 3 {
            rings.push(points);
        }
    }
}

impl Area for AreaOfInterest {
    /// A pixel is inside where its centre is.
    fn clip(&self, row: usize, wanted: &mut [u8]) {
        let y = row as f64 + 0.5;
        let crossing = |edge: &[(f64, f64); 2]| {
            let [(x0, y0), (x1, y1)] = *edge;
            (y0 <= y && y < y1).then(|| x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        };
        let mut crossings = self.edges.iter().filter_map(crossing).collect::<Vec<_>>();
        crossings.sort_by(f64::total_cmp);
        // Columns whose centre is left of a crossing.
        let columns = |x: f64| (x - 0.5).ceil().clamp(0.0, wanted.len() as f64) as usize;
        let spans =
            crossings.chunks_exact(2).map(|pair| columns(pair[0])..columns(pair[1])).collect::<Vec<_>>();
        let mut outside = 0;
        for span in spans {
            wanted[outside..span.start.max(outside)].fill(0);
            outside = span.end.max(outside);
        }
        wanted[outside..].fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_inside_where_their_centres_are() {
        let square = vec![(1.0, 1.0), (4.0, 1.0), (4.0, 3.0), (1.0, 3.0), (1.0, 1.0)];
        let hole = vec![(2.0, 1.0), (3.0, 1.0), (3.0, 2.0), (2.0, 2.0), (2.0, 1.0)];
        let area = AreaOfInterest::new(&[square, hole]);
        let clipped = |row| {
            let mut wanted = vec![1; 5];
            area.clip(row, &mut wanted);
            wanted
        };
        assert_eq!(clipped(0), [0, 0, 0, 0, 0]);
        assert_eq!(clipped(1), [0, 1, 0, 1, 0]);
        assert_eq!(clipped(2), [0, 1, 1, 1, 0]);
        assert_eq!(clipped(3), [0, 0, 0, 0, 0]);
    }
}
