//! Scenes: the files are what the whole image would give, whatever the threads, batches and interruptions.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use tidegate_core::{Sha256Digest, Tensor, Timestamp};
use tidegate_geo::raster::{FileSource, MemoryRaster, Raster, RasterInfo, Samples, Strip, TiffRaster};
use tidegate_geo::scene::{
    AreaOfInterest, Begin, Remedy, SceneError, SceneJob, SceneOptions, SceneProvenance, SceneReport,
    VectorFormat, predict_scene, write_item,
};
use tidegate_geo::{
    CrsUnit, GeoReference, Image, ImageError, ModelItem, RunFault, SegmentError, SegmentOptions,
};

use crate::support::{image, item_json, pixel_model, python, reddish, segment_by_pixel, test_data};

/// A scene of half a metre a pixel near Banepa.
fn scene(width: usize, height: usize) -> Image {
    let geo = GeoReference {
        epsg: Some(32_645),
        unit: CrsUnit::Metre,
        pixel_width: 0.5,
        pixel_height: 0.5,
        origin_x: 354_000.0,
        origin_y: 3_057_000.0,
    };
    Image { geo: Some(geo), ..image(width, height) }
}

fn item_of_gsd(side: usize, gsd_m: f64) -> ModelItem {
    let mut json = item_json(side);
    json["properties"]["gsd"] = json!(gsd_m);
    ModelItem::parse(&json).unwrap()
}

struct Run<'a> {
    raster: &'a dyn Raster,
    item: &'a ModelItem,
    options: SceneOptions,
    area: Option<AreaOfInterest>,
    /// The run of a tile after which everything stops.
    stop_after: usize,
    /// Tiles that were run, by all runs.
    n_runs: AtomicUsize,
    identity: &'a (dyn Fn() -> Result<String, ImageError> + Sync),
    ready: &'a (dyn Fn() -> Result<(), RunFault> + Sync),
}

impl<'a> Run<'a> {
    fn new(raster: &'a dyn Raster, item: &'a ModelItem) -> Self {
        let options = SceneOptions {
            probability: true,
            vectors: VectorFormat::ALL.to_vec(),
            ..SceneOptions::default()
        };
        Self {
            raster,
            item,
            options,
            area: None,
            stop_after: usize::MAX,
            n_runs: AtomicUsize::new(0),
            identity: &|| Ok("a scene and a model".to_owned()),
            ready: &|| Ok(()),
        }
    }

    fn predict(&self, folder: &Path, begin: Begin) -> Result<SceneReport, SceneError> {
        let job = SceneJob {
            raster: self.raster,
            item: self.item,
            options: &self.options,
            area: self.area.as_ref(),
            identity: self.identity,
            ready: self.ready,
            created_at: Timestamp::UNIX_EPOCH,
            folder,
            begin,
        };
        let (stop, before) = (AtomicBool::new(false), self.n_runs.load(Ordering::Relaxed));
        let run = |tensor: Tensor| {
            if self.n_runs.fetch_add(1, Ordering::Relaxed) - before + 1 >= self.stop_after {
                stop.store(true, Ordering::Relaxed);
            }
            Ok::<_, RunFault>(pixel_model(&tensor, &[reddish]))
        };
        predict_scene(&job, &run, &stop, &mut |_| {})
    }
}

/// Every file of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), path));
    named.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

