//! Versions replaced under load: nobody fails, nobody gets another version's answer, and what left is freed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use tidegate_core::{Caller, Environment};
use tidegate_serve::{Runtime, Server, Slot, memory};

use crate::support::{SMALL, fixture, floats, model_name, route, runtimes, spec, tensor, wait_until};

const N_CALLERS: usize = 8;
const N_SWAPS: u64 = 50;

/// Each version holds four megabytes of weights: when nothing of forty is freed, the process has grown by more than this.
const MOST_GROWTH_BYTES: u64 = 100_000_000;

/// Each file answers with its own number, so a wrong version cannot go unseen.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn swapping_under_load_fails_nobody_mixes_nothing_and_keeps_nothing() {
    for runtime in runtimes() {
        swap_under_load(runtime).await;
    }
}

async fn swap_under_load(runtime: Arc<dyn Runtime>) {
    let server = Arc::new(Server::new(runtime, SMALL));
    let mut loaded: Vec<Weak<Slot>> = vec![];
    deploy(&server, 1, &mut loaded).await;

    let is_over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..N_CALLERS).map(|_| tokio::spawn(call(Arc::clone(&server), Arc::clone(&is_over)))).collect();
    let mut after_ten = None;
    for number in 2..=N_SWAPS {
        deploy(&server, number, &mut loaded).await;
        if number == 11 {
            after_ten = memory::resident_bytes();
        }
    }
    is_over.store(true, Ordering::Relaxed);
    let mut n_answers = 0;
    for caller in callers {
        n_answers += caller.await.unwrap();
    }
    assert!(n_answers > N_SWAPS, "{n_answers} answers are no load");

    let last = loaded.pop().unwrap();
    wait_until("the slots that left are freed", || loaded.iter().all(|slot| slot.upgrade().is_none()));
    assert!(last.upgrade().is_some(), "the slot that serves is not");
    assert_eq!(server.loaded().len(), 1);
    if let Some(after_ten) = after_ten {
        let limit = after_ten + MOST_GROWTH_BYTES;
        wait_until("memory is back", || memory::resident_bytes().is_some_and(|bytes| bytes < limit));
    }
    server.shutdown().await;
}

/// Makes the version of this number active. Its file answers with [`answer_of`] the number.
async fn deploy(server: &Server, number: u64, loaded: &mut Vec<Weak<Slot>>) {
    let path = fixture(&format!("ballast-{}.onnx", answer_of(number)));
    let slot = server.load(spec(number, path)).await.unwrap();
    loaded.push(Arc::downgrade(&slot));
    server.apply(route(number, Some(number), &[]), model_name(), vec![slot]);
}

/// There are three files, so that a version and the next always answer differently.
fn answer_of(number: u64) -> u8 {
    u8::try_from(number % 3 + 1).unwrap()
}

/// Calls until it is over, checks every answer against the version that was resolved, and gives their number.
async fn call(server: Arc<Server>, is_over: Arc<AtomicBool>) -> u64 {
    let mut n_answers = 0;
    while !is_over.load(Ordering::Relaxed) {
        let resolved =
            server.resolve(Environment::Production, "m", None, &Caller::unnamed("request")).unwrap();
        let expected = f32::from(answer_of(resolved.slot.number().major));
        let inference = server.infer(&resolved.slot, vec![tensor("x", &[2], &[7f32, 7.0])]).await.unwrap();
        assert_eq!(floats(&inference.outputs), [expected; 2]);
        n_answers += 1;
    }
    n_answers
}

/// A request in flight keeps its version, and only until it is answered.
#[tokio::test]
async fn a_request_finishes_on_the_version_it_was_given() {
    let fake = crate::fake::FakeRuntime::new();
    let server = Server::new(fake.clone(), SMALL);
    let slots = [
        server.load(spec(1, "any".into())).await.unwrap(),
        server.load(spec(2, "any".into())).await.unwrap(),
    ];
    let old = Arc::downgrade(&slots[0]);
    let [first, second] = slots;
    server.apply(route(1, Some(1), &[]), model_name(), vec![first]);
    fake.runs.set_open(false);

    let resolved = server.resolve(Environment::Production, "m", None, &Caller::unnamed("request")).unwrap();
    let mut in_flight = Box::pin(server.infer(&resolved.slot, vec![tensor("x", &[1], &[1f32])]));
    assert!(futures::poll!(&mut in_flight).is_pending());
    server.apply(route(2, Some(2), &[]), model_name(), vec![second]);
    assert!(old.upgrade().is_some(), "held by the request");
    fake.runs.set_open(true);
    in_flight.await.unwrap();
    drop(resolved);
    wait_until("the old version is freed", || old.upgrade().is_none());
}
