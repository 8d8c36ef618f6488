//! The threads inside a run of rten, which computes on pools of rayon only.
//!
//! They belong to the thread that runs models, not to a model: a pool for each session would start threads with every load, and
//! each run would be handed over to one and back. Threads inherit the priority of the one that starts them, so that trial
//! runs of a model that loads stay as quiet as the load.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use rten::ThreadPool;

thread_local! {
    /// By the number of their threads: one entry, or a few where models have settings of their own.
    static POOLS: RefCell<BTreeMap<usize, Arc<ThreadPool>>> = const { RefCell::new(BTreeMap::new()) };
}

/// The calling thread's pool with so many threads, started when it is first asked for.
pub(super) fn of_this_thread(n_threads: usize) -> Arc<ThreadPool> {
    let start = || Arc::new(ThreadPool::with_num_threads(n_threads));
    POOLS.with_borrow_mut(|pools| Arc::clone(pools.entry(n_threads).or_insert_with(start)))
}

/// Runs `work` as the only thread of a pool: what it runs on one thread stays on it. Blocks until it is done.
pub(super) fn host(work: Box<dyn FnOnce() + Send>) {
    let pool = Arc::new(ThreadPool::with_num_threads(1));
    let own = Arc::clone(&pool);
    pool.run(move || {
        POOLS.with_borrow_mut(|pools| pools.insert(1, own));
        let _forgets = ForgetPools;
        work();
    });
}

/// A pool that its own thread holds would never end.
struct ForgetPools;

impl Drop for ForgetPools {
    fn drop(&mut self) {
        drop(POOLS.take());
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use super::*;

    fn thread_of_a_run(n_threads: usize) -> ThreadId {
        of_this_thread(n_threads).run(|| std::thread::current().id())
    }

    #[test]
    fn a_hosted_thread_runs_on_itself_and_others_on_one_of_their_own() {
        let (sender, seen) = std::sync::mpsc::channel();
        host(Box::new(move || {
            let own = std::thread::current().id();
            sender.send((own, thread_of_a_run(1), thread_of_a_run(2))).unwrap();
        }));
        let (own, one, two) = seen.recv().unwrap();
        assert_eq!(own, one);
        assert_ne!(own, two);

        let here = thread_of_a_run(1);
        assert_ne!(here, std::thread::current().id());
        assert_eq!(here, thread_of_a_run(1), "the pool is kept");
    }

    #[test]
    fn a_hosted_thread_keeps_no_pool_alive() {
        let (sender, seen) = std::sync::mpsc::channel();
        host(Box::new(move || sender.send(Arc::downgrade(&of_this_thread(1))).unwrap()));
        assert!(seen.recv().unwrap().upgrade().is_none());
    }
}
