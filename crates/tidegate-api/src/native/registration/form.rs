//! Reading a registration form part by part; files go straight into the store.

use std::io;

use axum::extract::Multipart;
use axum::extract::multipart::Field;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use serde::de::DeserializeOwned;

use super::{RegisterRequest, draft, registrar};
use crate::context::Context;
use crate::error::{ApiError, ErrorCode};
use crate::extract::{Principal, json_from_slice};
use crate::operations::fault::Fault;
use crate::operations::register::{Registered, StacItem, Upload};
use crate::operations::sample::FIELD;

/// Of the parts `metadata` and `stac`. Items with long band lists stay far below.
const MAX_TEXT_BYTES: usize = 4 << 20;

pub(super) async fn register(
    context: &Context,
    principal: &Principal,
    mut form: Multipart,
) -> Result<Registered, ApiError> {
    let mut upload = None;
    let received = receive(context, principal, &mut form, &mut upload).await;
    match (received, upload) {
        (Ok(()), Some(upload)) => Ok(upload.finish().await?),
        (Ok(()), None) => {
            Err(Fault::new("artifact", "missing; add the model's file as a part named `artifact`").into())
        }
        (Err(error), upload) => {
            if let Some(upload) = upload {
                upload.abandon().await;
            }
            Err(error)
        }
    }
}

async fn receive<'a>(
    context: &'a Context,
    principal: &Principal,
    form: &mut Multipart,
    upload: &mut Option<Upload<'a>>,
) -> Result<(), ApiError> {
    let mut metadata: Option<RegisterRequest> = None;
    let mut stac: Option<StacItem> = None;
    while let Some(field) = form.next_field().await? {
        let name = field.name().unwrap_or_default().to_owned();
        match name.as_str() {
            "metadata" | "stac" if upload.is_some() => {
                let message = "must come before the first file, so that a mistake shows before the upload";
                return Err(Fault::new(name, message).into());
            }
            "metadata" if metadata.is_none() => metadata = Some(read_metadata(field).await?),
            "stac" if stac.is_none() => stac = Some(read_stac(field).await?),
            "metadata" | "stac" => return Err(Fault::new(name, "given twice").into()),
            "artifact" | FIELD => {
                if upload.is_none() {
                    let draft = draft(metadata.take().unwrap_or_default(), stac.take(), principal)?;
                    *upload = Some(Upload::begin(registrar(context), draft).await?);
                }
                if let Some(upload) = upload {
                    let file_name = field.file_name().unwrap_or_default().to_owned();
                    let stream = field.map_err(io::Error::other);
                    match name.as_str() {
                        FIELD => upload.add_sample(&file_name, stream).await?,
                        _ => upload.add(&file_name, stream).await?,
                    }
                }
            }
            _ => {
                let message =
                    "unknown part; a registration has `metadata`, `stac`, `artifact` and `validationSample`";
                return Err(Fault::new(name.chars().take(80).collect::<String>(), message).into());
            }
        }
    }
    Ok(())
}

async fn read_metadata(field: Field<'_>) -> Result<RegisterRequest, ApiError> {
    let metadata: RegisterRequest = json_part("metadata", &read_text("metadata", field).await?)?;
    if metadata.from.is_some() {
        let message = "not beside uploaded files; send the registration as application/json, without files";
        return Err(Fault::new("from", message).into());
    }
    match metadata.artifact_path {
        None => Ok(metadata),
        Some(_) => Err(Fault::new("artifactPath", "not beside uploaded files; send one or the other").into()),
    }
}

async fn read_stac(field: Field<'_>) -> Result<StacItem, ApiError> {
    let json = json_part("stac", &read_text("stac", field).await?)?;
    StacItem::parse(json).map_err(|faults| ApiError::validation("the STAC item does not fit", faults))
}

/// A fault of the whole JSON is one of the part: the body is the form.
pub(crate) fn json_part<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, ApiError> {
    json_from_slice(bytes).map_err(|error| match error.details.first() {
        Some(detail) if detail.field == "(body)" => ApiError::invalid(name, detail.message.clone()),
        _ => error,
    })
}

pub(crate) async fn read_text(name: &str, mut field: Field<'_>) -> Result<Bytes, ApiError> {
    let mut text = BytesMut::new();
    while let Some(chunk) = field.chunk().await? {
        if text.len() + chunk.len() > MAX_TEXT_BYTES {
            let message = format!("`{name}` is larger than {MAX_TEXT_BYTES} bytes");
            return Err(ApiError::new(ErrorCode::PayloadTooLarge, message.clone()).with_detail(name, message));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text.freeze())
}
