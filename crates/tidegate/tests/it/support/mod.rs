//! A server process in a temporary folder, and where test data lies.

mod api;
mod data;
mod database;
/// The storage contract's way to a PostgreSQL.
#[path = "../../../../tidegate-store/tests/it/postgres.rs"]
mod postgres;
/// The storage contract's S3 server.
#[path = "../../../../tidegate-store/tests/it/s3.rs"]
pub mod s3;
mod scene;

pub use api::{Answer, Api, json_of};
pub use data::{fixture, repository, shared_data, test_python};
pub use database::{Database, databases};
pub use scene::{scene, write_scene};

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_store::ArtifactLocation;

/// How long anything in these tests may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A running `tidegate serve`. Dropped: killed.
pub struct ServerProcess {
    child: Child,
    pub api: Api,
}

/// The folder and settings of a server that may be started several times.
pub struct Installation {
    pub folder: tempfile::TempDir,
    pub database: Option<String>,
    pub engine: &'static str,
    pub extra_env: Vec<(String, String)>,
}

impl Installation {
    /// SQLite and a folder; the built-in runtime, which needs no library.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, database: None, engine: "rten", extra_env: Vec::new() }
    }

    pub fn on(database: &Database) -> Self {
        Self { database: database.url(), ..Self::new() }
    }

    /// Its buckets are on that server.
    pub fn on_s3(&mut self, server: &s3::Server) {
        let ArtifactLocation::S3 { endpoint, region, access_key_id, secret_access_key, allow_http, .. } =
            server.location("")
        else {
            panic!("an S3 server has buckets");
        };
        let settings = [
            ("ENDPOINT", endpoint),
            ("REGION", Some(region)),
            ("ACCESS_KEY_ID", access_key_id),
            ("SECRET_ACCESS_KEY", secret_access_key),
            ("ALLOW_HTTP", Some(allow_http.to_string())),
        ];
        self.extra_env.extend(
            settings
                .into_iter()
                .filter_map(|(name, value)| Some((format!("TIDEGATE_ARTIFACTS__S3__{name}"), value?))),
        );
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .current_dir(self.folder.path())
            // Which story a test tells is no setting of a server, and would be refused as one.
            .env_remove("TIDEGATE_KILL_SEED")
            .env("TIDEGATE_DATA_DIR", self.data_dir())
            .env("TIDEGATE_RUNTIME__ENGINE", self.engine)
            .env("TIDEGATE_LOG__FORMAT", "json")
            .env("TIDEGATE_DEPLOYMENTS__LEASE_S", "1")
            // A process that was killed is waited for until it is taken for dead: three of these.
            .env("TIDEGATE_REPLICA__HEARTBEAT_S", "1")
            .envs(self.extra_env.iter().cloned());
        if let Some(url) = &self.database {
            command.env("TIDEGATE_DATABASE__URL", url);
        }
        command
    }

    /// Starts a server on a free port and waits until it is ready.
    pub async fn start(&self) -> ServerProcess {
        self.start_at("127.0.0.1:0").await
    }

    /// The same at an address that another one may just have left.
    pub async fn start_at(&self, address: &str) -> ServerProcess {
        let mut command = self.command();
        command.args(["serve", "--listen", address]).stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("the binary starts");
        let address = listening_address(&mut child);
        let api = Api::new(&format!("http://{address}"));
        let server = ServerProcess { child, api };
        server.api.wait_for("/ready", |answer| answer.status == 200).await;
        server
    }

    /// kill -9, then a new process on the same data.
    pub async fn restart(&self, server: ServerProcess) -> ServerProcess {
        server.kill();
        self.start().await
    }
}

impl ServerProcess {
    /// SIGKILL: no handler runs, nothing is flushed.
    pub fn kill(mut self) {
        self.child.kill().expect("the process is ours");
        self.child.wait().expect("the process is ours");
    }

    /// What it holds in memory; 0 where the system does not say.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// SIGTERM, and the exit status that follows.
    #[cfg(unix)]
    pub fn terminate(mut self) -> std::process::ExitStatus {
        let status = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill is there");
        assert!(status.success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the process is ours") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not stop");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log until it names the address; the rest is read on, so that the pipe never fills, and shown when the test
/// fails.
fn listening_address(child: &mut Child) -> String {
    let log = BufReader::new(child.stderr.take().expect("standard error is piped"));
    let (found, address) = mpsc::channel();
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            let parsed: Value = serde_json::from_str(&line).unwrap_or_default();
            if let Some(address) = parsed["address"].as_str() {
                let _ = found.send(address.to_owned());
            }
            eprintln!("{line}");
        }
    });
    address.recv_timeout(PATIENCE).expect("the server says where it listens")
}

/// Runs a command of the binary to its end: status, standard output, standard error.
pub fn run(mut command: Command) -> (bool, String, String) {
    let output = command.output().expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Every file below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map_while(Result::ok).map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
