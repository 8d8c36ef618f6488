//! Where an image lies: the affine, unrotated georeference of GeoTIFF (OGC 19-008r4), and ground resolution.

use std::f64::consts::PI;

use crate::raster::Affine;

/// A north-up grid in some coordinate reference system.
#[derive(Clone, Debug, PartialEq)]
pub struct GeoReference {
    /// The EPSG code, where the file names one.
    pub epsg: Option<u32>,
    pub unit: CrsUnit,
    /// In units of the system, positive.
    pub pixel_width: f64,
    /// In units of the system, positive; rows go down.
    pub pixel_height: f64,
    /// The outer corner of the top left pixel.
    pub origin_x: f64,
    pub origin_y: f64,
}

/// What one unit of the system's coordinates is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CrsUnit {
    /// Metres of a projection that keeps scale, such as UTM.
    Metre,
    /// Degrees of longitude and latitude.
    Degree,
    #[default]
    Unknown,
}

pub(crate) const WEB_MERCATOR: [u32; 3] = [3857, 3785, 900_913];

/// The sphere of Web Mercator (EPSG method 1024).
pub(crate) const EARTH_RADIUS_M: f64 = 6_378_137.0;

impl GeoReference {
    /// Metres on the ground per pixel at the centre of an image of `height_px` rows: the geometric mean of both
    /// directions. `None` where the system or its unit is unknown.
    pub fn ground_resolution_m(&self, height_px: usize) -> Option<f64> {
        let pixel = (self.pixel_width * self.pixel_height).sqrt();
        let centre_y = self.origin_y - self.pixel_height * height_px as f64 / 2.0;
        ground_resolution_m(self.epsg, self.unit, pixel, centre_y)
    }
}

/// Metres on the ground that `pixel` units of the system are at `centre_y`, as a geometric mean of both directions.
pub(crate) fn ground_resolution_m(
    epsg: Option<u32>,
    unit: CrsUnit,
    pixel: f64,
    centre_y: f64,
) -> Option<f64> {
    let metres = match epsg {
        // Mercator stretches by 1 / cos(latitude), which is cosh(y / R).
        Some(epsg) if WEB_MERCATOR.contains(&epsg) => pixel / (centre_y / EARTH_RADIUS_M).cosh(),
        _ => match unit {
            CrsUnit::Metre => pixel,
            CrsUnit::Degree => pixel * metres_per_degree(centre_y)?,
            CrsUnit::Unknown => return None,
        },
    };
    (metres.is_finite() && metres > 0.0).then_some(metres)
}

/// The geometric mean of a degree of longitude and one of latitude on WGS 84 (series of the US National Geospatial-
/// Intelligence Agency's length-of-a-degree formulae, good to a centimetre).
fn metres_per_degree(latitude: f64) -> Option<f64> {
    if latitude.abs() >= 90.0 {
        return None;
    }
    let phi = latitude * PI / 180.0;
    let along_meridian = 111_132.92 - 559.82 * (2.0 * phi).cos() + 1.175 * (4.0 * phi).cos();
    let along_parallel = 111_412.84 * phi.cos() - 93.5 * (3.0 * phi).cos() + 0.118 * (5.0 * phi).cos();
    Some((along_meridian * along_parallel).sqrt())
}

/// The GeoTIFF tags of a file, as read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GeoTags {
    /// ModelPixelScale: x, y, z.
    pub pixel_scale: Vec<f64>,
    /// ModelTiepoint: column, row, level, x, y, z.
    pub tiepoint: Vec<f64>,
    /// ModelTransformation: a 4 x 4 matrix, row by row.
    pub transformation: Vec<f64>,
    /// GeoKeyDirectory: a header of 4, then (key, location, count, value).
    pub key_directory: Vec<u16>,
    /// GeoDoubleParams: what keys refer to.
    pub double_params: Vec<f64>,
    /// GeoAsciiParams: what keys refer to.
    pub ascii_params: String,
}

impl GeoTags {
    /// `None` where the tags are absent, incomplete, not numbers, or describe a rotated grid.
    pub fn reference(&self) -> Option<GeoReference> {
        let Affine { a, b, c, d, e, f } = self.transform()?;
        if b != 0.0 || d != 0.0 || a <= 0.0 || e >= 0.0 {
            return None;
        }
        let epsg = self.epsg();
        let unit = self.unit(epsg);
        Some(GeoReference { epsg, unit, pixel_width: a, pixel_height: -e, origin_x: c, origin_y: f })
    }

