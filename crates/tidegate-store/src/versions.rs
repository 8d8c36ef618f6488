//! Versions of a model and their artifacts: written once, in one transaction, and never changed but for their status.

use std::collections::{HashMap, HashSet};

use tidegate_core::{Artifact, Model, ModelId, ModelName, SemVer, Sha256Digest, Version, VersionId};

use crate::db::{Db, Row, Statement, Tx, sql};
use crate::error::StoreError;
use crate::models;

/// Versions by id, number and model.
pub struct Versions {
    db: Db,
}

/// Why a version was not registered. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error(
        "model `{model}` already has a version {version}: versions are immutable, register another number"
    )]
    DuplicateVersion { model: ModelName, version: SemVer },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Versions {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Registers the version and its artifacts, and the model with it unless a live model of that name exists: then the
    /// version is added to that one, which keeps its own description, owner and tags. Returns the model as it is now.
    ///
    /// Of several callers with the same model and number exactly one succeeds; the others get
    /// [`RegisterError::DuplicateVersion`].
    pub async fn register(&self, model: &Model, version: &Version) -> Result<Model, RegisterError> {
        let mut tx = self.db.begin("register a version").await?;
        let model_id = models::insert_or_lock(&mut tx, model).await?;
        if !insert(&mut tx, &model_id, version).await? {
            let (model, version) = (model.name.clone(), version.version.clone());
            return Err(RegisterError::DuplicateVersion { model, version });
        }
        insert_artifacts(&mut tx, version).await?;
        let model = models::read(&mut tx, &model_id).await?;
        tx.commit("register a version").await?;
        Ok(model)
    }

    pub async fn get(&self, id: &VersionId) -> Result<Option<Version>, StoreError> {
        const GET: &str = "SELECT * FROM model_versions WHERE version_id = $1";
        const ARTIFACTS: &str = "SELECT * FROM artifacts WHERE version_id = $1 ORDER BY position";
        let Some(row) = self.db.first(sql("read a version", GET).bind(id.as_str())).await? else {
            return Ok(None);
        };
        let artifacts = sql("read a version's artifacts", ARTIFACTS).bind(id.as_str());
        version_of(&row, &self.db.all(artifacts).await?).map(Some)
    }

    pub async fn by_number(&self, model: &ModelId, number: &SemVer) -> Result<Option<Version>, StoreError> {
        const FIND: &str = "SELECT version_id FROM model_versions WHERE model_id = $1 AND version = $2";
        let find = sql("find a version", FIND).bind(model.as_str()).bind(number.to_string().as_str());
        match self.db.first(find).await? {
            Some(row) => self.get(&VersionId::new(row.text("version_id")?)).await,
            None => Ok(None),
        }
    }

    /// The version with the highest number, by the precedence of Semantic Versioning.
    pub async fn latest(&self, model: &ModelId) -> Result<Option<Version>, StoreError> {
        const NUMBERS: &str = "SELECT version_id, version FROM model_versions WHERE model_id = $1";
        let rows = self.db.all(sql("find the latest version", NUMBERS).bind(model.as_str())).await?;
        let mut highest: Option<(SemVer, VersionId)> = None;
        for row in &rows {
            let number: SemVer = row.parsed("version")?;
            if highest.as_ref().is_none_or(|(best, _)| number > *best) {
                highest = Some((number, VersionId::new(row.text("version_id")?)));
            }
        }
        match highest {
            Some((_, id)) => self.get(&id).await,
            None => Ok(None),
        }
    }

    /// Highest number first.
    pub async fn list(&self, model: &ModelId) -> Result<Vec<Version>, StoreError> {
        const LIST: &str = "SELECT * FROM model_versions WHERE model_id = $1";
        const ARTIFACTS: &str =
            "SELECT a.* FROM artifacts a JOIN model_versions v ON v.version_id = a.version_id
            WHERE v.model_id = $1 ORDER BY a.position";
        let rows = self.db.all(sql("list versions", LIST).bind(model.as_str())).await?;
        let mut artifacts: HashMap<String, Vec<Row>> = HashMap::new();
        for row in self.db.all(sql("list artifacts", ARTIFACTS).bind(model.as_str())).await? {
            artifacts.entry(row.text("version_id")?).or_default().push(row);
        }
        let read = |row: &Row| {
            let id = row.text("version_id")?;
            version_of(row, artifacts.get(&id).map_or(&[], Vec::as_slice))
        };
        let mut versions = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        versions.sort_by(|a, b| b.version.cmp(&a.version));
        Ok(versions)
    }

    /// Versions of models that are not archived, with whose they are: the newest first, of one model where given, those
    /// registered before `before` only.
    pub async fn browse(
        &self,
        model: Option<&ModelId>,
        before: Option<&VersionId>,
        limit: u32,
    ) -> Result<Vec<(ModelName, Version)>, StoreError> {
        // Ids begin with the time at which they were made.
        macro_rules! page {
            () => {
                "FROM model_versions v JOIN models m ON m.model_id = v.model_id
                 WHERE NOT m.is_archived AND ($1 IS NULL OR v.model_id = $1) AND ($2 IS NULL OR v.version_id < $2)
                 ORDER BY v.version_id DESC LIMIT $3"
            };
        }
        const PAGE: &str = concat!("SELECT v.*, m.name AS model_name ", page!());
        const ARTIFACTS: &str = concat!(
            "SELECT * FROM artifacts WHERE version_id IN (SELECT v.version_id ",
            page!(),
            ") ORDER BY position"
        );
        let bind = |statement: Statement| {
            statement.bind(model.map(ModelId::as_str)).bind(before.map(VersionId::as_str)).bind(limit)
        };
        let rows = self.db.all(bind(sql("browse versions", PAGE))).await?;
        let mut artifacts: HashMap<String, Vec<Row>> = HashMap::new();
        for row in self.db.all(bind(sql("browse artifacts", ARTIFACTS))).await? {
            artifacts.entry(row.text("version_id")?).or_default().push(row);
        }
        // What was registered between the two statements is on no page yet.
        let whole = rows
            .iter()
            .map(|row| Ok((row, row.text("version_id")?)))
            .collect::<Result<Vec<_>, StoreError>>()?;
        let whole = whole.into_iter().filter(|(_, id)| artifacts.contains_key(id));
        let read = |(row, id): (&Row, String)| {
            let name = row.text("model_name")?;
            let name = ModelName::parse(&name).map_err(|error| row.unreadable("model_name", error))?;
            Ok((name, version_of(row, artifacts.get(&id).map_or(&[], Vec::as_slice))?))
        };
        whole.map(read).collect()
    }

    /// The keys of every artifact of every version: what a sweep of the artifact store must keep.
    pub async fn artifact_keys(&self) -> Result<HashSet<String>, StoreError> {
        const KEYS: &str = "SELECT path FROM artifacts";
        self.db.all(sql("list artifact keys", KEYS)).await?.iter().map(|row| row.text("path")).collect()
    }
}

