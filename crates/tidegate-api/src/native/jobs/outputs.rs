//! What a job has made, as a download: whole, or a range of it (RFC 9110, section 14), so that a GIS can open a
//! cloud-optimised GeoTIFF where it lies.

use std::ops::Range;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use tidegate_core::JobId;

use super::find;
use crate::context::Context;
use crate::error::{ApiError, ErrorBody, ErrorCode};
use crate::extract::ApiPath;
use crate::operations::raster::{RasterOutput, RasterResult, output_key};

/// Downloads a file that a job has made. Its ETag is its SHA-256.
#[utoipa::path(get, path = "/api/v1/jobs/{id}/outputs/{name}", operation_id = "downloadJobOutput", tag = "jobs",
    params(("id" = String, Path), ("name" = String, Path, description = "As the job's `result.outputs` names it"),
        ("Range" = Option<String>, Header, description = "One range of bytes: `bytes=0-1023`")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 206, content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "As named by If-None-Match"), (status = 404, body = ErrorBody),
        (status = 409, description = "The job has not succeeded", body = ErrorBody),
        (status = 416, description = "The range lies beyond the end", body = ErrorBody)))]
pub(crate) async fn output(
    State(context): State<Context>,
    ApiPath((id, name)): ApiPath<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = JobId::new(id);
    let output = output_of(&context, &id, &name).await?;
    let etag = format!("\"{}\"", output.sha256);
    let given = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let tags = given(header::IF_NONE_MATCH).unwrap_or_default();
    if tags.split(',').any(|tag| tag.trim() == etag || tag.trim() == "*") {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    // A range of another state of the file than the caller has is no use; ours never change.
    let is_same = given(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let asked = given(header::RANGE).filter(|_| is_same).map(|text| Asked::parse(text, output.size_bytes));
    let size = output.size_bytes;
    let (status, range) = match asked {
        None | Some(Asked::Whole) => (StatusCode::OK, 0..size),
        Some(Asked::Part(range)) => (StatusCode::PARTIAL_CONTENT, range),
        Some(Asked::Beyond) => {
            let message = format!("the range lies beyond the end: `{name}` has {size} bytes");
            let error = ApiError::new(ErrorCode::RangeNotSatisfiable, message.clone());
            return Err(error.with_detail("Range", message));
        }
    };
    let length = range.end - range.start;
    let key = output_key(&id, &name);
    let stream = match status {
        StatusCode::PARTIAL_CONTENT => context.artifacts.get_range(&key, range.clone()).await?,
        _ => context.artifacts.get(&key).await?,
    };
    let headers = [
        (header::CONTENT_TYPE, output.media_type),
        (header::CONTENT_LENGTH, length.to_string()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, etag),
    ];
    let mut response = (status, headers, Body::from_stream(stream)).into_response();
    if status == StatusCode::PARTIAL_CONTENT {
        let content_range = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        let value = content_range.parse().expect("numbers make a header");
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    Ok(response)
}

async fn output_of(context: &Context, id: &JobId, name: &str) -> Result<RasterOutput, ApiError> {
    let record = find(context, id).await?;
    let Some(result) = record.result else {
        let message = format!("job {id} is {}; its files are there once it has succeeded", record.status);
        return Err(ApiError::new(ErrorCode::Conflict, message));
    };
    let result: RasterResult = serde_json::from_value(result).map_err(|error| ApiError::internal(&error))?;
    let names: Vec<_> = result.outputs.iter().map(|output| output.name.clone()).collect();
    result.outputs.into_iter().find(|output| output.name == name).ok_or_else(|| {
        let message = format!("job {id} has no such output; it has {}", names.join(", "));
        ApiError::new(ErrorCode::NotFound, message)
    })
}

/// What a `Range` header asks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// Everything: several ranges, or what cannot be read, may be answered so.
    Whole,
    /// At least one byte.
    Part(Range<u64>),
    Beyond,
}

impl Asked {
    fn parse(text: &str, size: u64) -> Self {
        let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
            return Self::Whole;
        };
        let range = match (first.trim(), last.trim()) {
            ("", last) => match last.parse::<u64>() {
                Ok(n_last) => size.saturating_sub(n_last)..size,
                Err(_) => return Self::Whole,
            },
            (first, "") => match first.parse() {
                Ok(first) => first..size,
                Err(_) => return Self::Whole,
            },
            (first, last) => match (first.parse::<u64>(), last.parse::<u64>()) {
                (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
                _ => return Self::Whole,
            },
        };
        if range.start < range.end { Self::Part(range) } else { Self::Beyond }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_standard_has_them() {
        let part = |range| Asked::Part(range);
        let cases = [
            ("bytes=0-0", part(0..1)),
            ("bytes=10-19", part(10..20)),
            ("bytes=90-", part(90..100)),
            ("bytes=90-1000", part(90..100)),
            ("bytes=-10", part(90..100)),
            ("bytes=-1000", part(0..100)),
            ("bytes=100-", Asked::Beyond),
            ("bytes=200-300", Asked::Beyond),
            ("bytes=-0", Asked::Beyond),
            ("bytes=0-1,5-6", Asked::Whole),
            ("bytes=20-10", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
        ];
        for (text, expected) in cases {
            assert_eq!(Asked::parse(text, 100), expected, "{text}");
        }
    }
}
