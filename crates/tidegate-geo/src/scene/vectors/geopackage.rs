//! GeoPackage 1.3 (OGC 12-128r18), in the raster's own coordinates: an SQLite file with the tables that the standard asks
//! for, through SQLite itself. It is the one place outside the store that speaks SQL: here a database is a file format.

use std::io;
use std::path::Path;

use rusqlite::{Connection, params};

use super::{Feature, Layer, VectorSink, wkb};

pub(super) struct GeoPackage {
    connection: Connection,
    srs_id: i32,
    bounds: [f64; 4],
}

/// What the standard calls an undefined cartesian system.
const UNDEFINED: i32 = -1;

impl GeoPackage {
    pub fn create(path: &Path, layer: &Layer<'_>) -> io::Result<Self> {
        let srs_id = layer.georeference.epsg.and_then(|epsg| i32::try_from(epsg).ok()).unwrap_or(UNDEFINED);
        // The format of the standard: to the millisecond.
        let created_at = format!("{:.3}", layer.created_at);
        Self::open(path, layer.name, srs_id, &created_at).map_err(failed)
    }

    fn open(path: &Path, name: &str, srs_id: i32, created_at: &str) -> rusqlite::Result<Self> {
        if path.exists() {
            // Left by a run that was cut off here.
            let _ = std::fs::remove_file(path);
        }
        let connection = Connection::open(path)?;
        connection.execute_batch(SCHEMA)?;
        if ![UNDEFINED, 0, 4326].contains(&srs_id) {
            let definition = u16::try_from(srs_id).ok().and_then(crs_definitions::from_code);
            let definition = definition.map_or("undefined", |definition| definition.wkt);
            let insert = "INSERT INTO gpkg_spatial_ref_sys VALUES (?1, ?2, 'EPSG', ?2, ?3, NULL)";
            connection.execute(insert, params![format!("EPSG:{srs_id}"), srs_id, definition])?;
        }
        connection.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, last_change, srs_id) VALUES (?1, 'features', ?1, ?2, ?3)",
            params![name, created_at, srs_id],
        )?;
        connection.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?1, 'geom', 'POLYGON', ?2, 0, 0)",
            params![name, srs_id],
        )?;
        // One transaction: a file with half of the polygons is nobody's.
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, srs_id, bounds: wkb::bounds(&[]) })
    }

    /// GeoPackage's header, with the box, then WKB.
    fn geometry(&self, feature: &Feature, [west, south, east, north]: [f64; 4]) -> Vec<u8> {
        // Little-endian, with a box of two dimensions.
        let mut bytes = b"GP\x00\x03".to_vec();
        bytes.extend_from_slice(&self.srs_id.to_le_bytes());
        for side in [west, east, south, north] {
            bytes.extend_from_slice(&side.to_le_bytes());
        }
        bytes.extend(wkb::polygon(&feature.rings));
        bytes
    }
}

impl VectorSink for GeoPackage {
    fn add(&mut self, feature: &Feature) -> io::Result<()> {
        let bounds = wkb::bounds(&feature.rings[0]);
        let ends = |[west, south, east, north]: [f64; 4]| [(west, south), (east, north)];
        self.bounds = wkb::bounds(&[ends(bounds), ends(self.bounds)].concat());
        let geometry = self.geometry(feature, bounds);
        let insert = "INSERT INTO prediction (geom, class, class_name, area_m2, mean_probability) VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = self.connection.prepare_cached(insert).map_err(failed)?;
        let row =
            params![geometry, feature.class, feature.class_name, feature.area_m2, feature.mean_probability];
        statement.execute(row).map_err(failed)?;
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        let [west, south, east, north] = self.bounds;
        if west <= east {
            let update = "UPDATE gpkg_contents SET min_x = ?1, min_y = ?2, max_x = ?3, max_y = ?4";
            self.connection.execute(update, params![west, south, east, north]).map_err(failed)?;
        }
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        self.connection.close().map_err(|(_, error)| failed(error))
    }
}

/// A full disk comes out as what it is.
fn failed(error: rusqlite::Error) -> io::Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => io::Error::other(error),
    }
}

/// Tables of the standard, sections 1.1 and 2.1, with the three systems that every file must name. The journal is off: the
/// file is made under another name, and thrown away when anything fails.
const SCHEMA: &str = r#"
PRAGMA journal_mode = OFF;
PRAGMA application_id = 0x47504B47;
PRAGMA user_version = 10300;
CREATE TABLE gpkg_spatial_ref_sys (
    srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
    organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
INSERT INTO gpkg_spatial_ref_sys VALUES
    ('Undefined cartesian SRS', -1, 'NONE', -1, 'undefined', NULL),
    ('Undefined geographic SRS', 0, 'NONE', 0, 'undefined', NULL),
    ('WGS 84 geodetic', 4326, 'EPSG', 4326, 'GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563,AUTHORITY["EPSG","7030"]],AUTHORITY["EPSG","6326"]],PRIMEM["Greenwich",0,AUTHORITY["EPSG","8901"]],UNIT["degree",0.0174532925199433,AUTHORITY["EPSG","9122"]],AUTHORITY["EPSG","4326"]]', 'longitude/latitude');
CREATE TABLE gpkg_contents (
    table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '',
    last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (
    table_name TEXT NOT NULL UNIQUE REFERENCES gpkg_contents(table_name), column_name TEXT NOT NULL,
    geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL REFERENCES gpkg_spatial_ref_sys(srs_id),
    z TINYINT NOT NULL, m TINYINT NOT NULL, PRIMARY KEY (table_name, column_name));
CREATE TABLE prediction (
    fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom POLYGON, class INTEGER NOT NULL, class_name TEXT NOT NULL,
    area_m2 DOUBLE, mean_probability DOUBLE NOT NULL);
"#;
