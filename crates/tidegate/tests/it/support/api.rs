//! A small HTTP client that keeps status, headers and body together.

use std::time::Instant;

use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::PATIENCE;

#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    pub base: String,
}

/// A status and a body, which is JSON nearly always.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    /// The error code of the native error shape.
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// Panics with the body when the status is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

pub fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

impl Api {
    pub fn new(base: &str) -> Self {
        // The binary installs ring; a test process has to do so itself. A second install is refused, harmlessly.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self { http: reqwest::Client::new(), base: base.to_owned() }
    }

    /// The same server, asked by somebody else.
    pub fn as_user(&self, name: &str) -> Self {
        self.with_header("x-tidegate-user", name)
    }

    /// The same server, asked with a header each time.
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(name, value.parse().expect("a plain value"));
        let http =
            reqwest::Client::builder().default_headers(headers).build().expect("a client with a header");
        Self { http, base: self.base.clone() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.http.get(self.url(path))).await.expect("the server answers")
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).await.expect("the server answers")
    }

    /// `None` when the connection broke.
    pub async fn try_post(&self, path: &str, body: &Value) -> Option<Answer> {
        self.answer(self.http.post(self.url(path)).json(body)).await
    }

    /// Registers one file under a name and version.
    pub async fn register(&self, name: &str, version: &str, file_name: &str, bytes: Vec<u8>) -> Answer {
        let metadata = json!({"name": name, "version": version, "framework": "ONNX"});
        let form = Form::new()
            .part(
                "metadata",
                Part::text(metadata.to_string()).mime_str("application/json").expect("a MIME type"),
            )
            .part("artifact", Part::bytes(bytes).file_name(file_name.to_owned()));
        self.post_form("/api/v1/models", form).await
    }

    pub async fn post_form(&self, path: &str, form: Form) -> Answer {
        self.answer(self.http.post(self.url(path)).multipart(form)).await.expect("the server answers")
    }

    /// Deploys and waits until the version has the traffic.
    pub async fn deploy(&self, model: &str, version: &str) -> String {
        let body = json!({"modelId": model, "version": version, "strategyConfig": {"smokeTestSamples": 2}});
        let created = self.post("/api/v1/deployments", &body).await.expect(202);
        let id = created["deploymentId"].as_str().expect("an id").to_owned();
        let path = format!("/api/v1/deployments/{id}");
        let done = self.wait_for(&path, |answer| {
            let status = answer.body["status"].as_str().unwrap_or_default();
            assert!(!matches!(status, "Failed" | "RolledBack" | "Cancelled"), "{}", answer.body);
            answer.body["trafficPercentage"] == json!(100)
        });
        done.await;
        id
    }

    /// Asks until the answer satisfies, or panics with the last one. A broken connection counts as not yet.
    pub async fn wait_for(&self, path: &str, satisfied: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.answer(self.http.get(self.url(path))).await;
            match answer {
                Some(answer) if satisfied(&answer) => return answer,
                last => assert!(Instant::now() < deadline, "{path} never satisfied: {last:?}"),
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Option<Answer> {
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let bytes = response.bytes().await.ok()?;
        Some(Answer { status, body: json_of(&bytes) })
    }
}
