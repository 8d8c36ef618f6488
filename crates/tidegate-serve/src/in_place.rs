//! Runs that are so short that handing them to a worker would take longer: the thread that has the request runs them.
//!
//! Two switches between threads cost some 20 us of CPU. Gradient boosting of 100 trees takes 7 us.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What the threads that talk to clients can spare for one request: about what parsing a request takes.
const LONGEST_TRIAL: Duration = Duration::from_micros(100);

/// A model that turns out to take longer than its trials did (its time may depend on the values) has to go. A thread
/// that the system has set aside for a moment must not count as such, so this is a mean.
const LONGEST_MEAN_US: u64 = 500;

/// Of the runs in the mean: about so many count.
const MEAN_OF: u64 = 64;

pub(crate) struct InPlace {
    /// The largest inputs that were seen to be quick; zero where none was, or not any more.
    most_bytes: AtomicUsize,
    mean_us: AtomicU64,
}

impl InPlace {
    /// From trials: the bytes of the inputs and the time of a run.
    pub(crate) fn new(trials: impl IntoIterator<Item = (usize, Duration)>) -> Self {
        let quick = trials.into_iter().filter(|(_, time)| *time <= LONGEST_TRIAL);
        let most_bytes = quick.map(|(bytes, _)| bytes).max().unwrap_or(0);
        Self { most_bytes: AtomicUsize::new(most_bytes), mean_us: AtomicU64::new(0) }
    }

    pub(crate) fn allows(&self, input_bytes: usize) -> bool {
        (1..=self.most_bytes.load(Ordering::Relaxed)).contains(&input_bytes)
    }

    /// What a run has taken. Once the mean is too long, that is the end of it.
    pub(crate) fn note(&self, run: Duration) {
        let us = u64::try_from(run.as_micros()).unwrap_or(u64::MAX);
        // Two at the same time may lose one of them: a mean of those that are left serves as well.
        let mean_us = self.mean_us.load(Ordering::Relaxed);
        let mean_us = (mean_us / MEAN_OF).saturating_mul(MEAN_OF - 1).saturating_add(us / MEAN_OF);
        self.mean_us.store(mean_us, Ordering::Relaxed);
        if mean_us > LONGEST_MEAN_US {
            self.most_bytes.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    #[test]
    fn only_what_was_seen_to_be_quick_runs_in_place() {
        let in_place = InPlace::new([(40, us(7)), (1280, us(60)), (4000, us(300))]);
        assert!(in_place.allows(1) && in_place.allows(1280));
        assert!(!in_place.allows(1281) && !in_place.allows(0));
        assert!(!InPlace::new([]).allows(1));
    }

    #[test]
    fn a_model_that_turns_out_slow_goes_and_a_hiccup_does_not_count() {
        let in_place = InPlace::new([(40, us(7))]);
        for _ in 0..100 {
            in_place.note(us(8));
        }
        in_place.note(us(20_000));
        assert!(in_place.allows(40));
        in_place.note(us(40_000));
        assert!(!in_place.allows(40));
        in_place.note(us(1));
        assert!(!in_place.allows(40), "for good");
    }
}
