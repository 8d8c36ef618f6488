//! The protocol on REST, under `/v2`. Handlers extract, make one call and convert.

mod answer;
mod error;
pub(crate) mod infer;
mod management;
mod metadata;

pub(crate) use error::render;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::routing::{get, post};
use http::request::Parts;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::infer::Addressee;
use crate::context::Context;
use crate::error::ApiError;
use crate::extract::ApiPath;

/// Whether a path is this protocol's, and errors are to be in its words.
pub(crate) fn owns(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What most clients use, as the OpenAPI document describes it.
pub(crate) fn documented() -> OpenApiRouter<Context> {
    OpenApiRouter::new()
        .routes(routes!(metadata::live))
        .routes(routes!(metadata::ready))
        .routes(routes!(metadata::server))
        .routes(routes!(metadata::model))
        .routes(routes!(metadata::model_ready))
        .routes(routes!(infer::infer))
}

/// The same for a version, and the extensions.
pub(crate) fn routes() -> Router<Context> {
    Router::new()
        .route("/v2/", get(metadata::server))
        .route("/v2/models/{model}/versions/{version}", get(metadata::model))
        .route("/v2/models/{model}/versions/{version}/ready", get(metadata::model_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/v2/models/{model}/config", get(metadata::config))
        .route("/v2/models/{model}/versions/{version}/config", get(metadata::config))
        .route("/v2/models/stats", get(management::statistics))
        .route("/v2/models/{model}/stats", get(management::statistics))
        .route("/v2/models/{model}/versions/{version}/stats", get(management::statistics))
        .route("/v2/repository/index", post(management::index))
        .route("/v2/repository/models/{model}/load", post(management::load))
        .route("/v2/repository/models/{model}/unload", post(management::unload))
        .route("/v2/trace/setting", get(management::trace).post(management::update_trace))
        .route("/v2/models/{model}/trace/setting", get(management::trace).post(management::update_trace))
        .route("/v2/logging", get(management::log).post(management::update_log))
}

/// `{model}` and `{version}` of the path; empty where it has none.
#[derive(Deserialize)]
struct ModelPath {
    #[serde(default)]
    model: String,
    #[serde(default)]
    version: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Addressee {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let ApiPath(ModelPath { model, version }) = ApiPath::from_request_parts(parts, state).await?;
        Ok(Self { model, version })
    }
}
