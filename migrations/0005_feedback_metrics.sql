-- What users measured of a prediction, by name (`iou`, `revenue`); beside its label, or without one.
CREATE TABLE feedback_metrics (
    request_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    deployment_id TEXT,
    version TEXT,
    requested_at TIMESTAMPTZ NOT NULL,
    given_by TEXT NOT NULL,
    given_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (request_id, name)
);

CREATE INDEX idx_feedback_metrics_deployment ON feedback_metrics (deployment_id, requested_at);
