//! Who answers a request: the routes of every (environment, model), with their loaded slots, read without a lock and
//! replaced in one step.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tidegate_core::{
    Arm, Caller, DeploymentId, Environment, HeaderName, ModelId, ModelName, Route, SemVer, StickyBy,
    VersionId,
};

use crate::slot::{Slot, Standing};

/// The slot that answers a request, and who decided so. Holding it keeps the slot alive.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub slot: Arc<Slot>,
    pub deployment_id: DeploymentId,
    /// The arm of the route that it fell to; `None` where the caller pinned the version.
    pub arm: Option<usize>,
    /// Who runs a copy of the request; its answer goes nowhere. A pinned request is not copied.
    pub shadow: Option<Arc<Slot>>,
}

impl Resolved {
    pub fn standing(&self) -> Standing {
        if self.arm.is_some() { Standing::Evidence } else { Standing::Apart }
    }
}

/// Why no slot answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    #[error("model `{model}` is not deployed here")]
    NotRouted { model: String },
    #[error("the model has no active version here")]
    NothingActive,
    #[error("version {asked} is not loaded here; loaded: {}", list(loaded))]
    VersionNotLoaded { asked: SemVer, loaded: Vec<SemVer> },
}

fn list(numbers: &[SemVer]) -> String {
    let texts: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
}

/// What the routes make of a loaded version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) environments: Vec<Environment>,
    pub(crate) is_active: bool,
}

#[derive(Default)]
pub(crate) struct Routes {
    current: ArcSwap<Table>,
    /// Writers take turns; readers never wait.
    writing: Mutex<()>,
}

#[derive(Clone, Default)]
struct Table {
    by_id: HashMap<(Environment, ModelId), Arc<Entry>>,
    by_name: HashMap<(Environment, String), ModelId>,
}

struct Entry {
    route: Route,
    /// One per arm, in order.
    arms: Vec<Arc<Slot>>,
    /// Warm versions that are loaded; a missing one is merely not warm.
    warm: Vec<Arc<Slot>>,
    shadow: Option<Arc<Slot>>,
}

impl Routes {
    /// Replaces the route of its (environment, model) and lets go of the slots that it no longer names. An older
    /// generation is ignored.
    ///
    /// # Panics
    ///
    /// When `slots` lacks a version with traffic: the caller loads first.
    pub(crate) fn apply(&self, route: Route, model_name: &ModelName, slots: &[Arc<Slot>]) {
        let find = |id: &VersionId| slots.iter().find(|slot| slot.version_id() == id).cloned();
        let loaded = |arm: &Arm| find(&arm.version_id).expect("a version is loaded before it gets traffic");
        let arms = route.arms.iter().map(loaded).collect();
        let warm = route.warm.iter().filter_map(find).collect();
        let shadow = route.shadow.as_ref().and_then(|shadow| find(&shadow.version_id));
        let entry = Arc::new(Entry { route, arms, warm, shadow });

        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::clone(&self.current.load());
        if table.put(entry, model_name) {
            self.current.store(Arc::new(table));
        }
    }

    pub(crate) fn sticky_header(&self, environment: Environment, model: &str) -> Option<HeaderName> {
        let table = self.current.load();
        match &table.find(environment, model)?.route {
            Route { sticky_by: StickyBy::Header(name), arms, .. } if arms.len() > 1 => Some(name.clone()),
            _ => None,
        }
    }

    /// The slot for a request that names the model by id or name. The caller decides between arms; a pin overrides it.
    pub(crate) fn resolve(
        &self,
        environment: Environment,
        model: &str,
        pin: Option<&SemVer>,
        caller: &Caller<'_>,
    ) -> Result<Resolved, ResolveError> {
        let table = self.current.load();
        let entry = table
            .find(environment, model)
            .ok_or_else(|| ResolveError::NotRouted { model: model.to_owned() })?;
        let (slot, arm) = match pin {
            Some(number) => (entry.position(number)?, None),
            None => {
                let arm = entry.route.pick(entry.route.sticky_by.key_of(caller));
                let arm = arm.ok_or(ResolveError::NothingActive)?;
                (arm, Some(arm))
            }
        };
        let shadow = entry.shadow.as_ref().filter(|_| pin.is_none());
        let shadow = shadow.filter(|_| entry.route.shadows(caller.request_id).is_some());
        let slot = entry.slots().nth(slot).expect("the index is of one of these slots");
        Ok(Resolved {
            slot: Arc::clone(slot),
            deployment_id: entry.route.deployment_id.clone(),
            arm,
            shadow: shadow.cloned(),
        })
    }

    pub(crate) fn usage(&self, version_id: &VersionId) -> Use {
        let table = self.current.load();
        let mut usage = Use::default();
        for ((environment, _), entry) in &table.by_id {
            if entry.slots().any(|slot| slot.version_id() == version_id) {
                usage.environments.push(*environment);
                usage.is_active |= entry.arms.iter().any(|slot| slot.version_id() == version_id);
            }
        }
        usage.environments.sort_unstable();
        usage
    }
}

impl Table {
    /// Whether the entry was new enough to take.
    fn put(&mut self, entry: Arc<Entry>, model_name: &ModelName) -> bool {
        let (environment, model_id) = (entry.route.environment, entry.route.model_id.clone());
        let key = (environment, model_id.clone());
        if self.by_id.get(&key).is_some_and(|held| held.route.generation > entry.route.generation) {
            return false;
        }
        let name_key = (environment, model_name.as_str().to_owned());
        if entry.route.arms.is_empty() {
            // The emptied route of an archived model must not take the name from the model that reuses it.
            self.by_name.entry(name_key).or_insert(model_id);
        } else {
            self.by_name.insert(name_key, model_id);
        }
        self.by_id.insert(key, entry);
        true
    }

    /// Ids first: nobody can take a model's traffic by giving another one its id as name.
    fn find(&self, environment: Environment, model: &str) -> Option<&Arc<Entry>> {
        self.by_id.get(&(environment, ModelId::new(model))).or_else(|| {
            let id = self.by_name.get(&(environment, model.to_owned()))?;
            self.by_id.get(&(environment, id.clone()))
        })
    }
}

impl Entry {
    fn slots(&self) -> impl Iterator<Item = &Arc<Slot>> {
        self.arms.iter().chain(&self.warm)
    }

    fn position(&self, number: &SemVer) -> Result<usize, ResolveError> {
        self.slots().position(|slot| slot.number() == number).ok_or_else(|| ResolveError::VersionNotLoaded {
            asked: number.clone(),
            loaded: self.slots().map(|slot| slot.number().clone()).collect(),
        })
    }
}
