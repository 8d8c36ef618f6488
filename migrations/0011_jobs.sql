-- Work that takes longer than a caller waits. request, progress and result are opaque here. The lease is part of the row, so
-- that every write of its holder is checked against it by the statement itself: holder and lease_expires_at are empty while
-- nobody is at it, generation grows with each taking. attempts: how often it was given back in vain since it last came
-- forward; next_attempt_at: not before then.
CREATE TABLE jobs (
    job_id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    model_id TEXT NOT NULL REFERENCES models (model_id),
    environment TEXT NOT NULL,
    version_id TEXT REFERENCES model_versions (version_id),
    request TEXT NOT NULL,
    status TEXT NOT NULL,
    progress TEXT,
    result TEXT,
    error_message TEXT,
    requested_by TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMPTZ,
    holder TEXT,
    generation BIGINT NOT NULL DEFAULT 0,
    lease_expires_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    started_at TIMESTAMPTZ,
    completed_at TIMESTAMPTZ
);

CREATE INDEX idx_jobs_created ON jobs (created_at, job_id);
CREATE INDEX idx_jobs_open ON jobs (created_at, job_id) WHERE status IN ('Queued', 'Running');
CREATE INDEX idx_jobs_completed ON jobs (completed_at);

CREATE TABLE job_events (
    job_id TEXT NOT NULL REFERENCES jobs (job_id),
    seq BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    evidence TEXT,
    PRIMARY KEY (job_id, seq)
);
