//! Keeps what this process has loaded equal to what the routes name.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_core::{Environment, ModelId, Route, VersionId};
use tidegate_serve::{LoadError, Server, Slot, SlotSpec};
use tidegate_store::{ArtifactError, ArtifactStore, Store, StoreError};
use tokio_util::sync::CancellationToken;

/// How often the routes are looked at for changes that another process made, and missing versions are tried again.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

pub struct Placement {
    store: Arc<Store>,
    artifacts: Arc<ArtifactStore>,
    server: Arc<Server>,
    /// Where artifacts of a remote store are kept for the runtimes.
    cache_dir: PathBuf,
    /// Versions that should serve and do not load, with the reason that was logged.
    faults: Mutex<HashMap<VersionId, String>>,
}

/// Why a version cannot be loaded here.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("version `{0}` is not in the registry")]
    UnknownVersion(VersionId),
    #[error(
        "`{file}` is a {format} file, which this release cannot run; register the version with an .onnx file"
    )]
    NotRunnable { file: String, format: String },
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Placement {
    pub fn new(
        store: Arc<Store>,
        artifacts: Arc<ArtifactStore>,
        server: Arc<Server>,
        cache_dir: PathBuf,
    ) -> Self {
        Self { store, artifacts, server, cache_dir, faults: Mutex::default() }
    }

    /// Loads and warms a version, or gives the slot that is already there. Whoever asks holds it; a route that names it
    /// keeps it.
    pub async fn load(&self, version_id: &VersionId) -> Result<Arc<Slot>, PlaceError> {
        if let Some(slot) = self.server.slot(version_id) {
            return Ok(slot);
        }
        let unknown = || PlaceError::UnknownVersion(version_id.clone());
        let version = self.store.versions.get(version_id).await?.ok_or_else(unknown)?;
        let model = self.store.models.get(&version.model_id).await?.ok_or_else(unknown)?;
        let artifact = &version.primary;
        if !artifact.format.is_runnable() {
            let (file, format) = (artifact.name.clone(), artifact.format.to_string());
            return Err(PlaceError::NotRunnable { file, format });
        }
        let path = self.artifacts.local_path(&artifact.path, &artifact.sha256, &self.cache_dir).await?;
        let spec = SlotSpec { version_id: version.id, model_name: model.name, number: version.version, path };
        Ok(self.server.load(spec).await?)
    }

    /// Brings one route in line. What fails is logged once and tried again by [`Placement::run`].
    pub async fn follow(&self, environment: Environment, model_id: &ModelId) {
        let result = async {
            let Some(route) = self.store.routes.get(environment, model_id).await? else { return Ok(()) };
            self.follow_route(route).await
        };
        if let Err(error) = result.await {
            tracing::error!(%environment, model = %model_id, %error, "failed to bring the route in line; trying again");
        }
    }

    /// Brings every route in line.
    pub async fn follow_all(&self) -> Result<(), StoreError> {
        let routes = self.store.routes.list().await?;
        let named: Vec<VersionId> = routes.iter().flat_map(|route| route.versions().cloned()).collect();
        self.faults.lock().expect("never held across a panic").retain(|version, _| named.contains(version));
        for route in routes {
            self.follow_route(route).await?;
        }
        Ok(())
    }

    /// Follows the routes until told to stop.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            if let Err(error) = self.follow_all().await {
                tracing::warn!(%error, "failed to read the routes; serving on as before");
            }
        }
    }

    /// Versions with traffic must be there; a warm one that is still loading joins when it is loaded.
    async fn follow_route(&self, route: Route) -> Result<(), StoreError> {
        let Some(model) = self.store.models.get(&route.model_id).await? else { return Ok(()) };
        let mut slots = Vec::new();
        for arm in &route.arms {
            match self.load(&arm.version_id).await {
                Ok(slot) => {
                    self.faults.lock().expect("never held across a panic").remove(&arm.version_id);
                    slots.push(slot);
                }
                Err(error) => {
                    self.note_fault(&arm.version_id, &error);
                    return Ok(());
                }
            }
        }
        slots.extend(route.warm.iter().filter_map(|version| self.server.slot(version)));
        self.server.apply(route, model.name, slots);
        Ok(())
    }

    fn note_fault(&self, version: &VersionId, error: &PlaceError) {
        let reason = error.to_string();
        let mut faults = self.faults.lock().expect("never held across a panic");
        if faults.insert(version.clone(), reason.clone()).as_ref() != Some(&reason) {
            tracing::error!(%version, reason, "a version that should serve does not load");
        }
    }
}