/// False when the model has that number already.
async fn insert(tx: &mut Tx, model_id: &ModelId, version: &Version) -> Result<bool, StoreError> {
    const INSERT: &str = "INSERT INTO model_versions
            (version_id, model_id, version, artifact_path, checksum, artifact_size_bytes, signature, input_schema,
             output_schema, stac_item, training_metadata, baseline, validation_sample, status, created_at, precision,
             precision_reference)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
        ON CONFLICT (model_id, version) DO NOTHING";
    let signature = version.signature.as_ref().map(to_json);
    let baseline = version.baseline.as_ref().map(to_json);
    let validation_sample = version.validation_sample.as_ref().map(to_json);
    let reference = version.reference.as_ref().map(SemVer::to_string);
    let insert = sql("register a version", INSERT)
        .bind(version.id.as_str())
        .bind(model_id.as_str())
        .bind(version.version.to_string().as_str())
        .bind(version.primary.path.as_str())
        .bind(version.primary.sha256.as_str())
        .bind(version.primary.size_bytes)
        .bind(signature.as_ref())
        .bind(&version.input_schema)
        .bind(&version.output_schema)
        .bind(version.stac_item.as_ref())
        .bind(version.training_metadata.as_ref())
        .bind(baseline.as_ref())
        .bind(validation_sample.as_ref())
        .bind(version.status.as_str())
        .bind(version.created_at)
        .bind(version.precision.as_str())
        .bind(reference.as_deref());
    Ok(tx.execute(insert).await? > 0)
}

async fn insert_artifacts(tx: &mut Tx, version: &Version) -> Result<(), StoreError> {
    const INSERT: &str = "INSERT INTO artifacts
            (version_id, name, position, path, format, sha256, size_bytes, is_primary)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    if !version.artifacts.contains(&version.primary) {
        return Err(StoreError::of_content(
            "register a version",
            "its primary artifact is not among its artifacts",
        ));
    }
    for (position, artifact) in (0u64..).zip(&version.artifacts) {
        let insert = sql("register an artifact", INSERT)
            .bind(version.id.as_str())
            .bind(artifact.name.as_str())
            .bind(position)
            .bind(artifact.path.as_str())
            .bind(artifact.format.as_str())
            .bind(artifact.sha256.as_str())
            .bind(artifact.size_bytes)
            .bind(*artifact == version.primary);
        tx.execute(insert).await?;
    }
    Ok(())
}

fn to_json(part: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(part).expect("parts of a version are strings and numbers")
}

fn version_of(row: &Row, artifacts: &[Row]) -> Result<Version, StoreError> {
    let mut primary = None;
    for artifact in artifacts {
        if artifact.truth("is_primary")? {
            primary = Some(artifact_of(artifact)?);
        }
    }
    Ok(Version {
        id: VersionId::new(row.text("version_id")?),
        model_id: ModelId::new(row.text("model_id")?),
        version: row.parsed("version")?,
        primary: primary.ok_or_else(|| row.unreadable("artifact_path", "no artifact is the primary one"))?,
        artifacts: artifacts.iter().map(artifact_of).collect::<Result<_, _>>()?,
        precision: row.parsed("precision")?,
        reference: row.parsed_opt("precision_reference")?,
        signature: row.json_opt("signature")?,
        input_schema: row.json("input_schema")?,
        output_schema: row.json("output_schema")?,
        stac_item: row.json_opt("stac_item")?,
        training_metadata: row.json_opt("training_metadata")?,
        baseline: row.json_opt("baseline")?,
        validation_sample: row.json_opt("validation_sample")?,
        status: row.parsed("status")?,
        created_at: row.time("created_at")?,
    })
}

fn artifact_of(row: &Row) -> Result<Artifact, StoreError> {
    let sha256 = row.text("sha256")?;
    Ok(Artifact {
        name: row.text("name")?,
        path: row.text("path")?,
        format: row.parsed("format")?,
        sha256: Sha256Digest::parse(&sha256).map_err(|error| row.unreadable("sha256", error))?,
        size_bytes: row.count("size_bytes")?,
    })
}
