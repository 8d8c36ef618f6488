//! Versions as items, models as collections.

use serde_json::{Map, Value, json};
use tidegate_core::{Artifact, ArtifactFormat, Model, Timestamp};

use super::links::{Links, geo_link, link};
use crate::operations::catalogue::{Area, Entry, Interval};

const STAC_VERSION: &str = "1.1.0";
const FILE_EXTENSION: &str = "https://stac-extensions.github.io/file/v2.1.0/schema.json";

/// Links of an item as it came that mean something else here.
const OWN_LINKS: [&str; 7] = ["self", "root", "parent", "collection", "items", "next", "prev"];

/// The item that the version was registered with, found under its id in this catalogue and with its files to be had here;
/// or one that says what the registry knows.
pub(super) fn item(entry: &Entry, links: &Links) -> Value {
    let mut item = match &entry.version.stac_item {
        Some(item) if item.is_object() => item.clone(),
        _ => plain_item(entry),
    };
    let (model, id) = (entry.model.as_str(), entry.id());
    let kept = item["links"].as_array().into_iter().flatten();
    let kept = kept.filter(|link| !link["rel"].as_str().is_some_and(|rel| OWN_LINKS.contains(&rel)));
    let mut all = vec![
        geo_link("self", links.item(model, &id)),
        link("root", links.root()),
        link("parent", links.collection(model)),
        link("collection", links.collection(model)),
    ];
    all.extend(kept.cloned());
    item["links"] = Value::Array(all);
    item["id"] = json!(id);
    item["collection"] = json!(model);
    item["assets"] = assets(entry, item["assets"].take(), links);
    if !item["properties"].is_object() {
        item["properties"] = json!({});
    }
    item["properties"]["created"] = json!(entry.version.created_at);
    item
}

/// Without a place, and of the time of its registration.
fn plain_item(entry: &Entry) -> Value {
    let version = &entry.version;
    json!({
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": [FILE_EXTENSION],
        "id": entry.id(),
        "geometry": null,
        "properties": {
            "datetime": version.created_at,
            "title": format!("{} {}", entry.model, version.version),
            "version": version.version.to_string(),
        },
        "links": [],
        "assets": {},
    })
}

/// Those of the item, each that is an artifact with the address where it is downloaded; and artifacts that the item does
/// not name.
fn assets(entry: &Entry, declared: Value, links: &Links) -> Value {
    let version = &entry.version;
    let mut assets = match declared {
        Value::Object(assets) => assets,
        _ => Map::new(),
    };
    let mut shown = Vec::new();
    for asset in assets.values_mut() {
        let href = asset["href"].as_str().unwrap_or_default();
        let name = href.rsplit('/').next().unwrap_or_default();
        let is_elsewhere = href.contains("://");
        if let Some(artifact) =
            version.artifacts.iter().find(|artifact| artifact.name == name && !is_elsewhere)
        {
            asset["href"] =
                json!(links.artifact(entry.model.as_str(), &version.version.to_string(), &artifact.name));
            shown.push(artifact.name.clone());
        }
    }
    for artifact in version.artifacts.iter().filter(|artifact| !shown.contains(&artifact.name)) {
        assets.insert(artifact.name.clone(), asset(entry, artifact, links));
    }
    Value::Object(assets)
}

fn asset(entry: &Entry, artifact: &Artifact, links: &Links) -> Value {
    let media_type = match artifact.format {
        ArtifactFormat::Onnx => "application/octet-stream; application=onnx",
        ArtifactFormat::TorchScript | ArtifactFormat::StateDict => {
            "application/octet-stream; application=pytorch"
        }
        ArtifactFormat::StacItem => "application/geo+json",
        ArtifactFormat::EsriModelDefinition => "application/json",
        ArtifactFormat::Other => "application/octet-stream",
    };
    json!({
        "href": links.artifact(entry.model.as_str(), &entry.version.version.to_string(), &artifact.name),
        "type": media_type,
        "title": artifact.name,
        "roles": ["data"],
        "file:size": artifact.size_bytes,
        "file:checksum": artifact.sha256.to_multihash(),
    })
}

/// A model with the place and time of all its versions.
pub(super) fn collection(model: &Model, entries: &[Entry], links: &Links) -> Value {
    let name = model.name.as_str();
    let license = entries.iter().find_map(|entry| text(entry, "license")).unwrap_or("other");
    let title = entries.iter().find_map(|entry| text(entry, "title")).unwrap_or(name);
    let described = entries.iter().find_map(|entry| text(entry, "description"));
    let description = model.description.as_deref().or(described).unwrap_or(title);
    let mut keywords = model.tags.clone();
    keywords.extend([model.framework.as_str().to_owned(), model.model_type.as_str().to_owned()]);
    let versions = entries.iter().map(|entry| entry.version.version.to_string()).collect::<Vec<_>>();
    json!({
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [],
        "id": name,
        "title": title,
        "description": description,
        "keywords": keywords,
        "license": license,
        "providers": [{"name": model.owner, "roles": ["producer"]}],
        "extent": {
            "spatial": {"bbox": [bbox(entries)]},
            "temporal": {"interval": [interval(model, entries)]},
        },
        "summaries": {"version": versions},
        "links": [
            link("self", links.collection(name)),
            link("root", links.root()),
            link("parent", links.root()),
            geo_link("items", links.items(name)),
        ],
    })
}

fn text<'a>(entry: &'a Entry, key: &str) -> Option<&'a str> {
    entry.version.stac_item.as_ref()?.get("properties")?.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// Around all versions; the whole Earth where none has a place, or one lies across the antimeridian.
fn bbox(entries: &[Entry]) -> [f64; 4] {
    const EARTH: [f64; 4] = [-180.0, -90.0, 180.0, 90.0];
    let areas = entries.iter().filter_map(Entry::area).collect::<Vec<_>>();
    if areas.is_empty() || areas.iter().any(|area| area.west > area.east) {
        return EARTH;
    }
    let fold = |of: fn(&Area) -> f64, pick: fn(f64, f64) -> f64| {
        areas.iter().map(of).reduce(pick).unwrap_or_default()
    };
    [
        fold(|area| area.west, f64::min),
        fold(|area| area.south, f64::min),
        fold(|area| area.east, f64::max),
        fold(|area| area.north, f64::max),
    ]
}

/// From the first time of any version to the last; open where one of them is.
fn interval(model: &Model, entries: &[Entry]) -> [Option<Timestamp>; 2] {
    let intervals = entries.iter().map(Entry::interval).collect::<Vec<_>>();
    if intervals.is_empty() {
        return [Some(model.created_at), None];
    }
    let ends = |of: fn(&Interval) -> Option<Timestamp>| intervals.iter().map(of).collect::<Option<Vec<_>>>();
    let from = ends(|interval| interval.from).and_then(|ends| ends.into_iter().min());
    let to = ends(|interval| interval.to).and_then(|ends| ends.into_iter().max());
    [from, to]
}
