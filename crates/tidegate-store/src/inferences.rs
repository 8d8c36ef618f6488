//! The log of inference requests, written in batches.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Value;
use tidegate_core::{DeploymentId, Environment, RequestId, SemVer, Timestamp};

use crate::db::{Db, Row, fixed_width, sql, storable};
use crate::error::StoreError;

/// Inference requests, for the record.
pub struct Inferences {
    db: Db,
}

/// One inference request and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct InferenceRecord {
    pub request_id: RequestId,
    pub model_name: String,
    /// The version that answered; absent when none was reached.
    pub version: Option<SemVer>,
    pub environment: Option<Environment>,
    /// The deployment whose route the request met, and which of its arms answered.
    pub deployment_id: Option<DeploymentId>,
    pub arm: Option<u32>,
    /// Absent where sampling or privacy settings keep it out; so is `prediction`.
    pub features: Option<JsonText>,
    pub prediction: Option<JsonText>,
    pub confidence: Option<f64>,
    pub latency_ms: Option<f64>,
    pub status: String,
    pub error_message: Option<String>,
    pub requested_at: Timestamp,
    pub completed_at: Option<Timestamp>,
}

/// JSON as its text: written once where it comes from, stored as it is, and only read when somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonText(String);

impl JsonText {
    pub fn of(value: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::to_string(value).map(Self)
    }

    /// Text that this crate wrote.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// `None` where the text would be longer than `max_bytes`; it is given up as soon as it is.
    pub fn within(value: &impl Serialize, max_bytes: usize) -> Option<Self> {
        let mut text = Bounded { bytes: Vec::new(), max_bytes };
        serde_json::to_writer(&mut text, value).ok()?;
        String::from_utf8(text.bytes).ok().map(Self)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it says; null where the text was damaged in the database.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// Takes so much and no more.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if piece.len() > self.max_bytes - self.bytes.len() {
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A record as one element of the JSON array that carries a batch into the database. JSON inside is text again.
#[derive(Serialize)]
struct Element<'a> {
    request_id: String,
    model_name: String,
    version: Option<String>,
    environment: Option<&'static str>,
    deployment_id: Option<&'a str>,
    arm: Option<u32>,
    features: Option<&'a str>,
    prediction: Option<&'a str>,
    confidence: Option<f64>,
    latency_ms: Option<f64>,
    status: &'a str,
    error_message: Option<String>,
    requested_at: String,
    completed_at: Option<String>,
}

impl Inferences {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Stores a batch in one statement. A request id that is there already is left as it is.
    pub async fn record(&self, records: &[InferenceRecord]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let batch: Vec<_> = records.iter().map(element_of).collect();
        let batch = serde_json::to_string(&batch).expect("a record is strings and numbers");
        self.db.execute(sql("log inferences", SQLITE).on_postgres(POSTGRES).bind(batch)).await.map(drop)
    }

    pub async fn get(&self, id: &RequestId) -> Result<Option<InferenceRecord>, StoreError> {
        const GET: &str = "SELECT * FROM inference_requests WHERE request_id = $1";
        let row = self.db.first(sql("read an inference", GET).bind(id.as_str())).await?;
        row.as_ref().map(record_of).transpose()
    }

    /// Deletes requests made before `cutoff`, the oldest first, at most `limit`; gives how many.
    pub async fn delete_before(&self, cutoff: Timestamp, limit: u32) -> Result<u64, StoreError> {
        const DELETE: &str = "DELETE FROM inference_requests WHERE request_id IN
            (SELECT request_id FROM inference_requests WHERE requested_at < $1 ORDER BY requested_at LIMIT $2)";
        self.db.execute(sql("delete old inferences", DELETE).bind(cutoff).bind(limit)).await
    }

    /// The latest requests to a model, newest first.
    pub async fn recent(&self, model_name: &str, limit: u32) -> Result<Vec<InferenceRecord>, StoreError> {
        const RECENT: &str = "SELECT * FROM inference_requests WHERE model_name = $1
            ORDER BY requested_at DESC, request_id DESC LIMIT $2";
        let recent = sql("list inferences", RECENT).bind(model_name).bind(limit);
        self.db.all(recent).await?.iter().map(record_of).collect()
    }
}

/// `jsonb_each` hands on what it parsed, where `json_each` would write each element as text, to be parsed again for every
/// column. `WHERE TRUE` keeps SQLite from reading `ON CONFLICT` as the condition of a join.
const SQLITE: &str = "INSERT INTO inference_requests
        (request_id, model_name, version, environment, deployment_id, arm, features, prediction, confidence,
         latency_ms, status, error_message, requested_at, completed_at)
    SELECT value ->> 'request_id', value ->> 'model_name', value ->> 'version', value ->> 'environment',
        value ->> 'deployment_id', value ->> 'arm', value ->> 'features', value ->> 'prediction',
        value ->> 'confidence', value ->> 'latency_ms', value ->> 'status', value ->> 'error_message',
        value ->> 'requested_at', value ->> 'completed_at'
    FROM jsonb_each($1) WHERE TRUE ON CONFLICT DO NOTHING";

const POSTGRES: &str = "INSERT INTO inference_requests
        (request_id, model_name, version, environment, deployment_id, arm, features, prediction, confidence,
         latency_ms, status, error_message, requested_at, completed_at)
    SELECT request_id, model_name, version, environment, deployment_id, arm, features, prediction, confidence,
        latency_ms, status, error_message, requested_at, completed_at
    FROM json_to_recordset($1::json) AS element (request_id TEXT, model_name TEXT, version TEXT, environment TEXT,
        deployment_id TEXT, arm BIGINT, features TEXT, prediction TEXT, confidence DOUBLE PRECISION,
        latency_ms DOUBLE PRECISION, status TEXT, error_message TEXT, requested_at TIMESTAMPTZ,
        completed_at TIMESTAMPTZ)
    ON CONFLICT DO NOTHING";

fn element_of(record: &InferenceRecord) -> Element<'_> {
    Element {
        request_id: storable(record.request_id.as_str()),
        model_name: storable(&record.model_name),
        version: record.version.as_ref().map(SemVer::to_string),
        environment: record.environment.map(Environment::as_str),
        deployment_id: record.deployment_id.as_ref().map(DeploymentId::as_str),
        arm: record.arm,
        features: record.features.as_ref().map(JsonText::as_str),
        prediction: record.prediction.as_ref().map(JsonText::as_str),
        confidence: record.confidence,
        latency_ms: record.latency_ms,
        status: &record.status,
        error_message: record.error_message.as_deref().map(storable),
        requested_at: fixed_width(record.requested_at),
        completed_at: record.completed_at.map(fixed_width),
    }
}

fn record_of(row: &Row) -> Result<InferenceRecord, StoreError> {
    let arm = row.count_opt("arm")?.map(u32::try_from).transpose();
    Ok(InferenceRecord {
        request_id: RequestId::new(row.text("request_id")?),
        model_name: row.text("model_name")?,
        version: row.parsed_opt("version")?,
        environment: row.parsed_opt("environment")?,
        deployment_id: row.text_opt("deployment_id")?.map(DeploymentId::new),
        arm: arm.map_err(|error| row.unreadable("arm", error))?,
        features: row.text_opt("features")?.map(JsonText::stored),
        prediction: row.text_opt("prediction")?.map(JsonText::stored),
        confidence: row.real_opt("confidence")?,
        latency_ms: row.real_opt("latency_ms")?,
        status: row.text("status")?,
        error_message: row.text_opt("error_message")?,
        requested_at: row.time("requested_at")?,
        completed_at: row.time_opt("completed_at")?,
    })
}
