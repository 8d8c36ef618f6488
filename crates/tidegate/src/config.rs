//! Configuration: `tidegate.toml`, environment and flags.
//!
//! Precedence, weakest first: the defaults below; the file (`--config`, else `./tidegate.toml` where it exists);
//! environment variables `TIDEGATE_<SECTION>__<KEY>`; command-line flags. An unknown key or a value of the wrong type is
//! an error that names the key and where it was set.

mod jobs;
mod validation;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use tidegate_api::{ImportRoot, LogSettings};
use tidegate_core::{Environment, StrategyKind};
use tidegate_serve::{AcceleratorChoice, BatchOptions, RuntimeChoice, ServerOptions, SlotOptions};
use tidegate_store::{ArtifactLocation, ArtifactStore};

use crate::webhooks::{Webhook, WebhookConfig};

use jobs::JobsConfig;
pub use validation::ValidationConfig;

/// The file that is read when `--config` names none.
const DEFAULT_FILE: &str = "tidegate.toml";

/// Variables that begin like ours and are for the client and the tests.
const NOT_SETTINGS: [&str; 8] = [
    "url",
    "test_data",
    "test_postgres",
    "test_s3",
    "test_tiny_disk",
    "onnxruntime",
    "sim_seed",
    "sim_seeds",
];

/// What S3-compatible stores expect when none is set.
const DEFAULT_REGION: &str = "us-east-1";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept that no other setting places elsewhere.
    pub data_dir: PathBuf,
    pub server: ServerConfig,
    pub database: DatabaseConfig,
    pub artifacts: ArtifactsConfig,
    pub runtime: RuntimeConfig,
    pub deployments: DeploymentsConfig,
    pub jobs: JobsConfig,
    pub replica: ReplicaConfig,
    pub inference_log: InferenceLogConfig,
    pub async_requests: AsyncRequestsConfig,
    pub log: LogConfig,
    /// Who is told what happens in deployments.
    pub webhooks: Vec<WebhookConfig>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    /// How long requests in flight may take to finish at shutdown, in seconds.
    pub shutdown_grace_s: u64,
    /// The largest JSON or image body of an inference request, in MiB.
    pub max_request_mib: u64,
    /// The largest image, in million pixels.
    pub max_image_megapixels: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `sqlite://PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`. Default: SQLite in the data folder.
    pub url: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ArtifactsConfig {
    /// A folder, or `s3://BUCKET/PREFIX`. Default: `artifacts` in the data folder.
    pub location: Option<String>,
    /// Folders, and `s3://BUCKET/PREFIX`, from which an `artifactPath` may register; none by default.
    pub import_roots: Vec<String>,
    /// The largest artifact, in MiB.
    pub max_artifact_mib: u64,
    pub s3: S3Config,
}

/// For S3-compatible stores; unset keys mean AWS.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    pub endpoint: Option<String>,
    pub region: Option<String>,
    #[serde(deserialize_with = "text_or_number")]
    pub access_key_id: Option<String>,
    #[serde(deserialize_with = "text_or_number")]
    pub secret_access_key: Option<String>,
    pub allow_http: bool,
}

/// A key of digits only arrives as a number from the environment; it is a text all the same, and no error shows it.
fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum TextOrNumber {
        Text(String),
        Number(u64),
    }
    Ok(Option::<TextOrNumber>::deserialize(deserializer)?.map(|value| match value {
        TextOrNumber::Text(text) => text,
        TextOrNumber::Number(number) => number.to_string(),
    }))
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    /// `auto`, `onnxruntime` or `rten`.
    pub engine: RuntimeChoice,
    /// The ONNX Runtime library, where it is not found by itself.
    pub onnxruntime_library: Option<PathBuf>,
    /// `auto`, `none`, `openvino` or `cuda`.
    pub accelerator: AcceleratorChoice,
    /// OpenVINO's plug-in for ONNX Runtime, where it is not found by itself.
    pub openvino_library: Option<PathBuf>,
    /// Threads that run models. Default: one per core.
    pub workers: Option<usize>,
    /// Requests that may wait for a thread; more are answered 503 at once.
    pub queue_limit: usize,
    /// What this process may hold in memory, in MiB: a version that does not fit beside the running one is refused.
    /// Default: nine tenths of what the container or the machine has.
    pub memory_limit_mib: Option<u64>,
    /// What differs for a model, by its name.
    pub models: BTreeMap<String, ModelRuntimeConfig>,
}

