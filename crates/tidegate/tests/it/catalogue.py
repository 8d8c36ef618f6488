"""What pystac-client makes of a server's catalogue, as JSON. Usage: catalogue.py URL"""

import json
import sys
import warnings

# What a client would complain of is wrong here.
warnings.simplefilter("error")

from pystac_client import Client, ConformanceClasses

client = Client.open(sys.argv[1])
for needed in (ConformanceClasses.CORE, ConformanceClasses.ITEM_SEARCH, ConformanceClasses.COLLECTIONS, ConformanceClasses.FEATURES):
    assert client.conforms_to(needed), needed


def search(**arguments):
    return [item.id for item in client.search(**arguments).items()]


collection = client.get_collection("placed")
items = list(collection.get_items())
item = collection.get_item("placed-1.0.0")
item.get_root().id
print(
    json.dumps(
        {
            "title": client.title,
            "collections": sorted(collection.id for collection in client.get_collections()),
            "extent": collection.extent.to_dict(),
            "items": [item.id for item in items],
            "collection_of_item": item.get_collection().id,
            "asset": item.assets["model"].get_absolute_href(),
            "mlm": item.properties["mlm:name"],
            "all": search(),
            "paged": search(limit=1),
            "paged_by_get": [item.id for item in client.search(limit=1, method="GET").items()],
            "by_bbox": search(bbox=[85.5, 27.6, 85.6, 27.7]),
            "by_datetime": search(datetime="2026-01-01/2026-06-30"),
            "by_ids": search(ids=["placed-1.0.0"]),
            "by_collection": search(collections=["plain"]),
            "max_items": search(max_items=1),
        }
    )
)
