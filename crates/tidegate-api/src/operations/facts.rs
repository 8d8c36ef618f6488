//! What inference must know of a version beside its tensors. Versions are immutable, so it is read once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidegate_core::{Sha256Digest, VersionId};
use tidegate_geo::ModelItem;
use tidegate_store::{Store, StoreError};

use super::served::Served;

/// Of one version.
pub(crate) struct VersionFacts {
    pub input_schema: serde_json::Value,
    pub artifact_sha256: Sha256Digest,
    /// The STAC-MLM item, where it was registered with one.
    pub item: Option<ModelItem>,
    pub served: Served,
}

/// More versions than a process ever has loaded; when it is full it starts afresh.
const CAPACITY: usize = 256;

#[derive(Default)]
pub(crate) struct FactsCache(Mutex<HashMap<VersionId, Arc<VersionFacts>>>);

impl FactsCache {
    /// `None` when there is no such version.
    pub(crate) async fn get(
        &self,
        store: &Store,
        id: &VersionId,
    ) -> Result<Option<Arc<VersionFacts>>, StoreError> {
        if let Some(facts) = self.lock().get(id) {
            return Ok(Some(Arc::clone(facts)));
        }
        let Some(version) = store.versions.get(id).await? else { return Ok(None) };
        let item = version.stac_item.as_ref().and_then(|item| ModelItem::parse(item).ok());
        let facts = Arc::new(VersionFacts {
            input_schema: version.input_schema,
            artifact_sha256: version.primary.sha256,
            item,
            served: Served::default(),
        });
        let mut entries = self.lock();
        if entries.len() >= CAPACITY {
            entries.clear();
        }
        entries.insert(id.clone(), Arc::clone(&facts));
        Ok(Some(facts))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<VersionId, Arc<VersionFacts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
