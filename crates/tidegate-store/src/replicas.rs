//! Replicas: which serving processes share this database, what each has applied and loaded, and what their versions have
//! answered. Reports about the present are replaced whole; counts only grow and outlive the process that made them.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_core::{Environment, ModelId, ReplicaId, Timestamp, VersionId};

use crate::changes::{Change, Changes};
use crate::db::{Db, Row, Statement, sql};
use crate::error::StoreError;

/// Serving processes by id and by their signs of life.
pub struct Replicas {
    db: Db,
    changes: Changes,
}

/// One life of a serving process.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaRecord {
    pub id: ReplicaId,
    /// Where the process says that it can be reached.
    pub address: String,
    pub binary_version: String,
    pub started_at: Timestamp,
    pub heartbeat_at: Timestamp,
    pub report: ReplicaReport,
}

/// What a process has applied and loaded now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaReport {
    pub routes: Vec<AppliedRoute>,
    pub versions: Vec<VersionReport>,
}

/// The route that requests for (environment, model) meet in this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedRoute {
    pub environment: Environment,
    pub model_id: ModelId,
    pub generation: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    pub version_id: VersionId,
    #[serde(flatten)]
    pub state: LoadState,
}

/// Where a version that the process should have stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state")]
pub enum LoadState {
    Loading,
    /// `life` tells this loading from an earlier or later one of the same version in the same process.
    Loaded {
        life: u64,
    },
    Failed {
        reason: String,
    },
}

/// What a version has answered since it was loaded, to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewTally {
    pub version_id: VersionId,
    pub life: u64,
    /// Cumulative; opaque here.
    pub tally: Value,
    /// That life is over: nothing will be added.
    pub is_final: bool,
}

/// What a version has answered in one life in one process.
#[derive(Clone, Debug, PartialEq)]
pub struct TallyRecord {
    pub version_id: VersionId,
    pub replica_id: ReplicaId,
    pub life: u64,
    pub tally: Value,
    /// Grows by one with each report.
    pub revision: u64,
    pub is_final: bool,
    pub counted_at: Timestamp,
}

/// What a report is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportKind {
    /// Something that others wait for: they are told ([`Change::Replica`]).
    News,
    /// A sign of life, or counts.
    Routine,
}

/// A tally as one element of the JSON array that carries a batch into the database. JSON inside is text again.
#[derive(Serialize)]
struct Element<'a> {
    version_id: &'a str,
    life: u64,
    tally: String,
    is_final: bool,
}

impl Replicas {
    pub(crate) fn new(db: Db, changes: Changes) -> Self {
        Self { db, changes }
    }

    /// Registers the replica, or replaces its report and heartbeat, and stores those counts (of the time of the heartbeat).
    /// Without counts and news it is one statement.
    pub async fn report(
        &self,
        replica: &ReplicaRecord,
        tallies: &[NewTally],
        kind: ReportKind,
    ) -> Result<(), StoreError> {
        if tallies.is_empty() && kind == ReportKind::Routine {
            return self.db.execute(upsert(replica)).await.map(drop);
        }
        const DOING: &str = "report a replica";
        let mut tx = self.db.begin(DOING).await?;
        tx.execute(upsert(replica)).await?;
        if !tallies.is_empty() {
            tx.execute(upsert_tallies(replica, tallies)).await?;
        }
        let news = (kind == ReportKind::News).then(|| Change::Replica { id: replica.id.clone() });
        let announced = self.changes.announce(&mut tx, news).await?;
        tx.commit(DOING).await?;
        announced.committed();
        Ok(())
    }

    /// Those that gave a sign of life at `since` or later, by age.
    pub async fn live(&self, since: Timestamp) -> Result<Vec<ReplicaRecord>, StoreError> {
        const LIVE: &str = "SELECT * FROM replicas WHERE heartbeat_at >= $1 ORDER BY started_at, replica_id";
        self.db.all(sql("list live replicas", LIVE).bind(since)).await?.iter().map(record_of).collect()
    }

    /// Also those that gave none for a while and did not say goodbye, by age.
    pub async fn list(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        const LIST: &str = "SELECT * FROM replicas ORDER BY started_at, replica_id";
        self.db.all(sql("list replicas", LIST)).await?.iter().map(record_of).collect()
    }

    /// What the version has answered, one for each life in each process, the dead ones included.
    pub async fn tallies(&self, version: &VersionId) -> Result<Vec<TallyRecord>, StoreError> {
        const LIST: &str = "SELECT * FROM replica_tallies WHERE version_id = $1 ORDER BY replica_id, life";
        let list = sql("read a version's tallies", LIST).bind(version.as_str());
        self.db.all(list).await?.iter().map(tally_of).collect()
    }

