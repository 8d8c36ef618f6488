//! Versions replaced under full load: who failed, who got a wrong answer, what it did to the slowest requests and to memory.
//!
//! ```text
//! cargo bench -p tidegate-serve --bench swap                             # 1,000 swaps of tiny models, on each runtime
//! cargo bench -p tidegate-serve --bench swap -- 200 A.onnx B.onnx        # of two models of one's own
//! ```
//!
//! Tiny models are swapped as fast as they load, and then 50 times a second: in the first case some hundredths of all requests are
//! the first of their version, whose memory is in nobody's caches yet.
//!
//! Quiet stretches and stretches of ten swaps take turns, so that what else runs on the machine hits both alike.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints and gives up")]

#[path = "../tests/it/support.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate_core::{Caller, Environment, LatencyHistogram, NamedTensor};
use tidegate_serve::{Runtime, Server, ServerOptions, check_outputs, memory, probe_inputs};

const N_CALLERS: usize = 8;
const SWAPS_PER_STRETCH: u64 = 10;
/// After the versions that showed what the right answers are, and the one that serves at first.
const FIRST_NUMBER: u64 = 3;
/// From swap to swap, where loads are not slower.
const PACES: [Duration; 2] = [Duration::ZERO, Duration::from_millis(20)];
const QUIET_STRETCH: Duration = Duration::from_millis(250);
/// Long enough for what was freed to go back to the system.
const SETTLING: Duration = Duration::from_secs(3);

fn main() {
    // Cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let n_swaps = arguments.first().map_or(1000, |n| n.parse().unwrap());
    let own: Vec<PathBuf> = arguments.iter().skip(1).map(PathBuf::from).collect();
    let (paths, paces) = match own.as_slice() {
        [] => ([1, 2].map(|k| support::fixture(&format!("version-{k}.onnx"))).into(), &PACES[..]),
        _ => (own, &PACES[..1]),
    };
    let tokio = tokio::runtime::Runtime::new().unwrap();
    for runtime in support::runtimes() {
        for pace in paces {
            tokio.block_on(run(Arc::clone(&runtime), n_swaps, *pace, &paths));
        }
    }
}

/// What callers share.
struct Load {
    server: Server,
    inputs: Vec<NamedTensor>,
    /// The answer of each version, by the parity of its number.
    expected: Vec<Vec<NamedTensor>>,
    is_over: AtomicBool,
    is_swapping: AtomicBool,
    n_failed: AtomicU64,
    n_wrong: AtomicU64,
    quiet: Mutex<LatencyHistogram>,
    swapping: Mutex<LatencyHistogram>,
}

impl Load {
    /// Whose answer this is: the one to which it is closest, since batches round otherwise than single requests.
    fn version_of(&self, outputs: &[NamedTensor]) -> usize {
        let values = |outputs: &[NamedTensor]| outputs[0].tensor.values::<f32>().unwrap().into_owned();
        let outputs = values(outputs);
        let distance = |expected: &Vec<NamedTensor>| {
            values(expected).iter().zip(&outputs).map(|(a, b)| (a - b).abs()).sum::<f32>()
        };
        usize::from(distance(&self.expected[1]) < distance(&self.expected[0]))
    }
}