/// One band of a file as numbers, by our own reader.
fn read(path: &Path) -> Vec<f32> {
    let raster = TiffRaster::open(Arc::new(FileSource::open(path).unwrap())).unwrap();
    let strips = (0..raster.n_strips()).map(|strip| raster.read_strip(strip, &[0]).unwrap());
    let plane = |samples: &Samples| (0..samples.len()).map(|at| samples.at(at)).collect::<Vec<_>>();
    strips.flat_map(|strip| plane(&strip.planes[0])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Invalid pixels, two resolutions, any threads and batches: what `segment` gives of the image in memory.
    #[test]
    fn a_scene_is_what_the_whole_image_is(
        width in 1usize..90,
        height in 1usize..1300,
        gsd_m in prop::sample::select(vec![0.5, 0.37, 1.1]),
        threads in 1usize..4,
        batch in 1usize..4,
        holes in prop::collection::vec((0usize..90, 0usize..1300, 1usize..40), 0..4),
    ) {
        let mut image = scene(width, height);
        if !holes.is_empty() {
            let in_hole = |at: usize| holes.iter().any(|(x, y, size)| {
                (*x..x + size).contains(&(at % width)) && (*y..y + size * 9).contains(&(at / width))
            });
            image.valid = Some((0..width * height).map(|at| !in_hole(at)).collect());
        }
        let item = item_of_gsd(32, gsd_m);
        let segment = SegmentOptions { threads, batch, overlap_px: 8, ..SegmentOptions::default() };
        let expected = segment_by_pixel(&image, &item, &segment);
        let raster = MemoryRaster::of_image(&image);
        let mut run = Run::new(&raster, &item);
        run.options.segment = segment;
        let folder = tempfile::tempdir().unwrap();
        let report = run.predict(folder.path(), Begin::Carefully).unwrap();
        prop_assert_eq!(report.n_tiles, expected.n_tiles);

        let is_valid = |at: usize| image.valid.as_ref().is_none_or(|valid| valid[at]);
        let mask = read(&folder.path().join("prediction_mask.tif"));
        let probabilities = read(&folder.path().join("prediction_probability.tif"));
        for at in 0..width * height {
            let (class, probability) = match is_valid(at) {
                true => (f32::from(expected.mask[at]), expected.probabilities[at]),
                false => (255.0, 0.0),
            };
            // The reader gives 0 for what is NaN.
            prop_assert_eq!((mask[at], probabilities[at]), (class, probability), "pixel {}", at);
        }
    }
}

#[test]
fn the_result_does_not_depend_on_threads_batches_or_interruptions() {
    let mut image = scene(70, 2200);
    image.valid = Some((0..70 * 2200).map(|at| at % 70 > 3 || at / 70 > 700).collect());
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.8));
    let mut run = Run::new(&raster, &item);
    run.options.segment.overlap_px = 8;
    let whole = tempfile::tempdir().unwrap();
    let report = run.predict(whole.path(), Begin::Carefully).unwrap();
    let expected = contents(whole.path());
    assert_eq!(
        expected.keys().collect::<Vec<_>>(),
        [
            "prediction_mask.tif",
            "prediction_overlay.png",
            "prediction_polygons.fgb",
            "prediction_polygons.geojson",
            "prediction_polygons.gpkg",
            "prediction_polygons.parquet",
            "prediction_probability.tif"
        ]
    );
    let same = |folder: &Path, how: &str| {
        for (name, content) in contents(folder) {
            assert!(expected[&name] == content, "{name} is another after {how}");
        }
    };

    for (threads, batch) in [(1, 1), (3, 1), (2, 5)] {
        let folder = tempfile::tempdir().unwrap();
        run.options.segment.threads = threads;
        run.options.segment.batch = batch;
        run.predict(folder.path(), Begin::Carefully).unwrap();
        same(folder.path(), &format!("{threads} threads and batches of {batch}"));
    }

    run.options.segment.batch = 1;
    for stop_after in [1, 20, 45, 70, 100] {
        let folder = tempfile::tempdir().unwrap();
        run.stop_after = stop_after;
        assert!(
            matches!(run.predict(folder.path(), Begin::Carefully), Err(SceneError::Stopped)),
            "{stop_after}"
        );
        assert!(
            contents_or_nothing(folder.path()).is_empty(),
            "nothing carries a final name before it is whole"
        );
        run.stop_after = usize::MAX;
        if stop_after >= 45 {
            let refused = run.predict(folder.path(), Begin::Carefully).unwrap_err();
            assert_eq!(refused.remedy(), Some(Remedy::ResumeOrRestart), "{refused}");
        }
        run.options.segment.threads = 1;
        let resumed = run.predict(folder.path(), Begin::Resume).unwrap();
        same(folder.path(), &format!("a stop after {stop_after} tiles"));
        assert_eq!(resumed.n_tiles + resumed.n_empty_tiles, report.n_tiles + report.n_empty_tiles);
        assert!(resumed.n_resumed_tiles > 0 || stop_after < 45, "{stop_after}: nothing was kept");
    }
}

