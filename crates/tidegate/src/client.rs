//! The command line's HTTP client: small calls, errors as the server words them.

mod events;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use events::EventStream;

use anyhow::{Context, anyhow, bail};
use reqwest::multipart::{Form, Part};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest page that a listing gives.
const PAGE: &str = "100";

pub struct Client {
    http: reqwest::Client,
    base: Url,
}

/// A deployment as asked for on the command line; absent fields are left to the server.
#[derive(Clone, Debug, Default)]
pub struct DeployRequest {
    pub model: String,
    pub version: Option<String>,
    pub environment: Option<String>,
    pub strategy: Option<String>,
    pub strategy_config: Option<Value>,
    /// Why a failed validation shall not stop it.
    pub override_reason: Option<String>,
}

/// A refusal or failure as the server said it.
#[derive(Debug, thiserror::Error)]
#[error("{message}{}", self.details_text())]
pub struct ApiError {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub details: Vec<(String, String)>,
    pub trace_id: String,
}

impl ApiError {
    fn details_text(&self) -> String {
        let lines = self.details.iter().map(|(field, message)| format!("\n  {field}: {message}"));
        lines.chain([format!("\n  ({} {}, trace {})", self.status, self.code, self.trace_id)]).collect()
    }
}

impl Client {
    pub fn new(server: &str) -> anyhow::Result<Self> {
        let base = Url::parse(server).map_err(|error| {
            anyhow!("--server `{server}` is not a URL such as http://127.0.0.1:5000: {error}")
        })?;
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).build()?;
        Ok(Self { http, base })
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        Ok(response.json().await?)
    }

    /// Writes an answer's body into a file, as it comes.
    pub async fn download(&self, path: &str, file: &Path) -> anyhow::Result<()> {
        use tokio::io::AsyncWriteExt;
        let mut response = self.send(self.request(Method::GET, path)?).await?;
        let write_failed = || format!("failed to write `{}`", file.display());
        let mut target = tokio::fs::File::create(file).await.with_context(write_failed)?;
        while let Some(chunk) = response.chunk().await.context("the download broke off")? {
            target.write_all(&chunk).await.with_context(write_failed)?;
        }
        target.flush().await.with_context(write_failed)
    }

    /// Every item of a paged listing: `key` names the array. `query` has the filters.
    pub async fn list_all(
        &self,
        path: &str,
        key: &str,
        query: &[(&str, Option<&str>)],
    ) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        loop {
            let mut pairs = url::form_urlencoded::Serializer::new(String::new());
            pairs.append_pair("limit", PAGE).append_pair("offset", &items.len().to_string());
            for (name, value) in query {
                if let Some(value) = value {
                    pairs.append_pair(name, value);
                }
            }
            let mut page = self.get(&format!("{path}?{}", pairs.finish())).await?;
            let Value::Array(found) = page[key].take() else { bail!("the server's answer has no `{key}`") };
            let is_last = found.is_empty();
            items.extend(found);
            if is_last || items.len() as u64 >= page["total"].as_u64().unwrap_or(0) {
                return Ok(items);
            }
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let response = self.send(self.request(Method::POST, path)?.json(body)).await?;
        Ok(response.json().await?)
    }

    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.send(self.request(Method::DELETE, path)?).await.map(drop)
    }

    /// Uploads a version: the metadata first, then the files, streamed.
    pub async fn register(
        &self,
        metadata: &Value,
        stac_item: Option<&Path>,
        files: &[PathBuf],
        validation_sample: &[PathBuf],
    ) -> anyhow::Result<Value> {
        let mut form = Form::new().part("metadata", json_part(metadata.to_string())?);
        if let Some(item) = stac_item {
            let text = std::fs::read_to_string(item)
                .with_context(|| format!("failed to read the STAC item `{}`", item.display()))?;
            form = form.part("stac", json_part(text)?);
        }
        let artifacts = files.iter().map(|file| ("artifact", file));
        for (name, file) in artifacts.chain(validation_sample.iter().map(|file| ("validationSample", file))) {
            let part = Part::file(file).await;
            form = form.part(name, part.with_context(|| format!("failed to open `{}`", file.display()))?);
        }
        let response = self.send(self.request(Method::POST, "/api/v1/models")?.multipart(form)).await?;
        Ok(response.json().await?)
    }

    pub async fn deploy(&self, request: &DeployRequest) -> anyhow::Result<Value> {
        let fields = [
            ("version", &request.version),
            ("environment", &request.environment),
            ("strategy", &request.strategy),
        ];
        let mut body = json!({"modelId": request.model});
        for (key, value) in fields {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        if let Some(config) = &request.strategy_config {
            body["strategyConfig"] = config.clone();
        }
        if let Some(reason) = &request.override_reason {
            body["override"] = json!({"reason": reason});
        }
        self.post("/api/v1/deployments", &body).await
    }

    /// Sends an image; the answer is a zip of the four prediction files.
    pub async fn predict_image(
        &self,
        model: &str,
        image: &Path,
        query: &[(&str, String)],
    ) -> anyhow::Result<Vec<u8>> {
        let part =
            Part::file(image).await.with_context(|| format!("failed to open `{}`", image.display()))?;
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let request =
            self.request(Method::POST, &format!("/api/v1/inference/{}?{query}", Self::segment(model)))?;
        let request = request.header("accept", "application/zip").multipart(Form::new().part("image", part));
        let response = self.send(request).await?;
        Ok(response.bytes().await?.to_vec())
    }

    /// Asks for a raster job on a scene of this machine, which is streamed to the server.
    pub async fn upload_scene(&self, job: &Value, scene: &Path) -> anyhow::Result<Value> {
        let file =
            Part::file(scene).await.with_context(|| format!("failed to open `{}`", scene.display()))?;
        let form = Form::new().part("job", json_part(job.to_string())?).part("scene", file);
        let response = self.send(self.request(Method::POST, "/api/v1/jobs/raster")?.multipart(form)).await?;
        Ok(response.json().await?)
    }

    /// A name as one segment of a path, whatever is in it.
    pub fn segment(name: &str) -> String {
        const PLAIN: &[u8] = b"-_.~";
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || PLAIN.contains(&byte);
        // `.` and `..` would be resolved away.
        let dots_only = name.bytes().all(|byte| byte == b'.');
        let encode = |byte: u8| match is_plain(byte) && !dots_only {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        name.bytes().map(encode).collect()
    }

    fn request(&self, method: Method, path: &str) -> anyhow::Result<reqwest::RequestBuilder> {
        let url = self.base.join(path).with_context(|| format!("`{path}` does not make a URL"))?;
        Ok(self.http.request(method, url).header("x-tidegate-user", user()))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => {
                bail!(
                    "no server answers at {}; start one with `tidegate serve`, or name yours with --server",
                    self.base
                )
            }
            Err(error) => return Err(error).context("the request to the server failed"),
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = response.text().await.unwrap_or_default();
        Err(api_error(status, &body).into())
    }
}

fn json_part(text: String) -> anyhow::Result<Part> {
    Ok(Part::text(text).mime_str("application/json")?)
}

fn api_error(status: StatusCode, body: &str) -> ApiError {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let error = &parsed["error"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let details = error["details"].as_array().into_iter().flatten();
    let message = match error["message"].as_str() {
        Some(message) => message.to_owned(),
        None => format!("the server answered {status}; is it a Tidegate server?"),
    };
    ApiError {
        status: status.as_u16(),
        code: text(&error["code"]),
        message,
        details: details.map(|detail| (text(&detail["field"]), text(&detail["message"]))).collect(),
        trace_id: text(&error["traceId"]),
    }
}

/// Who asks: the login name, for the audit trail until there is authentication.
#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
fn user() -> String {
    let named = ["USER", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let name = named.unwrap_or_default().chars().filter(char::is_ascii_graphic).collect::<String>();
    if name.is_empty() { "cli".to_owned() } else { name }
}