    /// From pixel corners to coordinates, rotated or not.
    pub(crate) fn transform(&self) -> Option<Affine> {
        let Affine { a, b, mut c, d, e, mut f } = self.corner_transform()?;
        if self.key(RASTER_TYPE_KEY) == Some(PIXEL_IS_POINT) {
            (c, f) = (c - (a + b) / 2.0, f - (d + e) / 2.0);
        }
        let is_usable = [a, b, c, d, e, f].iter().all(|number| number.is_finite()) && a * e - b * d != 0.0;
        is_usable.then_some(Affine { a, b, c, d, e, f })
    }

    /// As written, whether of corners or of centres.
    fn corner_transform(&self) -> Option<Affine> {
        if let [scale_x, scale_y, ..] = self.pixel_scale[..] {
            let [column, row, _, x, y, ..] = self.tiepoint[..] else { return None };
            let (c, f) = (x - column * scale_x, y + row * scale_y);
            return Some(Affine { a: scale_x, b: 0.0, c, d: 0.0, e: -scale_y, f });
        }
        let [a, b, _, c, d, e, _, f, ..] = self.transformation[..] else { return None };
        Some(Affine { a, b, c, d, e, f })
    }

    pub(crate) fn of_transform(transform: &Affine) -> Self {
        let Affine { a, b, c, d, e, f } = *transform;
        // Raster type: pixels are areas.
        let key_directory = vec![1, 1, 0, 1, RASTER_TYPE_KEY, 0, 1, PIXEL_IS_AREA];
        if b == 0.0 && d == 0.0 && a > 0.0 && e < 0.0 {
            let (pixel_scale, tiepoint) = (vec![a, -e, 0.0], vec![0.0, 0.0, 0.0, c, f, 0.0]);
            return Self { pixel_scale, tiepoint, key_directory, ..Self::default() };
        }
        let transformation = vec![a, b, 0.0, c, d, e, 0.0, f, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        Self { transformation, key_directory, ..Self::default() }
    }

    /// Names the system `epsg` in place of whatever was named.
    pub(crate) fn set_epsg(&mut self, epsg: u32, unit: CrsUnit) {
        let code = u16::try_from(epsg).unwrap_or(USER_DEFINED);
        let (model, key) = match unit {
            CrsUnit::Degree => (MODEL_GEOGRAPHIC, GEODETIC_CRS_KEY),
            _ => (MODEL_PROJECTED, PROJECTED_CRS_KEY),
        };
        let raster_type = self.key(RASTER_TYPE_KEY).unwrap_or(PIXEL_IS_AREA);
        let keys = [(MODEL_TYPE_KEY, model), (RASTER_TYPE_KEY, raster_type), (key, code)];
        self.key_directory = vec![1, 1, 0, keys.len() as u16];
        self.key_directory.extend(keys.iter().flat_map(|(key, value)| [*key, 0, 1, *value]));
        (self.double_params, self.ascii_params) = (Vec::new(), String::new());
    }

    /// Whether a reference system is named, be it only by its parameters.
    pub(crate) fn has_crs(&self) -> bool {
        [PROJECTED_CRS_KEY, GEODETIC_CRS_KEY]
            .into_iter()
            .any(|key| self.key(key).is_some_and(|code| code != 0))
    }

    /// The value of a key that is stored in the directory itself.
    fn key(&self, key: u16) -> Option<u16> {
        let entries = self.key_directory.get(4..)?.chunks_exact(4);
        entries.into_iter().find(|entry| entry[0] == key && entry[1] == 0).map(|entry| entry[3])
    }

    pub(crate) fn epsg(&self) -> Option<u32> {
        let code = self.key(PROJECTED_CRS_KEY).or_else(|| self.key(GEODETIC_CRS_KEY))?;
        (code != 0 && code != USER_DEFINED).then_some(u32::from(code))
    }

    pub(crate) fn unit(&self, epsg: Option<u32>) -> CrsUnit {
        let is_utm = |code: u32| (32_601..=32_660).contains(&code) || (32_701..=32_760).contains(&code);
        match (self.key(MODEL_TYPE_KEY), self.key(LINEAR_UNITS_KEY)) {
            _ if epsg.is_some_and(is_utm) => CrsUnit::Metre,
            (Some(MODEL_GEOGRAPHIC), _) => CrsUnit::Degree,
            (Some(MODEL_PROJECTED), Some(UNIT_METRE)) => CrsUnit::Metre,
            _ if epsg == Some(4326) => CrsUnit::Degree,
            _ => CrsUnit::Unknown,
        }
    }
}

// Keys and values of OGC 19-008r4, section 7 and annex C.
const MODEL_TYPE_KEY: u16 = 1024;
const RASTER_TYPE_KEY: u16 = 1025;
const GEODETIC_CRS_KEY: u16 = 2048;
const PROJECTED_CRS_KEY: u16 = 3072;
const LINEAR_UNITS_KEY: u16 = 3076;
const MODEL_PROJECTED: u16 = 1;
const MODEL_GEOGRAPHIC: u16 = 2;
const PIXEL_IS_AREA: u16 = 1;
const PIXEL_IS_POINT: u16 = 2;
const UNIT_METRE: u16 = 9001;
const USER_DEFINED: u16 = 32_767;

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(keys: &[(u16, u16)]) -> GeoTags {
        let mut key_directory = vec![1, 1, 0, keys.len() as u16];
        key_directory.extend(keys.iter().flat_map(|(key, value)| [*key, 0, 1, *value]));
        GeoTags {
            pixel_scale: vec![0.5, 0.5, 0.0],
            tiepoint: vec![0.0, 0.0, 0.0, 1000.0, 5_000_000.0, 0.0],
            key_directory,
            ..GeoTags::default()
        }
    }