async fn run(runtime: Arc<dyn Runtime>, n_swaps: u64, pace: Duration, paths: &[PathBuf]) {
    let info = runtime.info().clone();
    let server = Server::new(runtime, ServerOptions::default());
    let mut expected = vec![];
    let mut inputs = vec![];
    for (number, path) in paths.iter().enumerate() {
        let slot = server.load(support::spec(number as u64, path.clone())).await.unwrap();
        inputs = probe_inputs(slot.signature(), 1);
        expected.push(slot.run_blocking(&inputs).unwrap());
        check_outputs(slot.signature(), expected.last().unwrap()).unwrap();
    }
    assert_ne!(expected[0], expected[1], "the two versions must answer differently");
    let load = Arc::new(Load {
        server,
        inputs,
        expected,
        is_over: AtomicBool::new(false),
        is_swapping: AtomicBool::new(false),
        n_failed: AtomicU64::new(0),
        n_wrong: AtomicU64::new(0),
        quiet: Mutex::default(),
        swapping: Mutex::default(),
    });
    swap(&load, 2, paths).await;
    let callers: Vec<_> = (0..N_CALLERS).map(|_| tokio::spawn(call(Arc::clone(&load)))).collect();
    let mut after_ten = 0;
    let mut swapping_for = Duration::ZERO;
    for number in FIRST_NUMBER..FIRST_NUMBER + n_swaps {
        if (number - FIRST_NUMBER).is_multiple_of(SWAPS_PER_STRETCH) {
            load.is_swapping.store(false, Ordering::SeqCst);
            tokio::time::sleep(QUIET_STRETCH).await;
            if number == FIRST_NUMBER + SWAPS_PER_STRETCH {
                tokio::time::sleep(SETTLING).await;
                after_ten = memory::resident_bytes().unwrap_or(0);
            }
            load.is_swapping.store(true, Ordering::SeqCst);
        }
        let started = Instant::now();
        swap(&load, number, paths).await;
        if let Some(rest) = pace.checked_sub(started.elapsed()) {
            tokio::time::sleep(rest).await;
        }
        swapping_for += started.elapsed();
    }
    load.is_swapping.store(false, Ordering::SeqCst);
    tokio::time::sleep(SETTLING).await;
    let after_all = memory::resident_bytes().unwrap_or(0);
    load.is_over.store(true, Ordering::SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let runtime = format!("{} {}, accelerator {}", info.name, info.version, info.accelerator.name);
    report(&load, &runtime, n_swaps, swapping_for);
    let mb = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "  resident: {:.0} MB after 10 swaps, {:.0} MB after {n_swaps}: {:.2} x",
        mb(after_ten),
        mb(after_all),
        mb(after_all) / mb(after_ten)
    );
    load.server.shutdown().await;
}

fn report(load: &Load, runtime: &str, n_swaps: u64, swapping_for: Duration) {
    println!(
        "{runtime}: {n_swaps} swaps in {:.1} s, {} failed, {} by a wrong version",
        swapping_for.as_secs_f64(),
        load.n_failed.load(Ordering::SeqCst),
        load.n_wrong.load(Ordering::SeqCst)
    );
    let mut p99 = vec![];
    for (name, latencies) in [("without", &load.quiet), ("during", &load.swapping)] {
        let latencies = latencies.lock().unwrap();
        let at = |q| latencies.quantile(q).unwrap_or(f64::NAN) / 1e3;
        println!(
            "  {name:<8} swaps: {:>8} requests, p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms",
            latencies.count(),
            at(0.5),
            at(0.99),
            at(0.999)
        );
        p99.push(at(0.99));
    }
    println!("  p99 during / without: {:.2}", p99[1] / p99[0]);
}

async fn swap(load: &Load, number: u64, paths: &[PathBuf]) {
    let path = paths[number as usize % 2].clone();
    let slot = load.server.load(support::spec(number, path)).await.unwrap();
    load.server.apply(support::route(number, Some(number), &[]), support::model_name(), vec![slot]);
}

async fn call(load: Arc<Load>) {
    while !load.is_over.load(Ordering::Relaxed) {
        let resolved =
            load.server.resolve(Environment::Production, "m", None, &Caller::unnamed("request")).unwrap();
        let parity = resolved.slot.number().major as usize % 2;
        let inputs = load.inputs.clone();
        let started = Instant::now();
        let outcome = load.server.infer(&resolved.slot, inputs).await;
        let us = started.elapsed().as_micros() as u64;
        let latencies = if load.is_swapping.load(Ordering::Relaxed) { &load.swapping } else { &load.quiet };
        latencies.lock().unwrap().record(us);
        // As one who reads the next request would.
        tokio::task::yield_now().await;
        let counter = match outcome {
            Err(_) => &load.n_failed,
            Ok(inference) if load.version_of(&inference.outputs) != parity => &load.n_wrong,
            Ok(_) => continue,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
