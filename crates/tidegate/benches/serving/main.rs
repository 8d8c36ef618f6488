//! Serving beside its peers, in one run: the bare runtime in a loop, FastAPI with ONNX Runtime, and any other server of the
//! Open Inference Protocol.
//!
//! ```text
//! cargo bench -p tidegate --bench serving                           # every model, every concurrency: a quarter of an hour
//! cargo bench -p tidegate --bench serving -- tiny --concurrency 8   # tiny, trees, segmenter, unet, or idle
//! cargo bench -p tidegate --bench serving -- tiny --peer 127.0.0.1:8000 --peer-pid 4242
//! ```
//!
//! The peer has to serve the file that the bench names, as the model `bench`. Rounds of all servers take turns, so that what
//! else runs on the machine hits all alike; a cell is the best of its rounds, each column by itself. Callers keep their
//! connection and send the next request when they have their answer; all of them are one thread of this process, on the
//! cores of the servers.

#![expect(clippy::print_stdout, reason = "a bench prints")]

mod bare;
mod caller;
mod cost;
mod grpc;
mod http;
mod request;
mod server;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use tidegate_core::Precision;
use tidegate_serve::{Runtime, RuntimeChoice, RuntimeOptions, SessionOptions, open_runtime, probe_inputs};

use crate::caller::Round;
use crate::request::Requests;
use crate::server::{Kind, Server};

#[derive(Parser)]
struct Options {
    /// What to measure: tiny, trees, segmenter, unet, idle [default: all of them]
    subjects: Vec<String>,
    /// Callers at the same time; may be several: 1,8,64
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64])]
    concurrency: Vec<usize>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Another server, which has the model as `bench`
    #[arg(long, value_name = "HOST:PORT")]
    peer: Option<String>,
    /// Where it speaks gRPC
    #[arg(long, value_name = "HOST:PORT", requires = "peer")]
    peer_grpc: Option<String>,
    /// Its process, for CPU and memory
    #[arg(long, requires = "peer")]
    peer_pid: Option<u32>,
    /// Only Tidegate and the bare runtime
    #[arg(long)]
    alone: bool,
    /// Tidegate on its built-in runtime too
    #[arg(long)]
    rten: bool,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Name, and file from the repository's root. Those of `shared` lie beside it, and not everywhere.
const SUBJECTS: [(&str, &str); 4] = [
    ("tiny", "examples/rollouts/loan-default-1.0.0.onnx"),
    ("trees", "../shared/data/tabular/tabular.onnx"),
    ("segmenter", "examples/refugee-camp/refugee-camp-detector.onnx"),
    ("unet", "../shared/data/banepa/model/1.0.0/model.onnx"),
];

/// Those that are measured in bf16 too, where it can be computed.
const IMAGES: [&str; 2] = ["segmenter", "unet"];

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let known = || SUBJECTS.iter().map(|(name, _)| *name).chain(["idle"]);
    if let Some(unknown) = options.subjects.iter().find(|subject| !known().any(|name| name == *subject)) {
        bail!("`{unknown}` is none of {}", known().collect::<Vec<_>>().join(", "));
    }
    let is_asked_for = |name: &str| options.subjects.is_empty() || options.subjects.iter().any(|s| s == name);
    // One thread: the callers must cost as little as they can.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (name, path) in SUBJECTS.into_iter().filter(|(name, _)| is_asked_for(name)) {
        match find(path) {
            Some(path) => tokio.block_on(compare(name, &path, &options))?,
            None => println!("{name}: skipped, there is no {path}\n"),
        }
    }
    if is_asked_for("idle") {
        tokio.block_on(server::print_idle(options.rounds))?;
    }
    Ok(())
}

/// One line of the table.
struct Line {
    server: String,
    wire: &'static str,
    n_callers: usize,
    rounds: Vec<Round>,
    memory_mb: Option<f64>,
}

async fn compare(name: &str, model: &Path, options: &Options) -> anyhow::Result<()> {
    let runtime = onnxruntime()?;
    let mut session = runtime.load(model, &SessionOptions { intra_threads: 1, precision: Precision::F32 })?;
    let inputs = probe_inputs(session.signature(), 1);
    session.run(&inputs).context("the model does not run on made-up inputs")?;
    let requests = Requests::of(&inputs)?;
    drop(session);

    let mut precisions = vec![Precision::F32];
    if IMAGES.contains(&name) && runtime.info().precisions.contains(&Precision::Bf16) {
        precisions.push(Precision::Bf16);
    }
    let mut servers = vec![Server::tidegate(model, Kind::OnnxRuntime).await?];
    if precisions.contains(&Precision::Bf16) {
        servers.push(Server::tidegate(model, Kind::Bf16).await?);
    }
    if options.rten {
        servers.push(Server::tidegate(model, Kind::Rten).await?);
    }
    if !options.alone {
        servers.push(Server::fastapi(model).await?);
    }
    if let Some(address) = &options.peer {
        servers.push(Server::other(address, options.peer_grpc.as_deref(), options.peer_pid));
    }
    println!(
        "### {name}: {} ({} of inputs), {} of {}\n",
        model.file_name().unwrap_or_default().display(),
        bytes_text(requests.n_bytes),
        runtime.info().name,
        runtime.info().version
    );
    let load_before = cost::load_average();
    let lines = measure(&*runtime, model, &precisions, &inputs, &servers, &requests, options).await?;
    print_table(&lines);
    println!(
        "\nLoad average of the machine: {load_before} before, {} after; best of {} rounds of {} s.\n",
        cost::load_average(),
        options.rounds,
        options.seconds
    );
    Ok(())
}

