//! Counting what happened since a moment, from counts that were begun earlier, in several processes, and are reported late.

use std::collections::HashMap;

use tidegate_core::ReplicaId;
use tidegate_serve::Tally;

/// One loading of a version in one process; loaded again, or in a new process, it is another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life {
    pub replica: ReplicaId,
    pub number: u64,
}

/// What a version has answered in one life, from its beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    pub life: Life,
    pub tally: Tally,
    pub seen: Seen,
}

/// How old a count is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Now,
    /// As of a report, of which this is the number.
    Report(u64),
}

/// What a version has answered since the window was opened, over all processes.
///
/// A report that was there already when the window was opened is of an unknown age: a process that had nothing to compare may
/// have answered for seconds since. So counting in such a life begins with its next report. What is answered until then
/// is lost to the window: a second at most, and never something of before it.
#[derive(Clone, Debug)]
pub struct Window {
    starts: HashMap<Life, Start>,
}

#[derive(Clone, Debug)]
enum Start {
    From(Box<Tally>),
    WithReportAfter(u64),
}

/// Everything that was ever counted.
pub fn total(counted: &[Counted]) -> Tally {
    let mut total = Tally::default();
    counted.iter().for_each(|counted| total.merge(&counted.tally));
    total
}

impl Window {
    pub fn open(counted: &[Counted]) -> Self {
        let start = |counted: &Counted| match counted.seen {
            Seen::Now => Start::From(Box::new(counted.tally.clone())),
            Seen::Report(revision) => Start::WithReportAfter(revision),
        };
        Self { starts: counted.iter().map(|counted| (counted.life.clone(), start(counted))).collect() }
    }

    /// What was answered until now; `counted` is newer than what it was given before.
    pub fn count(&mut self, counted: &[Counted]) -> Tally {
        let mut total = Tally::default();
        for Counted { life, tally, seen } in counted {
            // A life that was not there is younger than the window.
            let start = self.starts.entry(life.clone()).or_insert_with(|| Start::From(Box::default()));
            match start {
                Start::From(earlier) => total.merge(&tally.since(earlier)),
                Start::WithReportAfter(old) if matches!(seen, Seen::Report(revision) if revision <= old) => {}
                Start::WithReportAfter(_) => *start = Start::From(Box::new(tally.clone())),
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ArmSummary;

    use super::*;

    fn counted(replica: &str, number: u64, requests: u64, seen: Seen) -> Counted {
        let mut arm = ArmSummary { requests, failures: requests / 10, ..ArmSummary::default() };
        (arm.failures..requests).for_each(|_| arm.latency.record(1_000));
        let tally = Tally { arm, ..Tally::default() };
        Counted { life: Life { replica: ReplicaId::new(replica), number }, tally, seen }
    }

    #[track_caller]
    fn check(window: &mut Window, counts: &[Counted], expected: u64) {
        let total = window.count(counts).arm;
        assert_eq!(total.requests, expected);
        assert_eq!(total.latency.count(), total.requests - total.failures, "all of it is added up");
    }

    #[test]
    fn what_was_answered_before_is_not_counted_however_late_it_is_reported() {
        use Seen::{Now, Report};
        let mut window = Window::open(&[
            counted("me", 1, 100, Now),
            counted("b", 1, 50, Report(3)),
            counted("dead", 1, 70, Report(9)),
        ]);
        // `b` reports for the first time since; who knows when it answered those 500.
        check(&mut window, &[counted("me", 1, 110, Now), counted("b", 1, 50, Report(3))], 10);
        check(&mut window, &[counted("me", 1, 110, Now), counted("b", 1, 550, Report(4))], 10);
        check(&mut window, &[counted("me", 1, 120, Now), counted("b", 1, 560, Report(5))], 30);
        let dead = counted("dead", 1, 70, Report(9));
        check(&mut window, &[counted("me", 1, 120, Now), counted("b", 1, 570, Report(6)), dead], 40);
    }

    #[test]
    fn a_restart_loses_nothing_that_was_reported() {
        use Seen::{Now, Report};
        let mut window = Window::open(&[counted("me", 1, 100, Now), counted("b", 1, 50, Report(1))]);
        check(&mut window, &[counted("b", 1, 60, Report(2))], 0);
        // `b` is killed after its third report and comes back as `c`; here the version is unloaded and loaded again.
        let gone = [counted("me", 1, 105, Report(7)), counted("b", 1, 90, Report(3))];
        let back = [counted("me", 2, 3, Now), counted("c", 1, 20, Report(1))];
        check(&mut window, &[gone, back].concat(), 5 + 30 + 3 + 20);
    }

    #[test]
    fn lives_that_begin_later_count_whole() {
        let mut window = Window::open(&[]);
        check(&mut window, &[], 0);
        check(&mut window, &[counted("b", 4, 30, Seen::Report(8))], 30);
    }
}