/// How one model runs; unset keys leave it to the server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelRuntimeConfig {
    /// Runs at the same time. Default: one per worker, or as many as the workers have threads for.
    pub sessions: Option<usize>,
    /// Threads inside one run. Default: one.
    pub intra_threads: Option<usize>,
    /// The most rows of different requests that run together; 1 for never. Default: as many as are worthwhile.
    pub max_batch: Option<usize>,
    /// How long a request may be held back for others while the model is at work. Default: 0.
    pub max_delay_ms: Option<u64>,
    /// What its answers may take that are kept to be given again, in MiB. Default: none are kept.
    pub cache_mib: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeploymentsConfig {
    pub default_strategy: StrategyKind,
    /// Where a request without an environment goes.
    pub default_environment: Environment,
    /// More deployments than this at once wait as Pending, in order.
    pub max_concurrent: usize,
    /// Where a deployment waits for the approval of somebody other than its initiator.
    pub require_approval: Vec<Environment>,
    /// Seconds after which another process takes up the deployments of one that was killed.
    pub lease_s: u64,
    /// Who may override a failed validation.
    pub admins: Vec<String>,
    pub validation: ValidationConfig,
}

/// This process among those that share its database.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplicaConfig {
    /// Where others are told that this process can be reached. Default: the address it listens on.
    pub advertise: Option<String>,
    /// Seconds between its signs of life; three missing ones make it dead to the others.
    pub heartbeat_s: u64,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self { advertise: None, heartbeat_s: 5 }
    }
}

/// What is kept of each inference request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceLogConfig {
    /// Whether features and predictions are kept, or only that the request was made and how it went.
    pub payloads: bool,
    /// The part of all requests that is kept in the log: 0 to 1.
    pub share: f64,
    /// Features or a prediction of more KiB, as JSON, are not kept.
    pub max_payload_kib: u64,
    /// Names of features and outputs, or paths such as `features.x[2]`, whose values are replaced before they are written.
    pub redact: Vec<String>,
    /// Days after which a request is deleted from the log.
    pub retention_days: u32,
}

impl Default for InferenceLogConfig {
    fn default() -> Self {
        Self { payloads: true, share: 1.0, max_payload_kib: 4, redact: Vec::new(), retention_days: 30 }
    }
}

/// Requests that are answered later; they and their results are kept in the database.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AsyncRequestsConfig {
    /// The largest body of one, in KiB.
    pub max_request_kib: u64,
    /// The largest prediction that is kept, in MiB of JSON.
    pub max_result_mib: u64,
    /// More than these, over all processes, get 503.
    pub max_waiting: u64,
    /// Seconds after which one that cannot be run, because its model is not deployed, say, has failed.
    pub max_wait_s: u64,
    /// Hours after which a result is deleted.
    pub retention_hours: u64,
}

impl Default for AsyncRequestsConfig {
    fn default() -> Self {
        Self {
            max_request_kib: 1024,
            max_result_mib: 16,
            max_waiting: 10_000,
            max_wait_s: 3600,
            retention_hours: 24,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// A level (`info`) or `tracing` directives (`info,tidegate_serve=debug`).
    pub level: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("tidegate-data"),
            server: ServerConfig::default(),
            database: DatabaseConfig::default(),
            artifacts: ArtifactsConfig::default(),
            runtime: RuntimeConfig::default(),
            deployments: DeploymentsConfig::default(),
            jobs: JobsConfig::default(),
            replica: ReplicaConfig::default(),
            inference_log: InferenceLogConfig::default(),
            async_requests: AsyncRequestsConfig::default(),
            log: LogConfig::default(),
            webhooks: Vec::new(),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5000)),
            shutdown_grace_s: 30,
            max_request_mib: 64,
            max_image_megapixels: 100,
        }
    }
}

