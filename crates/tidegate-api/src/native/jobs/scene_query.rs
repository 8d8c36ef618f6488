//! A job whose request is in the query, because the body is the scene itself: what `curl -T scene.tif` sends.

use axum::extract::Request;
use http::{Method, header};
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use tidegate_core::Environment;

use super::raster::{PATH, RasterRequest};
use crate::error::{ApiError, ErrorCode};
use crate::extract::{Encoding, media_type};
use crate::operations::fault::Fault;
use crate::operations::raster::{PolygonFormat, RasterOptions};

/// For a scene sent as the body; in a JSON request or a form, all of it is in the JSON.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SceneQuery {
    /// Of a scene sent as the body, which needs it: the model's id or name. The other parameters go with it.
    model_id: Option<String>,
    version: Option<String>,
    #[param(value_type = Option<String>)]
    environment: Option<Environment>,
    /// The scene's file name, which the results show; default `scene.tif`.
    name: Option<String>,
    /// This and the following are the `options` of the JSON.
    gsd: Option<f64>,
    threshold: Option<f64>,
    /// GeoJSON, as a text.
    aoi: Option<String>,
    probability: Option<bool>,
    /// Separated by commas; empty for none.
    #[param(example = "geojson,gpkg")]
    polygons: Option<String>,
    simplify: Option<f64>,
    min_area: Option<f64>,
    overlay: Option<bool>,
    assume_crs: Option<String>,
    overlap: Option<u32>,
    tta: Option<bool>,
}

const DEFAULT_NAME: &str = "scene.tif";

/// Whether the body is a scene. curl names no type with `-T`, and a form's with `--data-binary`; whoever has a model in the
/// query means a scene by them.
pub(super) fn is_scene(request: &Request) -> bool {
    match media_type(request.headers()).as_str() {
        "image/tiff" | "application/octet-stream" => true,
        "" | "application/x-www-form-urlencoded" => {
            let query = request.uri().query().unwrap_or_default();
            url::form_urlencoded::parse(query.as_bytes()).any(|(key, _)| key == "modelId")
        }
        _ => false,
    }
}

/// Whether a request carries a scene, which is stored as it comes and never held.
pub(crate) fn carries_scene(request: &Request) -> bool {
    request.method() == Method::POST
        && request.uri().path() == PATH
        && (media_type(request.headers()) == "multipart/form-data" || is_scene(request))
}

/// A query beside a request that has it all in its JSON would be ignored, so it is refused.
pub(super) fn refuse_query(request: &Request) -> Result<(), ApiError> {
    let query = request.uri().query().unwrap_or_default();
    match url::form_urlencoded::parse(query.as_bytes()).next() {
        Some((key, _)) => {
            let key: String = key.chars().take(80).collect();
            let message = "parameters are for a scene sent as the body; here, put it into the JSON";
            Err(ApiError::invalid(&key, message))
        }
        None => Ok(()),
    }
}

/// A body that is stored as it comes.
pub(super) fn refuse_encoded(request: &Request) -> Result<(), ApiError> {
    if Encoding::of(request.headers(), header::CONTENT_ENCODING.as_str())? == Encoding::Identity {
        return Ok(());
    }
    let message = "a scene is taken as it is; send it without a Content-Encoding";
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, message))
}

impl SceneQuery {
    /// The request that it stands for, and the scene's name.
    pub(super) fn into_request(self) -> Result<(RasterRequest, String), Fault> {
        let missing = || Fault::new("modelId", "missing; name a deployed model: ?modelId=NAME");
        let defaults = RasterOptions::default();
        let aoi = self.aoi.as_deref().map(serde_json::from_str).transpose();
        let options = RasterOptions {
            gsd: self.gsd,
            threshold: self.threshold,
            aoi: aoi.map_err(|error| Fault::new("aoi", format!("is not JSON: {error}")))?,
            probability: self.probability.unwrap_or(defaults.probability),
            polygons: self.polygons.as_deref().map_or(Ok(defaults.polygons), polygons)?,
            simplify: self.simplify,
            min_area: self.min_area.unwrap_or(defaults.min_area),
            overlay: self.overlay.unwrap_or(defaults.overlay),
            assume_crs: self.assume_crs,
            overlap: self.overlap.unwrap_or(defaults.overlap),
            tta: self.tta.unwrap_or(defaults.tta),
        };
        let request = RasterRequest {
            model_id: self.model_id.ok_or_else(missing)?,
            version: self.version,
            environment: self.environment,
            source: None,
            options,
        };
        Ok((request, self.name.unwrap_or_else(|| DEFAULT_NAME.to_owned())))
    }
}

fn polygons(text: &str) -> Result<Vec<PolygonFormat>, Fault> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let format = |name: &str| {
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        PolygonFormat::deserialize(name).map_err(|error| Fault::new("polygons", error.to_string()))
    };
    names.map(format).collect()
}
