"""Drives a pixel classifier the way ArcGIS does, and writes down what it gave. Run by `tidegate package verify`.

Usage: harness.py JOB.json. The job names the unpacked package, an image, and runs: each is a whole conversation with a new
object. Answers with one line of JSON on standard output; the pixels of run N go to classes-N.bin as unsigned 16-bit numbers.
"""

import importlib.util
import json
import os
import platform
import sys
import traceback

job = json.load(open(sys.argv[1], encoding="utf-8"))


def main():
    try:
        import numpy
    except ImportError:
        return {"missing": "numpy"}
    for module in job["requires"]:
        if importlib.util.find_spec(module) is None:
            return {"missing": module}
    before = listing(job["folder"])
    versions = {"Python": platform.python_version(), "numpy": numpy.__version__}
    runs = [converse(numpy, index, run) for index, run in enumerate(job["runs"])]
    for module in job["requires"]:
        versions[module] = getattr(sys.modules.get(module), "__version__", "?")
    return {"versions": versions, "runs": runs, "written": sorted(listing(job["folder"]) - before)}


def listing(folder):
    """Files below the folder. Python's own cache is not the function's doing."""
    found = set()
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found.update(os.path.relpath(os.path.join(root, name), folder) for name in files)
    return found


def converse(np, index, run):
    emd_path = os.path.join(job["folder"], job["emd"])
    definition = json.load(open(emd_path, encoding="utf-8"))
    path = os.path.join(job["folder"], definition["InferenceFunction"])
    name = os.path.splitext(os.path.basename(path))[0]
    # By path and not by search, as ArcGIS does; its name is the module's and the class's.
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    check(hasattr(module, name), "{} has no class {}: ArcGIS looks for the file's name".format(path, name))
    function = getattr(module, name)()
    for attribute in ("name", "description"):
        check(isinstance(getattr(function, attribute, None), str), "the class sets no `{}`".format(attribute))

    model = open(emd_path, encoding="utf-8").read() if run.get("modelAsText") else emd_path
    function.initialize(model=model, device=-1)
    scalars = parameters(function)
    scalars.update(run.get("parameters", {}))
    configuration = function.getConfiguration(**scalars)
    for key in ("extractBands", "tx", "ty"):
        check(key in configuration, "getConfiguration gives no `{}`".format(key))
    check(configuration.get("inputMask") is True, "getConfiguration does not ask for the mask")

    pixels = np.fromfile(job["pixels"], dtype=np.uint8).reshape(job["shape"]).transpose(2, 0, 1)
    valid = np.fromfile(job["valid"], dtype=np.uint8).reshape(job["shape"][:2])
    pixels = pixels[list(configuration["extractBands"])]
    props = raster_properties(np, function, scalars, pixels)
    rows, columns = run.get("block") or (configuration["ty"], configuration["tx"])
    limit = run.get("maxBlocks") or sys.maxsize
    classes, blocks = classify(np, function, props, pixels, valid, configuration, (rows, columns), limit)
    classes.astype("<u2").tofile(os.path.join(job["output"], "classes-{}.bin".format(index)))
    return {
        "padding": configuration.get("padding", 0),
        "rows": rows,
        "columns": columns,
        "blocks": blocks,
        "parameters": {key: value for key, value in scalars.items() if key not in ("raster", "model")},
        "pixelType": props["pixelType"],
    }


def parameters(function):
    """The tool's form, with its defaults."""
    described = function.getParameterInfo()
    names = [parameter["name"] for parameter in described]
    check(names[:2] == ["raster", "model"], "getParameterInfo begins with {}, ArcGIS wants raster, model".format(names[:2]))
    for parameter in described:
        for key in ("name", "dataType", "required", "displayName", "description"):
            check(key in parameter, "parameter `{}` has no `{}`".format(parameter.get("name"), key))
        allowed = ("numeric", "string", "raster", "rasters", "boolean")
        check(parameter["dataType"] in allowed, "parameter `{}` is {}".format(parameter["name"], parameter["dataType"]))
    # Forms hand over text.
    return {parameter["name"]: str(parameter["value"]) for parameter in described[2:] if parameter.get("value") is not None}


