//! Segmentation: the tiling must not show in the result, and every mismatch is said.

use proptest::prelude::*;
use serde_json::json;
use tidegate_core::Tensor;
use tidegate_geo::{
    CrsUnit, GeoReference, Image, ModelItem, Placement, Progress, RunFault, SegmentError, SegmentOptions,
    segment,
};

use crate::support::{image, item, item_json, pixel_model, reddish, segment_by_pixel};

/// `reddish` of every pixel, computed without any tiling.
fn expected(image: &Image) -> Vec<f32> {
    let scaled = |value: u8| f32::from(value) / 255.0;
    let pixels = image.pixels.chunks_exact(3);
    pixels.map(|pixel| reddish([scaled(pixel[0]), scaled(pixel[1]), scaled(pixel[2])])).collect()
}

fn georeferenced(mut image: Image, gsd_m: f64) -> Image {
    image.geo = Some(GeoReference {
        epsg: Some(32_645),
        unit: CrsUnit::Metre,
        pixel_width: gsd_m,
        pixel_height: gsd_m,
        origin_x: 0.0,
        origin_y: 0.0,
    });
    image
}

fn item_with_gsd(side: usize, gsd_m: f64) -> ModelItem {
    let mut json = item_json(side);
    json["properties"]["gsd"] = json!(gsd_m);
    ModelItem::parse(&json).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A model of single pixels gives the same whatever the size, batch and overlap.
    #[test]
    fn the_result_does_not_depend_on_tiling(
        width in 1usize..200,
        height in 1usize..200,
        side in 1usize..48,
        overlap_px in 0usize..40,
        batch in 1usize..9,
    ) {
        let image = georeferenced(image(width, height), 0.5);
        let options = SegmentOptions { overlap_px, batch, ..SegmentOptions::default() };
        let segmentation = segment_by_pixel(&image, &item_with_gsd(side, 0.5), &options);
        let expected = expected(&image);
        prop_assert_eq!(segmentation.probabilities.len(), expected.len());
        for (actual, expected) in segmentation.probabilities.iter().zip(&expected) {
            prop_assert!((actual - expected).abs() < 1e-5, "{} against {}", actual, expected);
        }
    }

    /// Going to the model's resolution and back keeps the range and nearly the mean of a smooth image.
    #[test]
    fn resampling_there_and_back_stays_within_bounds(
        width in 20usize..120,
        height in 20usize..120,
        model_gsd in 0.2f64..2.0,
    ) {
        let smooth = |at: usize| {
            let (x, y) = ((at % width) as f64 / width as f64, (at / width) as f64 / height as f64);
            [(60.0 + 120.0 * x) as u8, (60.0 + 120.0 * y) as u8, 0]
        };
        let pixels = (0..width * height).flat_map(smooth).collect();
        let image = georeferenced(Image { width, height, n_bands: 3, pixels, valid: None, geo: None }, 0.5);
        let segmentation = segment_by_pixel(&image, &item_with_gsd(32, model_gsd), &SegmentOptions::default());
        let expected = expected(&image);
        let range = |values: &[f32]| values.iter().fold((1f32, 0f32), |(low, high), v| (low.min(*v), high.max(*v)));
        let ((low, high), (actual_low, actual_high)) = (range(&expected), range(&segmentation.probabilities));
        // Half a grey level of rounding on the way.
        prop_assert!(actual_low >= low - 0.003 && actual_high <= high + 0.003);
        let mean = |values: &[f32]| values.iter().sum::<f32>() / values.len() as f32;
        prop_assert!((mean(&expected) - mean(&segmentation.probabilities)).abs() < 0.01);
    }
}

