//! GeoParquet 1.1 (<https://geoparquet.org/releases/v1.1.0/>): WKB in longitude and latitude, which is what the format
//! takes for granted where no system is described; pixels where there is no place on Earth.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::json;

use super::{Feature, Layer, ToDegrees, VectorSink, wkb};

pub(super) struct GeoParquet {
    writer: SerializedFileWriter<File>,
    to_degrees: ToDegrees,
    rows: Rows,
    bounds: [f64; 4],
}

/// The rows of a group, column by column.
#[derive(Default)]
struct Rows {
    geometry: Vec<ByteArray>,
    class: Vec<i32>,
    class_name: Vec<ByteArray>,
    /// Whether there is an area, for each row; and those that there are.
    has_area: Vec<i16>,
    area_m2: Vec<f64>,
    mean_probability: Vec<f64>,
    n_bytes: usize,
}

/// Rows are written when their outlines have so many bytes.
const GROUP_BYTES: usize = 16 * 1024 * 1024;

const SCHEMA: &str = "message schema {
    required binary geometry;
    required int32 class;
    required binary class_name (UTF8);
    optional double area_m2;
    required double mean_probability;
}";

impl GeoParquet {
    pub fn create(path: &Path, layer: &Layer<'_>) -> io::Result<Self> {
        let schema = parse_message_type(SCHEMA).map_err(failed)?;
        let level = ZstdLevel::try_new(3).map_err(failed)?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let writer = SerializedFileWriter::new(File::create(path)?, Arc::new(schema), Arc::new(properties));
        Ok(Self {
            writer: writer.map_err(failed)?,
            to_degrees: ToDegrees::new(layer),
            rows: Rows::default(),
            bounds: wkb::bounds(&[]),
        })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        if rows.class.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        let mut index = 0;
        while let Some(mut column) = group.next_column()? {
            match index {
                0 => column.typed::<ByteArrayType>().write_batch(&rows.geometry, None, None)?,
                1 => column.typed::<Int32Type>().write_batch(&rows.class, None, None)?,
                2 => column.typed::<ByteArrayType>().write_batch(&rows.class_name, None, None)?,
                3 => column.typed::<DoubleType>().write_batch(&rows.area_m2, Some(&rows.has_area), None)?,
                _ => column.typed::<DoubleType>().write_batch(&rows.mean_probability, None, None)?,
            };
            column.close()?;
            index += 1;
        }
        group.close()?;
        Ok(())
    }
}

impl VectorSink for GeoParquet {
    fn add(&mut self, feature: &Feature) -> io::Result<()> {
        let rings = self.to_degrees.rings(&feature.rings)?;
        let [west, south, east, north] = wkb::bounds(&rings[0]);
        let all = [
            (west, south),
            (east, north),
            (self.bounds[0], self.bounds[1]),
            (self.bounds[2], self.bounds[3]),
        ];
        self.bounds = wkb::bounds(&all);
        let geometry = wkb::polygon(&rings);
        self.rows.n_bytes += geometry.len();
        self.rows.geometry.push(geometry.into());
        self.rows.class.push(i32::from(feature.class));
        self.rows.class_name.push(feature.class_name.as_str().into());
        self.rows.has_area.push(i16::from(feature.area_m2.is_some()));
        self.rows.area_m2.extend(feature.area_m2);
        self.rows.mean_probability.push(feature.mean_probability);
        if self.rows.n_bytes > GROUP_BYTES { self.write_group().map_err(failed) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.write_group().map_err(failed)?;
        let mut column =
            json!({"encoding": "WKB", "geometry_types": ["Polygon"], "orientation": "counterclockwise"});
        if self.bounds[0] <= self.bounds[2] {
            column["bbox"] = json!(self.bounds);
        }
        if !self.to_degrees.is_on_earth() {
            column["crs"] = serde_json::Value::Null;
        }
        let geo = json!({"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}});
        self.writer.append_key_value_metadata(KeyValue::new("geo".to_owned(), geo.to_string()));
        self.writer.finish().map_err(failed)?;
        self.writer.inner().sync_all()
    }
}

/// An error of the file system comes out as what it is: a full disk is told from a fault of ours.
fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(source) => io::Error::other(source),
        },
        error => io::Error::other(error),
    }
}