def raster_properties(np, function, scalars, pixels):
    bands, height, width = pixels.shape
    info = {
        "bandCount": bands,
        "pixelType": "u1",
        "noData": np.zeros(bands, dtype="u1"),
        "cellSize": (1.0, 1.0),
        "extent": (0.0, 0.0, float(width), float(height)),
        "spatialReference": 3857,
        "statistics": (),
        "histogram": (),
    }
    updated = function.updateRasterInfo(raster_info=dict(info), output_info=dict(info), **scalars)
    output = updated["output_info"]
    check(output["bandCount"] == 1, "updateRasterInfo gives {} bands, a classification is one".format(output["bandCount"]))
    check(output["pixelType"] in ("u1", "u2"), "updateRasterInfo gives pixel type {}".format(output["pixelType"]))
    table = json.loads(output["rasterAttributeTable"])
    check(len(table["features"]) > 1, "the attribute table names no classes")
    return dict(info, pixelType=output["pixelType"], width=width, height=height, bandCount=1)


def classify(np, function, props, pixels, valid, configuration, size, limit):
    bands, height, width = pixels.shape
    (rows, columns), padding = size, configuration.get("padding", 0)
    fixed = configuration.get("fixedTileSize") == 1
    result = np.zeros((height, width), dtype=np.uint16)
    blocks = 0
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            if blocks == limit:
                return result, blocks
            blocks += 1
            block_rows = rows if fixed else min(rows, height - top)
            block_columns = columns if fixed else min(columns, width - left)
            shape = (block_rows + 2 * padding, block_columns + 2 * padding)
            # Beyond the raster and under the mask lies whatever was in memory.
            block = np.full((bands,) + shape, 173, dtype=pixels.dtype)
            mask = np.zeros((bands,) + shape, dtype="u1")
            y0, x0 = max(top - padding, 0), max(left - padding, 0)
            y1, x1 = min(top + block_rows + padding, height), min(left + block_columns + padding, width)
            into = (slice(None), slice(y0 - top + padding, y1 - top + padding), slice(x0 - left + padding, x1 - left + padding))
            inside = valid[y0:y1, x0:x1] != 0
            block[into] = np.where(inside, pixels[:, y0:y1, x0:x1], 173)
            mask[into] = inside
            answer = function.updatePixels(
                (float(left), float(top)), (1, block_rows, block_columns), dict(props), raster_pixels=block, raster_mask=mask
            )
            found = check_answer(np, answer, props, (block_rows, block_columns))
            visible = mask[0, padding : padding + block_rows, padding : padding + block_columns]
            check(np.array_equal(answer["output_mask"].reshape(visible.shape), visible), "output_mask is not the mask of the imagery")
            part = result[top : top + rows, left : left + columns]
            part[...] = found[: part.shape[0], : part.shape[1]]
    return result, blocks


def check_answer(np, answer, props, shape):
    found = answer["output_pixels"]
    check(isinstance(found, np.ndarray), "output_pixels is no array")
    check(found.shape[-2:] == shape, "output_pixels is {}, ArcGIS asked for {}".format(found.shape, shape))
    check(found.dtype == np.dtype(props["pixelType"]), "output_pixels is {}, said was {}".format(found.dtype, props["pixelType"]))
    return found.reshape(shape)


class Wrong(Exception):
    """The function does not do what ArcGIS expects."""


def check(holds, what):
    if not holds:
        raise Wrong(what)


try:
    answer = main()
except Wrong as error:
    answer = {"wrong": str(error)}
except Exception as error:  # noqa: BLE001 - whatever the function raises is the finding
    answer = {"wrong": "{}: {}".format(type(error).__name__, error), "traceback": traceback.format_exc()}
print(json.dumps(answer))
