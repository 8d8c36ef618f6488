-- Who is told about deployments. webhook is the digest of its URL: a secret may change, and the URL may hold one. known_since
-- keeps a new one from being told what happened before it was there.
CREATE TABLE webhooks (
    webhook TEXT NOT NULL PRIMARY KEY,
    known_since TIMESTAMPTZ NOT NULL
);

-- How far the event log of a deployment has been told: seq is the last event that was (or that did not concern the webhook).
-- attempts: how often the next one was tried in vain.
CREATE TABLE webhook_cursors (
    webhook TEXT NOT NULL,
    deployment_id TEXT NOT NULL REFERENCES deployments (deployment_id),
    seq BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_attempt_at TIMESTAMPTZ,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (webhook, deployment_id)
);

-- What has yet to be told is looked for among recent events.
CREATE INDEX idx_deployment_events_at ON deployment_events (at);
