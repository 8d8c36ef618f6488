//! Event logs: what happened to a deployment or a job, when, in words, and on what evidence. Only ever appended to.

use serde_json::Value;
use tidegate_core::Timestamp;

use crate::db::{Db, Row, Statement, sql};
use crate::error::StoreError;

/// An event in a log.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRecord {
    /// From 1, without gaps, within its log.
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

/// The logs of all things of one kind, which are a table; made by [`event_log`].
pub(crate) struct EventLog {
    pub appending: &'static str,
    pub append: &'static str,
    pub listing: &'static str,
    pub list: &'static str,
}

/// Of a table, its column that says whose event it is, and what that is called.
macro_rules! event_log {
    ($table:literal, $id:literal, $whose:literal) => {
        $crate::event_log::EventLog {
            appending: concat!("append an event to a ", $whose),
            append: concat!(
                "INSERT INTO ",
                $table,
                " (",
                $id,
                ", seq, at, kind, message, evidence)
                SELECT $1, COALESCE(MAX(seq), 0) + 1, $2, $3, $4, $5 FROM ",
                $table,
                " WHERE ",
                $id,
                " = $1"
            ),
            listing: concat!("read a ", $whose, "'s events"),
            list: concat!(
                "SELECT * FROM ",
                $table,
                " WHERE ",
                $id,
                " = $1 AND seq > $2 ORDER BY seq LIMIT $3"
            ),
        }
    };
}
pub(crate) use event_log;

impl EventLog {
    /// The caller has changed the row of whose log it is in the same transaction, so no two take the same number.
    pub(crate) fn append(&self, id: &str, event: &NewEvent) -> Statement {
        sql(self.appending, self.append)
            .bind(id)
            .bind(event.at)
            .bind(event.kind.as_str())
            .bind(event.message.as_str())
            .bind(Some(&event.evidence).filter(|evidence| !evidence.is_null()))
    }

    pub(crate) async fn list(
        &self,
        db: &Db,
        id: &str,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let list = sql(self.listing, self.list).bind(id).bind(after_seq).bind(limit);
        db.all(list).await?.iter().map(event_of).collect()
    }
}

fn event_of(row: &Row) -> Result<EventRecord, StoreError> {
    Ok(EventRecord {
        seq: row.count("seq")?,
        at: row.time("at")?,
        kind: row.text("kind")?,
        message: row.text("message")?,
        evidence: row.json_opt("evidence")?.unwrap_or_default(),
    })
}
