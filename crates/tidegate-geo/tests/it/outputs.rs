//! The four files: what is in them, and that they appear whole or not at all.

use serde_json::{Value, json};
use tidegate_core::{Sha256Digest, Tensor, Timestamp};
use tidegate_geo::{
    Image, ImageLimits, ModelItem, OutputFile, Provenance, RenderError, RunFault, SegmentOptions,
    Segmentation, decode, render, segment, write_files,
};

use crate::support::{image, item, item_json, pixel_model, reddish, segment_by_pixel};

pub fn provenance() -> Provenance {
    Provenance {
        input_name: "camp.png".to_owned(),
        input_sha256: Sha256Digest::of(b"input"),
        model_name: "refugee-camp-detector".to_owned(),
        version: Some("1.2.3".parse().unwrap()),
        artifact_sha256: Sha256Digest::of(b"artifact"),
        runtime: "a test".to_owned(),
        created_at: "2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap(),
    }
}

fn render_all(image: &Image, item: &ModelItem, segmentation: &Segmentation) -> Vec<OutputFile> {
    render(image, item, segmentation, &provenance()).unwrap()
}

#[test]
fn a_binary_model_gives_the_four_files_of_the_guide() {
    let image = image(20, 10);
    let item = item(16);
    let segmentation = segment_by_pixel(&image, &item, &SegmentOptions::default());
    let files = render_all(&image, &item, &segmentation);
    let names = files.iter().map(|file| file.name).collect::<Vec<_>>();
    assert_eq!(
        names,
        ["prediction_raw.npy", "prediction_mask.png", "prediction_overlay.png", "inference_metadata.json"]
    );

    let header_end = files[0].bytes.len() - 4 * 200;
    let header = String::from_utf8_lossy(&files[0].bytes[..header_end]);
    assert!(header.contains("'shape': (1, 10, 20), "), "{header}");
    let last = f32::from_le_bytes(files[0].bytes[files[0].bytes.len() - 4..].try_into().unwrap());
    assert_eq!(last, segmentation.probabilities[199]);

    let mask = decode(&files[1].bytes, &ImageLimits::default()).unwrap();
    assert_eq!((mask.width, mask.height, mask.n_bands), (20, 10, 1));
    assert!(mask.pixels.iter().zip(&segmentation.mask).all(|(pixel, value)| *pixel == value * 255));
    assert!(segmentation.mask.contains(&0) && segmentation.mask.contains(&1));

    let overlay = decode(&files[2].bytes, &ImageLimits::default()).unwrap();
    assert_eq!((overlay.width, overlay.height, overlay.n_bands), (20, 10, 3));
}

#[test]
fn metadata_says_how_the_result_was_made() {
    let image = image(20, 10);
    let mut json = item_json(16);
    json["properties"]["mlm:hyperparameters"] = json!({"threshold": 0.25});
    let item = ModelItem::parse(&json).unwrap();
    let mut segmentation = segment_by_pixel(&image, &item, &SegmentOptions::default());
    segmentation.preprocess_seconds = 0.25;
    segmentation.runtime_seconds = 0.5;
    segmentation.postprocess_seconds = 0.125;
    segmentation.mask = (0..200).map(|pixel| u8::from(pixel < 50)).collect();
    let files = render_all(&image, &item, &segmentation);
    let metadata: Value = serde_json::from_slice(&files[3].bytes).unwrap();
    let expected = json!({
        "created_at": "2026-01-02T03:04:05Z",
        "software": {"name": "tidegate", "version": env!("CARGO_PKG_VERSION")},
        "input": {
            "name": "camp.png",
            "sha256": Sha256Digest::of(b"input").as_str(),
            "width": 20,
            "height": 10,
            "bands": 3,
            "valid_pixels": 200,
        },
        "model": {
            "name": "refugee-camp-detector",
            "version": "1.2.3",
            "artifact_sha256": Sha256Digest::of(b"artifact").as_str(),
            "runtime": "a test",
            "stac_item": "detector-1.0.0",
        },
        "preprocessing": {
            "bands": ["red", "green", "blue"],
            "tile_height": 16,
            "tile_width": 16,
            "placement": {"kind": "resized"},
            "value_scaling": vec![json!({"type": "scale", "value": 255.0}); 3],
        },
        "postprocessing": {"activation": "already_probability", "threshold": 0.25, "tiles": 1, "empty_tiles": 0},
        "classes": [
            {"value": 0, "name": "background", "pixels": 150, "fraction": 0.75},
            {"value": 1, "name": "shelter", "pixels": 50, "fraction": 0.25},
        ],
        "timings": {"preprocess_seconds": 0.25, "runtime_seconds": 0.5, "postprocess_seconds": 0.125},
        "notes": [],
    });
    assert_eq!(metadata, expected);
}