impl Default for ArtifactsConfig {
    fn default() -> Self {
        Self { location: None, import_roots: Vec::new(), max_artifact_mib: 2048, s3: S3Config::default() }
    }
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            engine: RuntimeChoice::Auto,
            onnxruntime_library: None,
            accelerator: AcceleratorChoice::Auto,
            openvino_library: None,
            workers: None,
            queue_limit: 256,
            memory_limit_mib: None,
            models: BTreeMap::new(),
        }
    }
}

impl Default for DeploymentsConfig {
    fn default() -> Self {
        Self {
            default_strategy: StrategyKind::BlueGreen,
            default_environment: Environment::Production,
            max_concurrent: 5,
            require_approval: Vec::new(),
            lease_s: 10,
            admins: Vec::new(),
            validation: ValidationConfig::default(),
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text }
    }
}

/// What the command line sets; `None` leaves the weaker sources in force.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigFlags {
    /// The configuration file [default: ./tidegate.toml where it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where database, artifacts and caches are kept [default: ./tidegate-data]
    #[arg(long, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// The database: sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,
    /// The artifact store: a folder or s3://BUCKET/PREFIX
    #[arg(long, value_name = "LOCATION")]
    pub artifacts: Option<String>,
    /// What runs models: auto, onnxruntime or rten
    #[arg(long, value_name = "ENGINE")]
    pub engine: Option<RuntimeChoice>,
    /// The address to listen on [default: 127.0.0.1:5000]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// Reads all sources.
    pub fn load(flags: &ConfigFlags) -> anyhow::Result<Self> {
        let file = match &flags.config {
            Some(path) if !path.is_file() => {
                bail!("the configuration file `{}` does not exist", path.display())
            }
            Some(path) => path.clone(),
            None => PathBuf::from(DEFAULT_FILE),
        };
        let figment = Figment::from(Serialized::defaults(Config::default()))
            .merge(Toml::file(&file))
            .merge(Env::prefixed("TIDEGATE_").split("__").ignore(&NOT_SETTINGS));
        let mut config: Config = figment.extract().map_err(|error| anyhow::anyhow!(explain(error, &file)))?;
        config.apply(flags);
        config.check_ranges()?;
        config.webhooks()?;
        config.inference_log.settings()?;
        Ok(config)
    }

    /// Refuses numbers that make no sense, by key.
    fn check_ranges(&self) -> anyhow::Result<()> {
        let workers = self.runtime.workers.map_or(1, |workers| workers as u64);
        let ranges = [
            ("server.shutdown_grace_s", self.server.shutdown_grace_s, 0, 3600),
            ("server.max_request_mib", self.server.max_request_mib, 1, 4096),
            ("server.max_image_megapixels", self.server.max_image_megapixels, 1, 10_000),
            ("artifacts.max_artifact_mib", self.artifacts.max_artifact_mib, 1, 1024 * 1024),
            ("runtime.workers", workers, 1, 1024),
            ("runtime.queue_limit", self.runtime.queue_limit as u64, 1, 100_000),
            ("deployments.max_concurrent", self.deployments.max_concurrent as u64, 1, 10_000),
            ("deployments.lease_s", self.deployments.lease_s, 1, 3600),
            ("replica.heartbeat_s", self.replica.heartbeat_s, 1, 300),
            ("runtime.memory_limit_mib", self.runtime.memory_limit_mib.unwrap_or(1), 1, 1 << 30),
            ("async_requests.max_request_kib", self.async_requests.max_request_kib, 1, 64 * 1024),
            ("async_requests.max_result_mib", self.async_requests.max_result_mib, 1, 256),
            ("async_requests.max_waiting", self.async_requests.max_waiting, 1, 1_000_000),
            ("async_requests.max_wait_s", self.async_requests.max_wait_s, 1, 30 * 24 * 3600),
            ("async_requests.retention_hours", self.async_requests.retention_hours, 1, 24 * 366),
            ("inference_log.max_payload_kib", self.inference_log.max_payload_kib, 0, 16 * 1024),
            ("inference_log.retention_days", u64::from(self.inference_log.retention_days), 1, 36_500),
        ];
        let ranges = ranges.into_iter().chain(self.jobs.ranges());
        let ranges = ranges.map(|(key, value, min, max)| (key.to_owned(), value, min, max));
        self.deployments.validation.check()?;
        let of_models = self.runtime.models.iter().flat_map(|(name, model)| model.ranges(name));
        for (key, value, min, max) in ranges.chain(of_models) {
            if !(min..=max).contains(&value) {
                bail!("configuration key `{key}` is {value}; give {min} to {max}");
            }
        }
        Ok(())
    }

    fn apply(&mut self, flags: &ConfigFlags) {
        let flags = flags.clone();
        self.data_dir = flags.data_dir.unwrap_or_else(|| std::mem::take(&mut self.data_dir));
        self.database.url = flags.database.or_else(|| self.database.url.take());
        self.artifacts.location = flags.artifacts.or_else(|| self.artifacts.location.take());
        self.runtime.engine = flags.engine.unwrap_or(self.runtime.engine);
        self.server.listen = flags.listen.unwrap_or(self.server.listen);
    }

    /// Each URL once: what was told is remembered by URL.
    pub fn webhooks(&self) -> anyhow::Result<Vec<Webhook>> {
        let mut webhooks: Vec<Webhook> = Vec::new();
        for (index, config) in self.webhooks.iter().enumerate() {
            let key = || format!("configuration key `webhooks`, entry {}", index + 1);
            let webhook = Webhook::parse(config).with_context(key)?;
            if webhooks.iter().any(|other| other.url == webhook.url) {
                bail!("{}: another entry has the same `url`; name all its `events` in one", key());
            }
            webhooks.push(webhook);
        }
        Ok(webhooks)
    }

    pub fn database_url(&self) -> String {
        let default = || format!("sqlite://{}", self.data_dir.join("tidegate.db").display());
        self.database.url.clone().unwrap_or_else(default)
    }

    /// Where this process says that it can be reached. An address that means every interface is no place to go to, so the
    /// host's name stands for it where it is known.
    pub fn advertised_address(&self, listening: SocketAddr) -> String {
        let host_name = || environment("HOSTNAME").or_else(|| environment("COMPUTERNAME"));
        let host = match listening.ip() {
            ip if ip.is_unspecified() => host_name(),
            _ => None,
        };
        let derived = || match host {
            Some(host) => format!("http://{host}:{}", listening.port()),
            None => format!("http://{listening}"),
        };
        self.replica.advertise.clone().unwrap_or_else(derived)
    }

    pub fn artifact_location(&self) -> anyhow::Result<ArtifactLocation> {
        match &self.artifacts.location {
            Some(location) => self.location("artifacts.location", location),
            None => Ok(ArtifactLocation::Folder(self.data_dir.join("artifacts"))),
        }
    }

    pub fn import_roots(&self) -> anyhow::Result<Vec<ImportRoot>> {
        let roots = self.artifacts.import_roots.iter();
        roots.map(|root| self.root("artifacts.import_roots", root)).collect()
    }

    /// A place that the server may read from, as configured under `key`.
    fn root(&self, key: &str, root: &str) -> anyhow::Result<ImportRoot> {
        match self.location(key, root)? {
            ArtifactLocation::Folder(folder) => Ok(ImportRoot::Folder(folder)),
            bucket => {
                let store = Arc::new(ArtifactStore::open(&bucket)?);
                Ok(ImportRoot::Bucket { url: root.trim_end_matches('/').to_owned(), store })
            }
        }
    }

    /// The bucket of `s3://BUCKET/KEY`, and the key in it.
    pub fn object_location(&self, address: &str) -> anyhow::Result<(ArtifactLocation, String)> {
        let parts = address.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
        let Some((bucket, key)) = parts.filter(|(_, key)| !key.is_empty()) else {
            bail!("`{address}` names no object; write s3://BUCKET/KEY");
        };
        Ok((self.location("the scene", &format!("s3://{bucket}"))?, key.to_owned()))
    }

    /// A folder, or a bucket with the configured credentials.
    fn location(&self, key: &str, location: &str) -> anyhow::Result<ArtifactLocation> {
        let Some(rest) = location.strip_prefix("s3://") else {
            if location.contains("://") {
                bail!("{key}: `{location}` is neither a folder nor s3://BUCKET/PREFIX");
            }
            return Ok(ArtifactLocation::Folder(PathBuf::from(location)));
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            bail!("{key}: `{location}` names no bucket; write s3://BUCKET/PREFIX");
        }
        let s3 = self.artifacts.s3.clone();
        Ok(ArtifactLocation::S3 {
            bucket: bucket.to_owned(),
            prefix: prefix.trim_matches('/').to_owned(),
            endpoint: s3.endpoint,
            region: s3.region.unwrap_or_else(|| DEFAULT_REGION.to_owned()),
            access_key_id: s3.access_key_id.or_else(|| environment("AWS_ACCESS_KEY_ID")),
            secret_access_key: s3.secret_access_key.or_else(|| environment("AWS_SECRET_ACCESS_KEY")),
            allow_http: s3.allow_http,
        })
    }

    /// Where the ONNX Runtime library may lie, most wanted first.
    pub fn onnxruntime_candidates(&self) -> Vec<PathBuf> {
        let mut candidates = Vec::new();
        candidates.extend(self.runtime.onnxruntime_library.clone());
        candidates.extend(environment("ORT_DYLIB_PATH").map(PathBuf::from));
        candidates.extend(self.library_candidates("onnxruntime"));
        candidates
    }

    /// Where OpenVINO may lie, most wanted first; beside the ONNX Runtime library that is used comes last.
    pub fn openvino_candidates(&self) -> Vec<PathBuf> {
        let found = self.library_candidates("onnxruntime_providers_openvino_plugin");
        self.runtime.openvino_library.clone().into_iter().chain(found).collect()
    }

    /// Where a library may lie that nothing was said about.
    fn library_candidates(&self, name: &str) -> Vec<PathBuf> {
        let library = format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        let mut candidates = Vec::new();
        let beside_us = std::env::current_exe().ok();
        if let Some(folder) = beside_us.as_deref().and_then(Path::parent) {
            candidates.push(folder.join(&library));
            candidates.push(folder.join("../lib").join(&library));
            // A checkout: target/{release,debug}/tidegate beside .tools, where the install script puts it.
            candidates.push(folder.join("../../.tools/onnxruntime").join(&library));
        }
        candidates.push(self.data_dir.join("lib").join(&library));
        candidates.push(Path::new(".tools/onnxruntime").join(&library));
        candidates
    }

    /// The file that `tidegate config` prints: every key with the value in force, secrets masked.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let mut shown = self.clone();
        if let Some(secret) = &mut shown.artifacts.s3.secret_access_key {
            *secret = "********".to_owned();
        }
        for webhook in &mut shown.webhooks {
            webhook.secret = "********".to_owned();
            webhook.url = mask_password(&webhook.url);
        }
        if let Some(url) = &mut shown.database.url {
            *url = mask_password(url);
        }
        toml::to_string_pretty(&shown).context("failed to write the configuration as TOML")
    }
}

