//! The registry's models and their tags.

use tidegate_core::{Framework, Model, ModelId, ModelName, ModelType, Timestamp};

use crate::db::{Db, Row, Statement, Tx, sql};
use crate::error::StoreError;
use crate::page::{Listing, Page};

/// Models by id, name and filter. They come into being with their first version:
/// [`Versions::register`](crate::Versions::register).
pub struct Models {
    db: Db,
}

/// What a listing keeps; an absent field keeps everything. Values match exactly.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelFilter {
    pub framework: Option<Framework>,
    pub model_type: Option<ModelType>,
    pub tag: Option<String>,
    pub owner: Option<String>,
    pub include_archived: bool,
}

const GET: &str = "SELECT m.*, t.tag FROM models m LEFT JOIN model_tags t ON t.model_id = m.model_id
    WHERE m.model_id = $1 ORDER BY t.position";

/// The filter, bound by `ModelFilter::bind`.
macro_rules! matching {
    () => {
        "WHERE ($1 IS NULL OR m.framework = $1) AND ($2 IS NULL OR m.type = $2) AND ($3 IS NULL OR m.owner = $3)
           AND ($4 IS NULL OR EXISTS (SELECT 1 FROM model_tags f WHERE f.model_id = m.model_id AND f.tag = $4))
           AND ($5 OR NOT m.is_archived)"
    };
}

impl ModelFilter {
    fn bind(&self, statement: Statement) -> Statement {
        statement
            .bind(self.framework.map(Framework::as_str))
            .bind(self.model_type.map(ModelType::as_str))
            .bind(self.owner.as_deref())
            .bind(self.tag.as_deref())
            .bind(self.include_archived)
    }
}

impl Models {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// By id, or else by the name of a model that is not archived.
    pub async fn find(&self, id_or_name: &str) -> Result<Option<Model>, StoreError> {
        const FIND: &str = "SELECT m.*, t.tag FROM models m LEFT JOIN model_tags t ON t.model_id = m.model_id
            WHERE m.model_id = $1 OR (m.name = $1 AND NOT m.is_archived)
            ORDER BY m.model_id = $1 DESC, t.position";
        self.one(sql("find a model", FIND).bind(id_or_name)).await
    }

    pub async fn get(&self, id: &ModelId) -> Result<Option<Model>, StoreError> {
        self.one(sql("read a model", GET).bind(id.as_str())).await
    }

    /// Newest first.
    pub async fn list(&self, filter: &ModelFilter, page: Page) -> Result<Listing<Model>, StoreError> {
        Ok(Listing { items: self.page(filter, page).await?, total: self.count(filter).await? })
    }

    /// Hides the model from listings and frees its name. False when there is no such model, or it is archived already.
    pub async fn archive(&self, id: &ModelId, now: Timestamp) -> Result<bool, StoreError> {
        const ARCHIVE: &str =
            "UPDATE models SET is_archived = TRUE, updated_at = $2 WHERE model_id = $1 AND NOT is_archived";
        let archive = sql("archive a model", ARCHIVE).bind(id.as_str()).bind(now);
        Ok(self.db.execute(archive).await? > 0)
    }

    async fn page(&self, filter: &ModelFilter, page: Page) -> Result<Vec<Model>, StoreError> {
        const PAGE: &str = concat!(
            "SELECT p.*, t.tag FROM (SELECT * FROM models m ",
            matching!(),
            " ORDER BY m.created_at DESC, m.model_id DESC LIMIT $6 OFFSET $7) p
              LEFT JOIN model_tags t ON t.model_id = p.model_id
              ORDER BY p.created_at DESC, p.model_id DESC, t.position"
        );
        let statement = filter.bind(sql("list models", PAGE)).bind(page.limit).bind(page.offset);
        fold(&self.db.all(statement).await?)
    }

    async fn count(&self, filter: &ModelFilter) -> Result<u64, StoreError> {
        const COUNT: &str = concat!("SELECT COUNT(*) AS total FROM models m ", matching!());
        let row = self.db.first(filter.bind(sql("count models", COUNT))).await?;
        row.map_or(Ok(0), |row| row.count("total"))
    }

    async fn one(&self, statement: Statement) -> Result<Option<Model>, StoreError> {
        Ok(fold(&self.db.all(statement).await?)?.into_iter().next())
    }
}

/// Inserts the model, or finds the live one of that name and marks it as changed. Either way the row is locked until the
/// transaction ends, so that two registrations, or a registration and an archiving, follow one another.
pub(crate) async fn insert_or_lock(tx: &mut Tx, model: &Model) -> Result<ModelId, StoreError> {
    const UPSERT: &str = "INSERT INTO models
            (model_id, name, description, framework, type, owner, is_archived, created_at, updated_at)
        VALUES ($1, $2, $3, $4, $5, $6, FALSE, $7, $8)
        ON CONFLICT (name) WHERE NOT is_archived DO UPDATE SET updated_at = excluded.updated_at
        RETURNING model_id";
    let upsert = sql("register a model", UPSERT)
        .bind(model.id.as_str())
        .bind(model.name.as_str())
        .bind(model.description.as_deref())
        .bind(model.framework.as_str())
        .bind(model.model_type.as_str())
        .bind(model.owner.as_str())
        .bind(model.created_at)
        .bind(model.updated_at);
    let row = tx.first(upsert).await?;
    let row = row.ok_or_else(|| StoreError::of_race("register a model", "the statement returned no row"))?;
    let id = ModelId::new(row.text("model_id")?);
    if id == model.id {
        insert_tags(tx, model).await?;
    }
    Ok(id)
}

/// The model as the transaction sees it.
pub(crate) async fn read(tx: &mut Tx, id: &ModelId) -> Result<Model, StoreError> {
    let models = fold(&tx.all(sql("read a model", GET).bind(id.as_str())).await?)?;
    let missing = || StoreError::of_content("read a model", format!("model `{id}` is not there"));
    models.into_iter().next().ok_or_else(missing)
}

/// A tag given twice counts once, where it came first.
async fn insert_tags(tx: &mut Tx, model: &Model) -> Result<(), StoreError> {
    const TAG: &str =
        "INSERT INTO model_tags (model_id, tag, position) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    for (position, tag) in (0u64..).zip(&model.tags) {
        tx.execute(sql("tag a model", TAG).bind(model.id.as_str()).bind(tag.as_str()).bind(position)).await?;
    }
    Ok(())
}

/// Models from rows of (model, tag): the rows of a model come together, one for each of its tags and at least one.
fn fold(rows: &[Row]) -> Result<Vec<Model>, StoreError> {
    let mut models: Vec<Model> = Vec::new();
    for row in rows {
        let model = model_of(row)?;
        match models.last_mut().filter(|last| last.id == model.id) {
            Some(last) => last.tags.extend(model.tags),
            None => models.push(model),
        }
    }
    Ok(models)
}

fn model_of(row: &Row) -> Result<Model, StoreError> {
    let name = row.text("name")?;
    Ok(Model {
        id: ModelId::new(row.text("model_id")?),
        name: ModelName::parse(&name).map_err(|error| row.unreadable("name", error))?,
        description: row.text_opt("description")?,
        framework: row.parsed("framework")?,
        model_type: row.parsed("type")?,
        owner: row.text("owner")?,
        tags: row.text_opt("tag")?.into_iter().collect(),
        active_version: row.parsed_opt("active_version")?,
        is_archived: row.truth("is_archived")?,
        created_at: row.time("created_at")?,
        updated_at: row.time("updated_at")?,
    })
}
