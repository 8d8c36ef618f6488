"""Looks at the files of a predicted scene with other people's readers. Usage: check_outputs.py FOLDER SCENE.tif [SCHEMAS]

Prints one JSON object; an assertion that fails says what is wrong.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pyogrio
import rasterio
import rasterio.features
import rasterio.warp
import shapely
from rio_cogeo.cogeo import cog_validate

folder, scene_path = Path(sys.argv[1]), sys.argv[2]
report = {}

with rasterio.open(scene_path) as scene:
    expected = (scene.width, scene.height, scene.crs, scene.transform)

for name, nodata in [("prediction_mask.tif", 255), ("prediction_probability.tif", None)]:
    path = folder / name
    if not path.exists():
        continue
    _, errors, warnings = cog_validate(path, strict=True, quiet=True)
    # It takes an overview that is just as wide as a tile for one in strips.
    errors = [error for error in errors if not (error.endswith("is not tiled") and expected[0] % 512 == 0)]
    assert not errors, (name, errors)
    report[name] = warnings
    with rasterio.open(path) as raster:
        assert (raster.width, raster.height) == expected[:2], name
        assert raster.crs == expected[2], (name, raster.crs, expected[2])
        # A hundredth of a pixel, anywhere in the scene.
        for corner in [(0, 0), (raster.width, 0), (0, raster.height), (raster.width, raster.height)]:
            column, row = ~raster.transform * (expected[3] * corner)
            assert abs(column - corner[0]) < 0.01 and abs(row - corner[1]) < 0.01, (name, corner)
        assert raster.nodata == nodata if nodata else np.isnan(raster.nodata), (name, raster.nodata)
        if max(raster.width, raster.height) > 512:
            assert raster.overviews(1), name
            half = raster.read(1, out_shape=(raster.height // 2, raster.width // 2))
            full = raster.read(1)[::2, ::2][: half.shape[0], : half.shape[1]]
            if name == "prediction_mask.tif":
                assert (half != full).mean() < 0.2, name

with rasterio.open(folder / "prediction_mask.tif") as raster:
    mask, transform, crs = raster.read(1), raster.transform, raster.crs
shapes = rasterio.features.shapes(mask, mask=(mask > 0) & (mask < 255), connectivity=4, transform=transform)
# GDAL lets a ring touch itself, which OGC does not.
by_gdal = shapely.make_valid(np.array([shapely.geometry.shape(shape) for shape, _ in shapes]))


def in_order(polygons):
    keys = [tuple(np.round((*shapely.bounds(polygon), shapely.area(polygon)), 5)) for polygon in polygons]
    return np.array(polygons)[sorted(range(len(keys)), key=keys.__getitem__)]


for name, in_scene_crs in [("fgb", True), ("gpkg", True), ("geojson", False), ("parquet", False)]:
    path = folder / f"prediction_polygons.{name}"
    if not path.exists():
        continue
    if name == "parquet":
        table = pyarrow.parquet.read_table(path)
        meta = json.loads(table.schema.metadata[b"geo"])
        assert meta["columns"]["geometry"]["encoding"] == "WKB", meta
        geometries = shapely.from_wkb(table["geometry"].to_numpy(zero_copy_only=False))
        fields = {column: table[column].to_numpy() for column in ["class", "area_m2", "mean_probability"]}
    else:
        meta, _, geometry, columns = pyogrio.raw.read(path)
        geometries = shapely.from_wkb(geometry)
        fields = dict(zip(meta["fields"], columns))
        wanted = crs if in_scene_crs else rasterio.crs.CRS.from_epsg(4326)
        assert rasterio.crs.CRS.from_user_input(meta["crs"]) == wanted, (name, meta["crs"])
    assert shapely.is_valid(geometries).all(), (name, shapely.is_valid_reason(geometries))
    assert len(geometries) == len(by_gdal), (name, len(geometries), len(by_gdal))
    if in_scene_crs:
        # On a rotated grid corners differ by the last bit.
        differences = shapely.symmetric_difference(in_order(geometries), in_order(by_gdal), grid_size=1e-6)
        assert (shapely.area(differences) < 1e-6).all(), f"{name}: not the polygons that GDAL finds"
    else:
        # There and back by PROJ: a hundredth of a pixel.
        points = shapely.get_coordinates(geometries)
        xs, ys = rasterio.warp.transform("EPSG:4326", crs, points[:, 0], points[:, 1])
        columns_rows = np.array([~transform * point for point in zip(xs, ys)])
        assert np.abs(columns_rows - np.round(columns_rows)).max() < 0.01, name
    assert (fields["mean_probability"] > 0).all() and (fields["mean_probability"] <= 1).all(), name
    report[name] = {"polygons": len(geometries), "area_m2": float(np.sum(fields["area_m2"]))}

item = json.loads((folder / "prediction_item.json").read_text())
for asset in item["assets"].values():
    content = (folder / asset["href"]).read_bytes()
    assert asset["file:size"] == len(content), asset
    assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest(), asset
if len(sys.argv) > 3:
    import jsonschema

    for schema in ["ext-processing-1.1.0.json", "ext-file-2.1.0.json", "ext-classification-1.1.0.json"]:
        jsonschema.validate(item, json.loads((Path(sys.argv[3]) / schema).read_text()))
west, south, east, north = item["bbox"]
box = rasterio.warp.transform_bounds(crs, "EPSG:4326", *rasterio.transform.array_bounds(*mask.shape, transform))
assert np.allclose([west, south, east, north], box, atol=1e-5), (item["bbox"], box)
report["foreground"] = float((mask == 1).sum())
report["nodata"] = float((mask == 255).sum())
print(json.dumps(report))
