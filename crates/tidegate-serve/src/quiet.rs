//! Threads that stay out of the way of requests: loading a model can take seconds of a core, and so can freeing one.
//!
//! The three threads of this module belong to the process and sleep until there is something to do.

use std::any::Any;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::memory;
use crate::runtime::guarded;

/// A tenth of a core where all cores are busy, whatever is left over otherwise. Lower still, and on a busy machine a large
/// model would not be loaded within a deployment's warm-up time.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Once it has a core, it keeps it for so long, which is the least that Linux allows (from 6.12 on; before, this is
/// ignored). With the usual milliseconds, each of its turns would hold up dozens of short requests.
#[cfg(target_os = "linux")]
const SLICE: Duration = Duration::from_micros(100);

/// Handing pages back locks the heap for milliseconds; models that are freed within this time share it.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

type Task = Box<dyn FnOnce() + Send>;

/// Loads and frees that go on.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Whether anything goes on here: who gives up a core meanwhile does not have it back at once.
pub(crate) fn is_at_work() -> bool {
    AT_WORK.load(Ordering::Relaxed) > 0
}

fn at_work<T>(work: impl FnOnce() -> T) -> T {
    struct AtWork;
    impl Drop for AtWork {
        fn drop(&mut self) {
            AT_WORK.fetch_sub(1, Ordering::Relaxed);
        }
    }
    AT_WORK.fetch_add(1, Ordering::Relaxed);
    let _at_work = AtWork;
    work()
}

/// Runs `work` on a thread of its own, at low priority where the system has priorities for threads (Linux does).
pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    start(name, || at_work(work));
}

fn start(name: &str, work: impl FnOnce() + Send + 'static) {
    // Started first, or it would inherit the priority.
    helper();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let spawned = thread.spawn(|| {
        lower_priority();
        work();
    });
    spawned.expect("the system starts a thread more");
}

/// Runs `start`, which starts threads that requests will wait for: they would inherit the priority of a quiet thread, and
/// only a privileged process could raise it again.
pub(crate) fn at_normal_priority<T: Send + 'static>(start: impl FnOnce() -> T + Send + 'static) -> T {
    if !IS_QUIET.get() {
        return start();
    }
    let (sender, outcome) = mpsc::channel();
    give(helper(), Box::new(move || drop(sender.send(start()))));
    outcome.recv().expect("the helper runs what it is given")
}

/// Frees a model, and soon after hands its pages back to the system.
pub(crate) fn free(model: Box<dyn Any + Send>) {
    static FREER: OnceLock<Mutex<Sender<Box<dyn Any + Send>>>> = OnceLock::new();
    let freer = FREER.get_or_init(|| {
        let (sender, models) = mpsc::channel();
        start("free", move || free_all(&models));
        Mutex::new(sender)
    });
    give(freer, model);
}

/// Until the process ends.
fn free_all(models: &mpsc::Receiver<Box<dyn Any + Send>>) {
    while let Ok(model) = models.recv() {
        drop_guarded(model);
        let until = Instant::now() + RELEASE_INTERVAL;
        while let Ok(model) = models.recv_timeout(until.saturating_duration_since(Instant::now())) {
            drop_guarded(model);
        }
        // A quiet thread could be made to wait while it holds the locks that everybody else then waits for.
        give(helper(), Box::new(memory::release_freed));
    }
}

fn drop_guarded(model: Box<dyn Any + Send>) {
    if let Err(message) = at_work(|| guarded(|| drop(model))) {
        tracing::error!("a model was not freed: {message}");
    }
}

/// A thread of normal priority, for quiet threads to have something run there.
fn helper() -> &'static Mutex<Sender<Task>> {
    static HELPER: OnceLock<Mutex<Sender<Task>>> = OnceLock::new();
    HELPER.get_or_init(|| {
        let (sender, tasks) = mpsc::channel::<Task>();
        let thread = std::thread::Builder::new().name("helper".to_owned());
        let work = move || tasks.into_iter().for_each(|task| drop(guarded(task)));
        thread.spawn(work).expect("the system starts a thread more");
        Mutex::new(sender)
    })
}

fn give<T>(queue: &Mutex<Sender<T>>, item: T) {
    let sent = queue.lock().unwrap_or_else(PoisonError::into_inner).send(item);
    assert!(sent.is_ok(), "the threads of this module never end");
}

fn lower_priority() {
    IS_QUIET.set(true);
    #[cfg(target_os = "linux")]
    {
        let attributes = libc::sched_attr {
            size: size_of::<libc::sched_attr>() as u32,
            sched_policy: libc::SCHED_OTHER as u32,
            sched_flags: 0,
            sched_nice: NICENESS,
            sched_priority: 0,
            sched_runtime: SLICE.as_nanos() as u64,
            sched_deadline: 0,
            sched_period: 0,
        };
        #[expect(unsafe_code, reason = "the standard library has no priorities")]
        // SAFETY: 0 means the calling thread and no other, and the pointer is to a value of the size it states.
        unsafe {
            libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS);
            // Apart from the niceness, which every kernel and sandbox knows. Where either is refused, loads are less quiet.
            libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;

    fn niceness() -> i32 {
        #[expect(unsafe_code, reason = "the standard library has no priorities")]
        // SAFETY: it takes numbers only.
        unsafe {
            libc::getpriority(libc::PRIO_PROCESS, 0)
        }
    }

    #[test]
    fn a_quiet_thread_can_start_one_that_is_not() {
        let ours = niceness();
        let (sender, seen) = mpsc::channel();
        spawn("test", move || {
            let inherited = std::thread::spawn(niceness).join().unwrap();
            let normal = at_normal_priority(|| std::thread::spawn(niceness).join().unwrap());
            sender.send((niceness(), inherited, normal)).unwrap();
        });
        let (quiet, inherited, normal) = seen.recv().unwrap();
        assert!(quiet > ours && inherited == quiet, "{quiet} and {inherited} for {ours}");
        assert_eq!(normal, ours);
        assert_eq!(at_normal_priority(niceness), ours);
    }

    #[test]
    fn what_is_freed_is_dropped_even_where_that_panics() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("told to panic");
            }
        }
        let (dropped, seen) = mpsc::channel::<()>();
        free(Box::new(Panics));
        free(Box::new(dropped));
        assert_eq!(seen.recv_timeout(Duration::from_secs(20)), Err(RecvTimeoutError::Disconnected));
    }
}
