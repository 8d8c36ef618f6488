//! How far webhooks have been told what happens in deployments. The event log itself is the queue: what lies behind a
//! webhook's cursor of a deployment has yet to be told, in the order of the log, and nothing has to be written for it.

use tidegate_core::{DeploymentId, Timestamp};

use crate::db::{Db, Row, sql};
use crate::error::StoreError;

/// Webhooks, by a text that identifies each.
pub struct Webhooks {
    db: Db,
}

/// A deployment with something to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    pub deployment_id: DeploymentId,
    /// The last event that was told; 0 for none.
    pub told_seq: u64,
    /// The first one to tell. Above `told_seq` + 1 where those between were too old by now, or older than the webhook.
    pub next_seq: u64,
    /// How often that one was tried in vain.
    pub attempts: u32,
}

impl Webhooks {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Since when the webhook is known: since `now`, the first time.
    pub async fn introduce(&self, webhook: &str, now: Timestamp) -> Result<Timestamp, StoreError> {
        const INTRODUCE: &str = "INSERT INTO webhooks (webhook, known_since) VALUES ($1, $2)
            ON CONFLICT (webhook) DO UPDATE SET known_since = webhooks.known_since RETURNING known_since";
        let row = self.db.write_first(sql("introduce a webhook", INTRODUCE).bind(webhook).bind(now)).await?;
        row.map_or(Ok(now), |row| row.time("known_since"))
    }

    /// Deployments with events from `since` on that the webhook has not been told and that are not postponed beyond `now`, the
    /// longest waiting first, at most `limit`.
    pub async fn untold(
        &self,
        webhook: &str,
        since: Timestamp,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<Untold>, StoreError> {
        const UNTOLD: &str = "SELECT event.deployment_id, MIN(event.seq) AS next_seq, MIN(event.at) AS waiting_since,
                COALESCE(MAX(told.seq), 0) AS told_seq, COALESCE(MAX(told.attempts), 0) AS attempts
            FROM deployment_events AS event
            LEFT JOIN webhook_cursors AS told ON told.webhook = $1 AND told.deployment_id = event.deployment_id
            WHERE event.at >= $2 AND event.seq > COALESCE(told.seq, 0)
                AND (told.next_attempt_at IS NULL OR told.next_attempt_at <= $3)
            GROUP BY event.deployment_id ORDER BY waiting_since, event.deployment_id LIMIT $4";
        let untold = sql("find what a webhook has yet to be told", UNTOLD).bind(webhook).bind(since);
        self.db.all(untold.bind(now).bind(limit)).await?.iter().map(untold_of).collect()
    }

    /// The next moment after `now` to which something was postponed.
    pub async fn next_attempt(&self, webhook: &str, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        const NEXT: &str = "SELECT next_attempt_at FROM webhook_cursors
            WHERE webhook = $1 AND next_attempt_at > $2 ORDER BY next_attempt_at LIMIT 1";
        let next = sql("find when to try a webhook again", NEXT).bind(webhook).bind(now);
        self.db.first(next).await?.map(|row| row.time("next_attempt_at")).transpose()
    }

    /// Moves the cursor of a deployment forward, never back.
    pub async fn told(
        &self,
        webhook: &str,
        deployment: &DeploymentId,
        seq: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const TOLD: &str =
            "INSERT INTO webhook_cursors (webhook, deployment_id, seq, attempts, next_attempt_at, updated_at)
            VALUES ($1, $2, $3, 0, NULL, $4)
            ON CONFLICT (webhook, deployment_id) DO UPDATE SET
                seq = excluded.seq, attempts = 0, next_attempt_at = NULL, updated_at = excluded.updated_at
            WHERE webhook_cursors.seq < excluded.seq";
        let told = sql("move a webhook's cursor", TOLD).bind(webhook).bind(deployment.as_str()).bind(seq);
        self.db.execute(told.bind(now)).await.map(drop)
    }

    /// Notes that the event after `told_seq` could not be told, and when to try again.
    pub async fn postpone(
        &self,
        webhook: &str,
        untold: &Untold,
        next_attempt_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        const POSTPONE: &str =
            "INSERT INTO webhook_cursors (webhook, deployment_id, seq, attempts, next_attempt_at, updated_at)
            VALUES ($1, $2, $3, 1, $4, $5)
            ON CONFLICT (webhook, deployment_id) DO UPDATE SET attempts = webhook_cursors.attempts + 1,
                next_attempt_at = excluded.next_attempt_at, updated_at = excluded.updated_at
            WHERE webhook_cursors.seq = excluded.seq";
        let postpone = sql("postpone a webhook", POSTPONE)
            .bind(webhook)
            .bind(untold.deployment_id.as_str())
            .bind(untold.told_seq)
            .bind(next_attempt_at)
            .bind(now);
        self.db.execute(postpone).await.map(drop)
    }

    /// Forgets cursors that did not move since `cutoff`; what they point to is too old to be told by then.
    pub async fn sweep(&self, cutoff: Timestamp) -> Result<u64, StoreError> {
        const SWEEP: &str = "DELETE FROM webhook_cursors WHERE updated_at < $1";
        self.db.execute(sql("forget old cursors of webhooks", SWEEP).bind(cutoff)).await
    }
}

fn untold_of(row: &Row) -> Result<Untold, StoreError> {
    let attempts = row.count("attempts")?;
    Ok(Untold {
        deployment_id: DeploymentId::new(row.text("deployment_id")?),
        told_seq: row.count("told_seq")?,
        next_seq: row.count("next_seq")?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
    })
}
