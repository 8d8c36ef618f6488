//! Routes: what a request for (environment, model) meets now.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::deployment::Environment;
use crate::id::{DeploymentId, ModelId, VersionId};

/// Traffic is split in steps of 0.01 %.
pub const BUCKETS: u32 = 10_000;

/// What answers for a model in an environment. Written only by a deployment's transition, in the same transaction; every
/// serving process follows it and keeps exactly the versions loaded that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub environment: Environment,
    pub model_id: ModelId,
    /// Grows by one with each change; a reader never goes back to an older one.
    pub generation: u64,
    /// Which deployment decided this.
    pub deployment_id: DeploymentId,
    /// Empty: nothing answers. Otherwise the weights sum to [`BUCKETS`].
    pub arms: Vec<Arm>,
    /// Loaded and warm, but without traffic: the candidate before its switch, the previous version after it.
    pub warm: Vec<VersionId>,
}

/// A version and its share of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    pub version_id: VersionId,
    /// Of [`BUCKETS`].
    pub weight: u32,
}

impl Arm {
    pub fn all(version_id: VersionId) -> Self {
        Self { version_id, weight: BUCKETS }
    }
}

impl Route {
    /// Every version that must be loaded for this route.
    pub fn versions(&self) -> impl Iterator<Item = &VersionId> {
        self.arms.iter().map(|arm| &arm.version_id).chain(&self.warm)
    }

    /// The arm with the largest share, the earlier one (which answered before) where shares are equal; `None` when nothing
    /// answers.
    pub fn leader(&self) -> Option<&Arm> {
        self.arms.iter().rev().max_by_key(|arm| arm.weight)
    }

    /// The index of the arm that answers a request with this sticky key or request id; `None` when nothing answers.
    ///
    /// Deterministic in (deployment, key). Arms take buckets from the end of the list, the candidate last, so growing the
    /// last arm moves callers only towards it, never back.
    pub fn pick(&self, key: &str) -> Option<usize> {
        if self.arms.len() < 2 {
            return self.arms.len().checked_sub(1);
        }
        let bucket = bucket(&self.deployment_id, key);
        let mut upper = 0;
        for (index, arm) in self.arms.iter().enumerate().rev() {
            upper += arm.weight;
            if bucket < upper {
                return Some(index);
            }
        }
        Some(0)
    }
}

/// The bucket of a key: uniform over 0..[`BUCKETS`], independent between deployments.
fn bucket(deployment_id: &DeploymentId, key: &str) -> u32 {
    let mut hasher = Sha256::new();
    hasher.update(deployment_id.as_str());
    hasher.update([0]);
    hasher.update(key);
    let digest = hasher.finalize();
    let head = u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 has 32 bytes"));
    u32::try_from(head % u64::from(BUCKETS)).expect("smaller than BUCKETS")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(candidate: u32) -> Route {
        Route {
            environment: Environment::Production,
            model_id: ModelId::new("m"),
            generation: 1,
            deployment_id: DeploymentId::new("d"),
            arms: vec![
                Arm { version_id: VersionId::new("old"), weight: BUCKETS - candidate },
                Arm { version_id: VersionId::new("new"), weight: candidate },
            ],
            warm: vec![],
        }
    }

    #[test]
    fn growth_moves_nobody_back_and_the_share_is_as_asked() {
        let keys: Vec<String> = (0..20_000).map(|i| format!("user-{i}")).collect();
        let (ten, quarter) = (split(1_000), split(2_500));
        let on_new = |route: &Route| keys.iter().filter(|key| route.pick(key) == Some(1)).count();
        for key in &keys {
            assert!(ten.pick(key) != Some(1) || quarter.pick(key) == Some(1), "{key} moved back");
        }
        // Four standard deviations of a binomial with n = 20,000.
        assert!(on_new(&ten).abs_diff(2_000) < 170, "{}", on_new(&ten));
        assert!(on_new(&quarter).abs_diff(5_000) < 245, "{}", on_new(&quarter));
    }

    #[test]
    fn the_largest_arm_leads_and_the_earlier_one_where_they_are_equal() {
        let leader = |share| split(share).leader().map(|arm| arm.version_id.as_str().to_owned());
        assert_eq!(leader(4_999).as_deref(), Some("old"));
        assert_eq!(leader(5_000).as_deref(), Some("old"));
        assert_eq!(leader(5_001).as_deref(), Some("new"));
    }

    #[test]
    fn an_empty_route_answers_nothing_and_a_single_arm_answers_all() {
        let mut route = split(0);
        route.arms.truncate(1);
        assert_eq!(route.pick("x"), Some(0));
        route.arms.clear();
        assert_eq!(route.pick("x"), None);
    }
}
