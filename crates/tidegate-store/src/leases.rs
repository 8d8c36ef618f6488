//! Leases: at most one holder at a time, and a generation that tells a stale holder from the present one (a fencing
//! token: M. Kleppmann, "How to do distributed locking", 2016).

use jiff::SignedDuration;
use tidegate_core::Timestamp;

use crate::db::{Db, sql};
use crate::error::StoreError;

/// Named leases.
pub struct Leases {
    db: Db,
}

impl Leases {
    pub(crate) fn new(db: Db) -> Self {
        Self { db }
    }

    /// Takes the lease when it is free or has expired, renews it when `holder` has it, until `now` + `ttl`. Returns its
    /// generation, or `None` when another holder has it.
    ///
    /// The generation grows by one with each change of holder, never with a renewal. A holder names one life of a
    /// process: after a restart it must be another text, or the new life could not be told from the old.
    pub async fn acquire(
        &self,
        name: &str,
        holder: &str,
        now: Timestamp,
        ttl: SignedDuration,
    ) -> Result<Option<u64>, StoreError> {
        const ACQUIRE: &str =
            "INSERT INTO leases (name, holder, generation, expires_at) VALUES ($1, $2, 1, $3)
            ON CONFLICT (name) DO UPDATE SET
                generation = leases.generation + CASE WHEN leases.holder = excluded.holder THEN 0 ELSE 1 END,
                holder = excluded.holder, expires_at = excluded.expires_at
            WHERE leases.holder IS NULL OR leases.holder = excluded.holder OR leases.expires_at <= $4
            RETURNING generation";
        let expires_at = now.saturating_add(ttl).unwrap_or(now);
        let acquire = sql("acquire a lease", ACQUIRE).bind(name).bind(holder).bind(expires_at).bind(now);
        self.db.write_first(acquire).await?.map(|row| row.count("generation")).transpose()
    }

    /// Gives the lease back, unless another has it by now.
    pub async fn release(&self, name: &str, holder: &str, generation: u64) -> Result<(), StoreError> {
        const RELEASE: &str =
            "UPDATE leases SET holder = NULL WHERE name = $1 AND holder = $2 AND generation = $3";
        let release = sql("release a lease", RELEASE).bind(name).bind(holder).bind(generation);
        self.db.execute(release).await.map(drop)
    }
}
