//! Jobs: work that takes longer than a caller waits, done by one process at a time.
//!
//! What people ask of a job is here; what the process that is at it writes is in `hold`, and refused once another has
//! taken the job over or somebody has cancelled it.

mod hold;

use std::collections::HashSet;

use serde_json::Value;
use tidegate_core::{Environment, JobId, JobStatus, ModelId, Timestamp, VersionId};

pub use self::hold::{Hold, JobEnd, Postponed};
use crate::changes::{Change, Changes};
use crate::db::{Db, Row, Statement, Tx, sql};
use crate::error::StoreError;
use crate::event_log::{EventLog, EventRecord, NewEvent, event_log};
use crate::page::{Listing, Page};

const EVENTS: EventLog = event_log!("job_events", "job_id", "job");

/// Jobs by id, filter and need of somebody who does them.
pub struct Jobs {
    db: Db,
    changes: Changes,
}

/// A job as it is stored. `request`, `progress` and `result` belong to whoever does it and are opaque here.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    pub id: JobId,
    /// What is to be done, in a word: `raster`.
    pub kind: String,
    pub model_id: ModelId,
    pub environment: Environment,
    /// Known once it has begun.
    pub version_id: Option<VersionId>,
    pub request: Value,
    pub status: JobStatus,
    pub progress: Option<Value>,
    pub result: Option<Value>,
    pub error_message: Option<String>,
    pub requested_by: String,
    /// How often it was given back in vain since it last came forward.
    pub attempts: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub created_at: Timestamp,
    /// When it was first begun; a job that is taken over keeps it.
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
}

/// A job that somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct NewJob {
    pub id: JobId,
    pub kind: &'static str,
    pub model_id: ModelId,
    pub environment: Environment,
    pub request: Value,
    pub requested_by: String,
    pub created_at: Timestamp,
}

/// What a listing keeps; an absent field keeps everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JobFilter {
    pub model_id: Option<ModelId>,
    pub status: Option<JobStatus>,
}

/// The filter, bound by `JobFilter::bind`.
macro_rules! matching {
    () => {
        "WHERE ($1 IS NULL OR model_id = $1) AND ($2 IS NULL OR status = $2)"
    };
}

impl JobFilter {
    fn bind(&self, statement: Statement) -> Statement {
        statement.bind(self.model_id.as_ref().map(ModelId::as_str)).bind(self.status.map(JobStatus::as_str))
    }
}

impl Jobs {
    pub(crate) fn new(db: Db, changes: Changes) -> Self {
        Self { db, changes }
    }

    /// Queues the job with its first event; false where `queue_limit` jobs wait already. (Several that come at the same
    /// moment may go over the limit by as many as they are: it bounds disk and patience, not memory.)
    pub async fn create(&self, job: &NewJob, first: &NewEvent, queue_limit: u32) -> Result<bool, StoreError> {
        const INSERT: &str = "INSERT INTO jobs
                (job_id, kind, model_id, environment, request, requested_by, created_at, status)
            SELECT $1, $2, $3, $4, $5, $6, $7, 'Queued'
            WHERE (SELECT COUNT(*) FROM jobs WHERE status = 'Queued') < $8";
        const DOING: &str = "queue a job";
        let mut tx = self.db.begin(DOING).await?;
        let insert = sql(DOING, INSERT)
            .bind(job.id.as_str())
            .bind(job.kind)
            .bind(job.model_id.as_str())
            .bind(job.environment.as_str())
            .bind(&job.request)
            .bind(job.requested_by.as_str())
            .bind(job.created_at)
            .bind(queue_limit);
        if tx.execute(insert).await? == 0 {
            return Ok(false);
        }
        tx.execute(EVENTS.append(job.id.as_str(), first)).await?;
        self.commit(tx, &job.id, DOING).await?;
        Ok(true)
    }

    pub async fn get(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        const GET: &str = "SELECT * FROM jobs WHERE job_id = $1";
        let row = self.db.first(sql("read a job", GET).bind(id.as_str())).await?;
        row.as_ref().map(record_of).transpose()
    }

    /// Newest first.
    pub async fn list(&self, filter: &JobFilter, page: Page) -> Result<Listing<JobRecord>, StoreError> {
        Ok(Listing { items: self.page(filter, page).await?, total: self.count(filter).await? })
    }

    /// How many wait to be begun.
    pub async fn queued(&self) -> Result<u64, StoreError> {
        self.count(&JobFilter { status: Some(JobStatus::Queued), ..JobFilter::default() }).await
    }

