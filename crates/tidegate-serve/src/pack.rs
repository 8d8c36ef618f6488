//! Which waiting requests run next, together, or until when to wait: a pure function of the queue and the time.
//!
//! Knows no thread, no lock and no clock. The worker pool ([`crate::pool`]) asks it each time a worker is free.

use std::time::{Duration, Instant};

/// How far the requests of a slot may be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchLimits {
    /// Rows along the batch axis, of all requests together. One: each request runs by itself.
    pub(crate) max_rows: usize,
    /// Of the inputs of all requests together: activations grow with them.
    pub(crate) max_bytes: usize,
    /// How long the oldest request may be held back for others to join it, while the slot is at work anyway.
    pub(crate) max_delay: Duration,
}

/// Who goes first, and who is shed first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Request,
    /// A copy of a request, say, for comparison: runs when no request could, on at most half of the workers, and gives its
    /// place in a full queue to a request.
    Background,
}

/// A waiting request, as packing sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// Which slot runs it.
    pub(crate) slot: usize,
    /// The form of its inputs but for the batch axis; only requests of one form go together.
    pub(crate) form: u64,
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) priority: Priority,
    /// Never runs with others.
    pub(crate) alone: bool,
    pub(crate) queued_at: Instant,
    /// Afterwards nobody wants the answer.
    pub(crate) deadline: Option<Instant>,
    /// The slot's.
    pub(crate) limits: BatchLimits,
    /// Runs that the slot is at, and how many it can be at.
    pub(crate) n_running: usize,
    pub(crate) n_sessions: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packing {
    /// Positions of requests whose deadline has passed; they leave without running.
    pub(crate) expired: Vec<usize>,
    pub(crate) next: Next,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The positions of requests to run as one batch now: at least one, ascending, one slot, one form, one priority.
    Run(Vec<usize>),
    /// Nothing can run before the queue changes, or this moment comes.
    Wait(Option<Instant>),
}

/// Decides for one free worker. `waiting` comes in the order in which it should run: requests before background, older
/// before younger. `may_run_background` says whether this worker may take such.
///
/// The first request whose slot has a free session runs, with every later one that may join it. It is held back only where
/// the slot's `max_delay` says so, its batch is not full *and* the slot is at work: a lone caller on an idle slot
/// never waits for company.
pub(crate) fn pack(
    waiting: impl Iterator<Item = Waiting>,
    now: Instant,
    may_run_background: bool,
) -> Packing {
    let mut expired = vec![];
    // Those held back come first, in order; once one is ready, it is the last.
    let mut batches: Vec<Batch> = vec![];
    for (position, request) in waiting.enumerate() {
        if request.deadline.is_some_and(|deadline| deadline <= now) {
            expired.push(position);
            continue;
        }
        let is_background = request.priority == Priority::Background;
        if request.n_running >= request.n_sessions || is_background && !may_run_background {
            continue;
        }
        let has_ready = batches.last().is_some_and(|batch| batch.is_ready(now));
        match batches.iter_mut().find(|batch| batch.may_join(&request)) {
            Some(batch) => batch.join(position, &request),
            None if has_ready => {}
            None => batches.push(Batch::of(position, request)),
        }
        if let Some(full) = batches.iter().position(Batch::is_full) {
            return Packing { expired, next: Next::Run(batches.swap_remove(full).positions) };
        }
    }
    let next = match batches.iter().position(|batch| batch.is_ready(now)) {
        Some(ready) => Next::Run(batches.swap_remove(ready).positions),
        None => Next::Wait(batches.iter().map(Batch::ready_at).min()),
    };
    Packing { expired, next }
}

/// Requests that may run together.
struct Batch {
    positions: Vec<usize>,
    /// The oldest, which decides when they run.
    first: Waiting,
    rows: usize,
    bytes: usize,
}

impl Batch {
    fn of(position: usize, first: Waiting) -> Self {
        Self { positions: vec![position], first, rows: first.rows, bytes: first.bytes }
    }

    fn may_join(&self, request: &Waiting) -> bool {
        let (first, limits) = (&self.first, &self.first.limits);
        // An empty request (of no rows) has no share of a batch.
        first.rows > 0
            && request.rows > 0
            && !first.alone
            && !request.alone
            && (first.slot, first.form, first.priority) == (request.slot, request.form, request.priority)
            && self.rows.saturating_add(request.rows) <= limits.max_rows
            && self.bytes.saturating_add(request.bytes) <= limits.max_bytes
    }

    fn join(&mut self, position: usize, request: &Waiting) {
        self.positions.push(position);
        self.rows += request.rows;
        self.bytes += request.bytes;
    }

    /// No other request could join.
    fn is_full(&self) -> bool {
        self.first.rows == 0
            || self.first.alone
            || self.rows >= self.first.limits.max_rows
            || self.bytes >= self.first.limits.max_bytes
    }

    fn is_ready(&self, now: Instant) -> bool {
        self.first.n_running == 0 || self.is_full() || self.ready_at() <= now
    }

