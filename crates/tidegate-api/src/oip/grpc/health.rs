//! `grpc.health.v1.Health`, which Kubernetes and load balancers ask
//! (<https://github.com/grpc/grpc/blob/master/doc/health-checking.md>).

use axum::extract::State;
use http::HeaderMap;

use super::exchange::{Reply, Unary};
use super::messages::{HealthCheckRequest, HealthCheckResponse};
use crate::context::Context;
use crate::error::ApiError;
use crate::oip::infer::Addressee;
use crate::oip::models;

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;

/// Of the server, of the inference service, or of a model by its name.
pub(super) async fn check(
    State(context): State<Context>,
    headers: HeaderMap,
    Unary(request, _held): Unary<HealthCheckRequest>,
) -> Result<Reply<HealthCheckResponse>, ApiError> {
    let is_serving = match request.service.as_str() {
        "" | "inference.GRPCInferenceService" => models::is_server_ready(&context),
        model => {
            let addressee = Addressee { model: model.to_owned(), version: String::new() };
            models::is_ready(&context, addressee, &headers).await?
        }
    };
    Ok(Reply(HealthCheckResponse { status: if is_serving { SERVING } else { NOT_SERVING } }))
}
