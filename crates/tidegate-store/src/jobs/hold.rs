//! What the process that is at a job writes. Every statement names holder and generation, so that one that has lost the job
//! changes nothing and is told so (`false`).

use jiff::SignedDuration;
use serde_json::Value;
use tidegate_core::{JobId, JobStatus, Timestamp, VersionId};

use super::{EVENTS, JobRecord, Jobs, record_of};
use crate::db::{Statement, sql};
use crate::error::StoreError;
use crate::event_log::NewEvent;

/// A job as it was taken: proof that the caller is who does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub job_id: JobId,
    pub holder: String,
    pub generation: u64,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEnd {
    Succeeded { result: Value },
    Failed { reason: String },
}

/// When a job that is given back is to be taken up again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Postponed {
    /// `None`: at once.
    pub until: Option<Timestamp>,
    /// How often in vain since it last came forward.
    pub attempts: u32,
}

/// The job is still the holder's, bound by [`held`].
macro_rules! held {
    () => {
        "job_id = $1 AND holder = $2 AND generation = $3 AND status = 'Running'"
    };
}

/// Nobody is at it, and it may be begun now.
macro_rules! due {
    ($now:literal) => {
        concat!(
            "status IN ('Queued', 'Running') AND (holder IS NULL OR lease_expires_at <= ",
            $now,
            ") AND (next_attempt_at IS NULL OR next_attempt_at <= ",
            $now,
            ")"
        )
    };
}

/// The parenthesis is closed by each database's own end.
macro_rules! take {
    () => {
        concat!(
            "UPDATE jobs SET status = 'Running', holder = $1, generation = generation + 1, lease_expires_at = $2,
                next_attempt_at = NULL, started_at = COALESCE(started_at, $3)
            WHERE job_id = (SELECT job_id FROM jobs WHERE ",
            due!("$3"),
            " ORDER BY created_at, job_id LIMIT 1"
        )
    };
}

impl Jobs {
    /// Takes the job that has waited longest, or was left by a holder that gave no sign of life until its lease was over.
    /// `None` where there is nothing to do now.
    pub async fn take(
        &self,
        holder: &str,
        now: Timestamp,
        lease: SignedDuration,
    ) -> Result<Option<(JobRecord, Hold)>, StoreError> {
        const SQLITE: &str = concat!(take!(), ")", " RETURNING *");
        // Of two that look at the same time, the second takes the next one.
        const POSTGRES: &str = concat!(take!(), " FOR UPDATE SKIP LOCKED)", " RETURNING *");
        const DOING: &str = "take a job";
        if !self.is_anything_due(now).await? {
            return Ok(None);
        }
        let mut tx = self.db.begin(DOING).await?;
        let expires_at = now.saturating_add(lease).unwrap_or(now);
        let take = sql(DOING, SQLITE).on_postgres(POSTGRES).bind(holder).bind(expires_at).bind(now);
        let Some(row) = tx.first(take).await? else { return Ok(None) };
        let job = record_of(&row)?;
        let hold =
            Hold { job_id: job.id.clone(), holder: holder.to_owned(), generation: row.count("generation")? };
        self.commit(tx, &job.id, DOING).await?;
        Ok(Some((job, hold)))
    }

    /// A look that takes no lock: there is nothing to do nearly always.
    async fn is_anything_due(&self, now: Timestamp) -> Result<bool, StoreError> {
        const LOOK: &str = concat!("SELECT job_id FROM jobs WHERE ", due!("$1"), " LIMIT 1");
        Ok(self.db.first(sql("look for jobs", LOOK).bind(now)).await?.is_some())
    }

    /// A sign of life, and how far the job has come.
    pub async fn renew(
        &self,
        hold: &Hold,
        expires_at: Timestamp,
        progress: Option<&Value>,
    ) -> Result<bool, StoreError> {
        const RENEW: &str = concat!(
            "UPDATE jobs SET lease_expires_at = $4, progress = COALESCE($5, progress) WHERE ",
            held!()
        );
        let renew = held(sql("renew a job", RENEW), hold).bind(expires_at).bind(progress);
        Ok(self.db.execute(renew).await? > 0)
    }

    /// Notes which version does it, for good.
    pub async fn pin(
        &self,
        hold: &Hold,
        version_id: &VersionId,
        event: &NewEvent,
    ) -> Result<bool, StoreError> {
        const PIN: &str = concat!("UPDATE jobs SET version_id = $4 WHERE ", held!());
        let pin = held(sql("pin a job's version", PIN), hold).bind(version_id.as_str());
        self.write(hold, pin, Some(event)).await
    }

    /// Notes what happened.
    pub async fn note(&self, hold: &Hold, event: &NewEvent) -> Result<bool, StoreError> {
        // Changes nothing but takes the row, so that events get their numbers one by one.
        const NOTE: &str = concat!("UPDATE jobs SET attempts = attempts WHERE ", held!());
        let note = held(sql("note what happened in a job", NOTE), hold);
        self.write(hold, note, Some(event)).await
    }

    /// Gives the job back to be taken up again, by whomever.
    pub async fn postpone(
        &self,
        hold: &Hold,
        postponed: Postponed,
        event: Option<&NewEvent>,
    ) -> Result<bool, StoreError> {
        const POSTPONE: &str = concat!(
            "UPDATE jobs SET status = 'Queued', holder = NULL, lease_expires_at = NULL, next_attempt_at = $4,
                attempts = $5 WHERE ",
            held!()
        );
        let postpone = held(sql("give a job back", POSTPONE), hold);
        self.write(hold, postpone.bind(postponed.until).bind(postponed.attempts), event).await
    }

    pub async fn end(
        &self,
        hold: &Hold,
        end: &JobEnd,
        at: Timestamp,
        event: &NewEvent,
    ) -> Result<bool, StoreError> {
        const END: &str = concat!(
            "UPDATE jobs SET status = $4, result = $5, error_message = $6, completed_at = $7, holder = NULL,
                lease_expires_at = NULL WHERE ",
            held!()
        );
        let (status, result, reason) = match end {
            JobEnd::Succeeded { result } => (JobStatus::Succeeded, Some(result), None),
            JobEnd::Failed { reason } => (JobStatus::Failed, None, Some(reason.as_str())),
        };
        let end = held(sql("end a job", END), hold).bind(status.as_str()).bind(result).bind(reason).bind(at);
        self.write(hold, end, Some(event)).await
    }

    /// The statement and its event, or neither.
    async fn write(
        &self,
        hold: &Hold,
        statement: Statement,
        event: Option<&NewEvent>,
    ) -> Result<bool, StoreError> {
        const DOING: &str = "write down a job's step";
        let mut tx = self.db.begin(DOING).await?;
        if tx.execute(statement).await? == 0 {
            return Ok(false);
        }
        if let Some(event) = event {
            tx.execute(EVENTS.append(hold.job_id.as_str(), event)).await?;
        }
        self.commit(tx, &hold.job_id, DOING).await?;
        Ok(true)
    }
}

fn held(statement: Statement, hold: &Hold) -> Statement {
    statement.bind(hold.job_id.as_str()).bind(hold.holder.as_str()).bind(hold.generation)
}