fn contents_or_nothing(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.starts_with('.')).collect()
}

#[test]
fn a_run_is_resumed_only_as_what_it_was() {
    let image = scene(70, 1200);
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.5));
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(&raster, &item);
    run.options.segment.batch = 1;
    run.stop_after = 200;
    assert!(matches!(run.predict(folder.path(), Begin::Carefully), Err(SceneError::Stopped)));
    run.stop_after = usize::MAX;
    run.options.segment.augment = true;
    let error = run.predict(folder.path(), Begin::Resume).unwrap_err();
    assert!(error.to_string().contains("another setting of test-time"), "{error}");
    run.options.segment.augment = false;
    // Half of a scene by one threshold and half by another would be nobody's result.
    let mut stricter = item.clone();
    stricter.output.threshold = 0.7;
    run.item = &stricter;
    let error = run.predict(folder.path(), Begin::Resume).unwrap_err();
    assert!(error.to_string().contains("another item of the model"), "{error}");
    run.predict(folder.path(), Begin::Afresh).unwrap();
}

/// Another scene, or the same one changed: nothing of what was done is used, and nothing of it is touched.
#[test]
fn a_run_of_another_scene_is_neither_gone_on_with_nor_spoilt() {
    let image = scene(70, 1200);
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.5));
    let folder = tempfile::tempdir().unwrap();
    let unfinished = folder.path().join(".tidegate-unfinished");
    let mut run = Run::new(&raster, &item);
    run.options.segment.batch = 1;
    run.stop_after = 200;
    assert!(matches!(run.predict(folder.path(), Begin::Carefully), Err(SceneError::Stopped)));
    let kept = contents(&unfinished);
    let mut other = Run::new(&raster, &item);
    other.options.segment.batch = 1;
    other.identity = &|| Ok("another scene".to_owned());
    let error = other.predict(folder.path(), Begin::Resume).unwrap_err();
    assert!(error.to_string().contains("another scene, model or runtime"), "{error}");
    // Nor where nobody can tell which scene it is.
    other.identity = &|| Err(ImageError::Unreadable { what: "the disk is gone".to_owned() });
    let error = other.predict(folder.path(), Begin::Resume).unwrap_err();
    assert_eq!(error.remedy(), Some(Remedy::Resume), "{error}");
    assert_eq!(other.n_runs.load(Ordering::Relaxed), 0, "tiles were run for nothing");
    assert!(contents(&unfinished) == kept);
    run.stop_after = usize::MAX;
    assert!(run.predict(folder.path(), Begin::Resume).unwrap().n_resumed_tiles > 0);
}

/// To hash a scene takes a while, in which tiles can be run: only a checkpoint needs to say which scene it is of.
#[test]
fn tiles_are_run_before_it_is_known_which_scene_it_is() {
    let image = scene(70, 1200);
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.5));
    let (whole, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Run::new(&raster, &item).predict(whole.path(), Begin::Carefully).unwrap();
    let n_batches = AtomicUsize::new(0);
    let identity = || {
        assert!(n_batches.load(Ordering::Relaxed) > 0, "asked before a tile was run");
        // As of a file that somebody writes to.
        Err(ImageError::Unreadable { what: "it changes while it is read".to_owned() })
    };
    let ready = || {
        n_batches.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let mut run = Run::new(&raster, &item);
    (run.identity, run.ready) = (&identity, &ready);
    let error = run.predict(folder.path(), Begin::Carefully).unwrap_err();
    assert!(error.to_string().contains("it changes while it is read"), "{error}");
    assert!(contents_or_nothing(folder.path()).is_empty());
    // What was done counts for nothing.
    let report = Run::new(&raster, &item).predict(folder.path(), Begin::Resume).unwrap();
    assert_eq!(report.n_resumed_tiles, 0);
    assert!(contents(folder.path()) == contents(whole.path()));
}

#[test]
fn the_first_strip_is_read_while_the_model_loads() {
    struct Watched<'a>(MemoryRaster<'a>, AtomicUsize);
    impl Raster for Watched<'_> {
        fn info(&self) -> &RasterInfo {
            self.0.info()
        }
        fn n_strips(&self) -> usize {
            self.0.n_strips()
        }
        fn strip_rows(&self, strip: usize) -> Range<usize> {
            self.0.strip_rows(strip)
        }
        fn read_into(&self, strip: usize, bands: &[usize], target: &mut Strip) -> Result<(), ImageError> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.read_into(strip, bands, target)
        }
    }
    let (image, item) = (scene(70, 600), item_of_gsd(32, 0.5));
    let raster = Watched(MemoryRaster::of_image(&image), AtomicUsize::new(0));
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(&raster, &item);
    let ready = || {
        assert!(raster.1.load(Ordering::Relaxed) > 0, "asked before a strip was read");
        Ok(())
    };
    run.ready = &ready;
    run.predict(folder.path(), Begin::Carefully).unwrap();

    // A model that cannot be loaded has run nothing, and nothing was kept.
    run.ready = &|| Err(RunFault::new("no such model"));
    let folder = tempfile::tempdir().unwrap();
    let error = run.predict(folder.path(), Begin::Carefully).unwrap_err();
    assert!(matches!(&error, SceneError::Segment(SegmentError::Run(_))), "{error}");
    assert!(contents_or_nothing(folder.path()).is_empty());
}

