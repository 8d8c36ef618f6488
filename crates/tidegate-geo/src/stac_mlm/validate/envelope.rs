//! What every STAC item must have: version, place, time, links.

use super::Report;
use crate::stac_mlm::reader::{Faults, Node};

pub(super) fn check(item: &Node<'_>, report: &mut Report) {
    check_version(item, report);
    check_place(item, report);
    if let Some(properties) = item.get("properties").filter(|node| node.value.is_object()) {
        check_times(&properties, report);
    }
    check_links(item, report);
    check_extensions(item, report);
}

fn check_version(item: &Node<'_>, report: &mut Report) {
    let pointer = item.pointer_to("stac_version");
    match item.value.get("stac_version").and_then(|version| version.as_str()) {
        Some(version) if version == "1.0.0" || version.starts_with("1.1.") => {}
        Some(version) => {
            report.error(&pointer, format!("`{version}` is not a version of STAC: give \"1.1.0\""))
        }
        None => report.error(&pointer, "missing: give \"1.1.0\""),
    }
}

/// `geometry` may be null; `bbox` goes with it.
fn check_place(item: &Node<'_>, report: &mut Report) {
    let pointer = item.pointer_to("geometry");
    let Some(geometry) = item.value.get("geometry") else {
        report.error(&pointer, "missing: give the footprint of the training area in degrees, or null");
        return;
    };
    let bbox = item.get("bbox");
    if geometry.is_null() {
        if let Some(bbox) = bbox {
            report.error(&bbox.pointer, "an item without a geometry has no bbox: leave it out");
        }
        return;
    }
    let kinds = ["Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon"];
    let kind = geometry.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
    if !kinds.contains(&kind) || geometry.get("coordinates").is_none_or(|coordinates| !coordinates.is_array())
    {
        report.error(&pointer, "not a GeoJSON geometry: give a Polygon with coordinates in degrees, or null");
    }
    match bbox {
        None => report.error(&item.pointer_to("bbox"), "missing: give [west, south, east, north] in degrees"),
        Some(bbox) => check_bbox(&bbox, report),
    }
}

fn check_bbox(bbox: &Node<'_>, report: &mut Report) {
    let numbers =
        bbox.value.as_array().map(|values| values.iter().map(|value| value.as_f64()).collect::<Vec<_>>());
    let (west, south, east, north) = match numbers.as_deref() {
        Some([Some(west), Some(south), Some(east), Some(north)])
        | Some([Some(west), Some(south), Some(_), Some(east), Some(north), Some(_)]) => {
            (*west, *south, *east, *north)
        }
        _ => {
            report.error(&bbox.pointer, "expected [west, south, east, north], four numbers");
            return;
        }
    };
    let within = |longitude: f64| (-180.0..=180.0).contains(&longitude);
    // West may lie beyond east: the box crosses the antimeridian (RFC 7946 section 5.2).
    if !within(west) || !within(east) || south < -90.0 || north > 90.0 {
        report.error(
            &bbox.pointer,
            "not in degrees: give longitudes and latitudes, whatever the imagery's own system",
        );
    } else if south > north {
        report.error(&bbox.pointer, "south is above north: order it as [west, south, east, north]");
    }
}

const TIMES: [&str; 7] =
    ["datetime", "start_datetime", "end_datetime", "created", "updated", "published", "expires"];

fn check_times(properties: &Node<'_>, report: &mut Report) {
    for key in TIMES {
        if let Some(node) = properties.get(key) {
            check_time(&node, report);
        }
    }
    let pointer = properties.pointer_to("datetime");
    match properties.value.get("datetime") {
        None => {
            report.error(&pointer, "missing: give when the model was made, such as \"2026-11-22T00:00:00Z\"")
        }
        Some(datetime) if datetime.is_null() => {
            for key in ["start_datetime", "end_datetime"] {
                if properties.get(key).is_none() {
                    let message = "missing: where `datetime` is null, give both ends of the interval";
                    report.error(&properties.pointer_to(key), message);
                }
            }
        }
        Some(_) => {}
    }
}

/// RFC 3339 in UTC. Local time stamped as UTC cannot be seen; an offset or none at all can.
fn check_time(node: &Node<'_>, report: &mut Report) {
    let Some(text) = node.value.as_str() else {
        report.error(
            &node.pointer,
            format!("expected a time such as \"2026-11-22T00:00:00Z\", got {}", node.kind()),
        );
        return;
    };
    let instant = text.parse::<tidegate_core::Timestamp>();
    let is_utc = text.ends_with(['Z', 'z']) || text.ends_with("+00:00") || text.ends_with("-00:00");
    match instant {
        Ok(_) if is_utc => {}
        Ok(instant) => {
            report.error(&node.pointer, format!("`{text}` is not in UTC: write \"{instant}\""));
        }
        Err(_) if !text.contains(['Z', 'z', '+']) && text.contains('T') => {
            report.error(
                &node.pointer,
                format!("`{text}` does not say its zone: convert it to UTC and end it with Z"),
            );
        }
        Err(_) => {
            let message = format!("`{text}` is not a time: write it in UTC like \"2026-11-22T00:00:00Z\"");
            report.error(&node.pointer, message);
        }
    }
}

fn check_links(item: &Node<'_>, report: &mut Report) {
    let Some(links) = item.get("links") else {
        report.error(&item.pointer_to("links"), "missing: give a list; [] will do");
        return;
    };
    let mut faults = Faults::default();
    for link in faults.list(&links) {
        faults.required_text(&link, "href", "where the link leads");
        faults.required_text(&link, "rel", "what the link is, such as \"license\"");
    }
    report.take(faults);
}

fn check_extensions(item: &Node<'_>, report: &mut Report) {
    let Some(extensions) = item.get("stac_extensions").filter(|node| node.value.is_array()) else { return };
    let declared = |name: &str| {
        let addresses = extensions.value.as_array().into_iter().flatten();
        addresses
            .filter_map(|address| address.as_str())
            .any(|address| address.contains(&format!("/{name}/v")))
    };
    let uses = |prefix: &str| {
        let assets = item.value.get("assets").and_then(|assets| assets.as_object());
        let assets = assets.into_iter().flatten().filter_map(|(_, asset)| asset.as_object());
        assets.flatten().any(|(key, _)| key.starts_with(prefix))
    };
    if uses("file:") && !declared("file") {
        let message = "`file:` fields are used, but the extension is not declared: add \
                       \"https://stac-extensions.github.io/file/v2.1.0/schema.json\"";
        report.warn(&extensions.pointer, message);
    }
}
