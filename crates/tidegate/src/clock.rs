//! The one place that reads the system clock and the system's randomness.
use anyhow::Context;

use rand::TryRng;
use rand::rngs::SysRng;
use tidegate_core::{Clock, IdSource, Timestamp};

/// The machine's clock, UTC.
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Ids that no other process makes.
pub fn system_ids() -> anyhow::Result<IdSource> {
    let mut seed = [0u8; 32];
    SysRng.try_fill_bytes(&mut seed).context("failed to read the system's random numbers")?;
    Ok(IdSource::from_seed(seed))
}