impl InferenceLogConfig {
    pub fn settings(&self) -> anyhow::Result<LogSettings> {
        if !(0.0..=1.0).contains(&self.share) {
            bail!("configuration key `inference_log.share` is {}; give 0 to 1", self.share);
        }
        let redact = self.redact.iter().map(|text| text.parse());
        let redact = redact.collect::<Result<_, _>>().context("configuration key `inference_log.redact`")?;
        let max_payload_bytes = usize::try_from(self.max_payload_kib * 1024).unwrap_or(usize::MAX);
        Ok(LogSettings { share: self.share, payloads: self.payloads, max_payload_bytes, redact })
    }
}

impl RuntimeConfig {
    /// Workers, queue and slots, from the cores of this machine and what is set.
    pub fn server_options(&self) -> ServerOptions {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let n_workers = self.workers.unwrap_or(cores).max(1);
        let models = self.models.iter().map(|(name, model)| (name.clone(), model.slot_options(n_workers)));
        ServerOptions {
            n_workers,
            queue_limit: self.queue_limit,
            slot: ModelRuntimeConfig::default().slot_options(n_workers),
            models: models.collect(),
        }
    }
}

impl ModelRuntimeConfig {
    /// One single-threaded session per worker is the best throughput on few cores (docs/runtimes.md).
    fn slot_options(&self, n_workers: usize) -> SlotOptions {
        let intra_threads = self.intra_threads.unwrap_or(1).max(1);
        let n_sessions = self.sessions.unwrap_or(n_workers / intra_threads).max(1);
        let max_delay = Duration::from_millis(self.max_delay_ms.unwrap_or(0));
        let batch = BatchOptions { max_rows: self.max_batch, max_delay };
        SlotOptions { n_sessions, intra_threads, batch, ..SlotOptions::default() }
    }

