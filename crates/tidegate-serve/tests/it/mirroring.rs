//! Copies on a shadow: compared and counted, shed first, and never in anybody's way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_core::summary::WARM_UP_ANSWERS;
use tidegate_serve::{Inference, Server, Slot};

use crate::fake::{FakeRuntime, POISON, SHADOW};
use crate::support::{inputs, one_worker, spec, tensor, version_id, wait_until};

/// One worker, the version that runs, and its shadow, loaded.
struct World {
    fake: Arc<FakeRuntime>,
    server: Server,
    running: Arc<Slot>,
    shadow: Arc<Slot>,
}

impl World {
    async fn new() -> Self {
        let fake = FakeRuntime::new();
        let server = Server::new(fake.clone(), one_worker(8));
        let running = server.load(spec(1, "any".into())).await.unwrap();
        let shadow = server.load(spec(2, SHADOW.into())).await.unwrap();
        fake.runs.take_arrivals();
        fake.shadow_runs.take_arrivals();
        Self { fake, server, running, shadow }
    }

    async fn answer(&self, value: f32) -> Inference {
        self.server.infer(&self.running, inputs(value)).await.unwrap()
    }

    /// A copy of a request to which the running version answered `was`, and the shadow answers `is`.
    async fn mirror(&self, was: f32, is: f32) {
        let answer = self.answer(was).await;
        self.server.mirror(Arc::clone(&self.shadow), inputs(is), answer);
    }

    fn wait_for_mirrored(&self, n: u64) {
        wait_until("the copies have run", || self.shadow.tally().shadow.mirrored == n);
    }
}

#[tokio::test]
async fn copies_are_compared_and_what_the_candidate_fails_is_counted() {
    let world = World::new().await;
    let answer = world.answer(4.0).await;
    let mut n_mirrored = 0;
    let mut mirror = |inputs| {
        world.server.mirror(Arc::clone(&world.shadow), inputs, answer.clone());
        n_mirrored += 1;
        // Few may wait; these are not to be shed.
        world.wait_for_mirrored(n_mirrored);
    };
    (0..WARM_UP_ANSWERS).for_each(|_| mirror(inputs(4.0)));
    mirror(inputs(4.0));
    mirror(inputs(2.0));
    mirror(inputs(POISON));
    mirror(inputs(f32::NAN));
    // Another signature.
    mirror(vec![tensor("y", &[1], &[4.0f32])]);
    world.fake.panics.store(true, Ordering::SeqCst);
    mirror(inputs(4.0));
    mirror(inputs(4.0));
    let summary = world.shadow.tally().shadow;
    assert_eq!((summary.mirrored, summary.failures, summary.shed), (WARM_UP_ANSWERS + 7, 4, 0));
    assert_eq!((summary.n_compared(), summary.differing), (WARM_UP_ANSWERS + 3, 1));
    assert!((summary.largest_difference - 0.5).abs() < 1e-9, "{summary:?}");
    assert_eq!(summary.running_latency.count(), 3, "after warming up");
    assert_eq!(summary.candidate_latency.count(), 3);
    assert_eq!(world.shadow.n_answered(), 0, "nobody was sent these answers");
}

#[tokio::test]
async fn a_run_that_others_shared_says_nothing_of_latency() {
    let world = World::new().await;
    let answer = Inference { n_together: 2, ..world.answer(1.0).await };
    // While it warms up, no run would say anything.
    for n_mirrored in 1..=WARM_UP_ANSWERS + 1 {
        world.server.mirror(Arc::clone(&world.shadow), inputs(1.0), answer.clone());
        world.wait_for_mirrored(n_mirrored);
    }
    let summary = world.shadow.tally().shadow;
    assert_eq!((summary.n_compared(), summary.running_latency.count()), (WARM_UP_ANSWERS + 1, 0));
}

#[tokio::test]
async fn a_shadow_that_hangs_takes_nothing_from_callers() {
    let world = World::new().await;
    world.fake.shadow_runs.set_open(false);
    world.mirror(1.0, 1.0).await;
    world.fake.shadow_runs.wait_for_arrivals(1);
    // The only worker answers everybody; of the copies, few wait.
    for value in 0..100 {
        world.mirror(value as f32, value as f32).await;
    }
    let summary = world.shadow.tally().shadow;
    assert_eq!((summary.mirrored, summary.shed), (0, 100 - 16));
    assert_eq!(world.fake.shadow_runs.take_arrivals(), 1);
    world.fake.shadow_runs.set_open(true);
    world.wait_for_mirrored(17);
    assert_eq!(world.fake.shadow_runs.take_arrivals(), 16);
}

#[tokio::test]
async fn copies_give_way_to_callers_and_are_shed_where_callers_wait() {
    let world = World::new().await;
    let answer = world.answer(1.0).await;
    let mirror = || world.server.mirror(Arc::clone(&world.shadow), inputs(1.0), answer.clone());
    world.fake.runs.take_arrivals();
    world.fake.runs.set_open(false);
    let running = queued!(world.server.infer(&world.running, inputs(1.0)));
    world.fake.runs.wait_for_arrivals(1);
    mirror();
    let waiting = queued!(world.server.infer(&world.running, inputs(2.0)));
    mirror();
    assert_eq!(world.shadow.tally().shadow.shed, 1, "a caller waits");
    assert_eq!(world.fake.shadow_runs.take_arrivals(), 0, "the worker is busy");
    world.fake.runs.set_open(true);
    running.await.unwrap();
    waiting.await.unwrap();
    world.wait_for_mirrored(1);
}

#[tokio::test]
async fn a_shadow_is_freed_with_its_last_copy_and_a_closed_server_runs_none() {
    let world = World::new().await;
    world.mirror(1.0, 1.0).await;
    let World { fake, server, running, shadow } = world;
    drop(shadow);
    wait_until("the shadow is freed", || server.slot(&version_id(2)).is_none());
    let again = server.load(spec(2, SHADOW.into())).await.unwrap();
    let answer = server.infer(&running, inputs(1.0)).await.unwrap();
    fake.shadow_runs.take_arrivals();
    server.shutdown().await;
    server.mirror(Arc::clone(&again), inputs(1.0), answer);
    wait_until("the copy is shed", || again.tally().shadow.shed == 1);
    assert_eq!(fake.shadow_runs.take_arrivals(), 0);
}
