//! Answers that were given before: of models for which the operator wants it, by version and input.
//!
//! The key holds the version, so no swap can make it give another version's answer; versions never change, so no answer
//! ever grows stale. Only what was answered well is kept, and only of versions that answered the same twice when they were
//! loaded. Bounded by bytes; what was not used for the longest time goes first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tidegate_core::digest::Sha256Hasher;
use tidegate_core::{NamedTensor, VersionId};
use utoipa::ToSchema;

use super::prediction::Prediction;

/// An answer may take this part of its cache; a larger one would drive out too many others.
const LARGEST_SHARE: usize = 8;

/// What an entry takes beside its tensors: keys in two tables, shapes, names.
const ENTRY_BYTES: usize = 400;

/// Of every model that has one.
#[derive(Default)]
pub(crate) struct ResponseCaches(BTreeMap<String, ResponseCache>);

/// Of one model, all its versions together.
pub(crate) struct ResponseCache {
    max_bytes: usize,
    entries: Mutex<Entries>,
}

/// SHA-256 of the version and of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

#[derive(Default)]
struct Entries {
    by_key: HashMap<Key, Entry>,
    /// The number of its latest use -> key.
    by_use: BTreeMap<u64, Key>,
    n_uses: u64,
    n_bytes: usize,
    n_hits: u64,
    n_misses: u64,
    n_evictions: u64,
}

struct Entry {
    prediction: Prediction,
    n_bytes: usize,
    used: u64,
}

/// How a model's cache does, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CacheStatus {
    pub model: String,
    pub max_bytes: usize,
    pub bytes: usize,
    pub entries: usize,
    /// Since this process started.
    pub hits: u64,
    pub misses: u64,
    /// Answers that made room for others.
    pub evictions: u64,
}

impl ResponseCaches {
    /// Model name -> most bytes; a model with none has no cache.
    pub(crate) fn new(max_bytes: &BTreeMap<String, usize>) -> Self {
        let caches = max_bytes.iter().filter(|(_, max_bytes)| **max_bytes > 0);
        Self(caches.map(|(name, max_bytes)| (name.clone(), ResponseCache::new(*max_bytes))).collect())
    }

    pub(crate) fn of(&self, model_name: &str) -> Option<&ResponseCache> {
        self.0.get(model_name)
    }

    pub(crate) fn statuses(&self) -> Vec<CacheStatus> {
        self.0.iter().map(|(model, cache)| cache.status(model)).collect()
    }
}

impl ResponseCache {
    fn new(max_bytes: usize) -> Self {
        Self { max_bytes, entries: Mutex::default() }
    }

    /// Counts a hit or a miss.
    pub(crate) fn get(&self, key: &Key) -> Option<Prediction> {
        let mut entries = self.entries();
        let prediction = entries.touch(key);
        match prediction {
            Some(_) => entries.n_hits += 1,
            None => entries.n_misses += 1,
        }
        prediction
    }

    pub(crate) fn put(&self, key: Key, prediction: &Prediction) {
        let n_bytes = prediction.size_bytes() + ENTRY_BYTES;
        if n_bytes > self.max_bytes / LARGEST_SHARE {
            return;
        }
        // A row that was cut out of a batch would keep the whole batch in memory.
        let prediction = prediction.with_own_memory();
        self.entries().insert(key, prediction, n_bytes, self.max_bytes);
    }

