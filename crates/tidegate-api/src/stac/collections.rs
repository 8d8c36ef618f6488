//! Models as collections.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use tidegate_store::ModelFilter;

use super::links::{Links, link};
use super::render;
use crate::context::Context;
use crate::error::{ApiError, ErrorBody};
use crate::extract::{ApiPath, ApiQuery, Pagination};
use crate::operations::catalogue::{Entry, live_model};

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct CollectionsParams {
    /// 1 to 100, default 20.
    limit: Option<i64>,
    /// Of a `next` link.
    offset: Option<i64>,
}

/// The models, newest first.
#[utoipa::path(get, path = "/stac/collections", operation_id = "listStacCollections", tag = "stac",
    params(CollectionsParams),
    responses((status = 200, description = "Collections, and a link to the next page where there is one", body = Object),
        (status = 400, body = ErrorBody)))]
pub(crate) async fn list(
    State(context): State<Context>,
    links: Links,
    ApiQuery(params): ApiQuery<CollectionsParams>,
) -> Result<Json<Value>, ApiError> {
    let page = Pagination { limit: params.limit, offset: params.offset }.page()?;
    let listing = context.store.models.list(&ModelFilter::default(), page).await?;
    let mut collections = Vec::with_capacity(listing.items.len());
    for model in &listing.items {
        collections.push(render::collection(model, &entries(&context, model).await?, &links));
    }
    let own = links.path(&["collections"]);
    let mut all = vec![link("self", own.clone()), link("root", links.root())];
    let next = u64::from(page.offset) + listing.items.len() as u64;
    if next < listing.total && !listing.items.is_empty() {
        all.push(link("next", format!("{own}?limit={}&offset={next}", page.limit)));
    }
    Ok(Json(json!({"collections": collections, "links": all, "numberMatched": listing.total})))
}

/// One model.
#[utoipa::path(get, path = "/stac/collections/{model}", operation_id = "getStacCollection", tag = "stac",
    params(("model" = String, Path, description = "The model's name")),
    responses((status = 200, description = "A STAC collection", body = Object), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(context): State<Context>,
    links: Links,
    ApiPath(name): ApiPath<String>,
) -> Result<Json<Value>, ApiError> {
    let model = live_model(&context.store, &name).await?.ok_or_else(|| ApiError::model_not_found(&name))?;
    Ok(Json(render::collection(&model, &entries(&context, &model).await?, &links)))
}

async fn entries(context: &Context, model: &tidegate_core::Model) -> Result<Vec<Entry>, ApiError> {
    let versions = context.store.versions.list(&model.id).await?;
    Ok(versions.into_iter().map(|version| Entry { model: model.name.clone(), version }).collect())
}
