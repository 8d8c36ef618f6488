//! An application on temporary ground, and short ways to talk to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tidegate_api::{
    AppState, Application, AsyncRunner, Phase, Readiness, Settings, ThisReplica, application,
};
use tidegate_core::{Clock, Environment, IdSource, Model, Precision, ReplicaId, Route, Timestamp, VersionId};
use tidegate_serve::{
    RuntimeChoice, RuntimeOptions, Server, ServerOptions, Slot, SlotOptions, SlotSpec, open_runtime,
};
use tidegate_store::{ArtifactLocation, ArtifactStore, InferenceRecord, Store};
use tokio::sync::mpsc;
use tower::ServiceExt;

use crate::control::FakeControl;

/// Always the same moment, so that snapshots need no redaction of it.
pub struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }
}

/// Rows that the log takes before it sheds.
pub const LOG_CAPACITY: usize = 8;

/// The id of the process that the application is.
pub const THIS_REPLICA: &str = "replica-this";

pub struct App {
    pub router: Router,
    /// For whoever wants it to run.
    pub async_runner: Option<AsyncRunner>,
    pub store: Arc<Store>,
    pub artifacts: Arc<ArtifactStore>,
    pub server: Arc<Server>,
    pub readiness: Arc<Readiness>,
    pub log: mpsc::Receiver<InferenceRecord>,
    pub folder: tempfile::TempDir,
}

/// A version that was loaded beside the one that answers, and what a new route is made of.
pub struct Beside {
    pub model: Model,
    pub route: Route,
    pub running: Arc<Slot>,
    pub candidate: Arc<Slot>,
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl App {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Loads a registered version of a model that answers in Production.
    pub async fn load_beside(&self, model: &str, version_id: &str) -> Beside {
        let version = self.store.versions.get(&VersionId::new(version_id)).await.unwrap().unwrap();
        let model = self.store.models.find(model).await.unwrap().unwrap();
        let artifact = &version.primary;
        let path =
            self.artifacts.local_path(&artifact.path, &artifact.sha256, self.folder.path()).await.unwrap();
        let (model_name, number) = (model.name.clone(), version.version);
        let spec = SlotSpec { version_id: version.id, model_name, number, path, precision: Precision::F32 };
        let candidate = self.server.load(spec).await.unwrap();
        let route = self.store.routes.get(Environment::Production, &model.id).await.unwrap().unwrap();
        let running = self.server.slot(&route.arms[0].version_id).unwrap();
        Beside { model, route, running, candidate }
    }

    /// Started with other settings than the defaults. Files below `folder/import` may be imported.
    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let import = folder.path().join("import");
        std::fs::create_dir(&import).unwrap();
        let mut settings = Settings::with_cache_dir(folder.path().join("cache"));
        settings.import_roots = vec![tidegate_api::ImportRoot::Folder(import)];
        change(&mut settings);

        let database = format!("sqlite://{}", folder.path().join("tidegate.db").display());
        let store = Arc::new(Store::connect(&database).await.unwrap());
        let location = ArtifactLocation::Folder(folder.path().join("artifacts"));
        let artifacts = Arc::new(ArtifactStore::open(&location).unwrap());
        let runtime =
            open_runtime(&RuntimeOptions { choice: RuntimeChoice::Rten, ..RuntimeOptions::default() })
                .unwrap();
        let slot = SlotOptions { warmup_runs: 2, ..SlotOptions::default() };
        let options = ServerOptions { n_workers: 1, queue_limit: 64, slot, ..ServerOptions::default() };
        let server = Arc::new(Server::new(runtime, options));
        let clock: Arc<dyn Clock> = Arc::new(FixedClock);
        let ids = Arc::new(IdSource::seeded(7));
        let readiness = Arc::new(Readiness::default());
        readiness.set(Phase::Ready);
        let control = Arc::new(FakeControl {
            store: Arc::clone(&store),
            artifacts: Arc::clone(&artifacts),
            server: Arc::clone(&server),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
        });
        let (inference_log, log) = mpsc::channel(LOG_CAPACITY);
        let state = AppState {
            store: Arc::clone(&store),
            artifacts: Arc::clone(&artifacts),
            server: Arc::clone(&server),
            control,
            clock,
            ids,
            settings,
            readiness: Arc::clone(&readiness),
            inference_log,
            replica: ThisReplica {
                id: ReplicaId::new(THIS_REPLICA),
                time_to_live: SignedDuration::from_secs(15),
            },
        };
        let Application { router, async_runner } = application(state);
        Self { router, async_runner: Some(async_runner), store, artifacts, server, readiness, log, folder }
    }

