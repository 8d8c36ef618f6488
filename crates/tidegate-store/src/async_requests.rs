//! Inference requests that are answered later: a queue that many processes share, and the answers until they expire.
//!
//! Whoever takes a request has it until its claim ends, and renews the claim while it works. A process that dies renews
//! nothing, and another takes the request. Each taking has a number; a result is written only under the number that holds,
//! so that however often a request was run, one result is recorded.

use jiff::SignedDuration;
use tidegate_core::{Environment, HeaderName, ReplicaId, RequestId, SemVer, Timestamp};

use crate::db::{Db, Row, sql};
use crate::error::StoreError;
use crate::inferences::JsonText;

/// Requests that are answered later.
pub struct AsyncRequests {
    db: Db,
}

/// A request as it was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAsyncRequest {
    pub request_id: RequestId,
    /// As the caller wrote it: name or id.
    pub model: String,
    pub environment: Environment,
    pub sticky_key: Option<String>,
    pub principal: Option<String>,
    /// The header that the route went by, and its value.
    pub sticky_header: Option<(HeaderName, Vec<u8>)>,
    pub trace_id: String,
    /// In the words of the protocol that took it in; opaque here.
    pub body: String,
    pub requested_at: Timestamp,
}

/// What became of a request that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandedIn {
    Taken,
    /// As many wait as may.
    Full,
    /// There is one with this id already.
    Known,
}

/// A request, and the right to answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    pub request: NewAsyncRequest,
    pub claim: Claim,
    /// How often somebody had it before and was lost.
    pub n_lost: u64,
    /// How often it could not be run.
    pub n_put_off: u64,
}

/// The taking of a request that holds until it is taken again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub request_id: RequestId,
    pub number: u64,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct AsyncResult {
    pub outcome: AsyncOutcome,
    /// Who answered; absent where none was reached.
    pub version: Option<SemVer>,
    /// Of the run, without the waiting.
    pub latency_ms: f64,
    pub completed_at: Timestamp,
    pub expires_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AsyncOutcome {
    Completed {
        prediction: JsonText,
        confidence: Option<f64>,
    },
    /// The error in the words of the protocol.
    Failed {
        error: JsonText,
    },
}

/// A request as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct AsyncRequest {
    pub request_id: RequestId,
    pub model: String,
    pub environment: Environment,
    pub requested_at: Timestamp,
    pub state: AsyncState,
}

#[derive(Clone, Debug, PartialEq)]
pub enum AsyncState {
    Queued,
    Running,
    Done(AsyncResult),
}

const QUEUED: &str = "Queued";
const RUNNING: &str = "Running";
const COMPLETED: &str = "Completed";
const FAILED: &str = "Failed";

