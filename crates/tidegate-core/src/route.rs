//! Routes: what a request for (environment, model) meets now.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::deployment::Environment;
use crate::id::{DeploymentId, ModelId, ReplicaId, VersionId};

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
    /// Who is sent copies of requests.
    #[serde(default)]
    pub shadow: Option<Shadow>,
    /// Replicas that are ahead of the others.
    #[serde(default)]
    pub moved: Option<Moved>,
    /// What keeps a caller on one arm while traffic is split.
    #[serde(default)]
    pub sticky_by: StickyBy,
}

/// A warm version that runs copies of requests; nobody is sent its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shadow {
    pub version_id: VersionId,
    /// Of [`BUCKETS`]: how many of the requests are copied.
    pub share: u32,
}

/// While a deployment goes over the replicas one after the other: those that answer with `version_id` already, whatever
/// the arms say. The version is warm on the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub version_id: VersionId,
    pub replicas: Vec<ReplicaId>,
}

/// What a split of traffic goes by: requests that are alike in it meet the same version. Written as `Key`, `Principal`,
/// `Request` or `header:NAME`, read without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StickyBy {
    /// The caller's own key where it gives one, else each request by itself.
    #[default]
    Key,
    Principal,
    Request,
    /// A header of the users' own choice (in gRPC, metadata).
    Header(HeaderName),
}

/// A name that a header can have, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderName(String);

/// Why a text does not say what a split goes by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStickyBy {
    #[error("must be one of key, principal, request, header:NAME, got `{0}`")]
    Unknown(String),
    #[error("`{0}` is not a header's name: use 1 to 64 letters, digits and `-`, such as x-user")]
    HeaderName(String),
}

const HEADER_PREFIX: &str = "header:";
const MAX_HEADER_NAME: usize = 64;

/// What is known of who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub request_id: &'a str,
    /// What the caller wants to be told apart by.
    pub key: Option<&'a str>,
    pub principal: Option<&'a str>,
    /// The header that a route was found to go by when the request came in, and its value.
    pub header: Option<(&'a HeaderName, &'a [u8])>,
}

impl<'a> Caller<'a> {
    /// Who says nothing of itself.
    pub fn unnamed(request_id: &'a str) -> Self {
        Self { request_id, key: None, principal: None, header: None }
    }
}

impl HeaderName {
    pub fn parse(name: &str) -> Result<Self, InvalidStickyBy> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if (1..=MAX_HEADER_NAME).contains(&name.len()) && name.bytes().all(is_allowed) {
            return Ok(Self(name.to_ascii_lowercase()));
        }
        Err(InvalidStickyBy::HeaderName(shortened(name)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl StickyBy {
    /// What decides; the request's id where the caller did not say what this goes by.
    pub fn key_of<'a>(&self, caller: &Caller<'a>) -> &'a [u8] {
        let said = match self {
            Self::Key => caller.key.map(str::as_bytes),
            Self::Principal => caller.principal.map(str::as_bytes),
            Self::Request => None,
            Self::Header(name) => caller.header.filter(|(given, _)| *given == name).map(|(_, value)| value),
        };
        said.unwrap_or(caller.request_id.as_bytes())
    }
}

impl std::fmt::Display for StickyBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key => f.write_str("Key"),
            Self::Principal => f.write_str("Principal"),
            Self::Request => f.write_str("Request"),
            Self::Header(HeaderName(name)) => write!(f, "{HEADER_PREFIX}{name}"),
        }
    }
}

impl std::str::FromStr for StickyBy {
    type Err = InvalidStickyBy;

    fn from_str(text: &str) -> Result<Self, InvalidStickyBy> {
        let words = [Self::Key, Self::Principal, Self::Request];
        if let Some(word) = words.into_iter().find(|word| word.to_string().eq_ignore_ascii_case(text)) {
            return Ok(word);
        }
        match text.split_at_checked(HEADER_PREFIX.len()) {
            Some((prefix, name)) if prefix.eq_ignore_ascii_case(HEADER_PREFIX) => {
                HeaderName::parse(name).map(Self::Header)
            }
            _ => Err(InvalidStickyBy::Unknown(shortened(text))),
        }
    }
}

impl TryFrom<String> for StickyBy {
    type Error = InvalidStickyBy;

    fn try_from(text: String) -> Result<Self, InvalidStickyBy> {
        text.parse()
    }
}

impl From<StickyBy> for String {
    fn from(sticky_by: StickyBy) -> Self {
        sticky_by.to_string()
    }
}