#[test]
fn placement_follows_what_is_known() {
    let tiled =
        |scale, resolution_known| Placement::Tiled { scale, tile: [64, 64], overlap: 32, resolution_known };
    let by_option = SegmentOptions { gsd_m: Some(0.25), ..SegmentOptions::default() };
    let cases = [
        // Image, its georeference, the model's gsd, options; the placement.
        ((100, 90), Some(0.25), Some(0.5), SegmentOptions::default(), tiled(0.5, true)),
        ((100, 90), None, Some(0.5), by_option, tiled(0.5, true)),
        ((100, 90), Some(1.0), Some(0.5), by_option, tiled(0.5, true)),
        ((100, 90), Some(0.501), Some(0.5), SegmentOptions::default(), tiled(1.0, true)),
        ((128, 128), None, Some(0.5), SegmentOptions::default(), Placement::Resized),
        ((128, 128), Some(0.5), None, SegmentOptions::default(), Placement::Resized),
        ((129, 20), None, Some(0.5), SegmentOptions::default(), tiled(1.0, false)),
    ];
    for ((width, height), image_gsd, model_gsd, options, expected) in cases {
        let mut image = image(width, height);
        if let Some(gsd) = image_gsd {
            image = georeferenced(image, gsd);
        }
        let item = model_gsd.map_or_else(|| item(64), |gsd| item_with_gsd(64, gsd));
        let segmentation = segment_by_pixel(&image, &item, &options);
        assert_eq!(segmentation.placement, expected, "{width} x {height}, {image_gsd:?}, {model_gsd:?}");
        assert_eq!((segmentation.width, segmentation.height), (width, height));
        let says_so = segmentation.notes.iter().any(|note| note.contains("tiled at its own resolution"));
        assert_eq!(says_so, expected == tiled(1.0, false));
    }
}

#[test]
fn sigmoid_is_applied_exactly_when_the_item_says_so() {
    let logit_model = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, &[|_| 2.0]));
    let mut json = item_json(16);
    json["properties"]["mlm:output"][0]["post_processing_function"] =
        json!({"format": "python", "expression": "torch.sigmoid"});
    let sigmoid = ModelItem::parse(&json).unwrap();
    let options = SegmentOptions::default();
    let segmentation =
        segment(&image(16, 16), &sigmoid, &options, &mut { logit_model }, &mut |_| {}).unwrap();
    assert!(segmentation.probabilities.iter().all(|p| (p - 0.880_797).abs() < 1e-5));

    let error = segment(&image(16, 16), &item(16), &options, &mut { logit_model }, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("2 is not a probability"), "{error}");

    let half = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, &[|_| 0.5]));
    let segmentation = segment(&image(16, 16), &item(16), &options, &mut { half }, &mut |_| {}).unwrap();
    assert!(segmentation.probabilities.iter().all(|p| *p == 0.5), "no second sigmoid");
    assert!(segmentation.mask.iter().all(|value| *value == 1), "positive from the threshold on");
}

fn three_class_item(layout: &str) -> ModelItem {
    let mut json = item_json(16);
    let output = &mut json["properties"]["mlm:output"][0];
    output["post_processing_function"] = json!({"format": "text", "expression": "softmax"});
    output["classification:classes"] = json!([]);
    output["result"]["shape"] =
        if layout == "bchw" { json!([-1, 3, 16, 16]) } else { json!([-1, 16, 16, 3]) };
    if layout == "bhwc" {
        output["result"]["dim_order"] = json!(["batch", "height", "width", "channel"]);
    }
    ModelItem::parse(&json).unwrap()
}

/// The channel with the highest band wins; both layouts of the output mean the same.
#[test]
fn several_channels_are_decided_by_the_highest() {
    let channels: &[fn([f32; 3]) -> f32] = &[|p| p[0] * 9.0, |p| p[1] * 9.0, |p| p[2] * 9.0];
    let image = image(40, 30);
    let options = SegmentOptions { gsd_m: Some(1.0), ..SegmentOptions::default() };
    let item_gsd = |layout| ModelItem { gsd: Some(1.0), ..three_class_item(layout) };

    let mut first = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, channels));
    let bchw = segment(&image, &item_gsd("bchw"), &options, &mut first, &mut |_| {}).unwrap();
    let mut last = |tensor: Tensor| {
        let output = pixel_model(&tensor, channels);
        let values = output.values::<f32>().unwrap();
        let n_batch = tensor.shape()[0];
        let size = 16 * 16;
        let turned = (0..n_batch * size * 3).map(|at| {
            let (tile, pixel, channel) = (at / (size * 3), at / 3 % size, at % 3);
            values[(tile * 3 + channel) * size + pixel]
        });
        Ok::<_, RunFault>(Tensor::from_vec(vec![n_batch, 16, 16, 3], turned.collect()).unwrap())
    };
    let bhwc = segment(&image, &item_gsd("bhwc"), &options, &mut last, &mut |_| {}).unwrap();

    assert_eq!(bchw.n_classes_out, 3);
    assert_eq!(bchw.probabilities, bhwc.probabilities);
    let n_pixels = image.width * image.height;
    for (pixel, bands) in image.pixels.chunks_exact(3).enumerate() {
        let winner = usize::from(bchw.mask[pixel]);
        assert!(bands.iter().all(|value| *value <= bands[winner]), "{bands:?} gave {winner}");
        let sum = (0..3).map(|channel| bchw.probabilities[channel * n_pixels + pixel]).sum::<f32>();
        assert!((sum - 1.0).abs() < 1e-5);
    }
}

