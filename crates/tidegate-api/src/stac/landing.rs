//! Where a client begins: what there is, and which parts of the specification hold.

use axum::Json;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::links::{Links, geo_link, link};

const CONFORMS_TO: [&str; 8] = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
    "http://www.opengis.net/spec/ogcapi-common-2/1.0/conf/collections",
];

/// The catalogue of registered models.
#[utoipa::path(get, path = "/stac", operation_id = "getStacLandingPage", tag = "stac",
    responses((status = 200, description = "A STAC catalogue", body = Object)))]
pub(crate) async fn landing(links: Links) -> Json<Value> {
    let search = links.path(&["search"]);
    let mut post_search = geo_link("search", search.clone());
    post_search["method"] = json!("POST");
    let mut get_search = geo_link("search", search);
    get_search["method"] = json!("GET");
    Json(json!({
        "type": "Catalog",
        "stac_version": "1.1.0",
        "id": "tidegate",
        "title": "Models of this Tidegate server",
        "description": "Registered models: a collection is a model, an item is a version with its artifacts.",
        "conformsTo": CONFORMS_TO,
        "links": [
            link("self", links.root()),
            link("root", links.root()),
            link("conformance", links.path(&["conformance"])),
            link("data", links.path(&["collections"])),
            get_search,
            post_search,
            {"rel": "service-desc", "href": links.description(), "type": "application/vnd.oai.openapi+json;version=3.1"},
            {"rel": "service-doc", "href": links.swagger(), "type": "text/html"},
        ],
    }))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Conformance {
    conforms_to: [&'static str; 8],
}

/// Which parts of the specifications the catalogue keeps to.
#[utoipa::path(get, path = "/stac/conformance", operation_id = "getStacConformance", tag = "stac",
    responses((status = 200, body = Conformance)))]
pub(crate) async fn conformance() -> Json<Conformance> {
    Json(Conformance { conforms_to: CONFORMS_TO })
}
