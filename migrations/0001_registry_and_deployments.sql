-- Read by SQLite and PostgreSQL 15 alike, so: TEXT without lengths (SQLite ignores lengths, PostgreSQL stores both the
-- same way), BIGINT for every integer, JSON as TEXT, and no default that reads the clock: every time is handed in.
-- On SQLite a TIMESTAMPTZ column holds RFC 3339 text with six decimals and a `Z`, which sorts as time does.

CREATE TABLE models (
    model_id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    description TEXT,
    framework TEXT NOT NULL,
    type TEXT NOT NULL,
    owner TEXT NOT NULL,
    active_version TEXT,
    is_archived BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

-- The name of an archived model may be taken again.
CREATE UNIQUE INDEX idx_models_live_name ON models (name) WHERE NOT is_archived;
CREATE INDEX idx_models_created ON models (created_at, model_id);

CREATE TABLE model_tags (
    model_id TEXT NOT NULL REFERENCES models (model_id),
    tag TEXT NOT NULL,
    position BIGINT NOT NULL,
    PRIMARY KEY (model_id, tag)
);

CREATE INDEX idx_model_tags_tag ON model_tags (tag);

-- artifact_path, checksum and artifact_size_bytes repeat the primary artifact, as the guide's table has them.
CREATE TABLE model_versions (
    version_id TEXT NOT NULL PRIMARY KEY,
    model_id TEXT NOT NULL REFERENCES models (model_id),
    version TEXT NOT NULL,
    artifact_path TEXT NOT NULL,
    checksum TEXT NOT NULL,
    artifact_size_bytes BIGINT NOT NULL,
    signature TEXT,
    input_schema TEXT NOT NULL,
    output_schema TEXT NOT NULL,
    stac_item TEXT,
    training_metadata TEXT,
    status TEXT NOT NULL DEFAULT 'Registered',
    approved_by TEXT,
    approved_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    is_deprecated BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (model_id, version)
);

CREATE TABLE artifacts (
    version_id TEXT NOT NULL REFERENCES model_versions (version_id),
    name TEXT NOT NULL,
    position BIGINT NOT NULL,
    path TEXT NOT NULL,
    format TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    is_primary BOOLEAN NOT NULL,
    PRIMARY KEY (version_id, name)
);

-- state is the delivery state machine's own JSON; nothing here reads it.
CREATE TABLE deployments (
    deployment_id TEXT NOT NULL PRIMARY KEY,
    version_id TEXT NOT NULL REFERENCES model_versions (version_id),
    previous_version_id TEXT REFERENCES model_versions (version_id),
    model_id TEXT NOT NULL REFERENCES models (model_id),
    strategy TEXT NOT NULL,
    environment TEXT NOT NULL,
    strategy_config TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'Pending',
    progress_percentage BIGINT NOT NULL DEFAULT 0,
    traffic_percentage BIGINT NOT NULL DEFAULT 0,
    initiated_by TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ,
    is_rolled_back BOOLEAN NOT NULL DEFAULT FALSE,
    rolled_back_at TIMESTAMPTZ,
    error_message TEXT,
    validation_result TEXT,
    state TEXT NOT NULL,
    revision BIGINT NOT NULL,
    is_settled BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX idx_deployments_status ON deployments (status);
CREATE INDEX idx_deployments_environment ON deployments (environment);
CREATE INDEX idx_deployments_model ON deployments (model_id, started_at);
CREATE INDEX idx_deployments_unsettled ON deployments (started_at) WHERE NOT is_settled;
CREATE UNIQUE INDEX idx_deployments_in_progress ON deployments (model_id, environment)
    WHERE status IN ('Pending', 'Validating', 'AwaitingApproval', 'Deploying');

CREATE TABLE deployment_events (
    deployment_id TEXT NOT NULL REFERENCES deployments (deployment_id),
    seq BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL,
    kind TEXT NOT NULL,
    message TEXT NOT NULL,
    evidence TEXT,
    PRIMARY KEY (deployment_id, seq)
);

-- A row is never deleted: its generation must never go back.
CREATE TABLE routes (
    environment TEXT NOT NULL,
    model_id TEXT NOT NULL REFERENCES models (model_id),
    generation BIGINT NOT NULL,
    deployment_id TEXT NOT NULL REFERENCES deployments (deployment_id),
    route TEXT NOT NULL,
    PRIMARY KEY (environment, model_id)
);

-- A row is never deleted: its generation must never go back. No holder: nobody holds it.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT,
    generation BIGINT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL
);

-- features is empty where sampling or privacy settings keep them out.
CREATE TABLE inference_requests (
    request_id TEXT NOT NULL PRIMARY KEY,
    model_name TEXT NOT NULL,
    version TEXT,
    environment TEXT,
    deployment_id TEXT,
    arm BIGINT,
    features TEXT,
    prediction TEXT,
    confidence DOUBLE PRECISION,
    latency_ms DOUBLE PRECISION,
    status TEXT NOT NULL,
    error_message TEXT,
    requested_at TIMESTAMPTZ NOT NULL,
    completed_at TIMESTAMPTZ
);

CREATE INDEX idx_inference_model ON inference_requests (model_name, requested_at DESC);
