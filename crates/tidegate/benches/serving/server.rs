//! The servers that are measured, each a process of its own on a free port.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tidegate_core::Precision;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::caller::{Round, Wire, call};
use crate::request::Requests;
use crate::{cost, onnxruntime_library, repository};

/// Python imports for seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// So that connections, caches and branch predictors are what they are in a server that has run for a while.
const WARM_UP: Duration = Duration::from_millis(300);

pub struct Server {
    pub name: String,
    pub wires: Vec<Wire>,
    address: String,
    grpc_address: String,
    pid: Option<u32>,
    _process: Option<Process>,
}

/// What runs the model in a Tidegate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    OnnxRuntime,
    Bf16,
    Rten,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::OnnxRuntime => "Tidegate",
            Self::Bf16 => "Tidegate, bf16",
            Self::Rten => "Tidegate, rten",
        }
    }
}

/// Killed when it goes.
struct Process {
    child: Child,
    _folder: Option<TempDir>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // A terminated uvicorn stops its workers; a killed one leaves them behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

impl Server {
    /// As it comes out of the box: nothing is configured but where it listens, and what its name says.
    pub async fn tidegate(model: &Path, kind: Kind) -> anyhow::Result<Self> {
        let (address, process) = start_tidegate(kind).await?;
        let url = format!("http://{address}");
        let model = model.to_str().context("the path of the model is no text")?;
        let precision = if kind == Kind::Bf16 { Precision::Bf16 } else { Precision::F32 };
        let register = ["model", "register", model, "--name", "bench", "--version", "1.0.0"];
        let precision = ["--precision", precision.as_str(), "--server", &url];
        run_tidegate(&[&register[..], &precision].concat())?;
        run_tidegate(&["deploy", "bench", "--server", &url])?;
        Ok(Self::started(kind.name(), Wire::ALL.to_vec(), address, process))
    }

    /// FastAPI and ONNX Runtime: `fastapi_server.py` says what was done to be fair to it.
    pub async fn fastapi(model: &Path) -> anyhow::Result<Self> {
        let here = repository().join("crates/tidegate/benches/serving");
        let python = python(&here.join("requirements.txt"))?;
        let address = free_address()?;
        let n_workers = std::thread::available_parallelism().map_or(1, usize::from).to_string();
        let (host, port) = address.split_once(':').context("an address has a port")?;
        let mut command = Command::new(python);
        command.args(["-m", "uvicorn", "fastapi_server:app", "--host", host, "--port", port]);
        command.args(["--workers", &n_workers, "--loop", "uvloop", "--http", "httptools"]);
        command.args(["--no-access-log", "--log-level", "warning"]);
        let child = command.current_dir(here).env("MODEL", model).stdout(Stdio::null()).spawn()?;
        let process = Process { child, _folder: None };
        wait_until_ready(&address, "/v2/health/ready").await?;
        Ok(Self::started("FastAPI + onnxruntime", vec![Wire::Json, Wire::Binary], address, process))
    }

    /// A server that somebody else started.
    pub fn other(address: &str, grpc_address: Option<&str>, pid: Option<u32>) -> Self {
        let mut wires = vec![Wire::Json, Wire::Binary];
        wires.extend(grpc_address.map(|_| Wire::Grpc));
        Self {
            name: format!("peer {address}"),
            wires,
            address: address.to_owned(),
            grpc_address: grpc_address.unwrap_or(address).to_owned(),
            pid,
            _process: None,
        }
    }

    fn started(name: &str, wires: Vec<Wire>, address: String, process: Process) -> Self {
        let (grpc_address, pid) = (address.clone(), Some(process.child.id()));
        Self { name: name.to_owned(), wires, address, grpc_address, pid, _process: Some(process) }
    }

    pub async fn measure(
        &self,
        requests: &Requests,
        wire: Wire,
        n_callers: usize,
        duration: Duration,
    ) -> anyhow::Result<Round> {
        let address = if wire == Wire::Grpc { &self.grpc_address } else { &self.address };
        call(address, requests, wire, n_callers, WARM_UP).await?;
        let cpu_before = self.pid.and_then(cost::cpu_of);
        let (latencies, took) = call(address, requests, wire, n_callers, duration).await?;
        let cpu = self.pid.and_then(cost::cpu_of).zip(cpu_before).map(|(after, before)| after - before);
        Ok(Round::new(latencies, took, cpu))
    }

    pub fn memory_mb(&self) -> Option<f64> {
        self.pid.and_then(cost::memory_mb)
    }
}

/// What a server without models holds, and how soon it is ready.
pub async fn print_idle(n_starts: usize) -> anyhow::Result<()> {
    let (mut ready_ms, mut memory_mb) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..n_starts {
        let started = Instant::now();
        let (_, process) = start_tidegate(Kind::OnnxRuntime).await?;
        ready_ms = ready_ms.min(started.elapsed().as_secs_f64() * 1e3);
        memory_mb = memory_mb.min(cost::memory_mb(process.child.id()).unwrap_or(f64::NAN));
    }
    crate::print_line(&format!(
        "### idle: a server without models, the best of {n_starts} starts: ready in {ready_ms:.0} ms, {memory_mb:.1} MB"
    ));
    Ok(())
}

async fn start_tidegate(kind: Kind) -> anyhow::Result<(String, Process)> {
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["serve", "--listen", &address]).current_dir(folder.path());
    if kind == Kind::Rten {
        command.args(["--engine", "rten"]);
    }
    command.env("TIDEGATE_RUNTIME__ONNXRUNTIME_LIBRARY", onnxruntime_library().canonicalize()?);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let process = Process { child, _folder: Some(folder) };
    wait_until_ready(&address, "/ready").await?;
    Ok((address, process))
}

fn run_tidegate(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate")).args(arguments).output()?;
    ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The interpreter with the peer's packages.
fn python(requirements: &Path) -> anyhow::Result<PathBuf> {
    let folder = repository().join(".tools/serving-peer");
    let script = repository().join("scripts/install-python-tools.sh");
    let status = Command::new(script).args([requirements, &folder]).status()?;
    ensure!(status.success(), "the peer's packages were not installed; --alone measures without it");
    Ok(folder.join("bin/python"))
}

fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

async fn wait_until_ready(address: &str, path: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    while !is_ready(address, path).await.unwrap_or(false) {
        if started.elapsed() > PATIENCE {
            bail!("the server at {address} did not get ready");
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

async fn is_ready(address: &str, path: &str) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").as_bytes()).await?;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await?;
    Ok(start == *b"HTTP/1.1 200")
}
