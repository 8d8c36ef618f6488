//! Deployments: their records, their event logs, and the one way to change them, [`Deployments::commit`].

mod commit;
mod looks;

use serde_json::Value;
use tidegate_core::{
    DeploymentId, DeploymentStatus, Environment, ModelId, StrategyKind, Timestamp, VersionId,
};

pub use self::commit::{CommitError, Fence, Transition};
use crate::changes::{Change, Changes};
use crate::db::{Db, Row, Statement, sql};
use crate::error::StoreError;
use crate::event_log::{EventLog, EventRecord, NewEvent, event_log};
use crate::page::{Listing, Page};

const EVENTS: EventLog = event_log!("deployment_events", "deployment_id", "deployment");

/// Deployments by id, filter and need of attention.
pub struct Deployments {
    db: Db,
    changes: Changes,
}

/// A deployment as it is stored. `state` belongs to the delivery state machine and is opaque here.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentRecord {
    pub id: DeploymentId,
    pub model_id: ModelId,
    pub version_id: VersionId,
    /// What answered when the deployment began, to roll back to.
    pub previous_version_id: Option<VersionId>,
    pub environment: Environment,
    pub strategy: StrategyKind,
    pub strategy_config: Value,
    pub status: DeploymentStatus,
    /// 0 to 100.
    pub progress_percentage: u8,
    /// 0 to 100.
    pub traffic_percentage: u8,
    pub initiated_by: String,
    pub started_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub rolled_back_at: Option<Timestamp>,
    pub error_message: Option<String>,
    pub validation_result: Option<Value>,
    pub state: Value,
    /// Grows by one with each committed transition.
    pub revision: u64,
    /// Nothing is left to be done: no controller needs to look at it again.
    pub is_settled: bool,
}

/// What a listing keeps; an absent field keeps everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentFilter {
    pub model_id: Option<ModelId>,
    pub environment: Option<Environment>,
    pub status: Option<DeploymentStatus>,
}

/// Why a deployment was not created. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("deployment `{deployment_id}` of this model in this environment is still in progress")]
    InProgress { deployment_id: DeploymentId },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which deployments block the next one; the words of `DeploymentStatus::in_progress` and of the index
/// `idx_deployments_in_progress`.
macro_rules! in_progress {
    () => {
        "status IN ('Pending', 'Validating', 'AwaitingApproval', 'Deploying')"
    };
}

/// The filter, bound by `DeploymentFilter::bind`.
macro_rules! matching {
    () => {
        "WHERE ($1 IS NULL OR model_id = $1) AND ($2 IS NULL OR environment = $2) AND ($3 IS NULL OR status = $3)"
    };
}

impl DeploymentFilter {
    fn bind(&self, statement: Statement) -> Statement {
        statement
            .bind(self.model_id.as_ref().map(ModelId::as_str))
            .bind(self.environment.map(Environment::as_str))
            .bind(self.status.map(DeploymentStatus::as_str))
    }
}

/// The blocking deployment may settle between the refused insert and the look at who blocked; so often in a row it never
/// does.
const MAX_CREATE_ATTEMPTS: usize = 5;

impl Deployments {
    pub(crate) fn new(db: Db, changes: Changes) -> Self {
        Self { db, changes }
    }

    /// Stores a new deployment and its first events. At most one deployment of a model is in progress
    /// in an environment: otherwise [`CreateError::InProgress`] names the one that is.
    pub async fn create(&self, record: &DeploymentRecord, first: &[NewEvent]) -> Result<(), CreateError> {
        for _ in 0..MAX_CREATE_ATTEMPTS {
            let mut tx = self.db.begin("create a deployment").await?;
            if tx.execute(insert(record)).await? > 0 {
                for event in first {
                    tx.execute(EVENTS.append(record.id.as_str(), event)).await?;
                }
                let change = Change::Deployment { id: record.id.clone() };
                let announced = self.changes.announce(&mut tx, [change]).await?;
                tx.commit("create a deployment").await?;
                announced.committed();
                return Ok(());
            }
            drop(tx);
            if let Some(deployment_id) = self.in_progress(&record.model_id, record.environment).await? {
                return Err(CreateError::InProgress { deployment_id });
            }
        }
        Err(StoreError::of_race("create a deployment", "others kept starting and finishing first").into())
    }

    pub async fn get(&self, id: &DeploymentId) -> Result<Option<DeploymentRecord>, StoreError> {
        const GET: &str = "SELECT * FROM deployments WHERE deployment_id = $1";
        let row = self.db.first(sql("read a deployment", GET).bind(id.as_str())).await?;
        row.as_ref().map(record_of).transpose()
    }

    /// Newest first.
    pub async fn list(
        &self,
        filter: &DeploymentFilter,
        page: Page,
    ) -> Result<Listing<DeploymentRecord>, StoreError> {
        Ok(Listing { items: self.page(filter, page).await?, total: self.count(filter).await? })
    }

    /// Every deployment that a controller still has to attend to, oldest first.
    pub async fn unsettled(&self) -> Result<Vec<DeploymentRecord>, StoreError> {
        const UNSETTLED: &str =
            "SELECT * FROM deployments WHERE NOT is_settled ORDER BY started_at, deployment_id";
        self.db.all(sql("list unsettled deployments", UNSETTLED)).await?.iter().map(record_of).collect()
    }

