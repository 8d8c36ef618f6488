//! Which failure of which operation is which error.

use std::error::Error;
use std::time::Duration;

use axum::extract::multipart::{MultipartError, MultipartRejection};
use tidegate_geo::{ImageError, SegmentError};
use tidegate_store::{ArtifactError, StoreError};

use super::{ApiError, ErrorCode, ErrorDetail};
use crate::control::{CommandError, CreateDeploymentError};
use crate::operations::fault::Fault;
use crate::operations::feedback::FeedbackError;
use crate::operations::predict::{PredictError, numbers};
use crate::operations::register::RegisterError;
use crate::operations::segment::SegmentImageError;

/// Long enough for a queue of requests to drain.
pub(crate) const OVERLOAD_RETRY_S: u32 = 1;

/// A queue that takes longer is shorter by then for other reasons: callers gave up, or somebody helped.
const MAX_OVERLOAD_RETRY_S: u32 = 60;

/// About how long a model takes to be deployed, or a process to be replaced.
const DEPLOY_RETRY_S: u32 = 10;

/// Whole seconds, as the header has them: no sooner than is worth asking, and no later than anybody would.
fn overload_retry_s(retry_after: Duration) -> u32 {
    (retry_after.as_secs_f64().ceil() as u32).clamp(OVERLOAD_RETRY_S, MAX_OVERLOAD_RETRY_S)
}

impl From<Fault> for ErrorDetail {
    fn from(fault: Fault) -> Self {
        Self::new(fault.field, fault.message)
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self::invalid(fault.field, fault.message)
    }
}

fn of_faults(code: ErrorCode, summary: &str, faults: Vec<Fault>) -> ApiError {
    ApiError::faults(code, summary, faults.into_iter().map(ErrorDetail::from).collect())
}

impl ApiError {
    pub(crate) fn validation(summary: &str, faults: Vec<Fault>) -> Self {
        of_faults(ErrorCode::ValidationError, summary, faults)
    }

    /// A body that could not be read to its end.
    pub(crate) fn of_body(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<tower_http::timeout::TimeoutError>() {
                let message = "the body paused for too long and was given up; send it again";
                return Self::new(ErrorCode::RequestTimeout, message);
            }
            cause = error.source();
        }
        let message = "the body ended early or is malformed; send it again, whole";
        Self::new(ErrorCode::ValidationError, message).with_detail("(body)", message).with_cause(error)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.retryable() {
            let message = "the database is busy or restarting; try again";
            return Self::new(ErrorCode::ServiceUnavailable, message)
                .with_retry_after(OVERLOAD_RETRY_S)
                .with_cause(&error);
        }
        Self::internal(&error)
    }
}

impl From<ArtifactError> for ApiError {
    fn from(error: ArtifactError) -> Self {
        Self::internal(&error)
    }
}

impl From<MultipartRejection> for ApiError {
    fn from(rejection: MultipartRejection) -> Self {
        Self::invalid("Content-Type", rejection.body_text())
    }
}

impl From<MultipartError> for ApiError {
    fn from(error: MultipartError) -> Self {
        Self::of_body(&error)
    }
}

impl From<RegisterError> for ApiError {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Invalid(faults) => {
                of_faults(ErrorCode::ValidationError, "the registration does not fit", faults)
            }
            RegisterError::Unprocessable(faults) => of_faults(
                ErrorCode::UnprocessableArtifact,
                "an artifact is not what it is said to be",
                faults,
            ),
            RegisterError::BadSample(faults) => of_faults(
                ErrorCode::UnprocessableArtifact,
                "the validation sample does not fit the model",
                faults,
            ),
            RegisterError::Duplicate { model, version, version_id } => {
                let message = format!(
                    "model `{model}` already has a version {version}; versions never change, register the next number"
                );
                let conflict =
                    Self::new(ErrorCode::Conflict, message).with_detail("version", "already registered");
                match version_id {
                    Some(version_id) => conflict.with_detail("versionId", version_id.as_str()),
                    None => conflict,
                }
            }
            RegisterError::TooLarge { name, limit_bytes } => {
                let message = format!(
                    "the artifacts are larger than the {limit_bytes} bytes allowed; raise the server's upload limit, \
                     or register fewer"
                );
                Self::new(ErrorCode::PayloadTooLarge, message)
                    .with_detail("artifact", format!("`{name}` goes over the limit"))
            }
            RegisterError::NoSpace => Self::new(
                ErrorCode::InsufficientStorage,
                "the artifact store is full and nothing was kept; ask whoever runs the server to free some space",
            ),
            RegisterError::Read { ref source, .. } => Self::of_body(source),
            RegisterError::Artifacts(error) => error.into(),
            RegisterError::Store(error) => error.into(),
            RegisterError::Inspect { .. } => Self::internal(&error),
        }
    }
}