    /// Events after a number, in order.
    pub async fn events(
        &self,
        id: &JobId,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<EventRecord>, StoreError> {
        EVENTS.list(&self.db, id.as_str(), after_seq, limit).await
    }

    /// Ends a job that is not over; false where it is, or there is none. Whoever is at it finds that nothing more of it is
    /// taken.
    pub async fn cancel(&self, id: &JobId, at: Timestamp, event: &NewEvent) -> Result<bool, StoreError> {
        const CANCEL: &str =
            "UPDATE jobs SET status = 'Cancelled', completed_at = $2, next_attempt_at = NULL,
                holder = NULL, lease_expires_at = NULL
            WHERE job_id = $1 AND status IN ('Queued', 'Running')";
        const DOING: &str = "cancel a job";
        let mut tx = self.db.begin(DOING).await?;
        if tx.execute(sql(DOING, CANCEL).bind(id.as_str()).bind(at)).await? == 0 {
            return Ok(false);
        }
        tx.execute(EVENTS.append(id.as_str(), event)).await?;
        self.commit(tx, id, DOING).await?;
        Ok(true)
    }

    /// Forgets a job that is over, with its events; false where it is not, or there is none. Its files are the caller's to
    /// delete, afterwards: without the row, the sweep does it too.
    pub async fn delete(&self, id: &JobId) -> Result<bool, StoreError> {
        const LOCK: &str =
            "SELECT job_id FROM jobs WHERE job_id = $1 AND status IN ('Succeeded', 'Failed', 'Cancelled')";
        const EVENTS: &str = "DELETE FROM job_events WHERE job_id = $1";
        const JOB: &str = "DELETE FROM jobs WHERE job_id = $1";
        const DOING: &str = "delete a job";
        let mut tx = self.db.begin(DOING).await?;
        // What is over stays over, so that looking is enough.
        if tx.first(sql(DOING, LOCK).bind(id.as_str())).await?.is_none() {
            return Ok(false);
        }
        tx.execute(sql(DOING, EVENTS).bind(id.as_str())).await?;
        let deleted = tx.execute(sql(DOING, JOB).bind(id.as_str())).await?;
        self.commit(tx, id, DOING).await?;
        Ok(deleted > 0)
    }

    /// Jobs that were over before `cutoff`, the oldest first.
    pub async fn over_before(&self, cutoff: Timestamp, limit: u32) -> Result<Vec<JobId>, StoreError> {
        const OVER: &str = "SELECT job_id FROM jobs WHERE completed_at < $1 ORDER BY completed_at LIMIT $2";
        let rows = self.db.all(sql("find old jobs", OVER).bind(cutoff).bind(limit)).await?;
        rows.iter().map(|row| row.text("job_id").map(JobId::new)).collect()
    }

    /// Every job there is: whose files are somebody's.
    pub async fn ids(&self) -> Result<HashSet<JobId>, StoreError> {
        let rows = self.db.all(sql("list the ids of jobs", "SELECT job_id FROM jobs")).await?;
        rows.iter().map(|row| row.text("job_id").map(JobId::new)).collect()
    }

    async fn page(&self, filter: &JobFilter, page: Page) -> Result<Vec<JobRecord>, StoreError> {
        const PAGE: &str = concat!(
            "SELECT * FROM jobs ",
            matching!(),
            " ORDER BY created_at DESC, job_id DESC LIMIT $3 OFFSET $4"
        );
        let statement = filter.bind(sql("list jobs", PAGE)).bind(page.limit).bind(page.offset);
        self.db.all(statement).await?.iter().map(record_of).collect()
    }

    async fn count(&self, filter: &JobFilter) -> Result<u64, StoreError> {
        const COUNT: &str = concat!("SELECT COUNT(*) AS total FROM jobs ", matching!());
        let row = self.db.first(filter.bind(sql("count jobs", COUNT))).await?;
        row.map_or(Ok(0), |row| row.count("total"))
    }

    async fn commit(&self, mut tx: Tx, id: &JobId, doing: &'static str) -> Result<(), StoreError> {
        let announced = self.changes.announce(&mut tx, [Change::Job { id: id.clone() }]).await?;
        tx.commit(doing).await?;
        announced.committed();
        Ok(())
    }
}

fn record_of(row: &Row) -> Result<JobRecord, StoreError> {
    Ok(JobRecord {
        id: JobId::new(row.text("job_id")?),
        kind: row.text("kind")?,
        model_id: ModelId::new(row.text("model_id")?),
        environment: row.parsed("environment")?,
        version_id: row.text_opt("version_id")?.map(VersionId::new),
        request: row.json("request")?,
        status: row.parsed("status")?,
        progress: row.json_opt("progress")?,
        result: row.json_opt("result")?,
        error_message: row.text_opt("error_message")?,
        requested_by: row.text("requested_by")?,
        attempts: u32::try_from(row.count("attempts")?).unwrap_or(u32::MAX),
        next_attempt_at: row.time_opt("next_attempt_at")?,
        created_at: row.time("created_at")?,
        started_at: row.time_opt("started_at")?,
        completed_at: row.time_opt("completed_at")?,
    })
}