#[test]
fn empty_tiles_are_skipped_and_invalid_pixels_are_zero() {
    let mut image = georeferenced(image(100, 20), 1.0);
    let valid = (0..100 * 20).map(|at| at % 100 < 30).collect::<Vec<_>>();
    image.valid = Some(valid.clone());
    let item = item_with_gsd(20, 1.0);
    let options = SegmentOptions { overlap_px: 0, batch: 2, ..SegmentOptions::default() };
    let mut seen = Vec::new();
    let mut run = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, &[|_| 0.9]));
    let segmentation =
        segment(&image, &item, &options, &mut run, &mut |progress| seen.push(progress)).unwrap();

    assert_eq!((segmentation.n_tiles, segmentation.n_empty_tiles), (2, 3));
    let progress = |done| Progress { done, total: 5 };
    assert_eq!(seen, [progress(0), progress(3), progress(5)]);
    for (pixel, valid) in valid.iter().enumerate() {
        let (probability, mask) = if *valid { (0.9, 1) } else { (0.0, 0) };
        assert!((segmentation.probabilities[pixel] - probability).abs() < 1e-6);
        assert_eq!(segmentation.mask[pixel], mask);
    }

    image.valid = Some(vec![false; 100 * 20]);
    let mut never = |_: Tensor| -> Result<Tensor, RunFault> { panic!("nothing is valid") };
    let segmentation = segment(&image, &item, &options, &mut never, &mut |_| {}).unwrap();
    assert!(segmentation.probabilities.iter().all(|p| *p == 0.0));
    assert!(segmentation.notes[0].contains("no pixel of the image is valid"));
}