impl From<FeedbackError> for ApiError {
    fn from(error: FeedbackError) -> Self {
        match error {
            FeedbackError::UnknownRequest(request_id) => {
                let message = format!(
                    "request `{}` is not in the inference log; give the requestId of a prediction",
                    request_id.as_str().chars().take(200).collect::<String>()
                );
                Self::new(ErrorCode::RequestNotFound, message)
            }
            FeedbackError::NotKept(request_id) => {
                let message = format!(
                    "request `{}` was not kept: the inference log is a sample (`inference_log.share`)",
                    request_id.as_str().chars().take(200).collect::<String>()
                );
                Self::new(ErrorCode::RequestNotFound, message)
            }
            FeedbackError::Invalid(fault) => fault.into(),
            FeedbackError::Store(error) => error.into(),
        }
    }
}

impl From<PredictError> for ApiError {
    fn from(error: PredictError) -> Self {
        let unavailable = |message: String| Self::new(ErrorCode::ServiceUnavailable, message);
        match error {
            PredictError::NoSuchModel { model } => Self::model_not_found(&model),
            PredictError::NoSuchVersion { model, version } => Self::version_not_found(&model, &version.to_string()),
            PredictError::NotDeployed { model, environment } => unavailable(format!(
                "model `{model}` is not deployed in {environment}; deploy a version with POST /api/v1/deployments"
            ))
            .with_retry_after(DEPLOY_RETRY_S),
            // No outage: asking again changes nothing until somebody deploys.
            PredictError::NotLoaded { model, version, environment, loaded } => {
                let message = format!(
                    "version {version} of model `{model}` is not loaded in {environment}; ask for one of {}, or deploy it",
                    numbers(&loaded)
                );
                Self::new(ErrorCode::Conflict, message).with_detail("version", "not loaded")
            }
            PredictError::Misfit(faults) => {
                of_faults(ErrorCode::SchemaValidationError, "the request does not fit the model", faults)
            }
            PredictError::Overloaded { retry_after } => {
                unavailable("the server is overloaded; try again".to_owned())
                    .with_retry_after(overload_retry_s(retry_after))
            }
            PredictError::DeadlineExceeded => Self::new(
                ErrorCode::DeadlineExceeded,
                "the deadline of the request passed before it was answered; give it more time, or try again later",
            ),
            PredictError::ShuttingDown => {
                unavailable("this server is shutting down; try again".to_owned()).with_retry_after(OVERLOAD_RETRY_S)
            }
            PredictError::Failed(ref reason) => {
                Self::new(ErrorCode::InferenceError, format!("the model failed on this request: {reason}"))
            }
            PredictError::NotFinite(error) => Self::new(
                ErrorCode::InferenceError,
                format!("{error}; check that the request lies in the range the model was trained on"),
            )
            .with_detail(format!("prediction.{}", error.output), "not a finite number"),
            PredictError::Store(error) => error.into(),
        }
    }
}

