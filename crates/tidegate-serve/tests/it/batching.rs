//! Requests that share a run: who is put together, and that nobody can tell from the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tidegate_core::NamedTensor;
use tidegate_serve::{
    BatchOptions, InferError, InferOptions, Priority, RunError, Runtime, Server, ServerOptions, Slot,
    SlotOptions, SlotSpec,
};

use crate::fake::{FakeRuntime, POISON};
use crate::support::{
    AUTO, SMALL_SLOT, fixture, floats, inputs, one_worker, runtimes, spec, tensor, test_data,
};

/// One worker whose batches hold up to eight rows, whatever is gained.
const BATCHING: ServerOptions = ServerOptions {
    n_workers: 1,
    queue_limit: 64,
    slot: SlotOptions { n_sessions: 1, batch: BatchOptions { max_rows: Some(8), ..AUTO }, ..SMALL_SLOT },
    models: BTreeMap::new(),
};

/// A server whose only worker is held up by a request that is given too; what comes next waits.
macro_rules! held_up {
    ($fake:ident, $server:ident, $slot:ident) => {{
        $fake.runs.take_arrivals();
        $fake.sizes.lock().unwrap().clear();
        $fake.runs.set_open(false);
        let running = queued!($server.infer(&$slot, inputs(0.0)));
        $fake.runs.wait_for_arrivals(1);
        running
    }};
}

fn background() -> InferOptions {
    InferOptions { priority: Priority::Background, ..InferOptions::default() }
}

#[tokio::test]
async fn what_waits_runs_together_and_each_gets_its_own_rows() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), BATCHING);
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    assert_eq!((slot.max_batch(), slot.has_independent_rows()), (8, true), "{}", slot.batching());
    let running = held_up!(fake, server, slot);
    let one = queued!(server.infer(&slot, inputs(1.0)));
    let two = queued!(server.infer(&slot, vec![tensor("x", &[2], &[2f32, 3.0])]));
    let left = queued!(server.infer(&slot, inputs(4.0)));
    let six = queued!(server.infer(&slot, vec![tensor("x", &[6], &[5f32; 6])]));
    let seven = queued!(server.infer(&slot, inputs(7.0)));
    drop(left);
    fake.runs.set_open(true);
    assert_eq!(floats(&running.await.unwrap().outputs), [0.0]);
    assert_eq!(floats(&one.await.unwrap().outputs), [1.0]);
    assert_eq!(floats(&two.await.unwrap().outputs), [2.0, 3.0]);
    assert_eq!(floats(&six.await.unwrap().outputs), [5.0; 6]);
    assert_eq!(floats(&seven.await.unwrap().outputs), [7.0]);
    assert_eq!(
        *fake.sizes.lock().unwrap(),
        [1, 4, 6],
        "the six do not fit the first batch, the seventh does"
    );
    assert_eq!(slot.tally().arm.requests, 5);
}

/// Work that must give the same bits each time.
#[tokio::test]
async fn what_would_be_alone_shares_no_batch() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), BATCHING);
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    let running = held_up!(fake, server, slot);
    let alone = |priority| InferOptions { priority, alone: true, ..InferOptions::default() };
    let one = queued!(server.infer(&slot, inputs(1.0)));
    let lone = queued!(server.infer_with(&slot, inputs(2.0), alone(Priority::Request)));
    let two = queued!(server.infer(&slot, inputs(3.0)));
    let tile = queued!(server.infer_with(&slot, inputs(4.0), alone(Priority::Background)));
    let next = queued!(server.infer_with(&slot, inputs(5.0), alone(Priority::Background)));
    fake.runs.set_open(true);
    running.await.unwrap();
    let answers = [one.await, lone.await, two.await, tile.await, next.await];
    for (answer, expected) in answers.into_iter().zip([1.0, 2.0, 3.0, 4.0, 5.0]) {
        assert_eq!(floats(&answer.unwrap().outputs), [expected]);
    }
    assert_eq!(*fake.sizes.lock().unwrap(), [1, 2, 1, 1, 1]);
}

#[tokio::test]
async fn a_request_that_fails_takes_nobody_with_it() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), BATCHING);
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    let running = held_up!(fake, server, slot);
    let good = queued!(server.infer(&slot, inputs(1.0)));
    let bad = queued!(server.infer(&slot, inputs(POISON)));
    let fine = queued!(server.infer(&slot, inputs(2.0)));
    fake.runs.set_open(true);
    running.await.unwrap();
    assert_eq!(floats(&good.await.unwrap().outputs), [1.0]);
    assert!(matches!(bad.await, Err(InferError::Run(RunError::Failed { .. }))));
    assert_eq!(floats(&fine.await.unwrap().outputs), [2.0]);
    assert_eq!(*fake.sizes.lock().unwrap(), [1, 3, 1, 1, 1], "together, then each by itself");
    let tally = slot.tally().arm;
    assert_eq!((tally.requests, tally.failures, tally.latency.count()), (4, 1, 0));
}

