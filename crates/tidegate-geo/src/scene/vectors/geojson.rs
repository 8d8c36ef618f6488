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
    x: Coordinate,
    y: Coordinate,
}

#[derive(Serialize)]
struct Properties<'a> {
    class: u8,
    class_name: &'a str,
    area_m2: Option<f64>,
    mean_probability: f64,
}

/// The last number on one axis, with its text: an edge of pixels runs along an axis, so that every corner has a coordinate
/// of the one before it.
#[derive(Default)]
struct Coordinate {
    bits: Option<u64>,
    text: Vec<u8>,
}

impl GeoJson {
    pub fn create(path: &Path, layer: &Layer<'_>) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        write!(file, "{{\"type\":\"FeatureCollection\",\"name\":\"{}\",\"features\":[", layer.name)?;
        Ok(Self {
            file,
            to_degrees: ToDegrees::new(layer),
            n_features: 0,
            line: Vec::new(),
            x: Coordinate::default(),
            y: Coordinate::default(),
        })
    }
}

impl VectorSink for GeoJson {
    fn add(&mut self, feature: &Feature) -> io::Result<()> {
        let properties = Properties {
            class: feature.class,
            class_name: &feature.class_name,
            area_m2: feature.area_m2.map(|area| rounded(area, 1000.0)),
            mean_probability: rounded(feature.mean_probability, 10_000.0),
        };
        let Self { line, x, y, .. } = self;
        line.clear();
        line.extend_from_slice(if self.n_features == 0 { b"\n" } else { b",\n" });
        line.extend_from_slice(br#"{"type":"Feature","properties":"#);
        serde_json::to_writer(&mut *line, &properties)?;
        line.extend_from_slice(br#","geometry":{"type":"Polygon","coordinates":["#);
        for (index, ring) in self.to_degrees.rings(&feature.rings)?.iter().enumerate() {
            line.extend_from_slice(if index == 0 { b"[" } else { b",[" });
            for (index, corner) in ring.iter().enumerate() {
                line.extend_from_slice(if index == 0 { b"[" } else { b",[" });
                line.extend_from_slice(x.text(corner.0)?);
                line.push(b',');
                line.extend_from_slice(y.text(corner.1)?);
                line.push(b']');
            }
            line.push(b']');
        }
        line.extend_from_slice(b"]}}");
        self.file.write_all(line)?;
        self.n_features += 1;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.file.write_all(b"\n]}\n")?;
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

impl Coordinate {
    /// To a tenth of a millimetre: RFC 7946 advises against writing more than means anything.
    fn text(&mut self, value: f64) -> io::Result<&[u8]> {
        if self.bits.replace(value.to_bits()) != Some(value.to_bits()) {
            self.text.clear();
            serde_json::to_writer(&mut self.text, &rounded(value, 1e9))?;
        }
        Ok(&self.text)
    }
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
