//! Searching all versions.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Value, json};

use super::links::{Links, geo_link, link};
use super::query::{SearchBody, SearchParams};
use super::{GEOJSON, render};
use crate::context::Context;
use crate::error::{ApiError, ErrorBody};
use crate::extract::{ApiJson, ApiQuery};
use crate::operations::catalogue::{Found, search};

/// Versions of all models by place, time and name.
#[utoipa::path(get, path = "/stac/search", operation_id = "searchStacItems", tag = "stac",
    params(SearchParams),
    responses((status = 200, description = "Items, and a link to the next page where there is one",
        content_type = "application/geo+json", body = Object), (status = 400, body = ErrorBody)))]
pub(crate) async fn by_query(
    State(context): State<Context>,
    links: Links,
    ApiQuery(params): ApiQuery<SearchParams>,
) -> Result<Response, ApiError> {
    let query = params.query()?;
    let found = search(&context.store, &query.filter, query.before.clone(), query.limit).await?;
    let paging = Paging::Get { path: links.path(&["search"]), query: query.to_pairs() };
    Ok(page(&found, &links, &paging))
}

/// The same with the search in the body.
#[utoipa::path(post, path = "/stac/search", operation_id = "postStacSearch", tag = "stac",
    request_body = SearchBody,
    responses((status = 200, description = "Items, and a link to the next page where there is one",
        content_type = "application/geo+json", body = Object), (status = 400, body = ErrorBody)))]
pub(crate) async fn by_body(
    State(context): State<Context>,
    links: Links,
    ApiJson(body): ApiJson<SearchBody>,
) -> Result<Response, ApiError> {
    let query = body.query()?;
    let found = search(&context.store, &query.filter, query.before.clone(), query.limit).await?;
    let paging = Paging::Post { path: links.path(&["search"]), body: query.to_body() };
    Ok(page(&found, &links, &paging))
}

/// How the next page is asked for.
pub(super) enum Paging {
    Get { path: String, query: Vec<(&'static str, String)> },
    Post { path: String, body: Value },
}

pub(super) fn page(found: &Found, links: &Links, paging: &Paging) -> Response {
    let items = found.entries.iter().map(|entry| render::item(entry, links)).collect::<Vec<_>>();
    let own = match paging {
        Paging::Get { path, .. } | Paging::Post { path, .. } => path.clone(),
    };
    let mut all = vec![geo_link("self", own), link("root", links.root())];
    all.extend(found.next.as_ref().map(|next| next_link(paging, next.as_str())));
    let body = json!({
        "type": "FeatureCollection",
        "features": items,
        "links": all,
        "numberReturned": items.len(),
    });
    ([(header::CONTENT_TYPE, GEOJSON)], Json(body)).into_response()
}

fn next_link(paging: &Paging, token: &str) -> Value {
    match paging {
        Paging::Get { path, query } => {
            let mut pairs = url::form_urlencoded::Serializer::new(String::new());
            pairs.extend_pairs(query).append_pair("token", token);
            geo_link("next", format!("{path}?{}", pairs.finish()))
        }
        Paging::Post { path, body } => {
            let mut body = body.clone();
            body["token"] = json!(token);
            let mut next = geo_link("next", path.clone());
            next["method"] = json!("POST");
            next["body"] = body;
            next["merge"] = json!(false);
            next
        }
    }
}