    /// The process says goodbye. What it has counted stays until [`Replicas::sweep`].
    pub async fn remove(&self, id: &ReplicaId) -> Result<(), StoreError> {
        const DOING: &str = "remove a replica";
        const REMOVE: &str = "DELETE FROM replicas WHERE replica_id = $1";
        let mut tx = self.db.begin(DOING).await?;
        tx.execute(sql(DOING, REMOVE).bind(id.as_str())).await?;
        let announced = self.changes.announce(&mut tx, [Change::Replica { id: id.clone() }]).await?;
        tx.commit(DOING).await?;
        announced.committed();
        Ok(())
    }

    /// Forgets replicas without a sign of life since `cutoff`, and counts older than it of lives that are over; but no count
    /// of a version that takes part in a deployment that is not settled: its verdict may rest on it. Gives how many rows
    /// went.
    pub async fn sweep(&self, cutoff: Timestamp) -> Result<u64, StoreError> {
        const TALLIES: &str = "DELETE FROM replica_tallies WHERE counted_at < $1
            AND (is_final OR replica_id NOT IN (SELECT replica_id FROM replicas WHERE heartbeat_at >= $1))
            AND version_id NOT IN
                (SELECT version_id FROM deployments WHERE NOT is_settled
                UNION ALL
                SELECT previous_version_id FROM deployments
                    WHERE NOT is_settled AND previous_version_id IS NOT NULL)";
        const REPLICAS: &str = "DELETE FROM replicas WHERE heartbeat_at < $1";
        let tallies = self.db.execute(sql("forget old tallies", TALLIES).bind(cutoff)).await?;
        let replicas = self.db.execute(sql("forget dead replicas", REPLICAS).bind(cutoff)).await?;
        Ok(tallies + replicas)
    }
}

fn upsert(replica: &ReplicaRecord) -> Statement {
    const UPSERT: &str =
        "INSERT INTO replicas (replica_id, address, binary_version, started_at, heartbeat_at, report)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (replica_id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, report = excluded.report";
    let report = serde_json::to_value(&replica.report).expect("a report is strings and numbers");
    sql("report a replica", UPSERT)
        .bind(replica.id.as_str())
        .bind(replica.address.as_str())
        .bind(replica.binary_version.as_str())
        .bind(replica.started_at)
        .bind(replica.heartbeat_at)
        .bind(&report)
}

fn upsert_tallies(replica: &ReplicaRecord, tallies: &[NewTally]) -> Statement {
    /// `WHERE TRUE` keeps SQLite from reading `ON CONFLICT` as the condition of a join.
    const SQLITE: &str = "INSERT INTO replica_tallies
            (version_id, replica_id, life, tally, revision, is_final, counted_at)
        SELECT value ->> 'version_id', $1, value ->> 'life', value ->> 'tally', 1, value ->> 'is_final', $2
        FROM json_each($3) WHERE TRUE
        ON CONFLICT (version_id, replica_id, life) DO UPDATE SET tally = excluded.tally,
            revision = replica_tallies.revision + 1, is_final = excluded.is_final, counted_at = excluded.counted_at";
    const POSTGRES: &str = "INSERT INTO replica_tallies
            (version_id, replica_id, life, tally, revision, is_final, counted_at)
        SELECT version_id, $1, life, tally, 1, is_final, $2
        FROM json_to_recordset($3::json)
            AS element (version_id TEXT, life BIGINT, tally TEXT, is_final BOOLEAN)
        ON CONFLICT (version_id, replica_id, life) DO UPDATE SET tally = excluded.tally,
            revision = replica_tallies.revision + 1, is_final = excluded.is_final, counted_at = excluded.counted_at";
    let element = |tally: &NewTally| {
        let NewTally { version_id, life, tally, is_final } = tally;
        let element = Element {
            version_id: version_id.as_str(),
            life: *life,
            tally: tally.to_string(),
            is_final: *is_final,
        };
        serde_json::to_value(element).expect("a tally is strings and numbers")
    };
    sql("store tallies", SQLITE)
        .on_postgres(POSTGRES)
        .bind(replica.id.as_str())
        .bind(replica.heartbeat_at)
        .bind(&tallies.iter().map(element).collect::<Value>())
}

fn record_of(row: &Row) -> Result<ReplicaRecord, StoreError> {
    Ok(ReplicaRecord {
        id: ReplicaId::new(row.text("replica_id")?),
        address: row.text("address")?,
        binary_version: row.text("binary_version")?,
        started_at: row.time("started_at")?,
        heartbeat_at: row.time("heartbeat_at")?,
        // A newer release may report what this one cannot read; during an upgrade that must not hide the replica.
        report: serde_json::from_str(&row.text("report")?).unwrap_or_default(),
    })
}

fn tally_of(row: &Row) -> Result<TallyRecord, StoreError> {
    Ok(TallyRecord {
        version_id: VersionId::new(row.text("version_id")?),
        replica_id: ReplicaId::new(row.text("replica_id")?),
        life: row.count("life")?,
        tally: row.json("tally")?,
        revision: row.count("revision")?,
        is_final: row.truth("is_final")?,
        counted_at: row.time("counted_at")?,
    })
}
