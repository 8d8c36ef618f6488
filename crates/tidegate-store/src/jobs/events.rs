//! A job's event log: what happened, when, in words. Only ever appended to, and deleted with its job.

use tidegate_core::JobId;

use crate::db::{Db, Statement, sql};
use crate::deployments::{EventRecord, NewEvent, event_of};
use crate::error::StoreError;

/// The caller has changed the job's row in the same transaction, so no two take the same number.
pub(super) fn append(id: &JobId, event: &NewEvent) -> Statement {
    const APPEND: &str = "INSERT INTO job_events (job_id, seq, at, kind, message, evidence)
        SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5 FROM job_events WHERE job_id = $1";
    sql("append an event to a job", APPEND)
        .bind(id.as_str())
        .bind(event.at)
        .bind(event.kind.as_str())
        .bind(event.message.as_str())
        .bind(Some(&event.evidence).filter(|evidence| !evidence.is_null()))
}

pub(super) async fn list(
    db: &Db,
    id: &JobId,
    after_seq: u64,
    limit: u32,
) -> Result<Vec<EventRecord>, StoreError> {
    const LIST: &str = "SELECT * FROM job_events WHERE job_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    let list = sql("read a job's events", LIST).bind(id.as_str()).bind(after_seq).bind(limit);
    db.all(list).await?.iter().map(event_of).collect()
}
