-- What turned out to be true. What the analysis of a rollout groups by is copied from the request, which may be deleted
-- earlier than its label.
CREATE TABLE feedback (
    request_id TEXT NOT NULL PRIMARY KEY,
    deployment_id TEXT,
    version TEXT,
    requested_at TIMESTAMPTZ NOT NULL,
    is_correct BOOLEAN NOT NULL,
    ground_truth TEXT,
    given_by TEXT NOT NULL,
    given_at TIMESTAMPTZ NOT NULL
);

-- Old requests are deleted by age.
CREATE INDEX idx_inference_requested_at ON inference_requests (requested_at);

CREATE INDEX idx_feedback_deployment ON feedback (deployment_id, requested_at);
