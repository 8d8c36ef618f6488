//! Where a raster lies, whatever its projection and even if it is rotated.

use crate::image::geo::{GeoTags, ground_resolution_m};
use crate::image::{CrsUnit, GeoReference};

/// From pixels to coordinates: `x = a column + b row + c`, `y = d column + e row + f`, of pixel corners.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Affine {
    pub a: f64,
    pub b: f64,
    pub c: f64,
    pub d: f64,
    pub e: f64,
    pub f: f64,
}

impl Affine {
    pub fn apply(&self, column: f64, row: f64) -> (f64, f64) {
        (self.a * column + self.b * row + self.c, self.d * column + self.e * row + self.f)
    }

    /// The area of a pixel, in square units of the system.
    pub fn pixel_area(&self) -> f64 {
        (self.a * self.e - self.b * self.d).abs()
    }

    /// From coordinates to pixels; `None` where a pixel has no area.
    pub fn inverse(&self) -> Option<Affine> {
        let det = self.a * self.e - self.b * self.d;
        let usable = det != 0.0 && det.is_finite();
        let (a, b, d, e) = (self.e / det, -self.b / det, -self.d / det, self.a / det);
        usable.then(|| Affine { a, b, c: -(a * self.c + b * self.f), d, e, f: -(d * self.c + e * self.f) })
    }
}

/// The georeference of a raster, as complete as the file has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Georeference {
    /// `None` where the raster has no place on Earth, only pixels.
    pub transform: Option<Affine>,
    /// The EPSG code, where one is named.
    pub epsg: Option<u32>,
    pub unit: CrsUnit,
    /// Whether a reference system is named at all, be it by a code or by its parameters.
    pub has_crs: bool,
    /// The tags to be written into what is made from this raster, so that nothing is lost on the way.
    pub tags: GeoTags,
}

impl Georeference {
    /// From a file's tags.
    pub fn of_tags(tags: GeoTags) -> Self {
        let epsg = tags.epsg();
        Self {
            transform: tags.transform(),
            epsg,
            unit: tags.unit(epsg),
            has_crs: epsg.is_some() || tags.has_crs(),
            tags,
        }
    }

    /// The same place in the system `epsg`, whatever the raster says itself.
    pub fn assume(&mut self, epsg: u32, unit: CrsUnit) {
        self.tags.set_epsg(epsg, unit);
        (self.epsg, self.unit, self.has_crs) = (Some(epsg), unit, true);
    }

    /// Of a grid without a system.
    pub fn of_transform(transform: Affine) -> Self {
        Self::of_tags(GeoTags::of_transform(&transform))
    }

    /// Of a plain image; without tags to hand on.
    pub fn of_north_up(geo: &GeoReference) -> Self {
        let transform = Affine {
            a: geo.pixel_width,
            b: 0.0,
            c: geo.origin_x,
            d: 0.0,
            e: -geo.pixel_height,
            f: geo.origin_y,
        };
        Self {
            transform: Some(transform),
            epsg: geo.epsg,
            unit: geo.unit,
            has_crs: geo.epsg.is_some(),
            tags: GeoTags::of_transform(&transform),
        }
    }

    /// Metres on the ground per pixel at the centre: the geometric mean of both directions.
    pub fn ground_resolution_m(&self, width: usize, height: usize) -> Option<f64> {
        let transform = self.transform?;
        let (_, centre_y) = transform.apply(width as f64 / 2.0, height as f64 / 2.0);
        ground_resolution_m(self.epsg, self.unit, transform.pixel_area().sqrt(), centre_y)
    }

    /// Metres on the ground of one unit of the system at `y`.
    pub fn metres_per_unit(&self, y: f64) -> Option<f64> {
        ground_resolution_m(self.epsg, self.unit, 1.0, y)
    }

    /// As plain images have it; `None` where it is absent or not north-up.
    pub fn north_up(&self) -> Option<GeoReference> {
        self.tags.reference()
    }
}
