-- What was seen when a deployment's versions were last compared, whether or not it decided anything: for people who watch.
-- One row a deployment, replaced with each look; look is the delivery crate's own JSON. Nothing is decided on it.
CREATE TABLE deployment_looks (
    deployment_id TEXT NOT NULL PRIMARY KEY REFERENCES deployments (deployment_id),
    at TIMESTAMPTZ NOT NULL,
    look TEXT NOT NULL
);