impl From<SegmentImageError> for ApiError {
    fn from(error: SegmentImageError) -> Self {
        match error {
            SegmentImageError::NoItem { version } => Self::new(
                ErrorCode::UnprocessableArtifact,
                format!(
                    "version {version} does not say how to read images; register it with its STAC-MLM item (a part \
                     named `stac`), or send tensors as JSON"
                ),
            ),
            SegmentImageError::Busy => {
                Self::new(ErrorCode::ServiceUnavailable, "too many images are at work; try again")
                    .with_retry_after(OVERLOAD_RETRY_S)
            }
            SegmentImageError::Image(error @ ImageError::TooLarge { .. }) => {
                Self::new(ErrorCode::PayloadTooLarge, error.to_string())
                    .with_detail("image", error.to_string())
            }
            SegmentImageError::Image(
                error @ (ImageError::NotAnImage { .. } | ImageError::Unsupported { .. }),
            ) => Self::new(ErrorCode::UnsupportedMediaType, error.to_string())
                .with_detail("image", error.to_string()),
            SegmentImageError::Image(error) => Self::invalid("image", error.to_string()),
            SegmentImageError::Segment(error) => of_segment(&error),
            SegmentImageError::Predict(error) => error.into(),
            SegmentImageError::Render(error) => Self::internal(&error),
            SegmentImageError::Thread(_) => Self::internal(&error),
        }
    }
}

fn of_segment(error: &SegmentError) -> ApiError {
    let message = error.to_string();
    match error {
        SegmentError::InvalidImage { .. } | SegmentError::BandMismatch { .. } => {
            ApiError::new(ErrorCode::SchemaValidationError, message.clone()).with_detail("image", message)
        }
        SegmentError::InvalidOption { name, .. } => {
            // As the query spells them.
            let field = match *name {
                "gsd_m" => "gsd",
                "overlap_px" => "overlap",
                other => other,
            };
            ApiError::invalid(field, message)
        }
        SegmentError::TooLarge { .. } => {
            ApiError::new(ErrorCode::PayloadTooLarge, message.clone()).with_detail("image", message)
        }
        SegmentError::TooManyPixels { .. } | SegmentError::TooWide { .. } => {
            ApiError::new(ErrorCode::PayloadTooLarge, message.clone()).with_detail("gsd", message)
        }
        SegmentError::Unsupported { .. } => ApiError::new(ErrorCode::UnprocessableArtifact, message),
        SegmentError::Read(_) => ApiError::invalid("image", message),
        // Of scenes on disk only.
        SegmentError::Keep(_) | SegmentError::Stopped => ApiError::internal(error),
        SegmentError::Run(_) | SegmentError::OutputShape { .. } | SegmentError::OutputValues { .. } => {
            ApiError::new(ErrorCode::InferenceError, message)
        }
    }
}

impl From<CreateDeploymentError> for ApiError {
    fn from(error: CreateDeploymentError) -> Self {
        match error {
            CreateDeploymentError::InProgress { ref deployment_id } => {
                let message = format!(
                    "{error}; wait for it, or cancel it with POST /api/v1/deployments/{deployment_id}/cancel"
                );
                Self::new(ErrorCode::Conflict, message).with_detail("deploymentId", deployment_id.as_str())
            }
            CreateDeploymentError::MayNotOverride { .. } => {
                Self::new(ErrorCode::Forbidden, error.to_string()).with_detail("override", error.to_string())
            }
            CreateDeploymentError::AlreadyServing { .. } => {
                Self::new(ErrorCode::Conflict, format!("{error}; there is nothing to do"))
                    .with_detail("version", error.to_string())
            }
            CreateDeploymentError::NothingToCompare { .. } => {
                Self::new(ErrorCode::Conflict, error.to_string()).with_detail("strategy", error.to_string())
            }
            CreateDeploymentError::Store(error) => error.into(),
        }
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::NotFound => Self::new(
                ErrorCode::DeploymentNotFound,
                "there is no such deployment; GET /api/v1/deployments lists them",
            ),
            CommandError::Refused { reason } => Self::new(ErrorCode::Conflict, reason),
            CommandError::Store(error) => error.into(),
        }
    }
}

impl ApiError {
    pub(crate) fn model_not_found(model: &str) -> Self {
        let shown: String = model.chars().take(128).collect();
        let message = format!("there is no model `{shown}`; GET /api/v1/models lists them");
        Self::new(ErrorCode::ModelNotFound, message)
    }

    pub(crate) fn version_not_found(model: &str, version: &str) -> Self {
        let shown: String = version.chars().take(128).collect();
        let message = format!(
            "model `{model}` has no version `{shown}`; GET /api/v1/models/{model}/versions lists them"
        );
        Self::new(ErrorCode::VersionNotFound, message)
    }

    pub(crate) fn deployment_not_found() -> Self {
        CommandError::NotFound.into()
    }
}