/// What a power cut, or somebody who tidies up, has taken is made again.
#[test]
fn a_checkpoint_whose_files_are_gone_is_none() {
    let image = scene(70, 1200);
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.5));
    let whole = tempfile::tempdir().unwrap();
    let mut run = Run::new(&raster, &item);
    run.options.segment.batch = 1;
    run.predict(whole.path(), Begin::Carefully).unwrap();
    for gone in ["mask.tiles", "confidence.rows", "probability.tiles", "ground.rows"] {
        let folder = tempfile::tempdir().unwrap();
        run.stop_after = 200;
        assert!(matches!(run.predict(folder.path(), Begin::Carefully), Err(SceneError::Stopped)));
        std::fs::remove_file(folder.path().join(".tidegate-unfinished").join(gone)).unwrap();
        run.stop_after = usize::MAX;
        let report = run.predict(folder.path(), Begin::Resume).unwrap();
        assert_eq!(report.n_resumed_tiles, 0, "{gone}");
        assert!(contents(folder.path()) == contents(whole.path()), "{gone}");
    }
}

/// Rows that do not fit in memory are refused before memory is taken, whoever claims them.
#[test]
fn absurd_rows_are_refused() {
    let image = scene(70, 300);
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.5));
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::new(&raster, &item);
    run.options.max_memory_bytes = 1 << 30;
    for (gsd_m, expected) in [(1e12, "check the ground resolution"), (20_000.0, "MiB of memory")] {
        run.options.segment.gsd_m = Some(gsd_m);
        let error = run.predict(folder.path(), Begin::Carefully).unwrap_err().to_string();
        assert!(error.contains(expected), "{gsd_m}: {error}");
        assert_eq!(contents_or_nothing(folder.path()), Vec::<String>::new());
    }
    // The same of an image: its caller, too, may write any number.
    let absurd = SegmentOptions { gsd_m: Some(1e12), ..SegmentOptions::default() };
    let refused =
        tidegate_geo::segment(&image, &item, &absurd, &mut |tensor| Ok(tensor), &mut |_| {}).unwrap_err();
    assert!(refused.to_string().contains("check the ground resolution"), "{refused}");
}

/// A file of some hundred bytes that claims more tiles than there is memory to name them.
#[test]
fn a_header_that_claims_everything_is_refused() {
    let entry = |tag: u16, kind: u16, count: u32, value: u32| {
        let [tag, kind] = [tag, kind].map(u16::to_le_bytes);
        [&tag[..], &kind, &count.to_le_bytes(), &value.to_le_bytes()].concat()
    };
    let entries = [
        entry(256, 4, 1, u32::MAX),
        entry(257, 4, 1, u32::MAX),
        entry(258, 3, 1, 8),
        entry(259, 3, 1, 1),
        entry(262, 3, 1, 1),
        entry(277, 3, 1, 4000),
        entry(284, 3, 1, 2),
        entry(322, 4, 1, 1),
        entry(323, 4, 1, 1),
        entry(324, 4, 1, 8),
    ];
    let mut file = b"II\x2a\0\x08\0\0\0".to_vec();
    file.extend((entries.len() as u16).to_le_bytes());
    file.extend(entries.concat());
    file.extend([0; 4]);
    let error = TiffRaster::open(Arc::new(file)).err().unwrap().to_string();
    assert!(error.contains("tiles or strips"), "{error}");
}

