//! Routes: who answers for a model in an environment. Written only by a deployment's transition.

use serde::{Deserialize, Serialize};
use tidegate_core::{Arm, DeploymentId, Environment, ModelId, Moved, Route, Shadow, StickyBy, VersionId};

use crate::db::{Db, Row, Tx, sql};
use crate::error::StoreError;

/// Routes, for reading.
pub struct Routes {
    db: Db,
}

/// The `route` column: everything that has no column of its own.
#[derive(Serialize, Deserialize)]
struct Content {
    arms: Vec<Arm>,
    warm: Vec<VersionId>,
    #[serde(default)]
    shadow: Option<Shadow>,
    #[serde(default)]
    moved: Option<Moved>,
    #[serde(default)]
    sticky_by: StickyBy,
}

impl Routes {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    pub async fn get(&self, environment: Environment, model: &ModelId) -> Result<Option<Route>, StoreError> {
        const GET: &str = "SELECT * FROM routes WHERE environment = $1 AND model_id = $2";
        let get = sql("read a route", GET).bind(environment.as_str()).bind(model.as_str());
        self.db.first(get).await?.as_ref().map(route_of).transpose()
    }

    /// Every route there is, in no matter which order.
    pub async fn list(&self) -> Result<Vec<Route>, StoreError> {
        const LIST: &str = "SELECT * FROM routes ORDER BY environment, model_id";
        self.db.all(sql("list routes", LIST)).await?.iter().map(route_of).collect()
    }
}

/// Writes the route that follows the stored one. False, and nothing is written, when its generation is not the next:
/// it was made on top of another route than the one that is there.
pub(crate) async fn replace(tx: &mut Tx, route: &Route) -> Result<bool, StoreError> {
    const REPLACE: &str = "INSERT INTO routes (environment, model_id, generation, deployment_id, route)
        SELECT $1, $2, $3, $4, $5
        WHERE $3 = 1 OR EXISTS (SELECT 1 FROM routes WHERE environment = $1 AND model_id = $2)
        ON CONFLICT (environment, model_id) DO UPDATE SET generation = excluded.generation,
            deployment_id = excluded.deployment_id, route = excluded.route
        WHERE routes.generation = excluded.generation - 1";
    let content = Content {
        arms: route.arms.clone(),
        warm: route.warm.clone(),
        shadow: route.shadow.clone(),
        moved: route.moved.clone(),
        sticky_by: route.sticky_by.clone(),
    };
    let content = serde_json::to_value(content).expect("a route is strings and numbers");
    let replace = sql("write a route", REPLACE)
        .bind(route.environment.as_str())
        .bind(route.model_id.as_str())
        .bind(route.generation)
        .bind(route.deployment_id.as_str())
        .bind(&content);
    Ok(tx.execute(replace).await? > 0)
}

/// The routes of a model in every environment, as the transaction sees them.
pub(crate) async fn of_model(tx: &mut Tx, model: &ModelId) -> Result<Vec<Route>, StoreError> {
    const LIST: &str = "SELECT * FROM routes WHERE model_id = $1";
    tx.all(sql("read a model's routes", LIST).bind(model.as_str())).await?.iter().map(route_of).collect()
}

fn route_of(row: &Row) -> Result<Route, StoreError> {
    let content: Content = row.json("route")?;
    Ok(Route {
        environment: row.parsed("environment")?,
        model_id: ModelId::new(row.text("model_id")?),
        generation: row.count("generation")?,
        deployment_id: DeploymentId::new(row.text("deployment_id")?),
        arms: content.arms,
        warm: content.warm,
        shadow: content.shadow,
        moved: content.moved,
        sticky_by: content.sticky_by,
    })
}