/// Enough to be recognised in an error.
fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
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
    /// The route as it holds on one replica.
    pub fn on(mut self, replica: &ReplicaId) -> Self {
        let Some(moved) = self.moved.take().filter(|moved| moved.replicas.contains(replica)) else {
            return self;
        };
        self.warm.retain(|warm| *warm != moved.version_id);
        let arms = std::mem::replace(&mut self.arms, vec![Arm::all(moved.version_id.clone())]);
        let behind =
            arms.into_iter().map(|arm| arm.version_id).filter(|version| *version != moved.version_id);
        self.warm.extend(behind);
        self
    }

    /// Whether the shadow is sent a copy of a request. Decided by other bits than [`pick`](Self::pick) uses, so that a
    /// sample of copies is one of all requests.
    pub fn shadows(&self, request_id: &str) -> Option<&Shadow> {
        let shadow = self.shadow.as_ref()?;
        (bucket(&self.deployment_id, format!("shadow/{request_id}").as_bytes()) < shadow.share)
            .then_some(shadow)
    }

    /// Every version that must be loaded for this route.
    pub fn versions(&self) -> impl Iterator<Item = &VersionId> {
        self.arms.iter().map(|arm| &arm.version_id).chain(&self.warm)
    }

    /// The arm with the largest share, the earlier one (which answered before) where shares are equal; `None` when nothing
    /// answers.
    pub fn leader(&self) -> Option<&Arm> {
        self.arms.iter().rev().max_by_key(|arm| arm.weight)
    }

    /// The index of the arm that answers a request with this sticky key or request id ([`StickyBy::key_of`]); `None` when
    /// nothing answers.
    ///
    /// Deterministic in (deployment, key). Arms take buckets from the end of the list, the candidate last, so growing the
    /// last arm moves callers only towards it, never back.
    pub fn pick(&self, key: impl AsRef<[u8]>) -> Option<usize> {
        if self.arms.len() < 2 {
            return self.arms.len().checked_sub(1);
        }
        let bucket = bucket(&self.deployment_id, key.as_ref());
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
fn bucket(deployment_id: &DeploymentId, key: &[u8]) -> u32 {
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
            shadow: None,
            moved: None,
            sticky_by: StickyBy::Key,
        }
    }

    #[test]
    fn a_moved_replica_answers_with_the_new_version_and_keeps_the_old_one_warm() {
        let mut route = split(0);
        (route.arms, route.warm) = (vec![Arm::all(VersionId::new("old"))], vec![VersionId::new("new")]);
        let replicas = vec![ReplicaId::new("a")];
        route.moved = Some(Moved { version_id: VersionId::new("new"), replicas });
        let (ahead, behind) =
            (route.clone().on(&ReplicaId::new("a")), route.clone().on(&ReplicaId::new("b")));
        assert_eq!(
            (ahead.arms, ahead.warm),
            (vec![Arm::all(VersionId::new("new"))], vec![VersionId::new("old")])
        );
        assert_eq!((behind.arms, behind.warm), (route.arms, route.warm));
    }

    #[test]
    fn a_shadow_is_sent_its_share_whatever_the_arms_are() {
        let mut route = split(2_500);
        route.shadow = Some(Shadow { version_id: VersionId::new("x"), share: 3_000 });
        let ids: Vec<String> = (0..20_000).map(|i| format!("req-{i}")).collect();
        let copied: Vec<&String> = ids.iter().filter(|id| route.shadows(id).is_some()).collect();
        // Four standard deviations of a binomial with n = 20,000.
        assert!(copied.len().abs_diff(6_000) < 260, "{}", copied.len());
        let on_new = copied.iter().filter(|id| route.pick(id) == Some(1)).count();
        assert!(on_new.abs_diff(1_500) < 140, "copies are a sample of both arms: {on_new}");
        route.shadow = Some(Shadow { version_id: VersionId::new("x"), share: BUCKETS });
        assert!(ids.iter().all(|id| route.shadows(id).is_some()));
    }

    #[test]
    fn stickiness_falls_back_to_the_request() {
        let name = HeaderName::parse("X-User").unwrap();
        let caller =
            Caller { key: Some("k"), header: Some((&name, b"\xffuser".as_slice())), ..Caller::unnamed("r") };
        let key_of = |by: &str| by.parse::<StickyBy>().unwrap().key_of(&caller);
        assert_eq!(["key", "principal", "request"].map(key_of), [b"k", b"r", b"r"]);
        assert_eq!(key_of("header:x-user"), b"\xffuser", "any bytes");
        assert_eq!(key_of("header:x-other"), b"r", "another header than the one that was looked up");
    }

    #[test]
    fn what_a_split_goes_by_reads_back_and_is_refused_with_what_to_write() {
        for text in ["Key", "Principal", "Request", "header:x-user"] {
            let read: StickyBy = text.parse().unwrap();
            assert_eq!(read.to_string(), text);
            assert_eq!(text.to_uppercase().parse(), Ok(read.clone()));
            assert_eq!(serde_json::from_value::<StickyBy>(serde_json::json!(text)).unwrap(), read);
        }
        let long = format!("header:{}", "x".repeat(65));
        for text in ["", "cookie", "header", "header:", "header:a b", "header:naïve", "headér:", &long] {
            assert!(text.parse::<StickyBy>().is_err(), "{text}");
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
