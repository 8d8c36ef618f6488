//! The catalogue of registered models as a STAC API (<https://github.com/radiantearth/stac-api-spec>, version 1.0.0): a
//! model is a collection, a version is an item, its artifacts are assets. Read only; pystac-client and QGIS list it.
//!
//! A version that was registered with a STAC-MLM item shows that; another one shows what the registry knows of it. Keys are
//! as the specification writes them, unknown parameters are refused by name.

mod collections;
mod items;
mod landing;
mod links;
mod query;
mod render;
mod search;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::context::Context;

/// Where the API begins.
const ROOT: &str = "/stac";

const GEOJSON: &str = "application/geo+json";

/// Every route of the catalogue.
pub(crate) fn documented() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(landing::landing))
        .routes(routes!(landing::conformance))
        .routes(routes!(collections::list))
        .routes(routes!(collections::get))
        .routes(routes!(items::list))
        .routes(routes!(items::get))
        .routes(routes!(search::by_query, search::by_body))
}
