"""Draws the sample files: a georeferenced scene with its truth, one tile, and the preview of the README.

    python3 make_samples.py

Needs numpy, Pillow, onnxruntime and rasterio (for the GeoTIFF). Reads `refugee-camp-detector.onnx`; writes
`sample-scene.tif`, `sample-scene-mask.png`, `sample-tile.png`, `preview.png` and `sample.json`. The scene is from a
seed that is in neither the training nor the test set. Its coordinates are made up: no camp stands there.
"""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import rasterio
from PIL import Image
from rasterio.transform import from_origin
from rasterio.warp import transform_bounds

from scenes import GSD_M, make_scene

HERE = Path(__file__).parent
SEED, HEIGHT_PX, WIDTH_PX = 2_000_015, 768, 1024
CRS, WEST_M, NORTH_M = "EPSG:32636", 722_400.0, 332_200.0  # UTM zone 36 north, upper left corner
TILE_PX, THRESHOLD = 256, 0.5
TILE_TOP_PX, TILE_LEFT_PX = 256, 512
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STDDEV = np.array([58.395, 57.12, 57.375], np.float32)


def main():
    image, truth = make_scene(SEED, HEIGHT_PX, WIDTH_PX)
    probability = predict(image)
    found = probability > THRESHOLD
    iou = float((found & (truth == 1)).sum() / max(1, (found | (truth == 1)).sum()))
    print(f"IoU {iou:.4f} on the sample scene, {100 * truth.mean():.1f} % of it shelters")

    bounds = write_geotiff(image, HERE / "sample-scene.tif")
    facts = {"seed": SEED, "iou": round(iou, 4), "bbox": [round(value, 6) for value in bounds]}
    (HERE / "sample.json").write_text(json.dumps(facts, indent=2) + "\n")

    mask = Image.fromarray(truth, "L")
    mask.putpalette([0, 0, 0, 255, 255, 255])  # pixels stay 0 and 1; viewers show black and white
    mask.save(HERE / "sample-scene-mask.png", bits=1, optimize=True)
    tile = slice(TILE_TOP_PX, TILE_TOP_PX + TILE_PX), slice(TILE_LEFT_PX, TILE_LEFT_PX + TILE_PX)
    Image.fromarray(image[tile]).save(HERE / "sample-tile.png", optimize=True)
    crop = slice(128, 128 + 448), slice(256, 256 + 512)
    pair = np.hstack([image[crop], np.full((448, 8, 3), 255, np.uint8), overlay(image[crop], found[crop])])
    Image.fromarray(pair).quantize(256, Image.Quantize.MAXCOVERAGE).save(HERE / "preview.png", optimize=True)


def predict(image):
    """Probabilities [H, W] from tiles without overlap; good enough for a score, blend overlaps for a map."""
    session = onnxruntime.InferenceSession(HERE / "refugee-camp-detector.onnx", providers=["CPUExecutionProvider"])
    result = np.zeros(image.shape[:2], np.float32)
    for top in range(0, image.shape[0], TILE_PX):
        for left in range(0, image.shape[1], TILE_PX):
            window = slice(top, top + TILE_PX), slice(left, left + TILE_PX)
            tile = ((image[window] - MEAN) / STDDEV).transpose(2, 0, 1)[None]
            result[window] = session.run(["output"], {"input": tile})[0][0, 0]
    return result


def write_geotiff(image, path):
    """Writes tiled, deflated RGB and returns its (west, south, east, north) in degrees."""
    profile = {
        "driver": "GTiff", "height": image.shape[0], "width": image.shape[1], "count": 3, "dtype": "uint8",
        "crs": CRS, "transform": from_origin(WEST_M, NORTH_M, GSD_M, GSD_M), "photometric": "RGB",
        "tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "predictor": 2, "zlevel": 9,
    }
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(image.transpose(2, 0, 1))
        return transform_bounds(dataset.crs, "EPSG:4326", *dataset.bounds)


def overlay(image, found):
    """The image with found shelters tinted red and outlined."""
    inner = found.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            inner &= np.roll(found, shift, axis)
    tinted = image.astype(np.float32)
    tinted[found] = 0.6 * tinted[found] + 0.4 * np.array([255, 30, 30])
    tinted[found & ~inner] = [225, 20, 20]
    return tinted.astype(np.uint8)


if __name__ == "__main__":
    main()
