//! A deployment's event log: what happened, when, in words, and on what evidence. Only ever appended to.

use serde_json::Value;
use tidegate_core::{DeploymentId, Timestamp};

use crate::db::{Db, Row, Statement, sql};
use crate::error::StoreError;

/// An event in the log of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRecord {
    /// From 1, without gaps, within its deployment.
    pub seq: u64,
    pub at: Timestamp,
    /// A word for machines.
    pub kind: String,
    /// A sentence for people.
    pub message: String,
    /// What it was decided on; null when there is nothing to show.
    pub evidence: Value,
}

/// An event to be appended; it gets the next number.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    pub at: Timestamp,
    pub kind: String,
    pub message: String,
    pub evidence: Value,
}

/// The caller holds the deployment's row, so no two transactions take the same number.
pub(super) fn append(id: &DeploymentId, event: &NewEvent) -> Statement {
    const APPEND: &str = "INSERT INTO deployment_events (deployment_id, seq, at, kind, message, evidence)
        SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5 FROM deployment_events WHERE deployment_id = $1";
    sql("append an event to a deployment", APPEND)
        .bind(id.as_str())
        .bind(event.at)
        .bind(event.kind.as_str())
        .bind(event.message.as_str())
        .bind(Some(&event.evidence).filter(|evidence| !evidence.is_null()))
}

pub(super) async fn list(
    db: &Db,
    id: &DeploymentId,
    after_seq: u64,
    limit: u32,
) -> Result<Vec<EventRecord>, StoreError> {
    const LIST: &str =
        "SELECT * FROM deployment_events WHERE deployment_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";
    let list = sql("read a deployment's events", LIST).bind(id.as_str()).bind(after_seq).bind(limit);
    db.all(list).await?.iter().map(event_of).collect()
}

/// Of any table of events.
pub(crate) fn event_of(row: &Row) -> Result<EventRecord, StoreError> {
    Ok(EventRecord {
        seq: row.count("seq")?,
        at: row.time("at")?,
        kind: row.text("kind")?,
        message: row.text("message")?,
        evidence: row.json_opt("evidence")?.unwrap_or_default(),
    })
}
