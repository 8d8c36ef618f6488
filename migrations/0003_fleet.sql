-- Serving processes that share this database. A replica_id names one life of a process; report is what it has applied and
-- loaded, whole. Deleted when it says goodbye, or an hour after its last sign of life.
CREATE TABLE replicas (
    replica_id TEXT NOT NULL PRIMARY KEY,
    address TEXT NOT NULL,
    binary_version TEXT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    heartbeat_at TIMESTAMPTZ NOT NULL,
    report TEXT NOT NULL
);

-- What a loaded version has answered in a process since it was loaded (a life: loaded again, it counts from zero). Outlives
-- its replica: what a killed process answered during a rollout still counts. tally is opaque here. revision grows with each
-- report, so that a reader can tell a fresh count from one that is there since long. is_final: that life is over.
CREATE TABLE replica_tallies (
    version_id TEXT NOT NULL,
    replica_id TEXT NOT NULL,
    life BIGINT NOT NULL,
    tally TEXT NOT NULL,
    revision BIGINT NOT NULL,
    is_final BOOLEAN NOT NULL,
    counted_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (version_id, replica_id, life)
);
