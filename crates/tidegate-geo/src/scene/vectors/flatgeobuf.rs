//! FlatGeobuf (<https://flatgeobuf.org>), with its spatial index, in the raster's own coordinates. Features pass through a
//! temporary file; in memory is only where each of them lies.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flatgeobuf::{ColumnType, FgbCrs, FgbWriter, FgbWriterOptions, GeometryType};
use geozero::{ColumnValue, GeomProcessor, GeozeroGeometry, PropertyProcessor};

use super::{Feature, Layer, VectorSink};

pub(super) struct FlatGeobuf {
    writer: FgbWriter<'static>,
    path: PathBuf,
}

impl FlatGeobuf {
    pub fn create(path: &Path, layer: &Layer<'_>) -> io::Result<Self> {
        let code = layer.georeference.epsg.and_then(|epsg| i32::try_from(epsg).ok()).unwrap_or(0);
        let options = FgbWriterOptions {
            detect_type: false,
            promote_to_multi: false,
            crs: FgbCrs { org: (code != 0).then_some("EPSG"), code, ..FgbCrs::default() },
            ..FgbWriterOptions::default()
        };
        let mut writer = FgbWriter::create_with_options(layer.name, GeometryType::Polygon, options)
            .map_err(io::Error::other)?;
        writer.add_column("class", ColumnType::Int, |_, column| column.nullable = false);
        writer.add_column("class_name", ColumnType::String, |_, column| column.nullable = false);
        writer.add_column("area_m2", ColumnType::Double, |_, _| {});
        writer.add_column("mean_probability", ColumnType::Double, |_, column| column.nullable = false);
        Ok(Self { writer, path: path.to_owned() })
    }
}

impl VectorSink for FlatGeobuf {
    fn add(&mut self, feature: &Feature) -> io::Result<()> {
        let added = self.writer.add_feature_geom(Rings(&feature.rings), |row| {
            let values = [
                (0, "class", Some(ColumnValue::Int(i32::from(feature.class)))),
                (1, "class_name", Some(ColumnValue::String(&feature.class_name))),
                (2, "area_m2", feature.area_m2.map(ColumnValue::Double)),
                (3, "mean_probability", Some(ColumnValue::Double(feature.mean_probability))),
            ];
            for (index, name, value) in values {
                if let Some(value) = value {
                    // It only appends to a buffer.
                    let _ = row.property(index, name, &value);
                }
            }
        });
        added.map_err(io::Error::other)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(&self.path)?);
        self.writer.write(&mut file).map_err(io::Error::other)?;
        file.flush()?;
        file.get_ref().sync_all()
    }
}

struct Rings<'a>(&'a [Vec<(f64, f64)>]);

impl GeozeroGeometry for Rings<'_> {
    fn process_geom<P: GeomProcessor>(&self, processor: &mut P) -> geozero::error::Result<()> {
        processor.polygon_begin(true, self.0.len(), 0)?;
        for (index, ring) in self.0.iter().enumerate() {
            processor.linestring_begin(false, ring.len(), index)?;
            for (index, (x, y)) in ring.iter().enumerate() {
                processor.xy(*x, *y, index)?;
            }
            processor.linestring_end(false, index)?;
        }
        processor.polygon_end(true, 0)
    }
}