#[tokio::test]
async fn a_deadline_takes_a_request_out_of_the_queue() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(2));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    let running = held_up!(fake, server, slot);
    let within = |time| InferOptions { deadline: Some(Instant::now() + time), ..InferOptions::default() };
    let late = server.infer_with(&slot, inputs(1.0), within(Duration::from_millis(1)));
    assert_eq!(late.await, Err(InferError::DeadlineExceeded), "while the worker is still held up");
    let over = server.infer_with(&slot, inputs(1.0), within(Duration::ZERO));
    assert_eq!(over.await, Err(InferError::DeadlineExceeded));
    let patient = queued!(server.infer_with(&slot, inputs(2.0), within(Duration::from_secs(600))));
    let second = queued!(server.infer(&slot, inputs(3.0)));
    fake.runs.set_open(true);
    running.await.unwrap();
    assert_eq!(patient.await.unwrap().outputs, inputs(2.0));
    second.await.unwrap();
    assert_eq!(fake.runs.take_arrivals(), 3, "those that were late never ran and left room");
}

#[tokio::test]
async fn background_runs_last_and_is_shed_first() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(2));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    let running = held_up!(fake, server, slot);
    let older = queued!(server.infer_with(&slot, inputs(10.0), background()));
    let shed = queued!(server.infer_with(&slot, inputs(11.0), background()));
    let refused = server.infer_with(&slot, inputs(12.0), background());
    assert!(matches!(refused.await, Err(InferError::Overloaded { .. })));
    let request = queued!(server.infer(&slot, inputs(1.0)));
    assert!(matches!(shed.await, Err(InferError::Overloaded { .. })), "the youngest made room");
    fake.runs.set_open(true);
    running.await.unwrap();
    // Its answer comes after the request's, so the request is answered by now.
    older.await.unwrap();
    let mut request = request;
    assert!(futures::poll!(&mut request).is_ready(), "the request ran first");
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    // The worker learns what a request takes from one that is held up for a while.
    let running = held_up!(fake, server, slot);
    tokio::time::sleep(Duration::from_millis(20)).await;
    fake.runs.set_open(true);
    running.await.unwrap();
    let running = held_up!(fake, server, slot);
    let waiting: Vec<_> = (0..8).map(|_| Box::pin(server.infer(&slot, inputs(1.0)))).collect();
    let mut waiting = futures::future::join_all(waiting);
    assert!(futures::poll!(&mut waiting).is_pending());
    let error = server.infer(&slot, inputs(2.0)).await.unwrap_err();
    let InferError::Overloaded { retry_after } = error else { panic!("{error}") };
    assert!(retry_after >= Duration::from_millis(8 * 20), "{retry_after:?} for eight in the queue");
    fake.runs.set_open(true);
    running.await.unwrap();
    waiting.await;
}

#[tokio::test]
async fn a_lone_caller_never_waits_for_company() {
    let fake = FakeRuntime::new();
    let batch = BatchOptions { max_rows: Some(8), max_delay: Duration::from_secs(600) };
    let slot_options = SlotOptions { n_sessions: 2, batch, ..SMALL_SLOT };
    let server = Server::new(fake.clone(), ServerOptions { n_workers: 2, slot: slot_options, ..BATCHING });
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    for value in [1.0, 2.0] {
        assert_eq!(server.infer(&slot, inputs(value)).await.unwrap().outputs, inputs(value));
    }
    // While one runs, the others are held back for each other, and go when it ends.
    let running = held_up!(fake, server, slot);
    let held: Vec<_> = (0..3).map(|_| Box::pin(server.infer(&slot, inputs(1.0)))).collect();
    let mut held = futures::future::join_all(held);
    assert!(futures::poll!(&mut held).is_pending());
    assert_eq!(fake.runs.take_arrivals(), 1, "only the first runs");
    fake.runs.set_open(true);
    running.await.unwrap();
    assert!(held.await.iter().all(Result::is_ok));
    assert_eq!(*fake.sizes.lock().unwrap(), [1, 3]);
}

#[tokio::test]
async fn a_model_may_have_its_own_options() {
    let alone = one_worker(8).slot;
    let models = BTreeMap::from([("m".to_owned(), SlotOptions { n_sessions: 3, ..alone })]);
    let server = Server::new(FakeRuntime::new(), ServerOptions { models, ..BATCHING });
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    assert_eq!((slot.n_sessions(), slot.max_batch()), (3, 1));
    let model_name = tidegate_core::ModelName::parse("another").unwrap();
    let slot = server.load(SlotSpec { model_name, ..spec(2, "any".into()) }).await.unwrap();
    assert_eq!((slot.n_sessions(), slot.max_batch()), (1, 8));
}

