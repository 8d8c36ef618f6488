//! From a raster's reference system to longitude and latitude on WGS 84, and back.
//!
//! By PROJ strings of the EPSG registry and `proj4rs`, without grids: systems that need a grid shift (NTv2) are off by up to
//! a hundred metres. That concerns GeoJSON, bounding boxes and areas of interest; rasters and the other vector formats
//! stay in the raster's own coordinates.

use proj4rs::Proj;

use crate::image::geo::{EARTH_RADIUS_M, WEB_MERCATOR};
use crate::raster::Georeference;

pub struct Projection {
    /// `None`: the coordinates are longitude and latitude already.
    proj: Option<(Proj, Proj)>,
    in_degrees: bool,
    is_web_mercator: bool,
}

impl Projection {
    /// `None` where the system is not known, or cannot be computed.
    pub fn of(georeference: &Georeference) -> Option<Self> {
        Self::of_epsg(georeference.epsg?)
    }

    pub fn of_epsg(epsg: u32) -> Option<Self> {
        if epsg == WGS_84 {
            return Some(Self { proj: None, in_degrees: true, is_web_mercator: false });
        }
        let definition = crs_definitions::from_code(u16::try_from(epsg).ok()?)?;
        let proj = Proj::from_proj_string(definition.proj4).ok()?;
        let in_degrees = proj.is_latlong();
        let wgs_84 = Proj::from_proj_string("+proj=longlat +datum=WGS84 +no_defs").ok()?;
        let is_web_mercator = WEB_MERCATOR.contains(&epsg);
        Some(Self { proj: Some((proj, wgs_84)), in_degrees, is_web_mercator })
    }

    /// Whether coordinates are degrees.
    pub fn in_degrees(&self) -> bool {
        self.in_degrees
    }

    /// Longitude and latitude in degrees; `None` where the projection has no answer.
    pub fn to_wgs_84(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        let Some((proj, wgs_84)) = &self.proj else { return Some((x, y)) };
        if self.is_web_mercator {
            // The sphere's formula gives degrees on the ellipsoid; the general way through the datum takes many times as long.
            let (longitude, latitude) = (x / EARTH_RADIUS_M, (y / EARTH_RADIUS_M).sinh().atan());
            let (x, y) = (longitude.to_degrees(), latitude.to_degrees());
            return (x.is_finite() && y.is_finite()).then_some((x, y));
        }
        let mut point = if self.in_degrees { (x.to_radians(), y.to_radians(), 0.0) } else { (x, y, 0.0) };
        proj4rs::transform::transform(proj, wgs_84, &mut point).ok()?;
        let (x, y) = (point.0.to_degrees(), point.1.to_degrees());
        (x.is_finite() && y.is_finite()).then_some((x, y))
    }

    /// From longitude and latitude in degrees.
    pub fn from_wgs_84(&self, longitude: f64, latitude: f64) -> Option<(f64, f64)> {
        let Some((proj, wgs_84)) = &self.proj else { return Some((longitude, latitude)) };
        let mut point = (longitude.to_radians(), latitude.to_radians(), 0.0);
        proj4rs::transform::transform(wgs_84, proj, &mut point).ok()?;
        let (x, y) =
            if self.in_degrees { (point.0.to_degrees(), point.1.to_degrees()) } else { (point.0, point.1) };
        (x.is_finite() && y.is_finite()).then_some((x, y))
    }
}

const WGS_84: u32 = 4326;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_go_there_and_back() {
        // Banepa; expectations by PROJ.
        let cases = [
            (4326, (85.5214, 27.6315), 1e-12),
            (3857, (9_520_198.699_9, 3_202_593.309_7), 0.001),
            (32_645, (354_119.473_8, 3_057_255.947_3), 0.001),
        ];
        for (epsg, expected, tolerance) in cases {
            let projection = Projection::of_epsg(epsg).unwrap();
            let (x, y) = projection.from_wgs_84(85.5214, 27.6315).unwrap();
            assert!(
                (x - expected.0).abs() < tolerance && (y - expected.1).abs() < tolerance,
                "{epsg}: {x} {y}"
            );
            let (longitude, latitude) = projection.to_wgs_84(x, y).unwrap();
            assert!((longitude - 85.5214).abs() < 1e-9 && (latitude - 27.6315).abs() < 1e-9, "{epsg}");
        }
        assert!(Projection::of_epsg(1).is_none());
    }
}
