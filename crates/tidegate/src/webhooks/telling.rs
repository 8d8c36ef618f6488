//! Telling one webhook: what is due, in order; and patience with a receiver that does not take it.

mod pause;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use reqwest::{StatusCode, header};
use tidegate_core::{Clock, Timestamp, error_chain};
use tidegate_store::{Change, DeploymentRecord, EventRecord, Store, StoreError, Untold};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::pause::pause_after;
use super::message::{Message, Names};
use super::settings::Webhook;

/// An event that could not be told for so long is given up: whoever was away a day needs a list, not a replay.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// Cursors are kept for longer than anything that they could point to.
const KEEP_CURSORS: SignedDuration = SignedDuration::from_hours(48);
const SWEEP_INTERVAL: Duration = Duration::from_secs(3600);

/// How often to look although nothing changed: for what a killed process left, and what the change feed lost.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// A lease is renewed this many times in its life.
const RENEWALS_PER_LEASE: u32 = 3;

/// After a database that did not answer.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// Deployments looked at in one round, and events of one read at a time. The rest follows at once.
const DEPLOYMENTS: u32 = 100;
const EVENTS: u32 = 50;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Teller {
    webhook: Webhook,
    id: String,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    holder: String,
    /// How soon another process goes on after this one was killed.
    lease_length: Duration,
    http: reqwest::Client,
    jitter: StdRng,
    /// Nothing from before this is told; unknown until the database was asked.
    known_since: Option<Timestamp>,
    lease: Option<Lease>,
    /// Until when the receiver is left alone.
    down_until: Option<Instant>,
    swept_at: Option<Instant>,
}

struct Lease {
    generation: u64,
    renewed_at: Instant,
}

/// What to wait for after a round.
enum Next {
    /// Somebody else tells this webhook.
    LeaseOf(Duration),
    /// Something to tell, or this moment.
    Event(Instant),
    /// Only this moment: the receiver is not well.
    Recovery(Instant),
}

/// How telling a deployment's events went.
enum Told {
    All,
    /// The receiver does not want the next one; it is tried again later, and nothing of this deployment before it.
    Refused,
    /// Nothing reaches the receiver until then.
    Down(Instant),
    LeaseLost,
}

enum Failure {
    /// It is not there, or it has no time: whatever else there is waits too.
    Down { why: String, retry_after: Option<Duration> },
    /// It is there, and does not want this message.
    Refused { why: String },
}

impl Teller {
    pub(super) fn new(
        webhook: Webhook,
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        holder: String,
        lease_length: Duration,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(webhook.timeout)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let jitter = StdRng::try_from_rng(&mut SysRng)?;
        let id = webhook.id();
        let (known_since, lease, down_until, swept_at) = (None, None, None, None);
        Ok(Self {
            webhook,
            id,
            store,
            clock,
            holder,
            lease_length,
            http,
            jitter,
            known_since,
            lease,
            down_until,
            swept_at,
        })
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.store.changes.subscribe();
        loop {
            let next = tokio::select! {
                next = self.round() => next.unwrap_or_else(|error| {
                    tracing::warn!(webhook = self.webhook.name(), %error, "cannot look for what to tell a webhook");
                    Next::Recovery(Instant::now() + STORE_PAUSE)
                }),
                // What is being told may be told again by whoever goes on.
                () = stop.cancelled() => break,
            };
            let (until, is_open_to_changes) = match next {
                Next::LeaseOf(pause) => (Instant::now() + pause, false),
                Next::Recovery(at) => (at, false),
                Next::Event(at) => (at, true),
            };
            loop {
                tokio::select! {
                    () = sleep_until(until) => break,
                    change = changes.next() => match change {
                        Some(Change::Deployment { .. } | Change::Everything) if is_open_to_changes => break,
                        Some(_) => {}
                        None => return,
                    },
                    () = stop.cancelled() => break,
                }
            }
            if stop.is_cancelled() {
                break;
            }
        }
        self.release().await;
    }

    /// Tells what is due, of one deployment after the other. Idle, it only reads.
    async fn round(&mut self) -> Result<Next, StoreError> {
        if let Some(until) = self.down_until.filter(|until| Instant::now() < *until) {
            // Held on to, or another process would try at once.
            self.hold_lease().await?;
            return Ok(Next::Recovery(until.min(Instant::now() + self.lease_interval())));
        }
        self.sweep().await?;
        loop {
            let now = self.clock.now();
            let oldest = now.saturating_sub(GIVE_UP_AFTER).unwrap_or(Timestamp::MIN);
            let since = self.known_since().await?.max(oldest);
            let untold = self.store.webhooks.untold(&self.id, since, now, DEPLOYMENTS).await?;
            if untold.is_empty() {
                self.release().await;
                return Ok(Next::Event(self.next_attempt().await?));
            }
            let is_new = self.lease.is_none();
            if !self.hold_lease().await? {
                return Ok(Next::LeaseOf(self.lease_interval()));
            }
            if is_new {
                // Who had it before may have told some of it.
                continue;
            }
            for deployment in &untold {
                match self.tell(deployment).await? {
                    Told::All | Told::Refused => {}
                    Told::Down(until) => {
                        self.down_until = Some(until);
                        return Ok(Next::Recovery(until.min(Instant::now() + self.lease_interval())));
                    }
                    Told::LeaseLost => return Ok(Next::LeaseOf(self.lease_interval())),
                }
            }
        }
    }

