//! Following a deployment to its end, from wherever it is: its events in order, each once, and how it goes in between.
//!
//! Events come by the stream; while there is none (the server has too many, a proxy holds it back) they are read page by
//! page. What the progress says decides when it is over, so a stream that says nothing keeps nobody waiting.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::{Value, json};

use crate::client::{ApiError, Client, EventStream};

/// How often is looked at how it goes.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The first looks follow each other faster: what goes wrong at once is seen at once.
const FIRST_INTERVAL: Duration = Duration::from_millis(100);

/// Events often come in twos and threes; so long is waited for another one before the next look.
const GATHER: Duration = Duration::from_millis(20);

/// After a stream that did not open.
const STREAM_RETRY: Duration = Duration::from_secs(5);

/// For one answer. They take milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long a server that does not answer is waited for: a restart takes seconds, a failover with its retries a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// When following ends, if the deployment goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The new version has all the traffic; the watch after that is not waited for.
    AllTraffic,
    Active,
}

/// What is told while following.
pub enum News<'a> {
    /// An event of the log.
    Event(&'a Value),
    /// How the deployment goes, as `/progress` has it.
    Progress(&'a Value),
    /// The server does not answer, and why; it is asked again.
    Silence(&'a anyhow::Error),
}

/// It ended, but not with the new version.
#[derive(Debug, thiserror::Error)]
#[error("deployment {id} ended as {status}: {why}")]
pub struct EndedOtherwise {
    id: String,
    status: String,
    why: String,
}

/// Follows until the end that is waited for, or [`EndedOtherwise`].
pub async fn follow(
    client: &Client,
    id: &str,
    until: Until,
    tell: impl FnMut(News<'_>),
) -> anyhow::Result<()> {
    Follower { client, id, until, tell, after: 0, stream: None, stream_due: Instant::now() }.run().await
}

struct Follower<'a, F> {
    client: &'a Client,
    id: &'a str,
    until: Until,
    tell: F,
    /// The number of the last event that was told.
    after: u64,
    stream: Option<EventStream>,
    /// When opening a stream is tried again.
    stream_due: Instant,
}

impl<F: FnMut(News<'_>)> Follower<'_, F> {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut answered_at: Option<Instant> = None;
        let mut pause = FIRST_INTERVAL;
        loop {
            match limited(self.look()).await {
                Ok(Some(end)) => return end,
                Ok(None) => answered_at = Some(Instant::now()),
                Err(error) => match answered_at {
                    Some(since) if may_pass(&error) && since.elapsed() < PATIENCE => {
                        self.stream = None;
                        (self.tell)(News::Silence(&error));
                    }
                    _ => return Err(error),
                },
            }
            self.wait(pause).await;
            pause = (pause * 2).min(LOOK_INTERVAL);
        }
    }

    /// How it goes; and the end, once it is over and its whole log was told.
    async fn look(&mut self) -> anyhow::Result<Option<anyhow::Result<()>>> {
        // The state first: whatever it says, its events are then there to read.
        let path = format!("/api/v1/deployments/{}/progress", Client::segment(self.id));
        let progress = self.client.get(&path).await?;
        let end = self.end(&progress["deployment"]);
        if end.is_some() || self.stream.is_none() {
            self.read_pages().await?;
        }
        (self.tell)(News::Progress(&progress));
        Ok(end)
    }

    fn end(&self, deployment: &Value) -> Option<anyhow::Result<()>> {
        let status = deployment["status"].as_str().unwrap_or_default();
        match status {
            "Active" => Some(Ok(())),
            "Failed" | "RolledBack" | "Cancelled" => {
                let why = deployment["errorMessage"].as_str().unwrap_or("see its event log");
                // The report has been shown, check by check.
                let is_shown = deployment["validationResult"]["passed"] == json!(false);
                let why = if is_shown && status == "Failed" { "validation failed" } else { why };
                let (id, status, why) = (self.id.to_owned(), status.to_owned(), why.to_owned());
                Some(Err(EndedOtherwise { id, status, why }.into()))
            }
            _ if self.until == Until::AllTraffic && deployment["phase"] == "Watching" => Some(Ok(())),
            _ => None,
        }
    }

    async fn read_pages(&mut self) -> anyhow::Result<()> {
        let path = format!("/api/v1/deployments/{}", Client::segment(self.id));
        let events = self.client.events_after(&path, self.after).await?;
        events.iter().for_each(|event| self.tell_event(event));
        Ok(())
    }

    /// Until the next look is due, or right after events.
    async fn wait(&mut self, pause: Duration) {
        if self.stream.is_none() && Instant::now() >= self.stream_due {
            self.stream_due = Instant::now() + STREAM_RETRY;
            self.stream = limited(self.client.stream_events(self.id, self.after)).await.unwrap_or_default();
        }
        let due = tokio::time::Instant::now() + pause;
        let mut has_news = false;
        while let Some(stream) = &mut self.stream {
            let due = if has_news { tokio::time::Instant::now() + GATHER } else { due };
            match tokio::time::timeout_at(due, stream.next()).await {
                Ok(Ok(Some(event))) => self.tell_event(&event),
                // It ended or broke off; the next look says what is so.
                Ok(Ok(None) | Err(_)) => self.stream = None,
                Err(_due) => return,
            }
            has_news = true;
        }
        if !has_news {
            tokio::time::sleep_until(due).await;
        }
    }

    fn tell_event(&mut self, event: &Value) {
        let seq = event["seq"].as_u64().unwrap_or_default();
        if seq > self.after {
            self.after = seq;
            (self.tell)(News::Event(event));
        }
    }
}

async fn limited<T>(answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let late = || anyhow!("the server has not answered within {} s", ANSWER_LIMIT.as_secs());
    tokio::time::timeout(ANSWER_LIMIT, answer).await.map_err(|_| late())?
}

/// Whether asking again can help: not where the server has answered that it will not.
fn may_pass(error: &anyhow::Error) -> bool {
    error.downcast_ref::<ApiError>().is_none_or(|error| error.status >= 500 || error.status == 429)
}
