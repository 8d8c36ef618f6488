//! Loads in progress and the slots that live: each version is loaded once, however many ask for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tidegate_core::VersionId;
use tokio::sync::watch;

use crate::load_error::LoadError;
use crate::quiet;
use crate::runtime::Runtime;
use crate::slot::{Slot, SlotOptions, SlotSpec};

type Outcome = Option<Result<Arc<Slot>, LoadError>>;

#[derive(Default)]
pub(crate) struct Loads {
    entries: Mutex<HashMap<VersionId, Entry>>,
}

enum Entry {
    Loading(watch::Receiver<Outcome>),
    /// Routes and requests keep a slot alive, this does not.
    Loaded(Weak<Slot>),
}

/// What a caller who wants a version has to do.
enum Turn {
    Have(Arc<Slot>),
    Wait(watch::Receiver<Outcome>),
    Load(watch::Sender<Outcome>),
}

impl Loads {
    /// The slot of the version, loaded on a thread of its own unless it lives already or somebody is at it. A load goes on
    /// when its callers go away; the slot is then freed.
    pub(crate) async fn load(
        self: &Arc<Self>,
        runtime: &Arc<dyn Runtime>,
        spec: SlotSpec,
        options: SlotOptions,
    ) -> Result<Arc<Slot>, LoadError> {
        let mut outcome = match self.turn(&spec.version_id) {
            Turn::Have(slot) => return Ok(slot),
            Turn::Wait(outcome) => outcome,
            Turn::Load(sender) => {
                let outcome = sender.subscribe();
                let (loads, runtime) = (Arc::clone(self), Arc::clone(runtime));
                quiet::spawn("load", move || loads.perform(&*runtime, spec, &options, &sender));
                outcome
            }
        };
        let done = outcome.wait_for(Option::is_some).await;
        done.ok().and_then(|done| done.clone()).unwrap_or_else(|| {
            // The sender went without a word: the load panicked, or the process is ending.
            Err(LoadError::cut_short())
        })
    }

    pub(crate) fn get(&self, version_id: &VersionId) -> Option<Arc<Slot>> {
        match self.entries().get(version_id)? {
            Entry::Loaded(slot) => slot.upgrade(),
            Entry::Loading(_) => None,
        }
    }

    /// Every slot that lives, in no particular order.
    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        let live = |entry: &Entry| match entry {
            Entry::Loaded(slot) => slot.upgrade(),
            Entry::Loading(_) => None,
        };
        self.entries().values().filter_map(live).collect()
    }

    fn turn(&self, version_id: &VersionId) -> Turn {
        let mut entries = self.entries();
        match entries.get(version_id) {
            Some(Entry::Loaded(slot)) => {
                if let Some(slot) = slot.upgrade() {
                    return Turn::Have(slot);
                }
            }
            // Closed without an outcome: that load was cut short, so this caller starts over.
            Some(Entry::Loading(outcome)) if outcome.has_changed().is_ok() || outcome.borrow().is_some() => {
                return Turn::Wait(outcome.clone());
            }
            Some(Entry::Loading(_)) | None => {}
        }
        entries.retain(|_, entry| !matches!(entry, Entry::Loaded(slot) if slot.strong_count() == 0));
        let (sender, receiver) = watch::channel(None);
        entries.insert(version_id.clone(), Entry::Loading(receiver));
        Turn::Load(sender)
    }

    fn perform(
        &self,
        runtime: &dyn Runtime,
        spec: SlotSpec,
        options: &SlotOptions,
        sender: &watch::Sender<Outcome>,
    ) {
        let version_id = spec.version_id.clone();
        let outcome = Slot::load(runtime, spec, options).map(Arc::new);
        match &outcome {
            Ok(slot) => self.entries().insert(version_id, Entry::Loaded(Arc::downgrade(slot))),
            Err(_) => self.entries().remove(&version_id),
        };
        sender.send_replace(Some(outcome));
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<VersionId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