    /// Events with a number above `after_seq`, in order, at most `limit`.
    pub async fn events(
        &self,
        id: &DeploymentId,
        after_seq: u64,
        limit: u32,
    ) -> Result<Vec<EventRecord>, StoreError> {
        EVENTS.list(&self.db, id.as_str(), after_seq, limit).await
    }

    /// Replaces what was last seen of the deployment's versions; opaque here.
    pub async fn keep_look(&self, id: &DeploymentId, at: Timestamp, look: &Value) -> Result<(), StoreError> {
        looks::keep(&self.db, id, at, look).await
    }

    pub async fn last_look(&self, id: &DeploymentId) -> Result<Option<Value>, StoreError> {
        looks::last(&self.db, id).await
    }

    /// Commits a transition whole: the record, its events, and the route with everything that follows from it. Returns
    /// the new revision. See [`Transition`] for what is refused.
    pub async fn commit(&self, transition: &Transition) -> Result<u64, CommitError> {
        commit::commit(&self.db, &self.changes, transition).await
    }

    async fn page(&self, filter: &DeploymentFilter, page: Page) -> Result<Vec<DeploymentRecord>, StoreError> {
        const PAGE: &str = concat!(
            "SELECT * FROM deployments ",
            matching!(),
            " ORDER BY started_at DESC, deployment_id DESC LIMIT $4 OFFSET $5"
        );
        let statement = filter.bind(sql("list deployments", PAGE)).bind(page.limit).bind(page.offset);
        self.db.all(statement).await?.iter().map(record_of).collect()
    }

    async fn count(&self, filter: &DeploymentFilter) -> Result<u64, StoreError> {
        const COUNT: &str = concat!("SELECT COUNT(*) AS total FROM deployments ", matching!());
        let row = self.db.first(filter.bind(sql("count deployments", COUNT))).await?;
        row.map_or(Ok(0), |row| row.count("total"))
    }

    async fn in_progress(
        &self,
        model: &ModelId,
        environment: Environment,
    ) -> Result<Option<DeploymentId>, StoreError> {
        const FIND: &str = concat!(
            "SELECT deployment_id FROM deployments WHERE model_id = $1 AND environment = $2 AND ",
            in_progress!()
        );
        let find = sql("find the deployment in progress", FIND).bind(model.as_str());
        let row = self.db.first(find.bind(environment.as_str())).await?;
        row.map(|row| row.text("deployment_id").map(DeploymentId::new)).transpose()
    }
}

/// Inserts nothing when another deployment is in progress.
fn insert(record: &DeploymentRecord) -> Statement {
    const INSERT: &str = concat!(
        "INSERT INTO deployments
            (deployment_id, version_id, previous_version_id, model_id, strategy, environment, strategy_config, status,
             progress_percentage, traffic_percentage, initiated_by, started_at, completed_at, is_rolled_back,
             rolled_back_at, error_message, validation_result, state, revision, is_settled)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
        ON CONFLICT (model_id, environment) WHERE ",
        in_progress!(),
        " DO NOTHING"
    );
    sql("create a deployment", INSERT)
        .bind(record.id.as_str())
        .bind(record.version_id.as_str())
        .bind(record.previous_version_id.as_ref().map(VersionId::as_str))
        .bind(record.model_id.as_str())
        .bind(record.strategy.as_str())
        .bind(record.environment.as_str())
        .bind(&record.strategy_config)
        .bind(record.status.as_str())
        .bind(record.progress_percentage)
        .bind(record.traffic_percentage)
        .bind(record.initiated_by.as_str())
        .bind(record.started_at)
        .bind(record.completed_at)
        .bind(record.rolled_back_at.is_some())
        .bind(record.rolled_back_at)
        .bind(record.error_message.as_deref())
        .bind(record.validation_result.as_ref())
        .bind(&record.state)
        .bind(record.revision)
        .bind(record.is_settled)
}

fn record_of(row: &Row) -> Result<DeploymentRecord, StoreError> {
    Ok(DeploymentRecord {
        id: DeploymentId::new(row.text("deployment_id")?),
        model_id: ModelId::new(row.text("model_id")?),
        version_id: VersionId::new(row.text("version_id")?),
        previous_version_id: row.text_opt("previous_version_id")?.map(VersionId::new),
        environment: row.parsed("environment")?,
        strategy: row.parsed("strategy")?,
        strategy_config: row.json("strategy_config")?,
        status: row.parsed("status")?,
        progress_percentage: row.percentage("progress_percentage")?,
        traffic_percentage: row.percentage("traffic_percentage")?,
        initiated_by: row.text("initiated_by")?,
        started_at: row.time("started_at")?,
        completed_at: row.time_opt("completed_at")?,
        rolled_back_at: row.time_opt("rolled_back_at")?,
        error_message: row.text_opt("error_message")?,
        validation_result: row.json_opt("validation_result")?,
        state: row.json("state")?,
        revision: row.count("revision")?,
        is_settled: row.truth("is_settled")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_in_sql_are_those_of_the_vocabulary() {
        for status in DeploymentStatus::ALL {
            let quoted = format!("'{status}'");
            assert_eq!(in_progress!().contains(&quoted), status.in_progress(), "{status}");
        }
    }
}