    async fn tell(&mut self, untold: &Untold) -> Result<Told, StoreError> {
        let Untold { deployment_id, told_seq, next_seq, attempts } = untold;
        let Some(record) = self.store.deployments.get(deployment_id).await? else { return Ok(Told::All) };
        if *next_seq > told_seq + 1 {
            // Of before the webhook was known, or given up.
            if *attempts > 0 {
                let given_up = next_seq - told_seq - 1;
                tracing::error!(webhook = self.webhook.name(), deployment = %deployment_id, given_up,
                    "events could not be told for a day and were given up");
            }
            self.store.webhooks.told(&self.id, deployment_id, next_seq - 1, self.clock.now()).await?;
        }
        let names = self.names(&record).await?;
        let mut untold = Untold { told_seq: next_seq - 1, ..untold.clone() };
        loop {
            let events = self.store.deployments.events(deployment_id, untold.told_seq, EVENTS).await?;
            if events.is_empty() {
                return Ok(Told::All);
            }
            for event in &events {
                if self.webhook.wants(&event.kind) {
                    if !self.hold_lease().await? {
                        return Ok(Told::LeaseLost);
                    }
                    let message = Message::of(&record, &names, event);
                    if let Err(failure) = self.attempt(&message).await {
                        return self.failed(&untold, event, failure).await;
                    }
                }
                self.store.webhooks.told(&self.id, deployment_id, event.seq, self.clock.now()).await?;
                (untold.told_seq, untold.attempts) = (event.seq, 0);
            }
        }
    }

    async fn attempt(&self, message: &Message) -> Result<(), Failure> {
        let mut request = self.http.post(self.webhook.url.clone());
        for (name, value) in message.headers(&self.webhook.key, self.clock.now()) {
            request = request.header(name, value);
        }
        let request = request.header(header::CONTENT_TYPE, "application/json").body(message.body.clone());
        let response = request
            .send()
            .await
            .map_err(|error| Failure::Down { why: error_chain(&error.without_url()), retry_after: None })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let why = format!("it answered {status}");
        if status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error() {
            let retry_after = response.headers().get(header::RETRY_AFTER);
            let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(Failure::Down { why, retry_after: seconds.map(Duration::from_secs) });
        }
        Err(Failure::Refused { why })
    }

    async fn failed(
        &mut self,
        untold: &Untold,
        event: &EventRecord,
        failure: Failure,
    ) -> Result<Told, StoreError> {
        let (why, retry_after, is_down) = match failure {
            Failure::Down { why, retry_after } => (why, retry_after, true),
            Failure::Refused { why } => (why, None, false),
        };
        let pause = pause_after(untold.attempts, retry_after, &mut self.jitter);
        let (deployment, attempt) = (&untold.deployment_id, untold.attempts + 1);
        tracing::warn!(webhook = self.webhook.name(), %deployment, seq = event.seq, why, attempt, ?pause,
            "a webhook did not take an event; trying again");
        let now = self.clock.now();
        let again_at = SignedDuration::try_from(pause).ok().and_then(|pause| now.checked_add(pause).ok());
        self.store.webhooks.postpone(&self.id, untold, again_at.unwrap_or(now), now).await?;
        Ok(if is_down { Told::Down(Instant::now() + pause) } else { Told::Refused })
    }

    /// When to look again although nothing changed.
    async fn next_attempt(&self) -> Result<Instant, StoreError> {
        let now = self.clock.now();
        let next = self.store.webhooks.next_attempt(&self.id, now).await?;
        let pause = next.and_then(|next| Duration::try_from(next.duration_since(now)).ok());
        Ok(Instant::now() + pause.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL))
    }

    async fn known_since(&mut self) -> Result<Timestamp, StoreError> {
        if let Some(known_since) = self.known_since {
            return Ok(known_since);
        }
        let known_since = self.store.webhooks.introduce(&self.id, self.clock.now()).await?;
        Ok(*self.known_since.insert(known_since))
    }

    async fn names(&self, record: &DeploymentRecord) -> Result<Names, StoreError> {
        let model = self.store.models.get(&record.model_id).await?.map(|model| model.name.to_string());
        let version = self.store.versions.get(&record.version_id).await?;
        Ok(Names { model, version: version.map(|version| version.version.to_string()) })
    }

    /// Whether this process may tell the webhook; renews in time.
    async fn hold_lease(&mut self) -> Result<bool, StoreError> {
        if self.lease.as_ref().is_some_and(|lease| lease.renewed_at.elapsed() < self.lease_interval()) {
            return Ok(true);
        }
        // One attempt may begin just before it wants to be renewed.
        let ttl = SignedDuration::try_from(self.lease_length + self.webhook.timeout);
        let ttl = ttl.unwrap_or(SignedDuration::MAX);
        let (renewed_at, name, now) = (Instant::now(), self.lease_name(), self.clock.now());
        let generation = self.store.leases.acquire(&name, &self.holder, now, ttl).await?;
        self.lease = generation.map(|generation| Lease { generation, renewed_at });
        Ok(self.lease.is_some())
    }

    async fn release(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let name = self.lease_name();
        if let Err(error) = self.store.leases.release(&name, &self.holder, lease.generation).await {
            tracing::debug!(%error, "failed to release the lease of a webhook; it runs out by itself");
        }
    }

    fn lease_interval(&self) -> Duration {
        self.lease_length / RENEWALS_PER_LEASE
    }

    fn lease_name(&self) -> String {
        format!("webhook/{}", self.id)
    }

    async fn sweep(&mut self) -> Result<(), StoreError> {
        if self.swept_at.is_some_and(|at| at.elapsed() < SWEEP_INTERVAL) {
            return Ok(());
        }
        let cutoff = self.clock.now().saturating_sub(KEEP_CURSORS).unwrap_or(Timestamp::MIN);
        self.store.webhooks.sweep(cutoff).await?;
        self.swept_at = Some(Instant::now());
        Ok(())
    }
}