async fn measure(
    runtime: &dyn Runtime,
    model: &Path,
    precisions: &[Precision],
    inputs: &[tidegate_core::NamedTensor],
    servers: &[Server],
    requests: &Requests,
    options: &Options,
) -> anyhow::Result<Vec<Line>> {
    let duration = Duration::from_secs_f64(options.seconds);
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lines: Vec<Line> = vec![];
    for round in 0..options.rounds {
        let mut cells = vec![];
        let mut bare_with = BTreeSet::new();
        for &n_callers in &options.concurrency {
            // More callers than cores change nothing for it.
            let n_threads = n_callers.min(n_cores);
            if bare_with.insert(n_threads) {
                for &precision in precisions {
                    let bare = bare::run(runtime, model, precision, inputs, n_threads, duration)?;
                    cells.push((format!("the runtime in a loop, {precision}"), "-", n_threads, bare, None));
                }
            }
            for server in servers {
                for &wire in &server.wires {
                    let measured = server.measure(requests, wire, n_callers, duration).await;
                    let measured = measured.with_context(|| format!("{}, {}", server.name, wire.name()))?;
                    cells.push((server.name.clone(), wire.name(), n_callers, measured, server.memory_mb()));
                }
            }
        }
        for (index, (server, wire, n_callers, measured, memory_mb)) in cells.into_iter().enumerate() {
            if round == 0 {
                lines.push(Line { server, wire, n_callers, rounds: vec![], memory_mb });
            }
            lines[index].rounds.push(measured);
            lines[index].memory_mb = memory_mb;
        }
    }
    Ok(lines)
}

fn print_table(lines: &[Line]) {
    println!(
        "| server | wire | callers | requests/s | p50 ms | p99 ms | p99.9 ms | CPU us/request | memory MB |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for line in lines {
        let best = |column: fn(&Round) -> f64| line.rounds.iter().map(column).fold(f64::INFINITY, f64::min);
        let throughput = line.rounds.iter().map(|round| round.per_second).fold(0.0, f64::max);
        let memory = line.memory_mb.map_or("-".to_owned(), |mb| format!("{mb:.0}"));
        let cpu = best(|round| round.cpu_us);
        let cpu = if cpu.is_finite() { format!("{cpu:.1}") } else { "-".to_owned() };
        println!(
            "| {} | {} | {} | {:.0} | {:.3} | {:.3} | {:.3} | {cpu} | {memory} |",
            line.server,
            line.wire,
            line.n_callers,
            throughput,
            best(|round| round.at(0.5)),
            best(|round| round.at(0.99)),
            best(|round| round.at(0.999)),
        );
    }
}

fn print_line(line: &str) {
    println!("{line}");
}

/// The repository's root.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn find(path: &str) -> Option<PathBuf> {
    #[expect(
        clippy::disallowed_methods,
        reason = "as the tests, benches are told by the environment where data lies"
    )]
    let data = std::env::var_os("TIDEGATE_TEST_DATA").map(PathBuf::from);
    let told = path.strip_prefix("../shared/data/").zip(data).map(|(path, data)| data.join(path));
    told.or_else(|| Some(repository().join(path)))?.canonicalize().ok()
}

fn onnxruntime_library() -> PathBuf {
    let name = format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    repository().join(".tools/onnxruntime").join(name)
}

fn onnxruntime() -> anyhow::Result<std::sync::Arc<dyn Runtime>> {
    let library = onnxruntime_library();
    ensure!(library.exists(), "the bench compares on ONNX Runtime: run scripts/install-onnxruntime.sh");
    let options = RuntimeOptions {
        choice: RuntimeChoice::OnnxRuntime,
        library_candidates: vec![library.canonicalize()?],
        ..RuntimeOptions::default()
    };
    Ok(open_runtime(&options)?)
}

fn bytes_text(n_bytes: usize) -> String {
    if n_bytes < 10_000 { format!("{n_bytes} bytes") } else { format!("{} KiB", n_bytes / 1024) }
}
