//! The OpenAPI 3.1 document, generated from the handlers, and the pages to browse it.

use axum::Router;
use axum::response::Redirect;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

use crate::context::Context;
use crate::native::{
    deployments, feedback, health, inference, jobs, models, registration, replicas, server, versions,
};
use crate::oip::rest;
use crate::stac;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate",
        description = "Takes a trained model from a file to production traffic, and back.\n\n\
            Every failed request answers with the same shape: `code` for programs, `message` for people, `details` by \
            field, `traceId` to find it in the server's log.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    tags(
        (name = "models", description = "What can be deployed"),
        (name = "versions", description = "Immutable, with artifacts, schemas and the STAC-MLM item"),
        (name = "deployments", description = "Bringing a version into an environment, and back"),
        (name = "inference", description = "Predicting with what serves"),
        (name = "jobs", description = "Work that takes longer than a caller waits: scenes of any size"),
        (name = "open inference protocol", description = "Version 2, as KServe, Triton and MLServer speak it; also \
            on gRPC, on the same port"),
        (name = "stac", description = "The registered models as a STAC API: a model is a collection, a version an item"),
        (name = "server", description = "What this process is"),
        (name = "health", description = "For load balancers and orchestrators"),
    ),
)]
struct Document;

/// The document alone, without a server.
pub fn openapi() -> utoipa::openapi::OpenApi {
    documented().into_openapi()
}

/// Every route that the document describes.
pub(crate) fn documented() -> OpenApiRouter<Context> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(models::list, registration::register))
        .routes(routes!(models::get, models::archive))
        .routes(routes!(versions::list))
        .routes(routes!(versions::get))
        .routes(routes!(versions::stac))
        .routes(routes!(versions::artifact))
        .routes(routes!(deployments::list, deployments::create))
        .routes(routes!(deployments::get))
        .routes(routes!(deployments::events))
        .routes(routes!(deployments::progress::progress))
        .routes(routes!(deployments::commands::rollback))
        .routes(routes!(deployments::commands::cancel))
        .routes(routes!(deployments::commands::approve))
        .routes(routes!(deployments::commands::promote))
        .routes(routes!(deployments::commands::pause))
        .routes(routes!(deployments::commands::resume))
        .routes(routes!(inference::predict))
        .routes(routes!(inference::batch))
        .routes(routes!(inference::status))
        .routes(routes!(feedback::feedback))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::raster::create))
        .routes(routes!(jobs::get, jobs::delete))
        .routes(routes!(jobs::events))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::outputs::output))
        .routes(routes!(server::server))
        .routes(routes!(replicas::list))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .merge(rest::documented())
        .merge(stac::documented())
}

/// `/openapi.json`, Swagger UI at `/swagger`, and the way there from `/`.
pub(crate) fn browsable(document: utoipa::openapi::OpenApi) -> Router<Context> {
    let swagger: Router<Context> = SwaggerUi::new("/swagger").url("/openapi.json", document).into();
    swagger.route("/", get(|| async { Redirect::temporary("/swagger/") }))
}
