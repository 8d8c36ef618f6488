//! Where an image lies: the affine, unrotated georeference of GeoTIFF (OGC 19-008r4), and ground resolution.

use std::f64::consts::PI;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrsUnit {
    /// Metres of a projection that keeps scale, such as UTM.
    Metre,
    /// Degrees of longitude and latitude.
    Degree,
    Unknown,
}

const WEB_MERCATOR: [u32; 3] = [3857, 3785, 900_913];

/// The sphere of Web Mercator (EPSG method 1024).
const EARTH_RADIUS_M: f64 = 6_378_137.0;

impl GeoReference {
    /// Metres on the ground per pixel at the centre of an image of `height_px` rows: the geometric mean of both
    /// directions. `None` where the system or its unit is unknown.
    pub fn ground_resolution_m(&self, height_px: usize) -> Option<f64> {
        let pixel = (self.pixel_width * self.pixel_height).sqrt();
        let centre_y = self.origin_y - self.pixel_height * height_px as f64 / 2.0;
        let metres = match self.epsg {
            // Mercator stretches by 1 / cos(latitude), which is cosh(y / R).
            Some(epsg) if WEB_MERCATOR.contains(&epsg) => pixel / (centre_y / EARTH_RADIUS_M).cosh(),
            _ => match self.unit {
                CrsUnit::Metre => pixel,
                CrsUnit::Degree => pixel * metres_per_degree(centre_y)?,
                CrsUnit::Unknown => return None,
            },
        };
        (metres.is_finite() && metres > 0.0).then_some(metres)
    }
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
#[derive(Default)]
pub(super) struct GeoTags {
    /// ModelPixelScale: x, y, z.
    pub pixel_scale: Vec<f64>,
    /// ModelTiepoint: column, row, level, x, y, z.
    pub tiepoint: Vec<f64>,
    /// ModelTransformation: a 4 x 4 matrix, row by row.
    pub transformation: Vec<f64>,
    /// GeoKeyDirectory: a header of 4, then (key, location, count, value).
    pub key_directory: Vec<u16>,
}

impl GeoTags {
    /// `None` where the tags are absent, incomplete, not numbers, or describe a rotated grid.
    pub fn reference(&self) -> Option<GeoReference> {
        let (mut origin_x, mut origin_y, pixel_width, pixel_height) = self.grid()?;
        if self.key(RASTER_TYPE_KEY) == Some(PIXEL_IS_POINT) {
            origin_x -= pixel_width / 2.0;
            origin_y += pixel_height / 2.0;
        }
        let numbers = [origin_x, origin_y, pixel_width, pixel_height];
        if numbers.iter().any(|number| !number.is_finite()) || pixel_width <= 0.0 || pixel_height <= 0.0 {
            return None;
        }
        let epsg = self.epsg();
        Some(GeoReference { epsg, unit: self.unit(epsg), pixel_width, pixel_height, origin_x, origin_y })
    }

    /// Origin x, origin y, pixel width, pixel height.
    fn grid(&self) -> Option<(f64, f64, f64, f64)> {
        if let [scale_x, scale_y, ..] = self.pixel_scale[..] {
            let [column, row, _, x, y, ..] = self.tiepoint[..] else { return None };
            return Some((x - column * scale_x, y + row * scale_y, scale_x, scale_y));
        }
        let [a, b, _, x, d, e, _, y, ..] = self.transformation[..] else { return None };
        (b == 0.0 && d == 0.0).then_some((x, y, a, -e))
    }

    /// The value of a key that is stored in the directory itself.
    fn key(&self, key: u16) -> Option<u16> {
        let entries = self.key_directory.get(4..)?.chunks_exact(4);
        entries.into_iter().find(|entry| entry[0] == key && entry[1] == 0).map(|entry| entry[3])
    }

    fn epsg(&self) -> Option<u32> {
        let code = self.key(PROJECTED_CRS_KEY).or_else(|| self.key(GEODETIC_CRS_KEY))?;
        (code != 0 && code != USER_DEFINED).then_some(u32::from(code))
    }

    fn unit(&self, epsg: Option<u32>) -> CrsUnit {
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
