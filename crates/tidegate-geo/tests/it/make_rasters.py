"""Writes GeoTIFFs of every kind that GDAL knows and we read, each with its samples as plain bytes beside it.

Usage: make_rasters.py FOLDER. Prints one JSON list: what each file is, and how near its samples must come.
"""

import json
import sys
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import Affine

folder = Path(sys.argv[1])
HEIGHT, WIDTH = 333, 270
north_up = Affine(0.5, 0, 354000, 0, -0.5, 3057000)
y, x = np.mgrid[0:HEIGHT, 0:WIDTH]


def samples(dtype, bands):
    waves = [np.sin(x / (9 + 4 * band)) * np.cos(y / (7 + 3 * band)) for band in range(bands)]
    stack = np.stack(waves)
    if np.issubdtype(dtype, np.floating):
        return (stack * 1000).astype(dtype)
    info = np.iinfo(dtype)
    span = min(float(info.max) - float(info.min), 60000.0)
    low = max(float(info.min), -30000.0) if info.min < 0 else 0.0
    return (low + (stack + 1) / 2 * span).astype(dtype)


cases = []


def write(name, dtype, bands=3, tolerance=0, transform=north_up, crs="EPSG:32645", mask=None, alpha=False, **profile):
    data = samples(np.dtype(dtype), bands)
    path = folder / f"{name}.tif"
    valid = np.ones((HEIGHT, WIDTH), bool)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(
            path, "w", driver="GTiff", width=WIDTH, height=HEIGHT, count=bands + alpha, dtype=dtype, transform=transform, crs=crs, **profile
        ) as target:
            if profile.get("nodata") is not None:
                valid[40:90, 20:200] = False
                data[:, ~valid] = profile["nodata"]
                if not np.issubdtype(np.dtype(dtype), np.floating):
                    valid = ~(data == profile["nodata"]).all(axis=0)
            target.write(data, indexes=list(range(1, bands + 1)))
            if mask or alpha:
                valid[100:180, 30:111] = False
            if mask:
                target.write_mask((valid * 255).astype("uint8"))
            if alpha:
                target.write((valid * (255 if dtype == "uint8" else 65535)).astype(dtype), bands + 1)
                target.colorinterp = [*target.colorinterp[:-1], rasterio.enums.ColorInterp.alpha]
            target.descriptions = [f"band {band}" for band in range(bands)] + (["alpha"] if alpha else [])
            if name == "overviews":
                target.build_overviews([2, 4])
    if np.issubdtype(np.dtype(dtype), np.floating):
        data = np.where(valid & np.isfinite(data).all(axis=0), data, 0)
    (folder / f"{name}.samples").write_bytes(data.astype("<f8").tobytes())
    (folder / f"{name}.valid").write_bytes((valid * 255).astype("uint8").tobytes())
    cases.append({"name": name, "bands": bands, "width": WIDTH, "height": HEIGHT, "tolerance": tolerance, "dtype": dtype})


tiled = {"tiled": True, "blockxsize": 64, "blockysize": 96}
for compression in ["none", "deflate", "lzw", "zstd", "packbits"]:
    write(f"{compression}-strips", "uint8", compress=compression)
    write(f"{compression}-tiles", "uint8", compress=compression, **tiled)
for dtype in ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]:
    write(f"{dtype}-predictor2", dtype, compress="deflate", predictor=2 if dtype not in ("float32", "float64") else 3, **tiled)
    write(f"{dtype}-big-endian", dtype, compress="lzw", predictor=2 if dtype not in ("float32", "float64") else 3, endianness="big")
    write(f"{dtype}-planar", dtype, bands=5, interleave="band", compress="zstd", **tiled)
write("one-strip", "uint16", blockysize=HEIGHT)
write("one-strip-deflate", "uint16", blockysize=HEIGHT, compress="deflate")
write("big-tiff", "uint8", bands=7, BIGTIFF="YES", compress="deflate", **tiled)
write("ycbcr", "uint8", compress="jpeg", photometric="ycbcr", tolerance=40, **{**tiled, "blockysize": 64})
write("jpeg-grey", "uint8", bands=1, compress="jpeg", tolerance=40, **{**tiled, "blockysize": 64})
write("jpeg-rgb", "uint8", compress="jpeg", photometric="rgb", tolerance=40, **{**tiled, "blockysize": 64})
write("webp", "uint8", compress="webp", WEBP_LOSSLESS=True, **{**tiled, "blockysize": 64})
write("alpha", "uint8", alpha=True, compress="deflate", predictor=2, **tiled)
write("alpha16", "uint16", alpha=True, compress="deflate", **tiled)
write("mask", "uint8", mask=True, compress="jpeg", photometric="ycbcr", tolerance=40, **{**tiled, "blockysize": 64})
write("nodata", "uint8", nodata=0, compress="deflate")
write("nodata16", "uint16", nodata=65535, compress="deflate", **tiled)
write("nodata-float", "float32", nodata=-9999.0, compress="deflate", predictor=3)
write("nan", "float32", nodata=float("nan"), compress="deflate", **tiled)
write("overviews", "uint8", compress="deflate", **tiled)
write("sparse", "uint8", SPARSE_OK=True, compress="deflate", **tiled)
rotated = Affine(0.4, 0.3, 354000, 0.3, -0.4, 3057000)
write("rotated", "uint8", transform=rotated)
print(json.dumps(cases))
