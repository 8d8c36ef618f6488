//! A STAC item that says what was made of a scene, how, and by what.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value, json};
use tidegate_core::digest::Sha256Hasher;
use tidegate_core::{Sha256Digest, Timestamp};

use super::{MASK, OVERLAY, PROBABILITY, Projection, SceneFile, SceneReport, VectorFormat, checkpoint};
use crate::outputs;
use crate::raster::RasterInfo;
use crate::segment::Placement;
use crate::stac_mlm::ModelItem;

/// Where a result came from, as far as this crate cannot know it.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneProvenance {
    /// Of the scene: a path's file name or an address.
    pub scene: String,
    /// Absent where the scene was not read whole.
    pub scene_sha256: Option<Sha256Digest>,
    pub artifact_sha256: Sha256Digest,
    /// Name and version: `("ONNX Runtime", "1.31.1")`.
    pub runtime: (String, String),
    pub created_at: Timestamp,
}

pub const ITEM: &str = "prediction_item.json";

/// Writes the item beside the files of `report`, with their sizes and checksums.
pub fn write_item(
    folder: &Path,
    info: &RasterInfo,
    item: &ModelItem,
    report: &SceneReport,
    provenance: &SceneProvenance,
) -> io::Result<SceneFile> {
    let mut assets = Map::new();
    for file in &report.files {
        assets.insert(asset_key(file.name).to_owned(), asset(file, item, report)?);
    }
    let (geometry, bbox) = footprint(info);
    let mut document = json!({
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/processing/v1.1.0/schema.json",
            "https://stac-extensions.github.io/file/v2.1.0/schema.json",
            "https://stac-extensions.github.io/classification/v1.1.0/schema.json",
        ],
        "id": format!("{}-{}", stem(&provenance.scene), item.id),
        "geometry": geometry,
        "properties": properties(item, report, provenance),
        "links": [
            {"rel": "derived_from", "href": provenance.scene, "title": "the scene"},
        ],
        "assets": assets,
    });
    if let Some(bbox) = bbox {
        document["bbox"] = json!(bbox);
    }
    let path = folder.join(ITEM);
    checkpoint::write(&path, &serde_json::to_vec_pretty(&document)?)?;
    Ok(SceneFile { name: ITEM, path })
}

fn properties(item: &ModelItem, report: &SceneReport, provenance: &SceneProvenance) -> Value {
    let SceneProvenance { scene, artifact_sha256, runtime: (runtime, version), created_at, .. } = provenance;
    let model =
        item.version.as_ref().map_or_else(|| item.name.clone(), |version| format!("{} {version}", item.name));
    let mut software = Map::new();
    software.insert("tidegate".to_owned(), env!("CARGO_PKG_VERSION").into());
    software.insert(runtime.clone(), version.clone().into());
    let scale = match report.placement {
        Placement::Tiled { scale, .. } => scale,
        Placement::Resized => 1.0,
    };
    let mut properties = json!({
        "datetime": created_at.to_string(),
        "created": created_at.to_string(),
        "title": format!("{model} on {scene}"),
        "processing:level": "L4",
        "processing:lineage": format!(
            "{model} (artifact SHA-256 {artifact_sha256}), resampled by {scale:.4} to the model's resolution, {} tiles run and {} empty, blended over their overlap, threshold {}",
            report.n_tiles, report.n_empty_tiles, item.output.threshold
        ),
        "processing:software": software,
        "tidegate:scene_sha256": provenance.scene_sha256.as_ref().map(Sha256Digest::as_str),
        "tidegate:artifact_sha256": artifact_sha256.as_str(),
        "tidegate:placement": report.placement,
        "tidegate:tiles": report.n_tiles,
        "tidegate:empty_tiles": report.n_empty_tiles,
        "tidegate:polygons": report.n_polygons,
        "tidegate:notes": report.notes,
    });
    if let Some(gsd_m) = report.image_gsd_m {
        properties["gsd"] = json!(gsd_m);
    }
    properties
}