    fn status(&self, model: &str) -> CacheStatus {
        let entries = self.entries();
        CacheStatus {
            model: model.to_owned(),
            max_bytes: self.max_bytes,
            bytes: entries.n_bytes,
            entries: entries.by_key.len(),
            hits: entries.n_hits,
            misses: entries.n_misses,
            evictions: entries.n_evictions,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    fn touch(&mut self, key: &Key) -> Option<Prediction> {
        let entry = self.by_key.get_mut(key)?;
        self.by_use.remove(&entry.used);
        self.n_uses += 1;
        entry.used = self.n_uses;
        self.by_use.insert(entry.used, *key);
        Some(entry.prediction.clone())
    }

    /// Of requests that ran at the same time, the last one's answer stays.
    fn insert(&mut self, key: Key, prediction: Prediction, n_bytes: usize, max_bytes: usize) {
        if let Some(before) = self.by_key.remove(&key) {
            self.by_use.remove(&before.used);
            self.n_bytes -= before.n_bytes;
        }
        while self.n_bytes + n_bytes > max_bytes
            && let Some((_, oldest)) = self.by_use.pop_first()
            && let Some(gone) = self.by_key.remove(&oldest)
        {
            self.n_bytes -= gone.n_bytes;
            self.n_evictions += 1;
        }
        self.n_uses += 1;
        self.by_use.insert(self.n_uses, key);
        self.by_key.insert(key, Entry { prediction, n_bytes, used: self.n_uses });
        self.n_bytes += n_bytes;
    }
}

impl Key {
    /// Inputs in any order. Each part says how long it is, so that no two inputs are the same bytes.
    pub(crate) fn new(version: &VersionId, inputs: &[NamedTensor]) -> Self {
        let mut hasher = Sha256Hasher::default();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(version.as_str().as_bytes());
        let mut inputs: Vec<_> = inputs.iter().collect();
        inputs.sort_by(|a, b| a.name.cmp(&b.name));
        for NamedTensor { name, tensor } in inputs {
            part(name.as_bytes());
            part(tensor.dtype().as_str().as_bytes());
            let shape: Vec<u8> =
                tensor.shape().iter().flat_map(|size| (*size as u64).to_le_bytes()).collect();
            part(&shape);
            match tensor.as_bytes() {
                Some(bytes) => part(bytes),
                None => tensor.as_strings().unwrap_or_default().iter().for_each(|string| part(string)),
            }
        }
        Self(hasher.finish_bytes())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidegate_core::{Signature, Tensor};

    use super::*;

    fn named(name: &str, tensor: Tensor) -> NamedTensor {
        NamedTensor { name: name.to_owned(), tensor }
    }

    fn numbers(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap()
    }

    fn key(version: &str, inputs: &[NamedTensor]) -> Key {
        Key::new(&VersionId::new(version), inputs)
    }

    fn prediction(value: f32, n_values: usize) -> Prediction {
        let output = named("y", numbers(&[n_values], &vec![value; n_values]));
        Prediction::new(vec![output], &Signature { inputs: vec![], outputs: vec![] }).unwrap()
    }

    #[test]
    fn what_is_asked_otherwise_has_another_key() {
        let strings = |texts: &[&str]| {
            let texts = texts.iter().map(|text| Bytes::from((*text).to_owned())).collect();
            Tensor::from_strings(vec![2], texts).unwrap()
        };
        let one = [named("a", numbers(&[1, 2], &[1.0, 2.0])), named("b", strings(&["x", "yz"]))];
        let as_integers = Tensor::from_bytes(tidegate_core::DType::Int32, vec![1, 2], {
            one[0].tensor.as_bytes().unwrap().clone()
        });
        let others = [
            [named("a", numbers(&[2, 1], &[1.0, 2.0])), one[1].clone()],
            [named("a", numbers(&[1, 2], &[1.0, 3.0])), one[1].clone()],
            [named("a", as_integers.unwrap()), one[1].clone()],
            [named("c", one[0].tensor.clone()), one[1].clone()],
            [one[0].clone(), named("b", strings(&["xy", "z"]))],
        ];
        for other in &others {
            assert_ne!(key("v1", &one), key("v1", other), "{other:?}");
        }
        assert_ne!(key("v1", &one), key("v2", &one));
        let turned = [one[1].clone(), one[0].clone()];
        assert_eq!(key("v1", &one), key("v1", &turned), "in any order");
    }

    #[test]
    fn a_part_of_a_batch_does_not_keep_the_batch() {
        let cache = ResponseCache::new(1 << 20);
        let batch = numbers(&[1000, 1], &[0.0; 1000]);
        let row = named("y", batch.rows(3..4).unwrap());
        let row = Prediction::new(vec![row], &Signature { inputs: vec![], outputs: vec![] }).unwrap();
        cache.put(Key([0; 32]), &row);
        let kept = cache.get(&Key([0; 32])).unwrap().into_outputs().remove(0).tensor;
        assert_eq!(kept, batch.rows(3..4).unwrap());
        let (kept, batch) = (kept.as_bytes().unwrap().as_ptr(), batch.as_bytes().unwrap().as_ptr_range());
        assert!(!batch.contains(&kept));
    }

    proptest! {
        /// Against a list that is searched: the same answers, counts and bytes, and never more than the bound.
        #[test]
        fn the_longest_unused_goes_first(uses in prop::collection::vec((0u8..12, 1usize..60), 1..200)) {
            let cache = ResponseCache::new(8 * (ENTRY_BYTES + 200));
            let mut model: Vec<(u8, f32, usize)> = Vec::new();
            let (mut hits, mut evictions) = (0, 0);
            for (step, (number, n_values)) in uses.iter().enumerate() {
                let (key, value) = (Key([*number; 32]), step as f32);
                let place = model.iter().position(|(other, _, _)| other == number);
                let got = cache.get(&key);
                match place {
                    Some(place) => {
                        let entry = model.remove(place);
                        let got = got.unwrap().into_outputs().remove(0).tensor;
                        prop_assert_eq!(got.values::<f32>().unwrap()[0], entry.1);
                        model.push(entry);
                        hits += 1;
                    }
                    None => {
                        prop_assert!(got.is_none());
                        let n_bytes = 4 * n_values + ENTRY_BYTES;
                        cache.put(key, &prediction(value, *n_values));
                        if n_bytes <= cache.max_bytes / LARGEST_SHARE {
                            while model.iter().map(|(_, _, n_bytes)| n_bytes).sum::<usize>() + n_bytes > cache.max_bytes {
                                model.remove(0);
                                evictions += 1;
                            }
                            model.push((*number, value, n_bytes));
                        }
                    }
                }
                let status = cache.status("m");
                prop_assert!(status.bytes <= status.max_bytes);
                prop_assert_eq!(status.bytes, model.iter().map(|(_, _, n_bytes)| n_bytes).sum::<usize>());
                prop_assert_eq!((status.entries, status.hits, status.evictions), (model.len(), hits, evictions));
                prop_assert_eq!(status.hits + status.misses, step as u64 + 1);
            }
        }
    }
}
