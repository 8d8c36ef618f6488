//! Registering a version: a [`Draft`] is checked before a byte has come, artifacts stream into the store one by one,
//! and the version appears in one transaction or not at all.
//!
//! Start reading at [`Upload`].

mod carry;
mod convert;
mod draft;
pub(crate) mod file_name;
mod import;
mod sample;
mod schema;
mod stac;

pub(crate) use carry::Source;
pub(crate) use draft::{Declaration, Draft, parse_number};
pub use import::ImportRoot;
pub(crate) use import::{ImportPlace, ImportSource, import_source};
pub(crate) use stac::StacItem;

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use tidegate_core::{
    Artifact, ArtifactFormat, Clock, IdSource, Model, ModelName, Precision, SemVer, Sha256Digest, Signature,
    Timestamp, Version, VersionId, VersionStatus,
};
use tidegate_serve::{LoadError, OnnxDescription, Server, describe_onnx};
use tidegate_store::{ArtifactError, ArtifactStore, PutError, Store, StoreError};

use super::agreement::contradictions;
use super::fault::{Fault, listed};

/// What registering needs.
#[derive(Clone, Copy)]
pub(crate) struct Registrar<'a> {
    pub store: &'a Store,
    pub artifacts: &'a ArtifactStore,
    pub server: &'a Arc<Server>,
    pub clock: &'a dyn Clock,
    pub ids: &'a IdSource,
    pub max_upload_bytes: u64,
    pub max_image_pixels: u64,
    pub cache_dir: &'a Path,
}

/// Why a version was not registered. Nothing of it is left behind.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegisterError {
    #[error("{}", listed(.0))]
    Invalid(Vec<Fault>),
    #[error("model `{model}` already has a version {version}")]
    Duplicate { model: ModelName, version: SemVer, version_id: Option<VersionId> },
    /// An artifact is not what it is said to be.
    #[error("{}", listed(.0))]
    Unprocessable(Vec<Fault>),
    /// The validation sample does not fit the model.
    #[error("{}", listed(.0))]
    BadSample(Vec<Fault>),
    #[error("artifact `{name}` goes over the limit of {limit_bytes} bytes")]
    TooLarge { name: String, limit_bytes: u64 },
    #[error("the artifact store is full")]
    NoSpace,
    #[error("failed to read artifact `{name}`")]
    Read { name: String, source: io::Error },
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("failed to inspect artifact `{name}`: {reason}")]
    Inspect { name: String, reason: String },
}

impl From<Fault> for RegisterError {
    fn from(fault: Fault) -> Self {
        Self::Invalid(vec![fault])
    }
}

/// A registration under way. End it with [`Upload::finish`] or [`Upload::abandon`]; dropping it leaves files for the
/// store's sweep.
pub(crate) struct Upload<'a> {
    registrar: Registrar<'a>,
    draft: Draft,
    version_id: VersionId,
    artifacts: Vec<Artifact>,
    /// Names of those that are the validation sample.
    sample_files: Vec<String>,
    /// The version whose files it has.
    carried_from: Option<SemVer>,
}

/// What was registered.
pub(crate) struct Registered {
    pub model: Model,
    pub version: Version,
    /// What the caller should know about how it was registered, in sentences.
    pub notes: Vec<String>,
}

/// Small models in several formats, never a data set.
const MAX_ARTIFACTS: usize = 64;

impl<'a> Upload<'a> {
    /// Refuses a duplicate now, before gigabytes travel; [`Upload::finish`] decides races.
    pub(crate) async fn begin(registrar: Registrar<'a>, draft: Draft) -> Result<Self, RegisterError> {
        if let Some(version_id) = existing(registrar.store, &draft.name, &draft.number).await? {
            let (model, version) = (draft.name, draft.number);
            return Err(RegisterError::Duplicate { model, version, version_id: Some(version_id) });
        }
        if let Some(reference) = &draft.reference
            && existing(registrar.store, &draft.name, reference).await?.is_none()
        {
            let message =
                format!("model `{}` has no version {reference}; register that one first", draft.name);
            return Err(Fault::new("reference", message).into());
        }
        let version_id = registrar.ids.next(registrar.clock.now());
        let sample_files = draft.stac.as_ref().map(StacItem::sample_files).unwrap_or_default();
        Ok(Self { registrar, draft, version_id, artifacts: Vec::new(), sample_files, carried_from: None })
    }