    #[test]
    fn ground_resolution_follows_the_reference_system() {
        let utm = tags(&[(MODEL_TYPE_KEY, 1), (PROJECTED_CRS_KEY, 32_645)]).reference().unwrap();
        assert_eq!(utm.ground_resolution_m(100), Some(0.5));

        let other = tags(&[(MODEL_TYPE_KEY, 1), (PROJECTED_CRS_KEY, 2056), (LINEAR_UNITS_KEY, 9001)]);
        assert_eq!(other.reference().unwrap().ground_resolution_m(100), Some(0.5));

        let feet = tags(&[(MODEL_TYPE_KEY, 1), (PROJECTED_CRS_KEY, 2263), (LINEAR_UNITS_KEY, 9003)]);
        assert_eq!(feet.reference().unwrap().ground_resolution_m(100), None);

        let mut mercator = tags(&[(MODEL_TYPE_KEY, 1), (PROJECTED_CRS_KEY, 3857)]);
        // y of 60 degrees north, where a Mercator metre is half a metre on the ground.
        mercator.tiepoint[4] = 8_399_737.889_818_361;
        let metres = mercator.reference().unwrap().ground_resolution_m(0).unwrap();
        assert!((metres - 0.25).abs() < 1e-9, "{metres}");

        let mut degrees = tags(&[(MODEL_TYPE_KEY, 2), (GEODETIC_CRS_KEY, 4326)]);
        degrees.pixel_scale = vec![1e-5, 1e-5, 0.0];
        degrees.tiepoint = vec![0.0, 0.0, 0.0, 85.0, 0.0, 0.0];
        let metres = degrees.reference().unwrap().ground_resolution_m(0).unwrap();
        // At the equator: 1.11319 m by 1.10574 m.
        assert!((metres - 1.109_458).abs() < 1e-5, "{metres}");
    }

    #[test]
    fn the_origin_is_the_outer_corner_of_the_first_pixel() {
        let mut moved = tags(&[(PROJECTED_CRS_KEY, 32_645)]);
        moved.tiepoint[0] = 10.0;
        moved.tiepoint[1] = 20.0;
        let reference = moved.reference().unwrap();
        assert_eq!((reference.origin_x, reference.origin_y), (995.0, 5_000_010.0));

        let point = tags(&[(PROJECTED_CRS_KEY, 32_645), (RASTER_TYPE_KEY, 2)]).reference().unwrap();
        assert_eq!((point.origin_x, point.origin_y), (999.75, 5_000_000.25));
    }

    #[test]
    fn broken_or_rotated_tags_give_no_reference() {
        let mut nan = tags(&[]);
        nan.pixel_scale[0] = f64::NAN;
        let mut negative = tags(&[]);
        negative.pixel_scale[1] = -1.0;
        let mut short = tags(&[]);
        short.tiepoint.truncate(3);
        let mut rotated = GeoTags { transformation: vec![0.0; 16], ..GeoTags::default() };
        rotated.transformation[1] = 0.5;
        for tags in [nan, negative, short, rotated, GeoTags::default()] {
            assert_eq!(tags.reference(), None);
        }
    }
}