impl AsyncRequests {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Takes the request in unless `max_waiting` wait already. Several that come at the same moment may go past the bound by
    /// their number.
    pub async fn hand_in(&self, request: &NewAsyncRequest, max_waiting: u64) -> Result<HandedIn, StoreError> {
        const HAND_IN: &str =
            "INSERT INTO async_requests (request_id, model, environment, sticky_key, principal,
                sticky_header, trace_id, request, status, requested_at, due_at, claim, n_lost, n_put_off)
            SELECT $1, $2, $3, $4, $5, $6, $7, $8, 'Queued', $9, $9, 0, 0, 0
            WHERE (SELECT COUNT(*) FROM async_requests WHERE completed_at IS NULL) < $10
            ON CONFLICT (request_id) DO NOTHING";
        const KNOWN: &str = "SELECT 1 FROM async_requests WHERE request_id = $1";
        let hand_in = sql("take in a request", HAND_IN)
            .bind(request.request_id.as_str())
            .bind(request.model.as_str())
            .bind(request.environment.as_str())
            .bind(request.sticky_key.as_deref())
            .bind(request.principal.as_deref())
            .bind(request.sticky_header.as_ref().map(header_text).as_deref())
            .bind(request.trace_id.as_str())
            .bind(request.body.as_str())
            .bind(request.requested_at)
            .bind(max_waiting);
        if self.db.execute(hand_in).await? == 1 {
            return Ok(HandedIn::Taken);
        }
        let known = sql("look for a request", KNOWN).bind(request.request_id.as_str());
        Ok(if self.db.first(known).await?.is_some() { HandedIn::Known } else { HandedIn::Full })
    }

    /// Whether there is something to take; cheaper than taking nothing.
    pub async fn is_any_due(&self, now: Timestamp) -> Result<bool, StoreError> {
        const DUE: &str = "SELECT 1 FROM async_requests WHERE completed_at IS NULL AND due_at <= $1 LIMIT 1";
        Ok(self.db.first(sql("look for requests to run", DUE).bind(now)).await?.is_some())
    }

    /// Takes up to `limit` requests that nobody has, the longest due first, until `now` + `ttl`.
    pub async fn claim(
        &self,
        holder: &ReplicaId,
        now: Timestamp,
        ttl: SignedDuration,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        const SQLITE: &str = "UPDATE async_requests SET status = 'Running', claimed_by = $1, due_at = $2,
                claim = claim + 1, n_lost = n_lost + CASE WHEN status = 'Running' THEN 1 ELSE 0 END
            WHERE request_id IN (SELECT request_id FROM async_requests
                WHERE completed_at IS NULL AND due_at <= $3 ORDER BY due_at LIMIT $4)
            RETURNING *";
        // Those that another process is just taking are left to it.
        const POSTGRES: &str = "WITH due AS MATERIALIZED (SELECT request_id FROM async_requests
                WHERE completed_at IS NULL AND due_at <= $3 ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED)
            UPDATE async_requests AS request SET status = 'Running', claimed_by = $1, due_at = $2,
                claim = request.claim + 1,
                n_lost = request.n_lost + CASE WHEN request.status = 'Running' THEN 1 ELSE 0 END
            FROM due WHERE request.request_id = due.request_id RETURNING request.*";
        let claim = sql("claim requests", SQLITE).on_postgres(POSTGRES).bind(holder.as_str());
        let claim = claim.bind(later(now, ttl)).bind(now).bind(limit);
        self.db.write_all(claim).await?.iter().map(claimed_of).collect()
    }

    /// Keeps the claim until `now` + `ttl`; false when it does not hold any more.
    pub async fn renew(
        &self,
        claim: &Claim,
        now: Timestamp,
        ttl: SignedDuration,
    ) -> Result<bool, StoreError> {
        const RENEW: &str = "UPDATE async_requests SET due_at = $1
            WHERE request_id = $2 AND claim = $3 AND status = 'Running'";
        let renew = sql("renew a claim", RENEW).bind(later(now, ttl));
        let renewed = self.db.execute(renew.bind(claim.request_id.as_str()).bind(claim.number)).await?;
        Ok(renewed == 1)
    }

    /// Records what came of it and forgets what was asked; false when the claim does not hold any more, and then nothing is
    /// recorded.
    pub async fn complete(&self, claim: &Claim, result: &AsyncResult) -> Result<bool, StoreError> {
        const COMPLETE: &str = "UPDATE async_requests SET status = $1, version = $2, prediction = $3, confidence = $4,
                latency_ms = $5, error = $6, completed_at = $7, expires_at = $8, request = '', claimed_by = NULL
            WHERE request_id = $9 AND claim = $10 AND status = 'Running'";
        let (status, prediction, confidence, error) = match &result.outcome {
            AsyncOutcome::Completed { prediction, confidence } => {
                (COMPLETED, Some(prediction.as_str()), *confidence, None)
            }
            AsyncOutcome::Failed { error } => (FAILED, None, None, Some(error.as_str())),
        };
        let version = result.version.as_ref().map(ToString::to_string);
        let complete = sql("record the result of a request", COMPLETE)
            .bind(status)
            .bind(version.as_deref())
            .bind(prediction)
            .bind(confidence)
            .bind(result.latency_ms)
            .bind(error)
            .bind(result.completed_at)
            .bind(result.expires_at)
            .bind(claim.request_id.as_str())
            .bind(claim.number);
        Ok(self.db.execute(complete).await? == 1)
    }

    /// Gives the request back, to be taken at `due_at` or later.
    pub async fn put_off(&self, claim: &Claim, due_at: Timestamp) -> Result<(), StoreError> {
        const PUT_OFF: &str = "UPDATE async_requests SET status = 'Queued', claimed_by = NULL, due_at = $1,
                n_put_off = n_put_off + 1
            WHERE request_id = $2 AND claim = $3 AND status = 'Running'";
        let put_off = sql("put off a request", PUT_OFF).bind(due_at);
        self.db.execute(put_off.bind(claim.request_id.as_str()).bind(claim.number)).await.map(drop)
    }

    /// Gives back everything that `holder` has, to be taken at once.
    pub async fn release(&self, holder: &ReplicaId, now: Timestamp) -> Result<(), StoreError> {
        const RELEASE: &str = "UPDATE async_requests SET status = 'Queued', claimed_by = NULL, due_at = $1
            WHERE claimed_by = $2 AND status = 'Running'";
        let release = sql("give back requests", RELEASE).bind(now).bind(holder.as_str());
        self.db.execute(release).await.map(drop)
    }

    pub async fn get(&self, id: &RequestId) -> Result<Option<AsyncRequest>, StoreError> {
        const GET: &str = "SELECT * FROM async_requests WHERE request_id = $1";
        let row = self.db.first(sql("read a request", GET).bind(id.as_str())).await?;
        row.as_ref().map(request_of).transpose()
    }

    /// Deletes up to `limit` requests whose results have expired; gives how many.
    pub async fn sweep(&self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        const SWEEP: &str = "DELETE FROM async_requests WHERE request_id IN
            (SELECT request_id FROM async_requests WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)";
        self.db.execute(sql("delete expired results", SWEEP).bind(now).bind(limit)).await
    }
}

