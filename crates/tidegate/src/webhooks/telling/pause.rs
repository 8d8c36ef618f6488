//! How long to leave a receiver alone.

use std::time::Duration;

use rand::{Rng, RngExt};

const FIRST: Duration = Duration::from_secs(1);

/// A receiver that comes back is told what it missed within this.
const LONGEST: Duration = Duration::from_secs(600);

/// What a receiver may ask for; after longer it is asked again all the same.
const LONGEST_ASKED_FOR: Duration = Duration::from_secs(3600);

/// After so many attempts in vain: doubled each time, and up to half of it less by chance, so that a receiver that comes back
/// does not meet everybody at once. Longer where it asked for that.
pub(super) fn pause_after(attempts: u32, asked_for: Option<Duration>, jitter: &mut impl Rng) -> Duration {
    let doubled = FIRST.saturating_mul(1u32.checked_shl(attempts).unwrap_or(u32::MAX)).min(LONGEST);
    let pause = doubled.mul_f64(jitter.random_range(0.5..=1.0));
    pause.max(asked_for.unwrap_or_default().min(LONGEST_ASKED_FOR))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_differ() {
        let mut jitter = StdRng::seed_from_u64(1);
        for (attempts, longest_s) in
            [(0, 1), (1, 2), (5, 32), (9, 512), (10, 600), (31, 600), (32, 600), (u32::MAX, 600)]
        {
            let pause = pause_after(attempts, None, &mut jitter);
            let longest = Duration::from_secs(longest_s);
            assert!((longest / 2..=longest).contains(&pause), "{attempts}: {pause:?}");
        }
        let pauses: Vec<_> = (0..20).map(|_| pause_after(5, None, &mut jitter)).collect();
        assert!(pauses.windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_receiver_may_ask_for_more_within_reason() {
        let mut jitter = StdRng::seed_from_u64(1);
        for (asked_s, expected_s) in [(30, 30), (100_000, 3600)] {
            let pause = pause_after(0, Some(Duration::from_secs(asked_s)), &mut jitter);
            assert_eq!(pause, Duration::from_secs(expected_s));
        }
    }
}
