//! Runs each case of the contract on a fresh database, a few at a time, and names every one that failed.

use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;
use tidegate_core::error_chain;
use tidegate_store::Store;
use tokio::task::JoinError;

/// A store on an empty database, and how to open it once more as another process would.
pub struct Bench {
    pub store: Store,
    url: String,
}

impl Bench {
    pub async fn open(url: String) -> Self {
        let store = Store::connect(&url).await.unwrap_or_else(|error| panic!("{}", error_chain(&error)));
        Self { store, url }
    }

    pub async fn another_store(&self) -> Store {
        Store::connect(&self.url).await.unwrap()
    }
}

pub struct Case {
    pub name: &'static str,
    pub run: fn(Arc<Bench>) -> BoxFuture<'static, ()>,
}

/// Cases from the paths of `async fn(Arc<Bench>)`.
macro_rules! cases {
    ($($path:path),* $(,)?) => {
        vec![$($crate::bench::Case { name: stringify!($path), run: |bench| Box::pin($path(bench)) }),*]
    };
}
pub(crate) use cases;

/// Two cores: more at a time would only wait for each other.
const CASES_AT_A_TIME: usize = 3;

/// Runs all cases, each on the database that `fresh_url` gives for its number. Returns those that failed and what they
/// panicked with.
#[must_use]
pub async fn run<F>(cases: Vec<Case>, fresh_url: impl Fn(usize) -> F) -> Vec<String>
where
    F: Future<Output = String>,
{
    let run_case = |(index, case): (usize, Case)| {
        let url = fresh_url(index);
        async move {
            let bench = Arc::new(Bench::open(url.await).await);
            let outcome = tokio::spawn((case.run)(Arc::clone(&bench))).await;
            bench.store.close().await;
            outcome.err().map(|error| format!("{}: {}", case.name, message_of(error)))
        }
    };
    let outcomes = futures::stream::iter(cases.into_iter().enumerate().map(run_case));
    let failed = outcomes.buffer_unordered(CASES_AT_A_TIME).filter_map(async |failed| failed);
    failed.collect().await
}

fn message_of(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => {
            panic.downcast::<String>().map_or_else(|_| "a fixed message".to_owned(), |message| *message)
        }
        Err(error) => error.to_string(),
    }
}
