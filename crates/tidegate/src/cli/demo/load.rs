//! Users of the model, while it is delivered: they ask, they say what really happened, and they notice who answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::Client;

/// How many ask at the same time.
const N_USERS: u64 = 6;

/// How long a user thinks before the next question.
const PAUSE: Duration = Duration::from_millis(3);

/// One answer in so many is told whether it was right.
const FEEDBACK_EVERY: u64 = 4;

/// What decides what really happens (examples/rollouts/make_models.py).
const TRUTH: [f64; 4] = [1.5, -2.0, 1.0, -0.5];

/// What users have seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub answers: BTreeMap<String, u64>,
    pub failures: Vec<String>,
}

/// Users at work, until [`Load::stop`].
pub struct Load {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    users: JoinSet<()>,
}

impl Load {
    pub fn start(model: &str, urls: &[String]) -> anyhow::Result<Self> {
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let mut users = JoinSet::new();
        for number in 0..N_USERS {
            let clients = urls.iter().map(|url| Client::new(url)).collect::<anyhow::Result<Vec<_>>>()?;
            let (path, seen, stop) =
                (format!("/api/v1/inference/{model}"), Arc::clone(&seen), Arc::clone(&stop));
            users.spawn(async move {
                let mut rng = StdRng::seed_from_u64(number);
                let mut n_asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    let client = &clients[rng.random_range(0..clients.len())];
                    n_asked += 1;
                    let outcome = ask(client, &path, &mut rng, n_asked % FEEDBACK_EVERY == 0).await;
                    note(&seen, outcome);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Ok(Self { seen, stop, users })
    }

    /// What has been seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("never held across a panic").clone()
    }

    pub async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        while self.users.join_next().await.is_some() {}
        self.seen()
    }
}

fn note(seen: &Mutex<Seen>, outcome: anyhow::Result<String>) {
    let mut seen = seen.lock().expect("never held across a panic");
    match outcome {
        Ok(version) => *seen.answers.entry(version).or_default() += 1,
        Err(error) => seen.failures.push(format!("{error:#}")),
    }
}

/// The version that answered.
async fn ask(client: &Client, path: &str, rng: &mut StdRng, tells: bool) -> anyhow::Result<String> {
    let features: Vec<f64> = (0..TRUTH.len()).map(|_| rng.random_range(-1.0..1.0)).collect();
    let happened = features.iter().zip(TRUTH).map(|(x, weight)| x * weight).sum::<f64>() > 0.0;
    let answer = client.post(path, &json!({"features": {"features": features}})).await?;
    if tells {
        let request_id = answer["requestId"].as_str().context("an answer without a request id")?;
        let truth = json!({"groundTruth": {"label": i64::from(happened)}});
        client.post(&format!("/api/v1/inference/{request_id}/feedback"), &truth).await?;
    }
    Ok(answer["version"].as_str().map_or_else(|| Value::Null.to_string(), str::to_owned))
}
