//! Copies of answered requests, for a version that is tried in the shadow of the one that answers.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tidegate_core::{NamedTensor, RequestId};
use tidegate_serve::{Inference, Server, Slot};

use crate::context::Context;

/// What the shadow will be given. That happens when this is dropped: hold it until the answer is written, which comes
/// first.
#[must_use = "dropped at once, the copy would run before the caller is answered"]
pub(crate) struct ShadowCopy {
    server: Arc<Server>,
    /// Taken only on drop.
    copy: Option<(Arc<Slot>, Vec<NamedTensor>, Inference)>,
}

impl ShadowCopy {
    /// Tensors share their bytes: nothing large is copied.
    pub(crate) fn new(
        context: &Context,
        shadow: &Arc<Slot>,
        inputs: Vec<NamedTensor>,
        answer: Inference,
    ) -> Self {
        Self { server: Arc::clone(&context.server), copy: Some((Arc::clone(shadow), inputs, answer)) }
    }
}

impl Drop for ShadowCopy {
    fn drop(&mut self) {
        if let Some((shadow, inputs, answer)) = self.copy.take() {
            self.server.mirror(shadow, inputs, answer);
        }
    }
}

/// One tile of an image, each with the same chance: comparisons are to be of requests that have nothing to do with each
/// other.
pub(crate) struct TileSample {
    shadow: Arc<Slot>,
    request_id: RequestId,
    n_offered: u64,
    taken: Option<(Vec<NamedTensor>, Inference)>,
}

impl TileSample {
    pub(crate) fn new(shadow: Arc<Slot>, request_id: RequestId) -> Self {
        Self { shadow, request_id, n_offered: 0, taken: None }
    }

    /// The tile that was answered takes the place of the one before with probability one in as many as there were.
    pub(crate) fn offer(&mut self, inputs: Vec<NamedTensor>, answer: &Inference) {
        self.n_offered += 1;
        if takes(&self.request_id, self.n_offered) {
            self.taken = Some((inputs, answer.clone()));
        }
    }

    pub(crate) fn into_copy(self, context: &Context) -> Option<ShadowCopy> {
        let (inputs, answer) = self.taken?;
        Some(ShadowCopy::new(context, &self.shadow, inputs, answer))
    }
}

/// By chance, one in `n`; the first always.
fn takes(request_id: &RequestId, n: u64) -> bool {
    let mut hasher = DefaultHasher::new();
    (request_id.as_str(), n).hash(&mut hasher);
    hasher.finish().is_multiple_of(n)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_tile_has_the_same_chance() {
        let mut taken = BTreeMap::new();
        for request in 0..4_000 {
            let id = RequestId::new(format!("req-{request}"));
            let tile = (1..=4u64).rfind(|n| takes(&id, *n));
            *taken.entry(tile).or_insert(0u32) += 1;
        }
        assert!(taken.len() == 4 && taken.values().all(|n| n.abs_diff(1_000) < 140), "{taken:?}");
    }
}
