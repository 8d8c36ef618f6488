"""Writes `stac_item.json`, the STAC-MLM description of the detector, from what was trained and measured.

    python3 make_item.py                          # write
    python3 make_item.py --schemas DIR            # write, then validate (needs jsonschema and referencing)

Reads `training.json`, `sample.json` and the files of the model. DIR holds the schemas of the STAC extensions as
`mlm-1.5.1.json`, `ext-file-2.1.0.json` and so on. Nothing is fetched. Needs only the standard library to write.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

HERE = Path(__file__).parent
NAME, VERSION = "refugee-camp-detector", "1.0.0"
# (mean, standard deviation) per band in pixel units, 0..255. `model.py` has the same numbers.
SCALING = {"red": (123.675, 58.395), "green": (116.28, 57.12), "blue": (103.53, 57.375)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schemas", type=Path, help="folder of extension schemas to validate against")
    args = parser.parse_args()
    training = json.loads((HERE / "training.json").read_text())
    sample = json.loads((HERE / "sample.json").read_text())
    item = make_item(training, sample)
    (HERE / "stac_item.json").write_text(json.dumps(item, indent=2) + "\n")
    if args.schemas:
        problems = validate(item, args.schemas)
        print("\n".join(problems) or "the item is valid")
        raise SystemExit(1 if problems else 0)


def make_item(training, sample):
    west, south, east, north = sample["bbox"]
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [
            "https://stac-extensions.github.io/mlm/v1.5.1/schema.json",
            "https://stac-extensions.github.io/file/v2.1.0/schema.json",
        ],
        "id": f"{NAME}-{VERSION}",
        "bbox": sample["bbox"],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": training["trained_at"],
            "title": "Refugee camp detector",
            "description": (
                "Finds tents and tarpaulin shelters in aerial RGB imagery with 0.25 m pixels. Trained and measured on"
                " generated scenes only: a demonstration, not for decisions about people. The footprint of this item"
                " is that of the made-up sample scene."),
            "version": VERSION,
            "license": "Apache-2.0",
            "gsd": training["gsd_m"],
            "bands": make_bands(),
            **mlm_fields(training),
        },
        "links": [],
        "assets": make_assets(sample),
    }


def make_bands():
    return [{"name": band, "description": f"{band}, 8 bits, 0 to 255"} for band in SCALING]


def mlm_fields(training):
    tile = training["tile_px"]
    not_hyperparameters = {"total_parameters", "gsd_m", "tile_px", "trained_at"}
    return {
        "mlm:name": NAME,
        "mlm:architecture": "U-Net",
        "mlm:tasks": ["semantic-segmentation"],
        "mlm:framework": "ONNX",
        "mlm:pretrained": False,
        "mlm:total_parameters": training["total_parameters"],
        "mlm:batch_size_suggestion": training["batch_size"],
        "mlm:accelerator": None,
        "mlm:accelerator_constrained": False,
        "mlm:input": [{
            "name": "aerial RGB tile",
            "bands": list(SCALING),
            "input": {"shape": [-1, 3, tile, tile], "dim_order": ["batch", "bands", "height", "width"],
                      "data_type": "float32"},
            "value_scaling": [{"type": "z-score", "mean": m, "stddev": s} for m, s in SCALING.values()],
            "resize_type": None,
            "description": "Pixels of 0 to 255, minus the mean, over the standard deviation. ONNX name: input.",
        }],
        "mlm:output": [{
            "name": "shelter probability",
            "tasks": ["semantic-segmentation"],
            "result": {"shape": [-1, 1, tile, tile], "dim_order": ["batch", "channel", "height", "width"],
                       "data_type": "float32"},
            "classification:classes": [
                {"value": 0, "name": "background", "description": "Anything that is not a shelter"},
                {"value": 1, "name": "shelter", "description": "A tent, tarpaulin shelter or housing unit"},
            ],
            # The sigmoid is in the network; a second one would make every pixel a shelter.
            "post_processing_function": None,
            "description": "Probability of the class shelter, 0 to 1. ONNX name: output.",
        }],
        "mlm:hyperparameters": {key: value for key, value in training.items() if key not in not_hyperparameters},
    }


def make_assets(sample):
    model_roles = ["mlm:model", "data"]
    return {
        "onnx": {
            **measured_file(f"{NAME}.onnx"), "type": "application/octet-stream; application=onnx",
            "title": "ONNX, opset 13", "roles": model_roles, "mlm:artifact_type": "onnx"},
        "torchscript": {
            **measured_file(f"{NAME}.pt"), "type": "application/octet-stream; application=pytorch",
            "title": "TorchScript trace", "roles": model_roles, "mlm:artifact_type": "torch.jit.save"},
        "weights": {
            **measured_file(f"{NAME}.pth"), "type": "application/octet-stream; application=pytorch",
            "title": "State dict of the UNet in model.py", "roles": ["mlm:model", "mlm:weights", "data"],
            "mlm:artifact_type": "torch.save"},
        "sample-scene": {
            **measured_file("sample-scene.tif"), "type": "image/tiff; application=geotiff",
            "title": "Generated sample scene", "roles": ["data"],
            # The core schema of STAC 1.1.0 allows bands in the properties only where an asset has some too.
            "bands": make_bands(),
            "description": f"Not in the training set. The model reaches an IoU of {sample['iou']:.3f} on it."},
    }


def measured_file(name):
    """Relative href, size in bytes and checksum as a multihash: 0x12 is SHA-256, 0x20 its length of 32 bytes."""
    content = (HERE / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"href": f"./{name}", "file:size": len(content), "file:checksum": f"1220{digest}"}


def validate(item, schemas):
    """Problems found by the schema of each extension that the item names, as text."""
    from jsonschema import Draft7Validator
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    def load(url):
        name, version = re.search(r"\.io/([\w-]+)/v([\d.]+)/schema\.json", url).groups()
        files = [schemas / f"{name}-{version}.json", schemas / f"ext-{name}-{version}.json"]
        schema = json.loads(next(file for file in files if file.exists()).read_text())
        schema.pop("$id", None)  # one published schema carries the address of an older one
        return schema

    registry = Registry(retrieve=lambda url: Resource(load(url), DRAFT7))
    problems = []
    for url in item["stac_extensions"]:
        for error in Draft7Validator({"$ref": url}, registry=registry).iter_errors(item):
            problems.append(f"{url}: {error.json_path}: {error.message[:300]}")
    return problems


if __name__ == "__main__":
    main()
