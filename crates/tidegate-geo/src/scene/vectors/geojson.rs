//! GeoJSON (RFC 7946), a feature a line, written as polygons come.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;

use super::{Feature, Layer, ToDegrees, VectorSink};

pub(super) struct GeoJson {
    file: BufWriter<File>,
    to_degrees: ToDegrees,
    n_features: u64,
    /// A feature as it is written.
    line: Vec<u8>,
}

#[derive(Serialize)]
struct JsonFeature<'a> {
    r#type: &'static str,
    properties: Properties<'a>,
    geometry: Geometry,
}

#[derive(Serialize)]
struct Properties<'a> {
    class: u8,
    class_name: &'a str,
    area_m2: Option<f64>,
    mean_probability: f64,
}

#[derive(Serialize)]
struct Geometry {
    r#type: &'static str,
    coordinates: Vec<Vec<(f64, f64)>>,
}

impl GeoJson {
    pub fn create(path: &Path, layer: &Layer<'_>) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        write!(file, "{{\"type\":\"FeatureCollection\",\"name\":\"{}\",\"features\":[", layer.name)?;
        Ok(Self { file, to_degrees: ToDegrees::new(layer), n_features: 0, line: Vec::new() })
    }
}

impl VectorSink for GeoJson {
    fn add(&mut self, feature: &Feature) -> io::Result<()> {
        let rounded = |value: f64, steps: f64| (value * steps).round() / steps;
        let mut coordinates = self.to_degrees.rings(&feature.rings)?;
        // A tenth of a millimetre: RFC 7946 advises against writing more than means anything.
        for (x, y) in coordinates.iter_mut().flatten() {
            (*x, *y) = (rounded(*x, 1e9), rounded(*y, 1e9));
        }
        let json = JsonFeature {
            r#type: "Feature",
            properties: Properties {
                class: feature.class,
                class_name: &feature.class_name,
                area_m2: feature.area_m2.map(|area| rounded(area, 1000.0)),
                mean_probability: rounded(feature.mean_probability, 10_000.0),
            },
            geometry: Geometry { r#type: "Polygon", coordinates },
        };
        self.line.clear();
        self.line.extend_from_slice(if self.n_features == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut self.line, &json)?;
        self.file.write_all(&self.line)?;
        self.n_features += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.write_all(b"\n]}\n")?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}
