//! Callers: each asks, waits for the answer, and asks again, on a connection of its own.

use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;

use crate::request::Requests;
use crate::{grpc, http};

/// How requests and answers are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Json,
    /// JSON with binary tensors after it.
    Binary,
    Grpc,
}

impl Wire {
    pub const ALL: [Self; 3] = [Self::Json, Self::Binary, Self::Grpc];

    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Binary => "binary",
            Self::Grpc => "gRPC",
        }
    }
}

/// What a round measured.
pub struct Round {
    pub per_second: f64,
    /// CPU of the server for each request; not a number where it is not known.
    pub cpu_us: f64,
    /// In order.
    latencies: Vec<Duration>,
}

impl Round {
    pub fn new(mut latencies: Vec<Duration>, took: Duration, cpu: Option<Duration>) -> Self {
        latencies.sort_unstable();
        let n_requests = latencies.len().max(1) as f64;
        Self {
            per_second: latencies.len() as f64 / took.as_secs_f64(),
            cpu_us: cpu.map_or(f64::NAN, |cpu| cpu.as_secs_f64() * 1e6 / n_requests),
            latencies,
        }
    }

    /// The quantile of latency in milliseconds.
    pub fn at(&self, quantile: f64) -> f64 {
        let index = (self.latencies.len() as f64 * quantile) as usize;
        let latency = self.latencies.get(index).or(self.latencies.last());
        latency.map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// A connection of either kind.
enum Connection {
    Http(http::Connection),
    Grpc(grpc::Connection),
}

impl Connection {
    async fn open(address: &str, wire: Wire) -> anyhow::Result<Self> {
        Ok(match wire {
            Wire::Json | Wire::Binary => Self::Http(http::Connection::open(address).await?),
            Wire::Grpc => Self::Grpc(grpc::Connection::open(address).await?),
        })
    }

    /// An answer that is none is an error.
    async fn ask(&mut self, requests: &Requests, wire: Wire) -> anyhow::Result<()> {
        match (self, wire) {
            (Self::Http(connection), Wire::Json) => connection.exchange(&requests.json).await,
            (Self::Http(connection), _) => connection.exchange(&requests.binary).await,
            (Self::Grpc(connection), _) => connection.exchange(&requests.grpc).await,
        }
    }
}

/// The latencies of all requests that were answered within the time, and how long it took.
pub async fn call(
    address: &str,
    requests: &Requests,
    wire: Wire,
    n_callers: usize,
    duration: Duration,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let mut callers = JoinSet::new();
    let started = Instant::now();
    for _ in 0..n_callers {
        let (address, requests) = (address.to_owned(), requests.clone());
        callers.spawn(async move {
            let mut connection = Connection::open(&address, wire).await?;
            let mut latencies = vec![];
            while started.elapsed() < duration {
                let asked = Instant::now();
                connection.ask(&requests, wire).await?;
                latencies.push(asked.elapsed());
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = vec![];
    while let Some(caller) = callers.join_next().await {
        latencies.append(&mut caller.context("a caller panicked")??);
    }
    Ok((latencies, started.elapsed()))
}
