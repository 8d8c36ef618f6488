//! What was last seen of a deployment's versions. Replaced all the time, and nothing is decided on it, so it is written outside
//! of transitions and nobody is told.

use serde_json::Value;
use tidegate_core::{DeploymentId, Timestamp};

use crate::db::{Db, sql};
use crate::error::StoreError;

/// An older look than the one that is there is dropped: it comes from a controller that has lost its lease.
pub(super) async fn keep(db: &Db, id: &DeploymentId, at: Timestamp, look: &Value) -> Result<(), StoreError> {
    const KEEP: &str = "INSERT INTO deployment_looks (deployment_id, at, look) VALUES ($1, $2, $3)
        ON CONFLICT (deployment_id) DO UPDATE SET at = excluded.at, look = excluded.look
        WHERE deployment_looks.at <= excluded.at";
    let keep = sql("keep a look at a deployment", KEEP).bind(id.as_str()).bind(at).bind(look);
    db.execute(keep).await.map(drop)
}

pub(super) async fn last(db: &Db, id: &DeploymentId) -> Result<Option<Value>, StoreError> {
    const LAST: &str = "SELECT look FROM deployment_looks WHERE deployment_id = $1";
    let row = db.first(sql("read the last look at a deployment", LAST).bind(id.as_str())).await?;
    row.map(|row| row.json("look")).transpose()
}
