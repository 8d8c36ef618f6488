//! Identifiers: a prefix that says what it names, and a time-ordered random part (UUID version 7, RFC 9562).

use std::sync::Mutex;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// An identifier that [`IdSource`] can make.
pub trait Id: Sized {
    /// What stands before the dash: `model`, `version`, `deploy`, `req`, `job`.
    const PREFIX: &'static str;
    fn from_text(text: String) -> Self;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes any text: an id that names nothing is simply not found.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Id for $name {
            const PREFIX: &'static str = $prefix;

            fn from_text(text: String) -> Self {
                Self(text)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// Names a model for good; its name may be reused after archiving, its id never.
    ModelId,
    "model"
);
id!(
    /// Names one life of a serving process: after a restart it is another.
    ReplicaId,
    "replica"
);
id!(
    /// Names one immutable version of a model.
    VersionId,
    "version"
);
id!(
    /// Names one attempt to bring a version into an environment.
    DeploymentId,
    "deploy"
);
id!(
    /// Names one inference request; the caller may choose it.
    RequestId,
    "req"
);

id!(
    /// Names a job: work that a caller does not wait for.
    JobId,
    "job"
);

/// Makes fresh ids from a seeded generator, so that a simulation repeats them.
pub struct IdSource(Mutex<Generator>);

struct Generator {
    random: StdRng,
    /// The millisecond of the last id, and how it counts within it.
    last: (u64, u16),
}

/// The counter's first value has its highest bit clear, so that at least half of its 12 bits are left to count in.
const FIRST_COUNTS: u16 = 0x7ff;
const COUNTS: u16 = 0xfff;

impl IdSource {
    pub fn seeded(seed: u64) -> Self {
        Self::over(StdRng::seed_from_u64(seed))
    }

    /// For processes whose ids must never meet: the binary seeds it from the system.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self::over(StdRng::from_seed(seed))
    }

    fn over(random: StdRng) -> Self {
        Self(Mutex::new(Generator { random, last: (0, 0) }))
    }

    /// A fresh id. Ids made later sort later; within one millisecond the first 2,048 do (RFC 9562, section 6.2, method 1).
    pub fn next<T: Id>(&self, now: Timestamp) -> T {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        let random = self.0.lock().expect("the generator never panics while held").next(millis);
        let uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
        T::from_text(format!("{}-{}", T::PREFIX, uuid.simple()))
    }
}

impl Generator {
    /// What follows the time in an id: 12 bits that count, and the rest at random.
    fn next(&mut self, millis: u64) -> [u8; 10] {
        let mut bytes = [0; 10];
        self.random.fill_bytes(&mut bytes);
        let count = match self.last {
            (last, count) if last == millis => (count + 1) & COUNTS,
            _ => u16::from_be_bytes([bytes[0], bytes[1]]) & FIRST_COUNTS,
        };
        self.last = (millis, count);
        bytes[..2].copy_from_slice(&count.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_ordered_and_repeatable() {
        let make = || {
            let ids = IdSource::seeded(7);
            (0..100)
                .map(|n| {
                    ids.next::<ModelId>(Timestamp::from_millisecond(1_700_000_000_000 + n / 10).unwrap())
                })
                .collect::<Vec<_>>()
        };
        let ids = make();
        assert!(ids.is_sorted(), "later ids sort later");
        assert!(ids.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(ids[0].as_str().starts_with("model-"));
        assert_eq!(ids, make(), "the same seed gives the same ids");
    }
}