    /// The keys that are set: key, value, least, most.
    fn ranges(&self, name: &str) -> impl Iterator<Item = (String, u64, u64, u64)> {
        let key = |key: &str| format!("runtime.models.{name}.{key}");
        let keys = [
            ("sessions", self.sessions.map(|value| value as u64), 1, 1024),
            ("intra_threads", self.intra_threads.map(|value| value as u64), 1, 1024),
            ("max_batch", self.max_batch.map(|value| value as u64), 1, 4096),
            ("max_delay_ms", self.max_delay_ms, 0, 10_000),
            ("cache_mib", self.cache_mib, 0, 1024 * 1024),
        ];
        let set = keys.map(|(name, value, min, max)| value.map(|value| (key(name), value, min, max)));
        set.into_iter().flatten()
    }
}

/// A database URL without its password, for logs.
pub fn mask_password(url: &str) -> String {
    let Ok(mut parsed) = url::Url::parse(url) else { return url.to_owned() };
    if parsed.password().is_some() && parsed.set_password(Some("********")).is_err() {
        return "********".to_owned();
    }
    // libpq's spelling puts it among the parameters.
    if parsed.query_pairs().any(|(key, _)| key == "password") {
        let pairs: Vec<(String, String)> = parsed.query_pairs().into_owned().collect();
        let shown =
            pairs.iter().map(|(key, value)| (key, if key == "password" { "********" } else { value }));
        parsed.query_pairs_mut().clear().extend_pairs(shown);
    }
    parsed.to_string()
}

