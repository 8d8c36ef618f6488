//! Whether the process lives, and whether it should get traffic.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::context::Context;
use crate::readiness::Phase;

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// The process lives.
#[utoipa::path(get, path = "/health",
    operation_id = "getHealth", tag = "health",
    responses((status = 200, body = Health)))]
pub(crate) async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready` or `not ready`.
    status: &'static str,
    checks: Checks,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Checks {
    /// `ok` or `unreachable`.
    database: &'static str,
    /// `ok`, `loading` (models of the routes are not all loaded yet) or `stopping`.
    routes: &'static str,
}

/// The process should get traffic: its database answers and the models of its routes are loaded.
#[utoipa::path(get, path = "/ready", operation_id = "getReadiness", tag = "health", responses(
    (status = 200, body = Ready), (status = 503, description = "Not (yet) for traffic", body = Ready),
))]
pub(crate) async fn ready(State(context): State<Context>) -> Response {
    let database = match context.store.ping().await {
        Ok(()) => "ok",
        Err(error) => {
            tracing::warn!(%error, "the database does not answer");
            "unreachable"
        }
    };
    let routes = match context.readiness.phase() {
        Phase::Ready => "ok",
        Phase::Starting => "loading",
        Phase::Stopping => "stopping",
    };
    let checks = Checks { database, routes };
    match database == "ok" && routes == "ok" {
        true => Json(Ready { status: "ready", checks }).into_response(),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(Ready { status: "not ready", checks })).into_response()
        }
    }
}