    pub async fn send(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap().to_vec();
        Reply { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(request(Method::GET, path, "", Body::empty())).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(request(Method::DELETE, path, "", Body::empty())).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_raw(path, "application/json", body.to_string()).await
    }

    pub async fn post_raw(&self, path: &str, content_type: &str, body: impl Into<Body>) -> Reply {
        self.send(request(Method::POST, path, content_type, body.into())).await
    }

    pub async fn post_form(&self, path: &str, parts: &[Part]) -> Reply {
        self.post_raw(path, FORM_TYPE, form(parts)).await
    }

    /// Registers a fixture and returns the response.
    pub async fn register(&self, name: &str, version: &str, fixture_name: &str) -> Value {
        let metadata = json!({"name": name, "framework": "ONNX", "version": version});
        let parts = [Part::text("metadata", &metadata), Part::file("model.onnx", fixture(fixture_name))];
        let reply = self.post_form("/api/v1/models", &parts).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
        reply.json()
    }

    /// Registers a fixture and deploys it.
    pub async fn serve(&self, name: &str, version: &str, fixture_name: &str) {
        self.register(name, version, fixture_name).await;
        self.deploy(name, version).await;
    }

    pub async fn deploy(&self, name: &str, version: &str) -> Value {
        let reply = self.post("/api/v1/deployments", &json!({"modelId": name, "version": version})).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
        reply.json()
    }

    /// Everything in the artifact store.
    pub async fn stored_keys(&self) -> Vec<String> {
        self.artifacts.list("").await.unwrap().into_iter().map(|stored| stored.key).collect()
    }
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(2000).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// For snapshots: what is random is replaced by what it is.
    pub fn redacted(&self) -> Value {
        redacted(self.json())
    }

    /// The error's status, code and the fields it names; checks the shape around them.
    pub fn error(&self) -> (u16, String, Vec<String>) {
        let error = self.json()["error"].take();
        assert_eq!(error["traceId"].as_str().unwrap().len(), 32, "{error}");
        assert_eq!(error["traceId"], self.header("x-trace-id"));
        assert_eq!(error["timestamp"], "2026-11-23T12:00:00Z");
        assert!(!error["message"].as_str().unwrap().is_empty());
        let fields = error["details"].as_array().unwrap().iter();
        let fields = fields.map(|detail| detail["field"].as_str().unwrap().to_owned()).collect();
        (self.status.as_u16(), error["code"].as_str().unwrap().to_owned(), fields)
    }

    pub fn message(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap().to_owned()
    }

    /// Fails unless the reply is this error and names `field` (when not empty).
    #[track_caller]
    pub fn check(&self, status: u16, code: &str, field: &str) {
        let (actual_status, actual_code, fields) = self.error();
        assert_eq!((actual_status, actual_code.as_str()), (status, code), "{}", self.text());
        assert!(field.is_empty() || fields.iter().any(|named| named == field), "`{field}`: {}", self.text());
    }
}

fn redacted(value: Value) -> Value {
    match value {
        Value::String(text) => match text.rsplit_once('-') {
            Some((kind, hex)) if hex.len() == 32 => json!(format!("[{kind} id]")),
            _ => Value::String(text),
        },
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        Value::Object(members) => members.into_iter().map(|(key, member)| (key, redacted(member))).collect(),
        other => other,
    }
}

pub fn request(method: Method, path: &str, content_type: &str, body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    request.body(body).unwrap()
}

/// A part of a form.
pub struct Part {
    pub name: String,
    pub file_name: Option<String>,
    pub bytes: Vec<u8>,
}

impl Part {
    pub fn text(name: &str, value: &Value) -> Self {
        Self { name: name.to_owned(), file_name: None, bytes: value.to_string().into_bytes() }
    }

    pub fn file(file_name: &str, bytes: Vec<u8>) -> Self {
        Self { name: "artifact".to_owned(), file_name: Some(file_name.to_owned()), bytes }
    }
}

pub const FORM_TYPE: &str = "multipart/form-data; boundary=tide";

pub fn form(parts: &[Part]) -> Vec<u8> {
    let mut body = Vec::new();
    for part in parts {
        body.extend_from_slice(&part_head(part));
        body.extend_from_slice(&part.bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--tide--\r\n");
    body
}

pub fn part_head(part: &Part) -> Vec<u8> {
    let file_name = part.file_name.as_ref().map_or(String::new(), |name| format!("; filename=\"{name}\""));
    format!("--tide\r\ncontent-disposition: form-data; name=\"{}\"{file_name}\r\n\r\n", part.name)
        .into_bytes()
}

pub fn fixture(name: &str) -> Vec<u8> {
    let path = repository().join("fixtures/onnx").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The example of the repository: its item, and its files by name.
pub fn example() -> (Value, Vec<Part>) {
    let folder = repository().join("examples/refugee-camp");
    let item: Value = serde_json::from_slice(&std::fs::read(folder.join("stac_item.json")).unwrap()).unwrap();
    let hrefs = item["assets"].as_object().unwrap().values();
    let names = hrefs.map(|asset| asset["href"].as_str().unwrap().rsplit('/').next().unwrap());
    let parts = names.map(|name| Part::file(name, std::fs::read(folder.join(name)).unwrap())).collect();
    (item, parts)
}