/// Which key is wrong, where it was set, and why: one line each.
fn explain(error: figment::Error, file: &Path) -> String {
    let lines: Vec<String> = error
        .into_iter()
        .map(|fault| {
            let mut path = fault.path.clone();
            if let figment::error::Kind::UnknownField(field, _) = &fault.kind
                && path.last() != Some(field)
            {
                path.push(field.clone());
            }
            let key = path.join(".");
            let origin = match &fault.metadata {
                Some(metadata) if metadata.name.contains("environment") => {
                    format!("environment variable TIDEGATE_{}", path.join("__").to_uppercase())
                }
                Some(metadata) if metadata.name.contains("TOML") => format!("`{}`", file.display()),
                _ => "the configuration".to_owned(),
            };
            format!("configuration key `{key}` in {origin}: {}", fault.kind)
        })
        .collect();
    lines.join("\n")
}

/// Variables that are other programs' conventions.
#[expect(clippy::disallowed_methods, reason = "the binary is where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(toml: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidegate.toml");
        std::fs::write(&path, toml).unwrap();
        Config::load(&ConfigFlags { config: Some(path), ..Default::default() })
    }

    #[test]
    fn an_empty_file_gives_the_defaults_and_flags_win_over_the_file() {
        let config = load_text("").unwrap();
        assert_eq!(config.database_url(), "sqlite://tidegate-data/tidegate.db");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.toml");
        std::fs::write(&path, "data_dir = \"from-file\"\n[server]\nlisten = \"127.0.0.1:6000\"\n").unwrap();
        let flags =
            ConfigFlags { config: Some(path), data_dir: Some("from-flag".into()), ..Default::default() };
        let config = Config::load(&flags).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("from-flag"));
        assert_eq!(config.server.listen.port(), 6000);
    }

    #[test]
    fn every_error_names_the_key() {
        let cases = [
            ("[server]\nlisten = 5", "server.listen"),
            ("[server]\nlissten = \"x\"", "server.lissten"),
            ("[runtime]\nengine = \"torch\"", "runtime.engine"),
            ("[deployments]\ndefault_strategy = \"Bluegrin\"", "deployments.default_strategy"),
            ("colour = 1", "colour"),
            ("[[webhooks]]\nurl = \"http://x\"\nsecret = \"y\"\nevent = []", "webhooks.0.event"),
            ("[runtime.models.m]\nthreads = 1", "runtime.models.m.threads"),
        ];
        for (toml, key) in cases {
            let message = load_text(toml).unwrap_err().to_string();
            assert!(message.contains(&format!("`{key}`")), "{toml}: {message}");
        }
    }

    #[test]
    fn a_model_may_run_otherwise_than_the_rest() {
        let config = load_text(
            "[runtime]\nworkers = 4\n[runtime.models.wide-net]\nintra_threads = 2\nmax_batch = 8\nmax_delay_ms = 3",
        );
        let options = config.unwrap().runtime.server_options();
        assert_eq!((options.slot.n_sessions, options.slot.intra_threads), (4, 1));
        assert_eq!(options.slot.batch, BatchOptions::default());
        let wide = options.models["wide-net"];
        assert_eq!((wide.n_sessions, wide.intra_threads), (2, 2), "as many threads in all");
        assert_eq!(wide.batch, BatchOptions { max_rows: Some(8), max_delay: Duration::from_millis(3) });
    }

    #[test]
    fn artifact_locations_are_folders_or_buckets() {
        let located = |location: &str| {
            let mut config = Config::default();
            config.artifacts.location = Some(location.to_owned());
            config.artifact_location()
        };
        assert!(matches!(located("some/folder"), Ok(ArtifactLocation::Folder(_))));
        assert!(matches!(
            located("s3://bucket/a/b/"),
            Ok(ArtifactLocation::S3 { bucket, prefix, .. }) if bucket == "bucket" && prefix == "a/b"
        ));
        assert!(located("s3:///x").is_err() && located("ftp://x").is_err());
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(mask_password("postgres://u:secret@h/d"), "postgres://u:********@h/d");
        assert_eq!(
            mask_password("postgres://u@h/d?password=secret&x=1"),
            "postgres://u@h/d?password=********&x=1"
        );
        assert_eq!(mask_password("sqlite://a.db"), "sqlite://a.db");
    }

    #[test]
    fn webhooks_are_checked_and_shown_without_their_secrets() {
        let entry = |url: &str| {
            format!("[[webhooks]]\nurl = \"{url}\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n")
        };
        let config =
            load_text(&(entry("https://a.example/x") + &entry("http://u:hunter2@b.example"))).unwrap();
        assert_eq!(config.webhooks().unwrap().len(), 2);
        let shown = config.to_toml().unwrap();
        assert!(shown.contains("https://a.example/x") && shown.contains("timeout_s = 10"), "{shown}");
        assert!(!shown.contains("MfKQ") && !shown.contains("hunter2"), "{shown}");
        for (toml, expected) in [
            (entry("https://a.example") + &entry("https://a.example/"), "entry 2"),
            (entry("file:///etc/passwd"), "entry 1"),
        ] {
            let message = format!("{:#}", load_text(&toml).unwrap_err());
            assert!(message.contains("`webhooks`") && message.contains(expected), "{message}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_key() {
        for (toml, key) in [
            ("[server]\nmax_request_mib = 99999999999999999", "server.max_request_mib"),
            ("[runtime]\nworkers = 0", "runtime.workers"),
            ("[runtime.models.m]\nmax_batch = 0", "runtime.models.m.max_batch"),
            ("[inference_log]\nshare = 1.5", "inference_log.share"),
            ("[inference_log]\nredact = [\"card\", \"a.b\"]", "inference_log.redact"),
        ] {
            let message = load_text(toml).unwrap_err().to_string();
            assert!(message.contains(&format!("`{key}`")), "{message}");
        }
    }
}