#[tokio::test]
async fn only_models_whose_rows_are_independent_batch() {
    for runtime in runtimes() {
        let server = Server::new(runtime, BATCHING);
        for (number, name, max_batch, reason) in [
            (1, "linear.onnx", 8, "8 rows together take"),
            (2, "unnamed-batch.onnx", 8, "8 rows together take"),
            (3, "fixed-batch.onnx", 1, "the first axis of `x` [2, 3] does not vary"),
            (4, "picky.onnx", 1, "trial"),
            (5, "mixing-rows.onnx", 1, "a row of `y` depends on the rows beside it"),
            (6, "baked-batch.onnx", 1, "it does not run on `x` [8, 3]"),
            (7, "slow.onnx", 1, "the first axis of `x` [1, 1] does not vary"),
        ] {
            let Ok(slot) = server.load(spec(number, fixture(name))).await else {
                assert_eq!(name, "picky.onnx", "fails on its trial run already");
                continue;
            };
            assert_eq!(slot.max_batch(), max_batch, "{name}: {}", slot.batching());
            assert_eq!(slot.has_independent_rows(), max_batch > 1, "{name}");
            assert!(slot.batching().contains(reason), "{name}: {}", slot.batching());
        }
    }
}

/// Requests of one to three rows, with values that a sum of three keeps exactly comparable.
fn any_requests(width: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let row = prop::collection::vec(-4f32..4.0, width);
    let request = prop::collection::vec(row, 1..4).prop_map(|rows| rows.concat());
    prop::collection::vec(request, 2..12)
}

#[test]
fn batched_answers_equal_single_ones_on_every_runtime() {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for runtime in runtimes() {
        let mut models = vec![(fixture("linear.onnx"), "x", 3), (fixture("unnamed-batch.onnx"), "x", 3)];
        let is_classical = runtime.info().name == "onnxruntime";
        let tabular = test_data().map(|data| data.join("tabular/tabular.onnx"));
        models.extend(tabular.filter(|_| is_classical).map(|path| (path, "X", 10)));
        for (number, (path, input, width)) in models.into_iter().enumerate() {
            let server = Server::new(Arc::clone(&runtime), BATCHING);
            let slot = tokio.block_on(server.load(spec(number as u64, path))).unwrap();
            assert!(slot.max_batch() > 1, "{}", slot.batching());
            let mut runner = TestRunner::new(Config { cases: 24, ..Config::default() });
            let checked = runner.run(&any_requests(width), |requests| {
                let request = |values: &Vec<f32>| vec![tensor(input, &[values.len() / width, width], values)];
                check_alike(&tokio, &server, &slot, requests.iter().map(request).collect());
                Ok(())
            });
            checked.unwrap_or_else(|error| panic!("{}: {error}", runtime.info().name));
        }
    }
}

/// All at once, where most share a run, and then each by itself.
fn check_alike(
    tokio: &tokio::runtime::Runtime,
    server: &Server,
    slot: &Arc<Slot>,
    requests: Vec<Vec<NamedTensor>>,
) {
    let batched = requests.iter().map(|request| server.infer(slot, request.clone()));
    let batched = tokio.block_on(futures::future::join_all(batched));
    for (batched, request) in batched.into_iter().zip(&requests) {
        let (batched, alone) = (batched.unwrap().outputs, slot.run_blocking(request).unwrap());
        for (batched, alone) in batched.iter().zip(&alone) {
            assert_eq!((&batched.name, batched.tensor.shape()), (&alone.name, alone.tensor.shape()));
            match (batched.tensor.values::<f32>(), alone.tensor.values::<f32>()) {
                (Some(batched), Some(alone)) => {
                    let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b.abs().max(1.0);
                    assert!(batched.iter().zip(alone.iter()).all(is_close), "{batched:?} for {alone:?}");
                }
                _ => assert_eq!(batched, alone),
            }
        }
    }
}

#[tokio::test]
async fn a_value_that_the_runtime_cannot_take_fails_its_own_request_only() {
    let runtime: Arc<dyn Runtime> = crate::support::rten();
    let server = Server::new(runtime, BATCHING);
    let slot = server.load(spec(1, fixture("identity-int64.onnx"))).await.unwrap();
    assert!(slot.max_batch() > 1, "{}", slot.batching());
    let values = [[1i64, 2, 3], [1 << 40, 0, 0], [4, 5, 6]];
    let requests = values.map(|values| server.infer(&slot, vec![tensor("x", &[1, 3], &values)]));
    let outcomes = futures::future::join_all(requests).await;
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok(), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Err(InferError::Run(RunError::Input { name, .. })) if name == "x"));
}
