//! Texts: a model's STAC item, an area of interest, a world file, a signature and a key. The first byte says which.

#![no_main]

use serde_json::Value;
use tidegate_geo::esri::{SigningKey, VerifyingKey, signature::read_signature};
use tidegate_geo::raster::{Affine, Georeference, RasterInfo, parse_world_file};
use tidegate_geo::scene::AreaOfInterest;
use tidegate_geo::{ModelItem, validate};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(rest);
    match choice % 5 {
        0 => {
            let Ok(item) = serde_json::from_slice::<Value>(rest) else { return };
            let has_errors =
                validate(&item, None).iter().any(|finding| finding.severity == tidegate_geo::Severity::Error);
            // Whatever can be used has no more to be said against it than a schema has.
            assert!(ModelItem::parse(&item).is_ok() || has_errors, "{item}");
        }
        1 => drop(AreaOfInterest::of_geojson(&text, &info())),
        2 => drop(parse_world_file(&text)),
        3 => drop(read_signature(rest)),
        _ => {
            let _ = SigningKey::parse(&text);
            let _ = VerifyingKey::parse(&text);
        }
    }
});

/// Of a scene in UTM 45 N.
fn info() -> RasterInfo {
    let transform = Affine { a: 0.5, b: 0.0, c: 300_000.0, d: 0.0, e: -0.5, f: 3_000_000.0 };
    RasterInfo {
        width: 1000,
        height: 1000,
        n_bands: 3,
        band_names: vec![None; 3],
        sample_type: "uint8",
        compression: "none",
        nodata: None,
        georeference: Georeference {
            epsg: Some(32_645),
            transform: Some(transform),
            ..Georeference::default()
        },
    }
}
