-- Inference requests that are answered later. A row is waiting until completed_at is set; due_at says when somebody may take
-- it: when it may be run, or, while a replica is at it, when that replica's claim ends. claim grows with each taking, so
-- that only the last one's result is kept. n_lost: how often a claim ended without a word. request is emptied with the result;
-- the row is deleted after expires_at.
CREATE TABLE async_requests (
    request_id TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    environment TEXT NOT NULL,
    sticky_key TEXT,
    principal TEXT,
    trace_id TEXT NOT NULL,
    request TEXT NOT NULL,
    status TEXT NOT NULL,
    requested_at TIMESTAMPTZ NOT NULL,
    due_at TIMESTAMPTZ NOT NULL,
    claim BIGINT NOT NULL,
    claimed_by TEXT,
    n_lost BIGINT NOT NULL,
    n_put_off BIGINT NOT NULL,
    version TEXT,
    prediction TEXT,
    confidence DOUBLE PRECISION,
    latency_ms DOUBLE PRECISION,
    error TEXT,
    completed_at TIMESTAMPTZ,
    expires_at TIMESTAMPTZ
);

CREATE INDEX idx_async_requests_due ON async_requests (due_at) WHERE completed_at IS NULL;
CREATE INDEX idx_async_requests_expires ON async_requests (expires_at) WHERE expires_at IS NOT NULL;