    /// Streams one artifact into the store, hashing as it goes.
    pub(crate) async fn add(
        &mut self,
        name: &str,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<(), RegisterError> {
        file_name::check(name)?;
        if self.artifacts.iter().any(|artifact| artifact.name == name) {
            let message = format!("two artifacts are named `{name}`; give each its own file name");
            return Err(Fault::new("artifact", message).into());
        }
        if self.artifacts.len() == MAX_ARTIFACTS {
            return Err(
                Fault::new("artifact", format!("a version has at most {MAX_ARTIFACTS} artifacts")).into()
            );
        }
        let limit_bytes = self.registrar.max_upload_bytes;
        let left_bytes = limit_bytes - self.artifacts.iter().map(|artifact| artifact.size_bytes).sum::<u64>();
        let path = format!("{}/{name}", self.prefix());
        let stored =
            self.registrar.artifacts.put(&path, stream, left_bytes).await.map_err(|error| match error {
                PutError::TooLarge { .. } => RegisterError::TooLarge { name: name.to_owned(), limit_bytes },
                PutError::NoSpace { .. } => RegisterError::NoSpace,
                PutError::Stream { source } => RegisterError::Read { name: name.to_owned(), source },
                PutError::Artifact(error) => RegisterError::Artifacts(error),
            })?;
        let format = ArtifactFormat::of_file_name(name);
        let (sha256, size_bytes) = (stored.sha256, stored.size_bytes);
        self.artifacts.push(Artifact { name: name.to_owned(), path, format, sha256, size_bytes });
        Ok(())
    }

    /// The same for a file of the validation sample.
    pub(crate) async fn add_sample(
        &mut self,
        name: &str,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + Unpin,
    ) -> Result<(), RegisterError> {
        self.add(name, stream).await?;
        self.sample_files.push(name.to_owned());
        Ok(())
    }

    /// Verifies what came and makes the version appear; on any error everything stored is deleted.
    pub(crate) async fn finish(mut self) -> Result<Registered, RegisterError> {
        match self.commit().await {
            Ok(registered) => Ok(registered),
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        }
    }

    /// Deletes what was stored so far.
    pub(crate) async fn abandon(self) {
        if let Err(error) = self.registrar.artifacts.delete_prefix(&self.prefix()).await {
            tracing::warn!(prefix = self.prefix(), %error, "left files of an abandoned upload for the sweep");
        }
    }

    async fn commit(&mut self) -> Result<Registered, RegisterError> {
        self.verify(self.primary()?)?;
        let mut notes: Vec<String> = self.convert().await?.into_iter().collect();
        let primary = self.primary()?;
        notes.extend(
            self.carried_from
                .as_ref()
                .map(|from| format!("its files are those of {from}, which are kept once")),
        );
        let inspected = self.inspect(primary).await?;
        let precision = self.precision(primary, inspected.as_ref().map(|(_, described)| described))?;
        notes.extend(self.note_of(precision));
        let now = self.registrar.clock.now();
        let signature = inspected.map(|(signature, _)| signature);
        let (model, mut version) = self.records(primary, signature, precision, now);
        version.validation_sample = self.read_sample(&version).await?;
        notes.extend(version.validation_sample.as_ref().map(|sample| {
            format!("the validation sample holds {}: every deployment is tested on it", sample.holds)
        }));
        let registered = self.registrar.store.versions.register(&model, &version).await;
        match registered {
            Ok(model) => {
                let version = Version { model_id: model.id.clone(), ..version };
                Ok(Registered { model, version, notes })
            }
            Err(tidegate_store::RegisterError::DuplicateVersion { model, version }) => {
                let version_id = existing(self.registrar.store, &model, &version).await?;
                Err(RegisterError::Duplicate { model, version, version_id })
            }
            Err(tidegate_store::RegisterError::Store(error)) => Err(error.into()),
        }
    }

    /// The artifact that runs, or the first one where none can run yet.
    fn primary(&self) -> Result<&Artifact, RegisterError> {
        let mut models = self.artifacts.iter().filter(|artifact| !self.sample_files.contains(&artifact.name));
        let runnable = models.clone().find(|artifact| artifact.format.is_runnable());
        runnable
            .or(models.next())
            .ok_or_else(|| Fault::new("artifact", "missing; add the model's file").into())
    }

    fn verify(&self, primary: &Artifact) -> Result<(), RegisterError> {
        let mut faults = Vec::new();
        if let Some(expected) = self.draft.checksum.as_ref().filter(|checksum| **checksum != primary.sha256) {
            faults.push(Fault::new("checksum", digest_fault(&primary.name, expected, &primary.sha256)));
        }
        if let Some(stac) = &self.draft.stac {
            faults.extend(stac.verify(&self.artifacts));
        }
        if faults.is_empty() { Ok(()) } else { Err(RegisterError::Unprocessable(faults)) }
    }

    /// What is to be known of a primary artifact that can run; `None` for formats that are only kept.
    async fn inspect(
        &self,
        primary: &Artifact,
    ) -> Result<Option<(Signature, OnnxDescription)>, RegisterError> {
        if !primary.format.is_runnable() {
            return Ok(None);
        }
        let Registrar { artifacts, cache_dir, server, .. } = self.registrar;
        let path = artifacts.local_path(&primary.path, &primary.sha256, cache_dir).await?;
        let server = Arc::clone(server);
        let inspect = move || -> Result<_, LoadError> {
            let signature = server.inspect(&path)?;
            Ok((signature, describe_onnx(&path)?))
        };
        let inspected = tokio::task::spawn_blocking(inspect).await;
        let name = &primary.name;
        match inspected {
            Ok(Ok((signature, described))) => {
                self.check_item(&described)?;
                Ok(Some((signature, described)))
            }
            Ok(Err(fault)) => {
                let message = format!("`{name}` does not load: {fault}");
                Err(RegisterError::Unprocessable(vec![Fault::new("artifact", message)]))
            }
            Err(panic) => Err(RegisterError::Inspect { name: name.clone(), reason: panic.to_string() }),
        }
    }

    /// What the item says of the model, the model is.
    fn check_item(&self, described: &OnnxDescription) -> Result<(), RegisterError> {
        let Some(stac) = &self.draft.stac else { return Ok(()) };
        let faults = contradictions(&stac.item, described, "artifact");
        let faults: Vec<_> =
            faults.into_iter().map(|fault| Fault::new(fault.pointer, fault.message)).collect();
        if faults.is_empty() { Ok(()) } else { Err(RegisterError::Unprocessable(faults)) }
    }

    /// In which precision it will run, `described` being what its primary artifact says of itself, where it can run.
    fn precision(
        &self,
        primary: &Artifact,
        described: Option<&OnnxDescription>,
    ) -> Result<Precision, RegisterError> {
        let refused = |field: &str, message: String| {
            Err(RegisterError::Unprocessable(vec![Fault::new(field, message)]))
        };
        let asked = self.draft.precision;
        let precision = match (described, asked) {
            (Some(described), _) => match described.precision(asked) {
                Ok(precision) => precision,
                Err(fault) => return refused("precision", format!("`{}`: {fault}", primary.name)),
            },
            (None, None | Some(Precision::F32)) => Precision::F32,
            (None, Some(asked)) => {
                let message =
                    format!("`{}` cannot run, so not in {asked} either; leave it out", primary.name);
                return refused("precision", message);
            }
        };
        if self.draft.reference.is_some() && precision != Precision::Int8 {
            let message = format!(
                "only a quantised version is held against another one; this one is {precision}: leave it out"
            );
            return refused("reference", message);
        }
        Ok(precision)
    }

    fn note_of(&self, precision: Precision) -> Option<String> {
        match (precision, &self.draft.reference) {
            (Precision::F32, _) => None,
            (Precision::Bf16, _) => {
                Some("computes in bf16: every deployment compares it with the same file in f32".to_owned())
            }
            (Precision::Int8, Some(reference)) => {
                Some(format!("computes in int8: every deployment compares it with {reference}"))
            }
            (Precision::Int8, None) => Some(
                "computes in int8: a deployment compares it with the version that serves; name the one that it was \
                 quantised from as `reference` to have it compared with that"
                    .to_owned(),
            ),
        }
    }

    fn records(
        &self,
        primary: &Artifact,
        signature: Option<Signature>,
        precision: Precision,
        now: Timestamp,
    ) -> (Model, Version) {
        let draft = &self.draft;
        let model = Model {
            id: self.registrar.ids.next(now),
            name: draft.name.clone(),
            description: draft.description.clone(),
            framework: draft.framework.unwrap_or_else(|| draft::framework_of(primary.format)),
            model_type: draft.model_type,
            owner: draft.owner.clone(),
            tags: draft.tags.clone(),
            active_version: None,
            is_archived: false,
            created_at: now,
            updated_at: now,
        };
        let schemas = signature.as_ref().map(schema::of_signature);
        let (derived_input, derived_output) = schemas.unwrap_or_else(|| (schema::any(), schema::any()));
        let version = Version {
            id: self.version_id.clone(),
            model_id: model.id.clone(),
            version: draft.number.clone(),
            primary: primary.clone(),
            artifacts: self.artifacts.clone(),
            precision,
            reference: draft.reference.clone(),
            signature,
            input_schema: draft.input_schema.clone().unwrap_or(derived_input),
            output_schema: draft.output_schema.clone().unwrap_or(derived_output),
            stac_item: draft.stac.as_ref().map(|stac| stac.json.clone()),
            training_metadata: draft.training_metadata.clone(),
            baseline: draft.baseline,
            validation_sample: None,
            status: VersionStatus::Registered,
            created_at: now,
        };
        (model, version)
    }

    /// Where the artifacts lie; the version id keeps racing uploads of one number apart.
    fn prefix(&self) -> String {
        format!("models/{}/{}", self.draft.name, self.version_id)
    }
}

fn digest_fault(name: &str, expected: &Sha256Digest, actual: &Sha256Digest) -> String {
    format!(
        "`{name}` arrived with SHA-256 {actual}, declared is {expected}: upload it again, or correct the checksum"
    )
}

async fn existing(store: &Store, name: &ModelName, number: &SemVer) -> Result<Option<VersionId>, StoreError> {
    let model = store.models.find(name.as_str()).await?.filter(|model| model.name == *name);
    let Some(model) = model else { return Ok(None) };
    Ok(store.versions.by_number(&model.id, number).await?.map(|version| version.id))
}