/// A model that looks the same from all sides gives the same when it is turned.
#[test]
fn augmentation_averages_what_the_turns_give() {
    let image = scene(50, 60);
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.5));
    let masks = [false, true].map(|augment| {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::new(&raster, &item);
        run.options.segment.augment = augment;
        run.predict(folder.path(), Begin::Carefully).unwrap();
        read(&folder.path().join("prediction_probability.tif"))
    });
    let worst = masks[0].iter().zip(&masks[1]).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-6, "{worst}");
}

#[test]
fn inside_the_area_of_interest_the_result_is_that_of_the_scene() {
    let image = scene(80, 700);
    let (raster, item) = (MemoryRaster::of_image(&image), item_of_gsd(32, 0.7));
    let masks = [None, Some(())].map(|area| {
        let folder = tempfile::tempdir().unwrap();
        let mut run = Run::new(&raster, &item);
        run.area = area.map(|()| {
            AreaOfInterest::new(&[vec![
                (20.0, 100.0),
                (60.0, 100.0),
                (60.0, 400.0),
                (20.0, 400.0),
                (20.0, 100.0),
            ]])
        });
        let report = run.predict(folder.path(), Begin::Carefully).unwrap();
        (read(&folder.path().join("prediction_mask.tif")), report.n_tiles)
    });
    let [(whole, n_all), (inside, n_some)] = masks;
    assert!(n_some < n_all * 2 / 3, "{n_some} of {n_all} tiles");
    for at in 0..80 * 700 {
        let (x, y) = (at % 80, at / 80);
        let expected = if (20..60).contains(&x) && (100..400).contains(&y) { whole[at] } else { 255.0 };
        assert_eq!(inside[at], expected, "{x}, {y}");
    }
    let outside = AreaOfInterest::of_geojson(
        r#"{"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2], [1, 1]]]}"#,
        raster.info(),
    );
    assert!(outside.unwrap_err().to_string().contains("does not touch"));
}