    fn ready_at(&self) -> Instant {
        self.first.queued_at + self.first.limits.max_delay
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: BatchLimits = BatchLimits { max_rows: 4, max_bytes: 1000, max_delay: Duration::ZERO };

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A row for slot 1, which is idle, queued at `start`.
    fn request(start: Instant) -> Waiting {
        Waiting {
            slot: 1,
            form: 0,
            rows: 1,
            bytes: 8,
            priority: Priority::Request,
            alone: false,
            queued_at: start,
            deadline: None,
            limits: LIMITS,
            n_running: 0,
            n_sessions: 2,
        }
    }

    /// The decision at `now`, written as `run 0 1`, `wait` or `wait 5 ms`, after `expired 2` where any is.
    fn decide(waiting: &[Waiting], start: Instant, now: Instant) -> String {
        let packing = pack(waiting.iter().copied(), now, true);
        let listed = |word: &str, positions: &[usize]| {
            positions.iter().fold(word.to_owned(), |text, position| format!("{text} {position}"))
        };
        let next = match packing.next {
            Next::Run(positions) => listed("run", &positions),
            Next::Wait(None) => "wait".to_owned(),
            Next::Wait(Some(until)) => format!("wait {} ms", (until - start).as_millis()),
        };
        if packing.expired.is_empty() {
            next
        } else {
            format!("{}; {next}", listed("expired", &packing.expired))
        }
    }

    #[test]
    fn requests_go_together_as_far_as_they_may() {
        let start = Instant::now();
        let one = request(start);
        let large = Waiting { rows: 3, ..one };
        let heavy = Waiting { bytes: 600, ..one };
        let alone = BatchLimits { max_rows: 1, ..LIMITS };
        let lone = Waiting { alone: true, ..one };
        let cases: [(&str, Vec<Waiting>, &str); 13] = [
            ("nothing waits", vec![], "wait"),
            ("a lone caller", vec![one], "run 0"),
            ("what is queued goes at once", vec![one, one, one], "run 0 1 2"),
            ("up to the limit", vec![one; 6], "run 0 1 2 3"),
            ("who would be alone is", vec![lone, one, one], "run 0"),
            ("others pass it by", vec![one, lone, one], "run 0 2"),
            ("rows are counted", vec![large, one, one], "run 0 1"),
            ("a smaller one fills the gap", vec![large, large, one], "run 0 2"),
            ("bytes are counted", vec![heavy, heavy, one], "run 0 2"),
            ("larger than the limit goes alone", vec![Waiting { rows: 9, ..one }, one], "run 0"),
            (
                "an empty one goes alone",
                vec![Waiting { rows: 0, ..one }, Waiting { rows: 0, ..one }],
                "run 0",
            ),
            ("no batch axis", vec![Waiting { limits: alone, ..one }; 2], "run 0"),
            (
                "slots, forms and priorities are kept apart",
                vec![
                    one,
                    Waiting { slot: 2, ..one },
                    Waiting { form: 7, ..one },
                    Waiting { priority: Priority::Background, ..one },
                    one,
                ],
                "run 0 4",
            ),
        ];
        for (case, waiting, expected) in cases {
            assert_eq!(decide(&waiting, start, start), expected, "{case}");
        }
    }

    #[test]
    fn a_busy_slot_holds_up_nobody_else() {
        let start = Instant::now();
        let one = request(start);
        let busy = Waiting { slot: 2, n_running: 2, ..one };
        assert_eq!(decide(&[busy, one, busy, one], start, start), "run 1 3");
        assert_eq!(decide(&[busy, busy], start, start), "wait");
    }

    #[test]
    fn holding_back_is_for_a_slot_at_work_and_ends() {
        let start = Instant::now();
        let limits = BatchLimits { max_delay: ms(5), ..LIMITS };
        let held = Waiting { limits, n_running: 1, ..request(start) };
        assert_eq!(decide(&[held, held], start, start + ms(4)), "wait 5 ms");
        assert_eq!(decide(&[held, held], start, start + ms(5)), "run 0 1");
        assert_eq!(decide(&[held; 5], start, start), "run 0 1 2 3", "it is full");
        assert_eq!(decide(&[Waiting { n_running: 0, ..held }], start, start), "run 0", "the slot is idle");
        let other = Waiting { slot: 2, ..request(start) };
        assert_eq!(decide(&[held, other, other], start, start), "run 1 2", "another slot need not wait");
        let younger = Waiting { slot: 3, queued_at: start + ms(2), ..held };
        assert_eq!(decide(&[held, younger], start, start + ms(3)), "wait 5 ms");
    }

    #[test]
    fn the_expired_leave_and_background_comes_last() {
        let start = Instant::now();
        let one = request(start);
        let expired = Waiting { deadline: Some(start + ms(1)), ..one };
        assert_eq!(decide(&[expired, one], start, start), "run 0 1");
        assert_eq!(decide(&[expired, one, expired], start, start + ms(1)), "expired 0 2; run 1");
        assert_eq!(decide(&[expired], start, start + ms(1)), "expired 0; wait");
        let background = Waiting { priority: Priority::Background, ..one };
        assert_eq!(decide(&[background, background], start, start), "run 0 1");
        assert_eq!(pack([background].into_iter(), start, false).next, Next::Wait(None));
    }

    /// A queue in its order, over three slots that are at work to some degree.
    fn any_queue(start: Instant) -> impl Strategy<Value = Vec<Waiting>> {
        let slot = (1usize..6, 1usize..60, 0u64..8, 0usize..3);
        let size = (0usize..4, 0usize..30);
        let times = (0u64..20, prop::option::weighted(0.3, 0u64..40));
        let request = (0usize..3, 0u64..2, any::<bool>(), size, times);
        let queue = (prop::array::uniform3(slot), prop::collection::vec(request, 0..24));
        queue.prop_map(move |(slots, requests)| {
            let waiting = |(slot, form, is_background, (rows, bytes), (queued, deadline)): (
                usize,
                _,
                _,
                _,
                (_, Option<u64>),
            )| {
                let (max_rows, max_bytes, delay, n_running) = slots[slot];
                Waiting {
                    slot,
                    form,
                    rows,
                    bytes,
                    priority: if is_background { Priority::Background } else { Priority::Request },
                    alone: rows == 3 && bytes % 2 == 0,
                    queued_at: start + ms(queued),
                    deadline: deadline.map(|deadline| start + ms(deadline)),
                    limits: BatchLimits { max_rows, max_bytes, max_delay: ms(delay) },
                    n_running,
                    n_sessions: 2,
                }
            };
            let mut queue: Vec<Waiting> = requests.into_iter().map(waiting).collect();
            queue.sort_by_key(|request| (request.priority, request.queued_at));
            queue
        })
    }

    /// What holds of every decision.
    fn check(waiting: &[Waiting], now: Instant, may_run_background: bool) -> Packing {
        let packing = pack(waiting.iter().copied(), now, may_run_background);
        let can_run = |request: &Waiting| {
            request.deadline.is_none_or(|deadline| deadline > now)
                && request.n_running < request.n_sessions
                && (may_run_background || request.priority == Priority::Request)
        };
        for position in &packing.expired {
            assert!(waiting[*position].deadline.is_some_and(|deadline| deadline <= now));
        }
        match &packing.next {
            Next::Run(positions) => {
                assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
                let chosen: Vec<Waiting> = positions.iter().map(|position| waiting[*position]).collect();
                let first = chosen.first().expect("a batch is not empty");
                assert!(chosen.iter().all(can_run));
                let kind = |request: &Waiting| (request.slot, request.form, request.priority);
                assert!(chosen.iter().all(|request| kind(request) == kind(first)));
                assert!(chosen.len() == 1 || chosen.iter().all(|request| !request.alone));
                let rows = chosen.iter().map(|request| request.rows).sum::<usize>();
                let bytes = chosen.iter().map(|request| request.bytes).sum::<usize>();
                let fits = rows <= first.limits.max_rows && bytes <= first.limits.max_bytes;
                assert!(fits || chosen.len() == 1, "{rows} rows of {bytes} bytes in {:?}", first.limits);
                // Only what is held back is passed over.
                for request in waiting[..positions[0]].iter().filter(|request| can_run(request)) {
                    assert!(request.n_running > 0 && now < request.queued_at + request.limits.max_delay);
                }
            }
            Next::Wait(until) => {
                for request in waiting.iter().filter(|request| can_run(request)) {
                    let ready_at = request.queued_at + request.limits.max_delay;
                    assert!(request.n_running > 0 && now < ready_at, "{request:?} could run");
                    assert!(until.is_some_and(|until| until > now && until <= ready_at));
                }
            }
        }
        packing
    }

    proptest! {
        #[test]
        fn decisions_keep_every_promise(
            (waiting, now) in (Just(Instant::now()), 0u64..40)
                .prop_flat_map(|(start, now)| (any_queue(start), Just(start + ms(now)))),
            may_run_background: bool,
        ) {
            check(&waiting, now, may_run_background);
        }

        /// However runs end, each request runs once or expires, and there is an end to it.
        #[test]
        fn every_request_leaves_the_queue(mut waiting in Just(Instant::now()).prop_flat_map(any_queue)) {
            let Some(mut now) = waiting.iter().map(|request| request.queued_at).max() else { return Ok(()) };
            let most_decisions = 3 * waiting.len() + 1;
            let mut running: Vec<usize> = vec![];
            for _ in 0..most_decisions {
                for request in &mut waiting {
                    request.n_running = running.iter().filter(|slot| **slot == request.slot).count();
                }
                let packing = check(&waiting, now, true);
                let leaving = match packing.next {
                    Next::Run(positions) => {
                        running.push(waiting[positions[0]].slot);
                        [packing.expired, positions].concat()
                    }
                    Next::Wait(_) => {
                        // The oldest run ends.
                        running.drain(..running.len().min(1));
                        now += ms(1);
                        packing.expired
                    }
                };
                let mut position = 0..;
                waiting.retain(|_| position.next().is_some_and(|position| !leaving.contains(&position)));
            }
            prop_assert!(waiting.is_empty(), "{} still wait", waiting.len());
        }
    }
}
