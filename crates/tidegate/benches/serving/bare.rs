//! The runtime called in a loop, as nothing could be faster: a thread and a session for each core that callers can use.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tidegate_core::{NamedTensor, Precision};
use tidegate_serve::{Runtime, SessionOptions};

use crate::caller::Round;
use crate::cost;

pub fn run(
    runtime: &dyn Runtime,
    model: &Path,
    precision: Precision,
    inputs: &[NamedTensor],
    n_threads: usize,
    duration: Duration,
) -> anyhow::Result<Round> {
    let mut sessions = vec![];
    for _ in 0..n_threads {
        let mut session = runtime.load(model, &SessionOptions { intra_threads: 1, precision })?;
        session.run(inputs)?;
        sessions.push(session);
    }
    let cpu_before = cost::cpu_of(std::process::id());
    let started = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let start = |mut session: Box<dyn tidegate_serve::Session>| {
            scope.spawn(move || {
                let mut latencies = vec![];
                while started.elapsed() < duration {
                    let asked = Instant::now();
                    session.run(inputs)?;
                    latencies.push(asked.elapsed());
                }
                anyhow::Ok(latencies)
            })
        };
        let threads: Vec<_> = sessions.into_iter().map(start).collect();
        let results = threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow!("it panicked"))?);
        results.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let took = started.elapsed();
    let cpu = cost::cpu_of(std::process::id()).zip(cpu_before).map(|(after, before)| after - before);
    Ok(Round::new(latencies.concat(), took, cpu))
}
