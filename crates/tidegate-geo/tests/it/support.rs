//! What several test modules share: a minimal item, synthetic images, and models that are a function of one pixel.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tidegate_core::Tensor;
use tidegate_geo::{Image, ModelItem, RunFault, SegmentOptions, Segmentation, segment};

/// A valid item of an RGB model with `side` pixels of input and one output channel.
pub fn item_json(side: usize) -> Value {
    json!({
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": ["https://stac-extensions.github.io/mlm/v1.5.1/schema.json"],
        "id": "detector-1.0.0",
        "properties": {
            "datetime": "2026-01-01T00:00:00Z",
            "version": "1.0.0",
            "bands": [{"name": "red"}, {"name": "green"}, {"name": "blue"}],
            "mlm:name": "detector",
            "mlm:architecture": "U-Net",
            "mlm:tasks": ["semantic-segmentation"],
            "mlm:input": [{
                "name": "RGB",
                "bands": ["red", "green", "blue"],
                "input": {
                    "shape": [-1, 3, side, side],
                    "dim_order": ["batch", "bands", "height", "width"],
                    "data_type": "float32",
                },
                "value_scaling": [{"type": "scale", "value": 255}],
            }],
            "mlm:output": [{
                "name": "probability",
                "tasks": ["semantic-segmentation"],
                "result": {
                    "shape": [-1, 1, side, side],
                    "dim_order": ["batch", "channel", "height", "width"],
                    "data_type": "float32",
                },
                "classification:classes": [{"value": 0, "name": "background"}, {"value": 1, "name": "shelter"}],
                "post_processing_function": null,
            }],
        },
        "links": [],
        "assets": {
            "onnx": {"href": "./model.onnx", "roles": ["mlm:model"], "mlm:artifact_type": "onnx"},
        },
    })
}

pub fn item(side: usize) -> ModelItem {
    ModelItem::parse(&item_json(side)).unwrap()
}

/// An RGB image without a seam, a flat area or a symmetry.
pub fn image(width: usize, height: usize) -> Image {
    let pixel = |at: usize| {
        let (x, y) = (at % width, at / width);
        let wave =
            |scale: f64| (127.5 + 127.5 * ((x as f64 / scale).sin() * (y as f64 / 7.0 + scale).cos())) as u8;
        [wave(5.0), wave(11.0), ((x * 7 + y * 13) % 256) as u8]
    };
    let pixels = (0..width * height).flat_map(pixel).collect();
    Image { width, height, n_bands: 3, pixels, valid: None, geo: None }
}

/// A model whose channels are functions of one pixel's three scaled values; its answer cannot depend on the tiling.
pub fn pixel_model(tensor: &Tensor, channels: &[fn([f32; 3]) -> f32]) -> Tensor {
    let [n_batch, n_bands, height, width] = *tensor.shape() else { panic!("{:?}", tensor.shape()) };
    assert_eq!(n_bands, 3);
    let values = tensor.values::<f32>().unwrap();
    let size = height * width;
    let mut output = Vec::with_capacity(n_batch * channels.len() * size);
    for tile in values.chunks_exact(3 * size) {
        for channel in channels {
            output.extend((0..size).map(|at| channel([tile[at], tile[at + size], tile[at + 2 * size]])));
        }
    }
    Tensor::from_vec(vec![n_batch, channels.len(), height, width], output).unwrap()
}

/// What [`pixel_model`] gives for whole images in these tests: bright and reddish.
pub fn reddish([red, green, _]: [f32; 3]) -> f32 {
    (0.7 * red + 0.3 * (1.0 - green)).clamp(0.0, 1.0)
}

pub fn segment_by_pixel(image: &Image, item: &ModelItem, options: &SegmentOptions) -> Segmentation {
    let mut run = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, &[reddish]));
    segment(image, item, options, &mut run, &mut |_| {}).unwrap()
}

/// The item with `value` at `pointer`; a pointer that ends in a new key adds it.
pub fn changed(mut json: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = json.pointer_mut(parent).unwrap_or_else(|| panic!("no parent of {pointer}"));
    match parent {
        Value::Array(values) => values[key.parse::<usize>().unwrap()] = value,
        parent => parent[key.replace("~1", "/")] = value,
    }
    json
}

/// `path` in the test data, or `None` after saying so.
pub fn test_data(path: &str) -> Option<PathBuf> {
    let root = setting("TIDEGATE_TEST_DATA").map(PathBuf::from);
    let path = root.unwrap_or_else(|| repository().join("../shared/data")).join(path);
    found(path, "set TIDEGATE_TEST_DATA")
}

/// The Python of the tests (`scripts/install-python-tools.sh`), or `None` after saying so.
pub fn python() -> Option<PathBuf> {
    found(repository().join(".tools/python/bin/python"), "run scripts/install-python-tools.sh")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[expect(clippy::disallowed_methods, reason = "only the environment knows where the test data is")]
fn setting(name: &str) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

fn found(path: PathBuf, fix: &str) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(setting("CI").is_none_or(|ci| ci != "true"), "{} is not there; on CI it must be", path.display());
    println!("skipped: {} is not there ({fix})", path.display());
    None
}
