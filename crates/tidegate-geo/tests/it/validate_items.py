"""Reads a JSON list of STAC items, writes a list of what the extensions' schemas say of each: null, or the first error.

Usage: validate_items.py FOLDER_OF_SCHEMAS < items.json
"""

import json
import pathlib
import sys

from jsonschema import Draft7Validator
from referencing import Registry, Resource

BASE = "https://stac-extensions.github.io"


def main():
    folder = pathlib.Path(sys.argv[1])
    load = lambda name: json.loads((folder / name).read_text())
    schemas = {f"{BASE}/mlm/v1.5.{patch}/schema.json": load(f"mlm-1.5.{patch}.json") for patch in (0, 1, 2)}
    for path in folder.glob("ext-*.json"):
        _, name, version = path.stem.split("-")
        schemas[f"{BASE}/{name}/v{version}/schema.json"] = load(path.name)
    # By address and not by `$id`: the processing extension's 1.1.0 calls itself 1.0.0.
    resources = []
    for address, schema in schemas.items():
        schema["$id"] = address
        resources.append((address, Resource.from_contents(schema)))
    registry = Registry().with_resources(resources)
    validators = {address: Draft7Validator(schema, registry=registry) for address, schema in schemas.items()}
    json.dump([first_error(item, validators) for item in json.load(sys.stdin)], sys.stdout)


def first_error(item, validators):
    for address in item.get("stac_extensions", []):
        if isinstance(address, str) and address in validators:
            for error in validators[address].iter_errors(item):
                return f"{error.json_path}: {error.message[:200]}"
    return None


main()
