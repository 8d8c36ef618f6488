//! Versions as items.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use super::links::Links;
use super::query::ItemsParams;
use super::search::{Paging, page};
use super::{GEOJSON, render};
use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::{ApiPath, ApiQuery};
use crate::operations::catalogue::{Filter, live_model, search};

/// The versions of a model, newest first.
#[utoipa::path(get, path = "/stac/collections/{model}/items", operation_id = "listStacItems", tag = "stac",
    params(("model" = String, Path, description = "The model's name"), ItemsParams),
    responses((status = 200, description = "Items, and a link to the next page where there is one",
        content_type = "application/geo+json", body = Object),
        (status = 400, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn list(
    State(context): State<Context>,
    links: Links,
    ApiPath(name): ApiPath<String>,
    ApiQuery(params): ApiQuery<ItemsParams>,
) -> Result<Response, ApiError> {
    let query = params.query(&name)?;
    let model = live_model(&context.store, &name).await?;
    model.ok_or_else(|| ApiError::model_not_found(&name))?;
    let found = search(&context.store, &query.filter, query.before.clone(), query.limit).await?;
    let paging = Paging::Get { path: links.items(&name), query: query.to_pairs() };
    Ok(page(&found, &links, &paging))
}

/// One version.
#[utoipa::path(get, path = "/stac/collections/{model}/items/{id}", operation_id = "getStacCatalogueItem", tag = "stac",
    params(("model" = String, Path, description = "The model's name"),
        ("id" = String, Path, description = "The model's name, `-`, and the version's number")),
    responses((status = 200, content_type = "application/geo+json", body = Object), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(context): State<Context>,
    links: Links,
    ApiPath((name, id)): ApiPath<(String, String)>,
) -> Result<Response, ApiError> {
    let filter = Filter { models: vec![name.clone()], ids: vec![id.clone()], ..Filter::default() };
    let found = search(&context.store, &filter, None, 1).await?;
    let entry = found.entries.first().ok_or_else(|| {
        let shown = id.chars().take(200).collect::<String>();
        let message = format!("there is no item `{shown}`; its collection's items link lists them");
        ApiError::new(ErrorCode::NotFound, message)
    })?;
    Ok(([(header::CONTENT_TYPE, GEOJSON)], Json(render::item(entry, &links))).into_response())
}
