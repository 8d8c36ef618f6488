//! GeoJSON (RFC 7946), a feature a line, written as polygons come.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::json;

use super::{Feature, Layer, ToDegrees, VectorSink};

pub(super) struct GeoJson {
    file: BufWriter<File>,
    to_degrees: ToDegrees,
    n_features: u64,
}

impl GeoJson {
    pub fn create(path: &Path, layer: &Layer<'_>) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        write!(file, "{{\"type\":\"FeatureCollection\",\"name\":\"{}\",\"features\":[", layer.name)?;
        Ok(Self { file, to_degrees: ToDegrees::new(layer), n_features: 0 })
    }
}

impl VectorSink for GeoJson {
    fn add(&mut self, feature: &Feature) -> io::Result<()> {
        let rounded = |value: f64, steps: f64| (value * steps).round() / steps;
        // A tenth of a millimetre: RFC 7946 advises against writing more than means anything.
        let position = |(x, y): &(f64, f64)| [rounded(*x, 1e9), rounded(*y, 1e9)];
        let rings = self.to_degrees.rings(&feature.rings)?;
        let coordinates = rings.iter().map(|ring| ring.iter().map(position).collect::<Vec<_>>());
        let json = json!({
            "type": "Feature",
            "properties": {
                "class": feature.class,
                "class_name": feature.class_name,
                "area_m2": feature.area_m2.map(|area| rounded(area, 1000.0)),
                "mean_probability": rounded(feature.mean_probability, 10_000.0),
            },
            "geometry": {"type": "Polygon", "coordinates": coordinates.collect::<Vec<_>>()},
        });
        self.file.write_all(if self.n_features == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut self.file, &json)?;
        self.n_features += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.write_all(b"\n]}\n")?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}
