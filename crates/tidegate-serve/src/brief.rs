//! Runs that are too brief to hand over: to wake a worker and be woken by it costs more than a tiny model takes, so the thread
//! that brings the request runs it itself.
//!
//! What keeps that from holding up everybody else: a slot has to have shown that it is quick, in its trial runs or on workers, on
//! inputs as large; one that stops being so goes back to the workers, after one run if it was really slow; and one of the
//! threads that talk to clients is always left free of models.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;

/// How long a thread that talks to clients may be away. Reading and answering a small request takes about half of it.
const BRIEF: Duration = Duration::from_micros(100);

/// What takes longer than this was slow, whatever else the core was given to meanwhile.
const SLOW: Duration = Duration::from_millis(10);

/// Brief runs until a slot is trusted whose trial runs were not.
const TRUSTED: i32 = 16;
const MOST_TRUSTED: i32 = 2 * TRUSTED;
/// For a run that was not brief: on busy cores some are interrupted.
const DOUBT: i32 = 8;
/// After one that was slow: brief runs until the slot is trusted again.
const DISTRUST: i32 = 1000;

/// How long the runs of a slot have taken lately. Updates that get lost between threads do no harm.
#[derive(Default)]
pub(crate) struct Pace {
    trust: AtomicI32,
    /// Of the largest inputs that were run briefly.
    proven_bytes: AtomicUsize,
}

impl Pace {
    /// Of a slot whose trial runs took so long.
    pub(crate) fn after_trials(n_bytes: usize, median: Duration) -> Self {
        let pace = Self::default();
        if median <= BRIEF {
            pace.trust.store(TRUSTED, Ordering::Relaxed);
            pace.proven_bytes.store(n_bytes, Ordering::Relaxed);
        }
        pace
    }

    /// Whether a run on inputs of so many bytes will be brief.
    pub(crate) fn is_brief(&self, n_bytes: usize) -> bool {
        self.trust.load(Ordering::Relaxed) >= TRUSTED && n_bytes <= self.proven_bytes.load(Ordering::Relaxed)
    }

    /// Takes note of a run.
    pub(crate) fn ran(&self, n_bytes: usize, took: Duration) {
        let (trust, proven_bytes) =
            (self.trust.load(Ordering::Relaxed), self.proven_bytes.load(Ordering::Relaxed));
        if took <= BRIEF {
            if n_bytes > proven_bytes {
                self.proven_bytes.store(n_bytes, Ordering::Relaxed);
            }
            if trust < MOST_TRUSTED {
                self.trust.store(trust + 1, Ordering::Relaxed);
            }
        } else if n_bytes <= proven_bytes {
            let trust = if took > SLOW { TRUSTED - DISTRUST } else { (trust - DOUBT).max(trust.min(0)) };
            self.trust.store(trust, Ordering::Relaxed);
        }
    }
}

/// The threads that talk to clients and run a model at the moment: never all of them.
#[derive(Default)]
pub(crate) struct Callers {
    n_running: AtomicUsize,
    most: OnceLock<usize>,
}

/// Given back on drop.
pub(crate) struct Permit<'a>(&'a Callers);

impl Callers {
    /// Called on the Tokio runtime whose threads these are.
    pub(crate) fn enter(&self) -> Option<Permit<'_>> {
        let most = *self.most.get_or_init(|| {
            let runtime = Handle::try_current();
            runtime.map_or(0, |runtime| runtime.metrics().num_workers().saturating_sub(1))
        });
        let one_more = |n| (n < most).then_some(n + 1);
        self.n_running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Permit(self))
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.n_running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(5);
    const INTERRUPTED: Duration = Duration::from_millis(3);
    const STUCK: Duration = Duration::from_millis(50);

    fn after(runs: &[(i32, usize, Duration)]) -> Pace {
        let pace = Pace::default();
        for (n, n_bytes, took) in runs {
            (0..*n).for_each(|_| pace.ran(*n_bytes, *took));
        }
        pace
    }

    #[test]
    fn a_slot_is_trusted_with_what_it_has_shown() {
        assert!(!after(&[]).is_brief(0) && !Pace::after_trials(16, INTERRUPTED).is_brief(16));
        assert!(Pace::after_trials(16, QUICK).is_brief(16) && !Pace::after_trials(16, QUICK).is_brief(17));
        assert!(!after(&[(TRUSTED - 1, 16, QUICK)]).is_brief(16));
        let pace = after(&[(TRUSTED, 16, QUICK)]);
        assert!(pace.is_brief(16) && !pace.is_brief(17));
        let pace = after(&[(TRUSTED, 16, QUICK), (1, 64, QUICK)]);
        assert!(pace.is_brief(64));
    }

    #[test]
    fn larger_inputs_that_take_longer_say_nothing_of_smaller_ones() {
        let pace = after(&[(TRUSTED, 16, QUICK), (5, 4096, STUCK)]);
        assert!(pace.is_brief(16) && !pace.is_brief(4096));
    }

    #[test]
    fn an_interruption_now_and_then_is_forgiven_and_a_slow_run_is_not() {
        let forgiven = [(1000, 16, QUICK), (1, 16, INTERRUPTED), (8, 16, QUICK), (1, 16, INTERRUPTED)];
        assert!(after(&forgiven).is_brief(16));
        assert!(!after(&[(1000, 16, QUICK), (3, 16, INTERRUPTED)]).is_brief(16));
        assert!(!after(&[(1000, 16, QUICK), (1, 16, STUCK), (DISTRUST - 1, 16, QUICK)]).is_brief(16));
        assert!(after(&[(1000, 16, QUICK), (1, 16, STUCK), (DISTRUST, 16, QUICK)]).is_brief(16));
    }

    #[test]
    fn a_slot_that_is_never_brief_is_never_trusted() {
        let pace = after(&[(100, 16, INTERRUPTED), (TRUSTED - 1, 16, QUICK), (1, 16, INTERRUPTED)]);
        (0..DOUBT).for_each(|_| pace.ran(16, QUICK));
        assert!(!pace.is_brief(16));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn one_thread_is_left_free() {
        let callers = Callers::default();
        let permits = (callers.enter(), callers.enter());
        assert!(permits.0.is_some() && permits.1.is_some() && callers.enter().is_none());
        drop(permits);
        assert!(callers.enter().is_some());
    }

    #[tokio::test]
    async fn a_lone_thread_runs_nothing() {
        assert!(Callers::default().enter().is_none());
    }
}
