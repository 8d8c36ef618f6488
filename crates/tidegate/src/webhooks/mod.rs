//! Webhooks: other systems are told what happens in deployments.
//!
//! The event log is the queue and a cursor for each (webhook, deployment) is all that is kept (`store::Webhooks`), so an
//! event that was committed is told sooner or later, whatever crashes: at least once, in the order of the log within a
//! deployment. One process at a time tells a webhook (a lease). [`settings`] says who is told, [`message`] what is sent and
//! how it is signed, [`telling`] when, and what comes of a receiver that does not take it.

mod message;
mod settings;
mod telling;

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::Clock;
use tidegate_store::Store;
use tokio_util::sync::CancellationToken;

pub use settings::{Webhook, WebhookConfig};
use telling::Teller;

/// Tells every webhook until told to stop.
pub async fn run(
    webhooks: Vec<Webhook>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    holder: String,
    lease: Duration,
    stop: CancellationToken,
) {
    let mut tellers = tokio::task::JoinSet::new();
    for webhook in webhooks {
        let name = webhook.name().to_owned();
        match Teller::new(webhook, Arc::clone(&store), Arc::clone(&clock), holder.clone(), lease) {
            Ok(teller) => drop(tellers.spawn(teller.run(stop.clone()))),
            Err(error) => tracing::error!(webhook = name, %error, "this webhook cannot be told anything"),
        }
    }
    while tellers.join_next().await.is_some() {}
}
