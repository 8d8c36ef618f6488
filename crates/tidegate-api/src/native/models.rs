//! Models: listing, looking at, archiving.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tidegate_core::{Framework, Model, ModelType, Timestamp};
use tidegate_store::ModelFilter;
use utoipa::ToSchema;

use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::{ApiPath, ApiQuery, Pagination};
use crate::native::versions::VersionSummary;

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelSummary {
    #[schema(example = "model-019a0b1c2d3e7f80a1b2c3d4e5f60718")]
    model_id: String,
    #[schema(example = "refugee-camp-detector")]
    name: String,
    description: Option<String>,
    #[schema(value_type = String, example = "ONNX")]
    framework: Framework,
    #[schema(value_type = String, example = "ComputerVision")]
    r#type: ModelType,
    owner: String,
    tags: Vec<String>,
    /// The version that answers in Production.
    #[schema(example = "1.0.0")]
    active_version: Option<String>,
    is_archived: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Model> for ModelSummary {
    fn from(model: Model) -> Self {
        Self {
            model_id: model.id.to_string(),
            name: model.name.to_string(),
            description: model.description,
            framework: model.framework,
            r#type: model.model_type,
            owner: model.owner,
            tags: model.tags,
            active_version: model.active_version.map(|version| version.to_string()),
            is_archived: model.is_archived,
            created_at: model.created_at,
            updated_at: model.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ModelQuery {
    /// TensorFlow, PyTorch, ScikitLearn, ONNX, XGBoost, LightGBM or Custom.
    #[param(value_type = Option<String>)]
    framework: Option<Framework>,
    /// Classification, Regression, ..., ComputerVision, Other.
    #[param(value_type = Option<String>)]
    r#type: Option<ModelType>,
    tag: Option<String>,
    owner: Option<String>,
    #[serde(default)]
    include_archived: bool,
    /// 1 to 100, default 20.
    limit: Option<i64>,
    offset: Option<i64>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    models: Vec<ModelSummary>,
    /// Over all pages.
    total: u64,
    limit: u32,
    offset: u32,
}

/// The models, newest first.
#[utoipa::path(get, path = "/api/v1/models",
    operation_id = "listModels", tag = "models",
    params(ModelQuery), responses(
    (status = 200, body = ModelList), (status = 400, body = ErrorBody),
))]
pub(crate) async fn list(
    State(context): State<Context>,
    ApiQuery(query): ApiQuery<ModelQuery>,
) -> Result<Json<ModelList>, ApiError> {
    let page = Pagination { limit: query.limit, offset: query.offset }.page()?;
    let filter = ModelFilter {
        framework: query.framework,
        model_type: query.r#type,
        tag: query.tag,
        owner: query.owner,
        include_archived: query.include_archived,
    };
    let listing = context.store.models.list(&filter, page).await?;
    let models = listing.items.into_iter().map(ModelSummary::from).collect();
    Ok(Json(ModelList { models, total: listing.total, limit: page.limit, offset: page.offset }))
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelDetail {
    #[serde(flatten)]
    model: ModelSummary,
    /// Highest number first.
    versions: Vec<VersionSummary>,
}

/// One model and its versions.
#[utoipa::path(get, path = "/api/v1/models/{model}", operation_id = "getModel", tag = "models",
    params(("model" = String, Path, description = "Id or name")),
    responses((status = 200, body = ModelDetail), (status = 404, body = ErrorBody)))]
pub(crate) async fn get(
    State(context): State<Context>,
    ApiPath(id_or_name): ApiPath<String>,
) -> Result<Json<ModelDetail>, ApiError> {
    let model = find(&context, &id_or_name).await?;
    let versions = context.store.versions.list(&model.id).await?;
    let versions = versions.iter().map(VersionSummary::from).collect();
    Ok(Json(ModelDetail { model: model.into(), versions }))
}

/// Archives a model: it disappears from listings, keeps its history, and its name may be used again.
#[utoipa::path(delete, path = "/api/v1/models/{model}", operation_id = "archiveModel", tag = "models",
    params(("model" = String, Path, description = "Id or name")),
    responses((status = 204), (status = 404, body = ErrorBody),
        (status = 409, description = "It serves, or is being deployed", body = ErrorBody)))]
pub(crate) async fn archive(
    State(context): State<Context>,
    ApiPath(id_or_name): ApiPath<String>,
) -> Result<StatusCode, ApiError> {
    let model = find(&context, &id_or_name).await?;
    refuse_in_use(&context, &model).await?;
    context.store.models.archive(&model.id, context.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// By id, or by the name of a model that is not archived.
pub(crate) async fn find(context: &Context, id_or_name: &str) -> Result<Model, ApiError> {
    let model = context.store.models.find(id_or_name).await?;
    model.ok_or_else(|| ApiError::model_not_found(id_or_name))
}

async fn refuse_in_use(context: &Context, model: &Model) -> Result<(), ApiError> {
    let name = &model.name;
    let unsettled = context.store.deployments.unsettled().await?;
    let moving = unsettled.iter().find(|record| record.model_id == model.id && record.status.in_progress());
    if let Some(record) = moving {
        let message = format!(
            "model `{name}` is being deployed to {}; wait, or POST /api/v1/deployments/{}/cancel first",
            record.environment, record.id
        );
        return Err(
            ApiError::new(ErrorCode::Conflict, message).with_detail("deploymentId", record.id.as_str())
        );
    }
    let routes = context.store.routes.list().await?;
    match routes.iter().find(|route| route.model_id == model.id && !route.arms.is_empty()) {
        None => Ok(()),
        Some(route) => {
            let message = format!(
                "model `{name}` serves in {}; take it out of traffic with POST /api/v1/deployments/{}/rollback first \
                 ({{\"force\": true}} where no version was before it)",
                route.environment, route.deployment_id
            );
            Err(ApiError::new(ErrorCode::Conflict, message)
                .with_detail("environment", route.environment.as_str()))
        }
    }
}
