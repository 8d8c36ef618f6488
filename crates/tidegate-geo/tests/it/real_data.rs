//! The items and imagery kept beside the repository; each test says in one line when it was skipped.

use std::path::Path;

use serde_json::Value;
use tidegate_geo::{CrsUnit, Image, ImageLimits, ModelItem, Placement, SegmentOptions, decode, resolve_href};

use crate::support::{item_json, reddish, segment_by_pixel, test_data};

fn read_item(path: &Path) -> ModelItem {
    let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    ModelItem::parse(&json).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_image(path: &str) -> Option<Image> {
    let path = test_data(path)?;
    Some(decode(&std::fs::read(path).unwrap(), &ImageLimits::default()).unwrap())
}

fn band_means(image: &Image) -> Vec<f64> {
    let n_pixels = (image.width * image.height) as f64;
    let sum = |band: usize| {
        image.pixels.iter().skip(band).step_by(image.n_bands).map(|v| f64::from(*v)).sum::<f64>()
    };
    (0..image.n_bands).map(|band| sum(band) / n_pixels).collect()
}

#[test]
fn the_extensions_own_examples_are_read() {
    let cases = [
        ("ex_item_basic.json", 3, 64, 1),
        ("ex_item_eo_bands.json", 13, 64, 10),
        ("ex_item_pytorch_geo_unet.json", 8, 3, 2),
    ];
    for (name, n_bands, side, channels) in cases {
        let Some(path) = test_data(&format!("stac-schemas/{name}")) else { return };
        let item = read_item(&path);
        assert_eq!(
            (item.input.n_bands, item.input.height, item.input.width),
            (n_bands, side, side),
            "{name}"
        );
        assert_eq!(item.output.channels, Some(channels), "{name}");
        assert_eq!(item.input.scaling.len(), n_bands, "{name}");
        assert!(item.assets.iter().any(|asset| asset.is_model()), "{name}");
    }
}

#[test]
fn the_shared_models_items_are_read_and_their_assets_found() {
    for version in ["1.0.0", "1.1.0", "1.2.0-bad"] {
        let Some(path) = test_data(&format!("banepa/model/{version}/stac_item.json")) else { return };
        let item = read_item(&path);
        assert_eq!(item.version.unwrap().to_string(), version);
        assert_eq!((item.gsd, item.input.n_bands, item.output.channels), (Some(0.265), 3, Some(1)));
        for asset in &item.assets {
            let file = resolve_href(path.parent().unwrap(), &asset.href).unwrap();
            assert_eq!(Some(file.metadata().unwrap().len()), asset.size_bytes, "{}", asset.href);
            let digest = tidegate_core::Sha256Digest::of(&std::fs::read(file).unwrap());
            assert_eq!(Some(digest), asset.sha256, "{}", asset.href);
        }
    }
}

/// Expectations by rasterio (GDAL): deflate with predictor 2 exactly, JPEG to a level or two.
#[test]
fn real_geotiffs_are_read_as_gdal_reads_them() {
    let Some(validation) = read_image("banepa/validation.tif") else { return };
    assert_eq!((validation.width, validation.height, validation.n_bands), (1024, 4096, 3));
    for (mean, expected) in band_means(&validation).iter().zip([96.884_757_52, 99.452_245, 95.081_837_89]) {
        assert!((mean - expected).abs() < 1e-6, "{mean} against {expected}");
    }
    let pixel = |image: &Image, row: usize, column: usize| {
        let at = (row * image.width + column) * image.n_bands;
        image.pixels[at..at + image.n_bands].to_vec()
    };
    assert_eq!(pixel(&validation, 100, 200), [55, 63, 48]);
    assert_eq!(pixel(&validation, 4091, 1017), [61, 73, 69]);

    let Some(mask) = read_image("banepa/validation-mask.tif") else { return };
    assert_eq!((mask.width, mask.height, mask.n_bands), (1024, 4096, 1));
    assert!((band_means(&mask)[0] - 0.470_299_96).abs() < 1e-6);

    let Some(scene) = read_image("banepa/scene.tif") else { return };
    for (mean, expected) in band_means(&scene).iter().zip([115.823, 118.185, 109.056]) {
        assert!((mean - expected).abs() < 1.0, "{mean} against {expected}");
    }
    for (row, column, expected) in
        [(100, 200, [111u8, 117, 129]), (2043, 2041, [115, 116, 110]), (512, 512, [49, 55, 55])]
    {
        let actual = pixel(&scene, row, column);
        let near = actual.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 12);
        assert!(near, "{actual:?} against {expected:?} at {row}, {column}");
    }
    let geo = scene.geo.as_ref().unwrap();
    assert_eq!((geo.epsg, geo.unit), (Some(3857), CrsUnit::Metre));
    // 0.149 m on the grid, 0.132 m on the ground.
    assert!((geo.ground_resolution_m(scene.height).unwrap() - 0.132).abs() < 0.001);
}

#[test]
fn a_real_image_goes_through_at_the_models_resolution() {
    let Some(image) = read_image("banepa/validation.tif") else { return };
    let mut json = item_json(256);
    json["properties"]["gsd"] = 0.265.into();
    let item = ModelItem::parse(&json).unwrap();
    let segmentation = segment_by_pixel(&image, &item, &SegmentOptions::default());
    let Placement::Tiled { scale, resolution_known: true, .. } = segmentation.placement else {
        panic!("{:?}", segmentation.placement);
    };
    assert!((scale - 0.5).abs() < 0.005, "half the scene's resolution, got {scale}");
    // 512 x 2048 model pixels in tiles of 256 with 32 shared: 3 x 9.
    assert_eq!(segmentation.n_tiles, 27);
    let scaled = |value: u8| f32::from(value) / 255.0;
    let direct =
        image.pixels.chunks_exact(3).map(|p| f64::from(reddish([scaled(p[0]), scaled(p[1]), scaled(p[2])])));
    let n_pixels = (image.width * image.height) as f64;
    let (direct, stitched) = (
        direct.sum::<f64>() / n_pixels,
        segmentation.probabilities.iter().map(|p| f64::from(*p)).sum::<f64>() / n_pixels,
    );
    assert!((direct - stitched).abs() < 0.002, "{direct} against {stitched}");
}