#[test]
fn a_fixed_batch_is_always_full() {
    let mut json = item_json(16);
    json["properties"]["gsd"] = json!(1.0);
    json["properties"]["mlm:input"][0]["input"]["shape"][0] = json!(4);
    let item = ModelItem::parse(&json).unwrap();
    let image = georeferenced(image(50, 50), 1.0);
    // A batch does not reach over the end of a row of tiles.
    for (overlap_px, n_tiles, n_batches) in [(0, 16, 4), (8, 36, 12)] {
        let mut batches = Vec::new();
        let mut run = |tensor: Tensor| {
            batches.push(tensor.shape()[0]);
            Ok::<_, RunFault>(pixel_model(&tensor, &[reddish]))
        };
        let options = SegmentOptions { batch: 7, overlap_px, ..SegmentOptions::default() };
        let segmentation = segment(&image, &item, &options, &mut run, &mut |_| {}).unwrap();
        assert_eq!(segmentation.n_tiles, n_tiles);
        assert_eq!(batches, vec![4; n_batches]);
        for (actual, expected) in segmentation.probabilities.iter().zip(expected(&image)) {
            assert!((actual - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn bands_are_matched_by_colour_or_the_mismatch_is_named() {
    let grey = Image { n_bands: 1, pixels: vec![51; 16 * 16], ..image(16, 16) };
    let segmentation = segment_by_pixel(&grey, &item(16), &SegmentOptions::default());
    assert!(segmentation.notes[0].contains("grey"));
    assert!((segmentation.probabilities[0] - reddish([0.2; 3])).abs() < 1e-6);

    let mut json = item_json(16);
    json["properties"]["mlm:input"][0]["bands"] = json!(["blue", "green", "red"]);
    let bgr = ModelItem::parse(&json).unwrap();
    let mut blue = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, &[|pixel| pixel[0]]));
    let image = image(16, 16);
    let segmentation = segment(&image, &bgr, &SegmentOptions::default(), &mut blue, &mut |_| {}).unwrap();
    assert!((segmentation.probabilities[5] - f32::from(image.pixels[5 * 3 + 2]) / 255.0).abs() < 1e-6);

    let four = Image { n_bands: 4, pixels: vec![0; 16 * 16 * 4], ..image };
    let error = segment(&four, &bgr, &SegmentOptions::default(), &mut blue, &mut |_| {}).unwrap_err();
    assert_eq!(error.to_string(), "the image has 4 bands, but the model takes 3 (blue, green, red)");
}

#[test]
fn a_wrong_output_is_named_with_both_shapes() {
    let cases: &[(Vec<usize>, &str)] = &[
        (vec![1, 1, 8, 8], "shape [1, 1, 8, 8], expected [1, 1, 16, 16]"),
        (vec![1, 2, 16, 16], "shape [1, 2, 16, 16], expected [1, 1, 16, 16]"),
        (vec![2, 1, 16, 16], "shape [2, 1, 16, 16], expected [1, 1, 16, 16]"),
        (vec![1, 256], "shape [1, 256], expected [1, 1, 16, 16]"),
    ];
    for (shape, message) in cases {
        let mut run = |_| {
            Ok::<_, RunFault>(Tensor::from_vec(shape.clone(), vec![0f32; shape.iter().product()]).unwrap())
        };
        let error = segment(&image(16, 16), &item(16), &SegmentOptions::default(), &mut run, &mut |_| {})
            .unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
    let mut nan = |_| Ok::<_, RunFault>(Tensor::from_vec(vec![1, 1, 16, 16], vec![f32::NAN; 256]).unwrap());
    let error =
        segment(&image(16, 16), &item(16), &SegmentOptions::default(), &mut nan, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("it contains NaN"), "{error}");
    let mut classes = |_| Ok::<_, RunFault>(Tensor::from_vec(vec![1, 1, 16, 16], vec![0i64; 256]).unwrap());
    let error = segment(&image(16, 16), &item(16), &SegmentOptions::default(), &mut classes, &mut |_| {})
        .unwrap_err();
    assert!(error.to_string().contains("data type is INT64"), "{error}");
}

#[test]
fn unusable_arguments_and_runtime_faults_are_errors() {
    let mut run = |_: Tensor| Err(RunFault::new("the library is gone"));
    let mut fails = |image: &Image, item: &ModelItem, options: SegmentOptions| {
        segment(image, item, &options, &mut run, &mut |_| {}).unwrap_err()
    };
    let options = SegmentOptions::default();
    let good = image(16, 16);
    let error = fails(&good, &item(16), options);
    assert!(
        matches!(&error, SegmentError::Run(fault) if fault.to_string() == "the library is gone"),
        "{error}"
    );

    let short = Image { pixels: vec![0; 5], ..good.clone() };
    assert!(matches!(fails(&short, &item(16), options), SegmentError::InvalidImage { .. }));
    let no_batch = SegmentOptions { batch: 0, ..options };
    assert!(matches!(fails(&good, &item(16), no_batch), SegmentError::InvalidOption { name: "batch", .. }));
    for gsd in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let bad = SegmentOptions { gsd_m: Some(gsd), ..options };
        assert!(matches!(fails(&good, &item(16), bad), SegmentError::InvalidOption { name: "gsd", .. }));
    }
    // A kilometre per pixel for a model of centimetres would need terabytes.
    let far = SegmentOptions { gsd_m: Some(1000.0), max_work_pixels: u64::MAX, ..options };
    assert!(matches!(fails(&good, &item_with_gsd(16, 0.01), far), SegmentError::TooLarge { .. }));

    // 16 x 16 pixels at 1 m are 32 x 32 for a model of 0.5 m.
    let model = item_with_gsd(16, 0.5);
    let limited = |max_work_pixels| SegmentOptions { gsd_m: Some(1.0), max_work_pixels, ..options };
    assert!(matches!(fails(&good, &model, limited(1024)), SegmentError::Run(_)), "as many as allowed");
    assert!(matches!(
        fails(&good, &model, limited(1023)),
        SegmentError::TooManyPixels { width: 32, height: 32, max_pixels: 1023 }
    ));

    let mut json = item_json(16);
    json["properties"]["mlm:input"][0]["pre_processing_function"] =
        json!({"format": "python", "expression": "lib.normalise"});
    let error = fails(&good, &ModelItem::parse(&json).unwrap(), options);
    assert!(error.to_string().contains("`lib.normalise`"), "{error}");
}
