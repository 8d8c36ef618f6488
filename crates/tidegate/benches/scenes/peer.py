"""The peer of `tidegate predict SCENE`: rasterio, ONNX Runtime and numpy, written the way that a careful person writes it.

Reads strips by windows at the model's resolution, runs overlapping tiles on as many single-threaded sessions as there are
threads, blends them with the same weights, brings them back to the scene's resolution, and writes a cloud-optimised mask and
GeoJSON polygons. Prints the seconds of each step as JSON: wall time of the inference, CPU time of what follows it.

Usage: peer.py SCENE.tif MODEL.onnx FOLDER --scale S --threads N [--overlap PIXELS]
"""

import argparse
import json
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import rasterio
import rasterio.features
import rasterio.warp
from rasterio.enums import Resampling
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_translate
from rio_cogeo.profiles import cog_profiles

parser = argparse.ArgumentParser()
parser.add_argument("scene")
parser.add_argument("model")
parser.add_argument("folder", type=Path)
parser.add_argument("--scale", type=float, required=True)
parser.add_argument("--threads", type=int, required=True)
parser.add_argument("--overlap", type=int, default=32)
parser.add_argument("--threshold", type=float, default=0.5)
args = parser.parse_args()
args.folder.mkdir(parents=True, exist_ok=True)

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
sessions = queue.SimpleQueue()
for _ in range(args.threads):
    sessions.put(onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"]))
runtime_seconds = []


def run(tile):
    session = sessions.get()
    started = time.perf_counter()
    try:
        return session.run(None, {"input": tile[None]})[0][0, 0]
    finally:
        runtime_seconds.append(time.perf_counter() - started)
        sessions.put(session)


def starts(length, tile, overlap):
    slack = max(length - tile, 0)
    steps = -(-slack // max(tile - overlap, 1))
    return [index * slack // steps for index in range(steps + 1)] if steps else [0]


def weights(length, tile, overlap, positions):
    span = min(tile, length)
    rise = np.clip((np.arange(span) + 0.5) / max(overlap, 1), 0, 1)
    rise = rise * rise * (3 - 2 * rise)
    raw = []
    for start in positions:
        weight = np.ones(span)
        if start > 0:
            weight = np.minimum(weight, rise)
        if start + span < length:
            weight = np.minimum(weight, rise[::-1])
        raw.append(weight)
    total = np.zeros(length)
    for start, weight in zip(positions, raw):
        total[start : start + span] += weight
    return [(weight / total[start : start + span]).astype("float32") for start, weight in zip(positions, raw)]


TILE = 256
started = time.perf_counter()
with rasterio.open(args.scene) as scene, ThreadPoolExecutor(args.threads) as pool:
    width, height = scene.width, scene.height
    work_width, work_height = round(width * args.scale), round(height * args.scale)
    columns, rows = starts(work_width, TILE, args.overlap), starts(work_height, TILE, args.overlap)
    column_weights = weights(work_width, TILE, args.overlap, columns)
    row_weights = weights(work_height, TILE, args.overlap, rows)
    profile = {
        "driver": "GTiff", "width": width, "height": height, "count": 1, "dtype": "uint8", "crs": scene.crs,
        "transform": scene.transform, "nodata": 255, "tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate",
    }
    with rasterio.open(args.folder / "raw.tif", "w", **profile) as target:
        sums = np.zeros((TILE, work_width), "float32")
        done = 0
        for index, top in enumerate(rows):
            y0, y1 = top * height / work_height, min((top + TILE) * height / work_height, height)
            strip = scene.read(
                [1, 2, 3], window=Window(0, y0, width, y1 - y0), out_shape=(3, TILE, work_width), resampling=Resampling.bilinear
            )
            strip = strip.astype("float32") / 255
            outputs = pool.map(run, [np.ascontiguousarray(strip[:, :, left : left + TILE]) for left in columns])
            for left, weight, output in zip(columns, column_weights, outputs):
                sums[:, left : left + TILE] += output * weight * row_weights[index][:, None]
            next_top = rows[index + 1] if index + 1 < len(rows) else work_height
            complete = next_top - top
            # To the scene's rows that end here, without a seam: rows are interpolated where they are complete.
            first, last = round(top * height / work_height), round(next_top * height / work_height)
            block = np.empty((last - first, width), "float32")
            rasterio.warp.reproject(
                sums[:complete], block, src_transform=rasterio.Affine.scale(width / work_width, (last - first) / complete),
                dst_transform=rasterio.Affine.identity(), src_crs="EPSG:3857", dst_crs="EPSG:3857", resampling=Resampling.bilinear,
            )
            target.write((block >= args.threshold).astype("uint8"), 1, window=Window(0, first, width, last - first))
            sums[: TILE - complete] = sums[complete:].copy()
            sums[TILE - complete :] = 0
    inference = time.perf_counter() - started

started = time.process_time()
cog_translate(args.folder / "raw.tif", args.folder / "mask.tif", cog_profiles.get("deflate"), quiet=True, overview_resampling="mode")
cog = time.process_time() - started

started = time.process_time()
with rasterio.open(args.folder / "raw.tif") as mask:
    band = mask.read(1)
    shapes = rasterio.features.shapes(band, mask=band == 1, transform=mask.transform)
    n_polygons = 0
    with open(args.folder / "polygons.geojson", "w") as target:
        target.write('{"type":"FeatureCollection","features":[')
        for shape, value in shapes:
            geometry = rasterio.warp.transform_geom(mask.crs, "EPSG:4326", shape)
            target.write(",\n" if n_polygons else "\n")
            json.dump({"type": "Feature", "properties": {"class": int(value)}, "geometry": geometry}, target)
            n_polygons += 1
        target.write("]}")
polygons = time.process_time() - started
print(json.dumps({
    "inference_seconds": inference, "cog_seconds": cog, "polygon_seconds": polygons, "polygons": n_polygons,
    "tiles": len(runtime_seconds), "runtime_seconds": sum(runtime_seconds),
}))