fn later(now: Timestamp, ttl: SignedDuration) -> Timestamp {
    now.saturating_add(ttl).unwrap_or(Timestamp::MAX)
}

fn header_text((name, value): &(HeaderName, Vec<u8>)) -> String {
    let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{value}", name.as_str())
}

/// What was damaged sticks to nothing.
fn header_of(text: &str) -> Option<(HeaderName, Vec<u8>)> {
    let (name, value) = text.split_once(':')?;
    let digits = value.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let value = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<_>>()?;
    Some((HeaderName::parse(name).ok()?, value))
}

fn claimed_of(row: &Row) -> Result<Claimed, StoreError> {
    let request = NewAsyncRequest {
        request_id: RequestId::new(row.text("request_id")?),
        model: row.text("model")?,
        environment: row.parsed("environment")?,
        sticky_key: row.text_opt("sticky_key")?,
        principal: row.text_opt("principal")?,
        sticky_header: row.text_opt("sticky_header")?.as_deref().and_then(header_of),
        trace_id: row.text("trace_id")?,
        body: row.text("request")?,
        requested_at: row.time("requested_at")?,
    };
    Ok(Claimed {
        claim: Claim { request_id: request.request_id.clone(), number: row.count("claim")? },
        request,
        n_lost: row.count("n_lost")?,
        n_put_off: row.count("n_put_off")?,
    })
}

fn request_of(row: &Row) -> Result<AsyncRequest, StoreError> {
    let state = match row.text("status")?.as_str() {
        QUEUED => AsyncState::Queued,
        RUNNING => AsyncState::Running,
        COMPLETED => AsyncState::Done(result_of(
            row,
            AsyncOutcome::Completed {
                prediction: JsonText::stored(row.text("prediction")?),
                confidence: row.real_opt("confidence")?,
            },
        )?),
        FAILED => {
            let error = JsonText::stored(row.text("error")?);
            AsyncState::Done(result_of(row, AsyncOutcome::Failed { error })?)
        }
        other => return Err(row.unreadable("status", format!("`{other}`"))),
    };
    Ok(AsyncRequest {
        request_id: RequestId::new(row.text("request_id")?),
        model: row.text("model")?,
        environment: row.parsed("environment")?,
        requested_at: row.time("requested_at")?,
        state,
    })
}

fn result_of(row: &Row, outcome: AsyncOutcome) -> Result<AsyncResult, StoreError> {
    Ok(AsyncResult {
        outcome,
        version: row.parsed_opt("version")?,
        latency_ms: row.real_opt("latency_ms")?.unwrap_or_default(),
        completed_at: row.time("completed_at")?,
        expires_at: row.time("expires_at")?,
    })
}