fn asset_key(name: &str) -> &'static str {
    match name {
        MASK => "mask",
        PROBABILITY => "probability",
        OVERLAY => "overlay",
        other => match VectorFormat::ALL.iter().find(|format| format.file_name() == other) {
            Some(format) => format.asset_key(),
            None => "file",
        },
    }
}

/// Of a file that a scene's prediction is made of.
pub fn media_type(name: &str) -> &'static str {
    match name {
        MASK | PROBABILITY => "image/tiff; application=geotiff; profile=cloud-optimized",
        OVERLAY => "image/png",
        ITEM => "application/geo+json",
        other => {
            let format = VectorFormat::ALL.iter().find(|format| format.file_name() == other);
            format.map_or("application/octet-stream", |format| format.media_type())
        }
    }
}

fn asset(file: &SceneFile, item: &ModelItem, report: &SceneReport) -> io::Result<Value> {
    let (role, title) = match file.name {
        MASK => ("data", "class of each pixel; 255 where there is none"),
        PROBABILITY => ("data", "probability of each class"),
        OVERLAY => ("overview", "the result over the scene"),
        _ => ("data", "polygons of each class"),
    };
    let (size_bytes, digest) = digest(&file.path)?;
    let mut asset = json!({
        "href": format!("./{}", file.name),
        "type": media_type(file.name),
        "title": title,
        "roles": [role],
        "file:size": size_bytes,
        "file:checksum": digest.to_multihash(),
    });
    if file.name == MASK {
        let total = report.class_pixels.iter().sum::<u64>()
            - report.class_pixels[usize::from(crate::segment::NODATA)];
        let classes = outputs::mask_classes(item, item.output.channels.unwrap_or(1)).into_iter().map(
            |(value, name)| {
                let pixels = report.class_pixels[value];
                let percentage = 100.0 * pixels as f64 / total.max(1) as f64;
                json!({"value": value, "name": name, "description": name, "percentage": percentage})
            },
        );
        asset["classification:classes"] = classes.collect();
    }
    Ok(asset)
}

fn digest(path: &Path) -> io::Result<(u64, Sha256Digest)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    let mut size_bytes = 0;
    loop {
        let n_bytes = file.read(&mut buffer)?;
        if n_bytes == 0 {
            return Ok((size_bytes, hasher.finish()));
        }
        hasher.update(&buffer[..n_bytes]);
        size_bytes += n_bytes as u64;
    }
}

/// The outline of the raster in longitude and latitude, and its box; neither where that cannot be computed.
fn footprint(info: &RasterInfo) -> (Value, Option<[f64; 4]>) {
    let projection = Projection::of(&info.georeference);
    let corner = |(column, row): (usize, usize)| {
        let (x, y) = info.georeference.transform?.apply(column as f64, row as f64);
        projection.as_ref()?.to_wgs_84(x, y)
    };
    let (width, height) = (info.width, info.height);
    let corners = [(0, height), (width, height), (width, 0), (0, 0), (0, height)].map(corner);
    let corners = corners.into_iter().collect::<Option<Vec<_>>>();
    let Some(corners) = corners else { return (Value::Null, None) };
    let fold = |of: fn(&(f64, f64)) -> f64, pick: fn(f64, f64) -> f64| {
        corners.iter().map(of).reduce(pick).expect("there are five corners")
    };
    let bbox = [
        fold(|corner| corner.0, f64::min),
        fold(|corner| corner.1, f64::min),
        fold(|corner| corner.0, f64::max),
        fold(|corner| corner.1, f64::max),
    ];
    let ring = corners.iter().map(|(x, y)| json!([x, y])).collect::<Vec<_>>();
    (json!({"type": "Polygon", "coordinates": [ring]}), Some(bbox))
}

/// A name without folders, queries and extensions, of characters that ids may have.
fn stem(scene: &str) -> String {
    let name = scene.split(['?', '#']).next().unwrap_or(scene);
    let name = name.rsplit(['/', '\\']).find(|part| !part.is_empty()).unwrap_or("scene");
    let stem = name.split('.').next().filter(|stem| !stem.is_empty()).unwrap_or("scene");
    stem.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect()
}
