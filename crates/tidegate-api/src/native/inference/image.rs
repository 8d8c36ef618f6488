//! An image in: its mask as JSON, as a PNG, or as the four files in a zip.

use std::io::{Cursor, Write};
use std::time::Instant;

use axum::Json;
use axum::extract::{FromRequest, Multipart, Request};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::{Environment, Timestamp};
use tidegate_geo::{OutputFile, SegmentOptions};
use utoipa::ToSchema;
use zip::write::SimpleFileOptions;

use super::{Asked, target, with_version};
use crate::context::Context;
use crate::error::{ApiError, ErrorCode};
use crate::extract::{media_type, read_body};
use crate::operations::fault::Fault;
use crate::operations::predict::{Answer, Chosen, Target, account, choose, milliseconds};
use crate::operations::segment::{ImageQuery, Segmented, segment_image};

/// For images only; a JSON body says the same itself.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImageParameters {
    /// Metres on the ground per pixel; from the image's georeference where it is missing.
    gsd: Option<f64>,
    /// Pixels that neighbouring tiles share, at the model's resolution; default 32.
    overlap: Option<usize>,
    version: Option<String>,
    request_id: Option<String>,
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
}

impl ImageParameters {
    pub(super) fn refuse_any(&self) -> Result<(), ApiError> {
        let given = [
            ("gsd", self.gsd.is_some()),
            ("overlap", self.overlap.is_some()),
            ("version", self.version.is_some()),
            ("requestId", self.request_id.is_some()),
            ("environment", self.environment.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => {
                Err(ApiError::invalid(name, "is for images; in a JSON request, put it in the body"))
            }
            None => Ok(()),
        }
    }
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form to OpenAPI; `read_form` reads it")]
pub(crate) struct ImageForm {
    /// PNG, JPEG, WebP or GeoTIFF.
    #[schema(content_media_type = "application/octet-stream")]
    image: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImageResponse {
    request_id: String,
    model_name: String,
    version: String,
    prediction: ImagePrediction,
    confidence: Option<f64>,
    latency_ms: f64,
    timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ImagePrediction {
    width: usize,
    height: usize,
    classes: Value,
    /// Base64.
    mask_png: String,
    notes: Vec<String>,
}

/// What the caller wants back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wanted {
    Json,
    Mask,
    Zip,
}

pub(super) async fn predict(
    context: &Context,
    model: String,
    parameters: ImageParameters,
    request: Request,
    started: Instant,
) -> Result<Response, ApiError> {
    let headers = request.headers().clone();
    let wanted = wanted(&headers)?;
    let defaults = SegmentOptions::default();
    let options = SegmentOptions {
        gsd_m: parameters.gsd,
        overlap_px: parameters.overlap.unwrap_or(defaults.overlap_px),
        max_work_pixels: context.settings.max_image_pixels,
        ..defaults
    };
    let asked = Asked {
        version: parameters.version,
        request_id: parameters.request_id,
        environment: parameters.environment,
        started,
    };
    let target = target(context, model, &headers, asked)?;
    let (name, bytes) = read_image(context, request).await?;
    let chosen = choose(context, &target).await?;
    let query = ImageQuery { request_id: target.request_id.clone(), bytes, name, options };
    let result = segment_image(context, &chosen, query).await;
    let confidence = result.as_ref().ok().and_then(|(segmented, _)| segmented.confidence);
    let error = result.as_ref().err().map(ToString::to_string);
    account(context, &target, Some(&chosen), Answer { confidence, error, ..Answer::default() });
    let (segmented, _held) = result?;
    let response = respond(context, &target, &chosen, segmented, wanted).await?;
    Ok(with_version(response, &chosen.number()))
}

async fn respond(
    context: &Context,
    target: &Target,
    chosen: &Chosen,
    segmented: Segmented,
    wanted: Wanted,
) -> Result<Response, ApiError> {
    match wanted {
        Wanted::Json => Ok(Json(ImageResponse {
            request_id: target.request_id.to_string(),
            model_name: chosen.model_name(),
            version: chosen.number(),
            prediction: ImagePrediction {
                width: segmented.width,
                height: segmented.height,
                classes: segmented.classes(),
                mask_png: STANDARD.encode(mask(&segmented)),
                notes: segmented.notes,
            },
            confidence: segmented.confidence,
            latency_ms: milliseconds(target.started),
            timestamp: context.clock.now(),
        })
        .into_response()),
        Wanted::Mask => {
            Ok(([(header::CONTENT_TYPE, "image/png")], mask(&segmented).to_vec()).into_response())
        }
        Wanted::Zip => {
            let zipped = tokio::task::spawn_blocking(move || zip(&segmented.files)).await;
            let bytes = zipped
                .map_err(|error| ApiError::internal(&error))?
                .map_err(|error| ApiError::internal(&error))?;
            let disposition = "attachment; filename=\"prediction.zip\"";
            let headers =
                [(header::CONTENT_TYPE, "application/zip"), (header::CONTENT_DISPOSITION, disposition)];
            Ok((headers, bytes).into_response())
        }
    }
}

fn mask(segmented: &Segmented) -> &[u8] {
    segmented.file("prediction_mask.png").map_or(&[], |file| file.bytes.as_slice())
}

fn zip(files: &[OutputFile]) -> zip::result::ZipResult<Vec<u8>> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for file in files {
        writer.start_file(file.name, SimpleFileOptions::default())?;
        writer.write_all(&file.bytes)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The first kind in `Accept` that we have; JSON where it names none.
fn wanted(headers: &HeaderMap) -> Result<Wanted, ApiError> {
    let Some(accept) = headers.get(header::ACCEPT) else { return Ok(Wanted::Json) };
    let accept = accept.to_str().unwrap_or_default();
    let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let mut known = kinds.filter_map(|kind| match kind {
        "application/json" | "application/*" | "*/*" => Some(Wanted::Json),
        "image/png" | "image/*" => Some(Wanted::Mask),
        "application/zip" => Some(Wanted::Zip),
        _ => None,
    });
    known.next().ok_or_else(|| {
        let message =
            "cannot answer in a media type of `Accept`; take application/json, image/png or application/zip";
        ApiError::new(ErrorCode::NotAcceptable, message)
    })
}

/// The image's name and bytes, from a form or a bare body.
async fn read_image(context: &Context, request: Request) -> Result<(String, Bytes), ApiError> {
    let limit_bytes = context.settings.max_request_bytes;
    let media_type = media_type(request.headers());
    if media_type == "multipart/form-data" {
        return read_form(Multipart::from_request(request, context).await?, limit_bytes).await;
    }
    let name = format!("image.{}", media_type.rsplit('/').next().unwrap_or_default());
    let (parts, body) = request.into_parts();
    Ok((name, read_body(&parts.headers, body, limit_bytes).await?))
}

async fn read_form(mut form: Multipart, limit_bytes: u64) -> Result<(String, Bytes), ApiError> {
    let mut image = None;
    while let Some(mut field) = form.next_field().await? {
        let part = field.name().unwrap_or_default().to_owned();
        if part != "image" || image.is_some() {
            let message = "a form has one part, named `image`; options go into the query string";
            return Err(Fault::new(part, message).into());
        }
        let path = field.file_name().unwrap_or("image").replace('\\', "/");
        let name: String = path.rsplit('/').next().unwrap_or("image").chars().take(255).collect();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = field.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > limit_bytes {
                let message = format!("the image is larger than {limit_bytes} bytes; cut it into pieces");
                return Err(
                    ApiError::new(ErrorCode::PayloadTooLarge, message.clone()).with_detail("image", message)
                );
            }
            bytes.extend_from_slice(&chunk);
        }
        image = Some((name, bytes.freeze()));
    }
    image.ok_or_else(|| Fault::new("image", "missing; add the image as a part named `image`").into())
}