#[test]
fn several_classes_give_a_palette_of_the_items_colours() {
    let mut json = item_json(16);
    let output = &mut json["properties"]["mlm:output"][0];
    output["result"]["shape"] = json!([-1, 3, 16, 16]);
    output["classification:classes"] = json!([
        {"value": 0, "name": "background"},
        {"value": 1, "name": "road", "color_hint": "112233"},
        {"value": 2, "name": "water", "color_hint": [4, 5, 6]},
    ]);
    let item = ModelItem::parse(&json).unwrap();
    let image = image(16, 16);
    let mut run = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, &[|p| p[0], |p| p[1], |p| p[2]]));
    let segmentation = segment(&image, &item, &SegmentOptions::default(), &mut run, &mut |_| {}).unwrap();
    let files = render_all(&image, &item, &segmentation);
    let mask = decode(&files[1].bytes, &ImageLimits::default()).unwrap();
    let palette = [[0, 0, 0], [0x11, 0x22, 0x33], [4, 5, 6]];
    for (pixel, value) in mask.pixels.chunks_exact(3).zip(&segmentation.mask) {
        assert_eq!(pixel, palette[usize::from(*value)]);
    }
    assert!((0..3).all(|value| segmentation.mask.contains(&value)));
}

/// A square found on grey ground: tinted inside, outlined at its edge, the ground left alone, the invalid transparent.
#[test]
fn the_overlay_tints_outlines_and_leaves_holes() {
    let (width, height) = (40, 40);
    let inside = |at: usize| (10..30).contains(&(at % width)) && (10..30).contains(&(at / width));
    let mut image = Image { pixels: vec![120; width * height * 3], ..image(width, height) };
    image.valid = Some((0..width * height).map(|at| at != 0).collect());
    let item = item(16);
    let mut segmentation =
        segment_by_pixel(&image, &item, &SegmentOptions { gsd_m: None, ..Default::default() });
    segmentation.mask = (0..width * height).map(|at| u8::from(inside(at))).collect();
    let files = render_all(&image, &item, &segmentation);
    let overlay = decode(&files[2].bytes, &ImageLimits::default()).unwrap();
    let pixel = |x: usize, y: usize| &overlay.pixels[(y * width + x) * 3..][..3];

    assert_eq!(pixel(3, 3), [120; 3]);
    let (centre, edge, halo) = (pixel(20, 20), pixel(10, 20), pixel(9, 20));
    assert!(centre[0] > 140 && centre[1] < 100, "tinted magenta: {centre:?}");
    assert!(edge[0] > 220 && edge[0] > edge[1] + 100, "outlined in magenta: {edge:?}");
    assert!(halo.iter().all(|value| *value < 80), "set off darkly: {halo:?}");
    assert_eq!(overlay.valid.map(|valid| (valid[0], valid[1])), Some((false, true)));
}

#[test]
fn a_segmentation_of_another_image_is_refused() {
    let item = item(16);
    let segmentation = segment_by_pixel(&image(20, 10), &item, &SegmentOptions::default());
    let result = render(&image(10, 20), &item, &segmentation, &provenance());
    assert!(matches!(result, Err(RenderError::SizeMismatch { .. })));
}

#[test]
fn files_are_written_whole_and_replace_older_ones() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("made/for/it");
    let file = |bytes: &[u8]| OutputFile { name: "a.txt", content_type: "text/plain", bytes: bytes.to_vec() };
    write_files(&dir, &[file(b"older and longer")]).unwrap();
    let paths = write_files(&dir, &[file(b"newer")]).unwrap();
    assert_eq!(paths, [dir.join("a.txt")]);
    assert_eq!(std::fs::read(&paths[0]).unwrap(), b"newer");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no temporary file stays");

    // A folder under the final name: the rename fails, and what was there stays.
    std::fs::create_dir(dir.join("b.txt")).unwrap();
    let blocked = OutputFile { name: "b.txt", ..file(b"x") };
    let error = write_files(&dir, &[blocked]).unwrap_err();
    assert!(error.to_string().contains("b.txt"), "{error}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2, "no temporary file stays");
}

#[test]
fn reddish_is_what_the_mask_was_made_of() {
    let image = image(12, 12);
    let segmentation = segment_by_pixel(&image, &item(12), &SegmentOptions::default());
    for (pixel, value) in image.pixels.chunks_exact(3).zip(&segmentation.mask) {
        let scaled = [0, 1, 2].map(|band| f32::from(pixel[band]) / 255.0);
        assert_eq!(*value == 1, reddish(scaled) >= 0.5);
    }
}
