//! Where scenes lie, and how a job is asked for, watched and compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{Api, Installation, files_below, json_of, repository, run, write_scene};

pub(super) const MODEL: &str = "refugee-camp-detector";

pub(super) fn item() -> PathBuf {
    repository().join("examples/refugee-camp/stac_item.json")
}

/// Scenes lie in a folder that the server may read.
pub(super) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// With a scene of two times eight tiles, a second or two of work, and of which the first 512 rows are done at 6 of them.
    pub(super) fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        write_scene(&place.path("scene.tif"), 400, 1800);
        place
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn address(&self, name: &str) -> String {
        url::Url::from_file_path(self.path(name)).unwrap().to_string()
    }

    pub(super) fn allow(&self, installation: &mut Installation, more: &[&str]) {
        let folder = self.folder.path().display().to_string();
        let sources: Vec<_> = [folder.as_str()].into_iter().chain(more.iter().copied()).collect();
        let setting = ("TIDEGATE_JOBS__SOURCES".to_owned(), json!(sources).to_string());
        installation.extra_env.push(setting);
    }

    /// What `tidegate predict --stac` makes of the scene.
    pub(super) fn predicted(&self, name: &str, flags: &[&str]) -> Files {
        let installation = Installation::new();
        let mut predict = installation.command();
        predict.arg("predict").arg(self.path(name)).arg("--stac").arg(item());
        predict.args(["--output-dir", "out"]).args(flags);
        let (success, output, errors) = run(predict);
        assert!(success, "{output}\n{errors}");
        read_files(&installation.folder.path().join("out"))
    }
}

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// What lies in a folder.
pub(super) fn read_files(folder: &Path) -> Files {
    let named = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name.clone(), comparable(&name, std::fs::read(path).unwrap()))
    };
    files_below(folder).into_iter().map(named).collect()
}

/// The item says when it was made; everything else must be equal.
pub(super) fn comparable(name: &str, bytes: Vec<u8>) -> Vec<u8> {
    if name != "prediction_item.json" {
        return bytes;
    }
    let mut item = json_of(&bytes);
    item["properties"]["datetime"].take();
    item["properties"]["created"].take();
    item.to_string().into_bytes()
}

pub(super) async fn with_model(api: &Api, installation: &Installation, item: &Path, model: &str) {
    let mut register = installation.command();
    register.args(["model", "register", "--stac"]).arg(item).args(["--server", &api.base]);
    let (success, output, errors) = run(register);
    assert!(success, "{output}\n{errors}");
    api.deploy(model, "1.0.0").await;
}

pub(super) async fn ask(api: &Api, body: &Value) -> String {
    let created = api.post("/api/v1/jobs/raster", body).await.expect(202);
    format!("/api/v1/jobs/{}", created["jobId"].as_str().unwrap())
}

pub(super) async fn wait_until(api: &Api, job: &str, status: &'static str) -> Value {
    let seen = api.wait_for(job, move |answer| {
        let now = answer.body["status"].as_str().unwrap_or_default();
        let is_over = ["Succeeded", "Failed", "Cancelled"].contains(&now);
        assert!(!is_over || now == status, "{}", answer.body);
        now == status
    });
    seen.await.body
}

/// Until so much of the tiles is done, and the end is far.
pub(super) async fn wait_for_share(api: &Api, job: &str, share: f64) {
    api.wait_for(job, |answer| {
        assert!(!["Succeeded", "Failed"].contains(&answer.body["status"].as_str().unwrap_or_default()));
        answer.body["progress"]["shareDone"].as_f64().is_some_and(|done| done >= share)
    })
    .await;
}

pub(super) async fn download(api: &Api, path: &str, range: Option<&str>) -> (u16, Vec<u8>) {
    let mut request = reqwest::Client::new().get(api.url(path));
    if let Some(range) = range {
        request = request.header("range", range);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
}

/// Every output, with the digest that the job tells.
pub(super) async fn outputs(api: &Api, path: &str, job: &Value) -> Files {
    let mut files = Files::new();
    for output in job["result"]["outputs"].as_array().unwrap() {
        let name = output["name"].as_str().unwrap();
        let (status, bytes) = download(api, &format!("{path}/outputs/{name}"), None).await;
        assert_eq!(status, 200, "{name}");
        assert_eq!(output["sizeBytes"], json!(bytes.len()), "{name}");
        let digest = tidegate_core::Sha256Digest::of(&bytes).to_string();
        assert_eq!(output["sha256"], json!(digest), "{name}");
        files.insert(name.to_owned(), comparable(name, bytes));
    }
    files
}

#[track_caller]
pub(super) fn assert_same(expected: &Files, actual: &Files) {
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(expected), names(actual));
    for (name, bytes) in expected {
        assert!(actual[name] == *bytes, "{name} is another");
    }
}

pub(super) async fn kinds(api: &Api, job: &str) -> Vec<String> {
    let events = api.get(&format!("{job}/events?limit=100")).await.expect(200);
    let events = events["events"].as_array().unwrap().clone();
    events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

/// The replica that begun the job, or took it up last.
pub(super) async fn holder(api: &Api, job: &str) -> String {
    let events = api.get(&format!("{job}/events?limit=100")).await.expect(200);
    let events = events["events"].as_array().unwrap().clone();
    let mut named = events.iter().filter_map(|event| event["evidence"]["replica"].as_str());
    named.next_back().expect("it was begun").to_owned()
}

pub(super) async fn is_replica(api: &Api, id: &str) -> bool {
    let replicas = api.get("/api/v1/replicas").await.expect(200);
    let mut replicas = replicas["replicas"].as_array().unwrap().clone().into_iter();
    replicas.any(|replica| replica["isThis"] == true && replica["replicaId"] == id)
}