/// Every kind of GeoTIFF that GDAL writes comes back as it went in.
#[test]
fn geotiffs_by_gdal_are_read_to_the_bit() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/make_rasters.py");
    let cases = json_of(Command::new(python).arg(script).arg(folder.path()));
    assert!(cases.as_array().unwrap().len() > 40);
    // Of all cases: what was in it before does not matter.
    let mut strip = Strip::default();
    for case in cases.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let path = |extension: &str| folder.path().join(format!("{name}.{extension}"));
        let open = || TiffRaster::open(Arc::new(FileSource::open(&path("tif")).unwrap()));
        let raster = open().unwrap_or_else(|error| panic!("{name}: {error}"));
        let n_bands = case["bands"].as_u64().unwrap() as usize;
        let info = raster.info();
        assert_eq!((info.width, info.height, info.n_bands), (270, 333, n_bands), "{name}");
        assert_eq!(info.sample_type, case["dtype"].as_str().unwrap(), "{name}");
        assert_eq!(info.georeference.epsg, Some(32_645), "{name}");
        assert_eq!(
            info.band_names[n_bands - 1].as_deref(),
            Some(&*format!("band {}", n_bands - 1)),
            "{name}"
        );
        let (x, y) = info.georeference.transform.unwrap().apply(10.0, 20.0);
        let expected = if name == "rotated" { (354_010.0, 3_056_995.0) } else { (354_005.0, 3_056_990.0) };
        assert!((x - expected.0).abs() < 1e-6 && (y - expected.1).abs() < 1e-6, "{name}: {x}, {y}");

        let samples = std::fs::read(path("samples")).unwrap();
        let samples = samples.chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().unwrap()));
        let samples = samples.collect::<Vec<_>>();
        let valid = std::fs::read(path("valid")).unwrap();
        let tolerance = case["tolerance"].as_f64().unwrap() as f32;
        let bands = (0..n_bands).rev().collect::<Vec<_>>();
        let mut n_rows = 0;
        for number in 0..raster.n_strips() {
            let read = raster.read_into(number, &bands, &mut strip);
            read.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(strip.top, n_rows, "{name}");
            n_rows += strip.n_rows;
            for (band, plane) in bands.iter().zip(&strip.planes) {
                for at in 0..strip.n_rows * 270 {
                    let expected = samples[(band * 333 + strip.top) * 270 + at] as f32;
                    let actual = plane.at(at);
                    assert!(
                        (actual - expected).abs() <= tolerance,
                        "{name}, band {band}: {actual} for {expected} at {at}"
                    );
                }
            }
            let expected = &valid[strip.top * 270..][..strip.n_rows * 270];
            match &strip.valid {
                Some(valid) => assert!(valid == expected, "{name}: validity of the rows from {}", strip.top),
                None => assert!(expected.iter().all(|valid| *valid == 255), "{name}"),
            }
        }
        assert_eq!(n_rows, 333, "{name}");

        let bytes = std::fs::read(path("tif")).unwrap();
        for share in [3, 5, 7] {
            let cut = bytes[..bytes.len() * share / 8].to_vec();
            let all = TiffRaster::open(Arc::new(cut)).and_then(|raster| {
                (0..raster.n_strips()).try_for_each(|strip| raster.read_strip(strip, &bands).map(drop))
            });
            // GDAL puts overviews and masks last, and a file may end with one that nobody needs.
            assert!(
                all.is_err() || ["overviews", "mask", "sparse"].contains(&name),
                "{name} cut to {share}/8"
            );
        }
    }
}

/// GDAL, GEOS and the COG validator agree with what we write; and it says where it is.
#[test]
fn outputs_are_what_other_readers_expect() {
    let Some(python) = python() else { return };
    let Some(schemas) = test_data("stac-schemas") else { return };
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name);
    let made = Command::new(&python).arg(script("make_rasters.py")).arg(folder.path()).output().unwrap();
    assert!(made.status.success());
    for (name, gsd_m) in [("mask", 0.5), ("nodata16", 0.8), ("alpha", 0.31), ("rotated", 0.5)] {
        let path = folder.path().join(format!("{name}.tif"));
        let raster = TiffRaster::open(Arc::new(FileSource::open(&path).unwrap())).unwrap();
        let mut json = item_json(32);
        json["properties"]["gsd"] = json!(gsd_m);
        if raster.info().sample_type == "uint16" {
            json["properties"]["mlm:input"][0]["value_scaling"] = json!([{"type": "scale", "value": 65_535}]);
        }
        let item = ModelItem::parse(&json).unwrap();
        let run = Run::new(&raster, &item);
        let out = folder.path().join(format!("{name}-out"));
        let mut report = run.predict(&out, Begin::Carefully).unwrap();
        let provenance = SceneProvenance {
            scene: format!("{name}.tif"),
            scene_sha256: None,
            artifact_sha256: Sha256Digest::of(b"model"),
            runtime: ("a runtime".to_owned(), "1.0".to_owned()),
            created_at: Timestamp::UNIX_EPOCH,
        };
        report.files.push(write_item(&out, raster.info(), &item, &report, &provenance).unwrap());
        let checked =
            json_of(Command::new(&python).arg(script("check_outputs.py")).args([&out, &path, &schemas]));
        assert_eq!(checked["fgb"]["polygons"], report.n_polygons, "{name}");
        assert_eq!(checked["foreground"].as_f64(), Some(report.class_pixels[1] as f64), "{name}");
        // Pixels of a quarter of a square metre in UTM.
        let area = checked["geojson"]["area_m2"].as_f64().unwrap();
        assert!((area - report.class_pixels[1] as f64 / 4.0).abs() < 1.0, "{name}: {area}");
    }
}

fn json_of(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}
