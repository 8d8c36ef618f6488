//! Models that take less time than handing them over would: who runs them, and what happens when they no longer do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidegate_serve::{
    BatchOptions, InferError, InferOptions, Inference, Priority, Server, ServerOptions, Slot, SlotOptions,
};

use crate::fake::{FakeRuntime, POISON};
use crate::support::{AUTO, SMALL, SMALL_SLOT, fixture, floats, inputs, onnxruntime, rten, spec, tensor};

/// Only a request that did not wait for a worker waited for nothing at all.
fn ran_here(inference: &Inference) -> bool {
    inference.queue.is_zero()
}

async fn answer(server: &Server, slot: &Arc<Slot>, options: InferOptions) -> Inference {
    server.infer_with(slot, inputs(1.0), options).await.unwrap()
}

/// Asks until the slot has been quick for long enough; where others need the cores, that takes some time. The number of answers.
async fn become_brief(server: &Server, slot: &Arc<Slot>) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut n = 1;
    while !ran_here(&answer(server, slot, InferOptions::default()).await) {
        assert!(Instant::now() < deadline, "it never became brief");
        n += 1;
    }
    n
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_brief_model_runs_where_it_is_asked_and_is_counted() {
    let server = Server::new(FakeRuntime::new(), SMALL);
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    let n = become_brief(&server, &slot).await;
    assert_eq!((slot.n_answered(), slot.tally().arm.requests), (n, n));

    let background = InferOptions { priority: Priority::Background, ..InferOptions::default() };
    let on_worker = InferOptions { on_worker: true, ..InferOptions::default() };
    for options in [background, on_worker] {
        assert!(!ran_here(&answer(&server, &slot, options).await), "{options:?}");
    }
    let larger = server.infer(&slot, vec![tensor("x", &[2], &[2f32, 3.0])]).await.unwrap();
    assert!(!ran_here(&larger), "nothing is known of inputs as large");
    let late = InferOptions { deadline: Some(Instant::now()), ..InferOptions::default() };
    let late = server.infer_with(&slot, inputs(1.0), late).await;
    assert_eq!(late, Err(InferError::DeadlineExceeded));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_stops_being_brief_goes_back_to_the_workers() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), SMALL);
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    become_brief(&server, &slot).await;
    fake.runs.take_arrivals();
    fake.runs.set_open(false);
    let opener = {
        let fake = fake.clone();
        std::thread::spawn(move || {
            fake.runs.wait_for_arrivals(1);
            std::thread::sleep(Duration::from_millis(30));
            fake.runs.set_open(true);
        })
    };
    answer(&server, &slot, InferOptions::default()).await;
    opener.join().unwrap();
    for _ in 0..100 {
        assert!(!ran_here(&answer(&server, &slot, InferOptions::default()).await));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_or_panics_costs_only_its_request() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), SMALL);
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    become_brief(&server, &slot).await;
    let failed = server.infer(&slot, inputs(POISON)).await.unwrap_err().to_string();
    assert!(failed.contains("told to fail"), "{failed}");
    assert_eq!(slot.n_failed(), 1);
    fake.panics.store(true, Ordering::SeqCst);
    server.infer(&slot, inputs(1.0)).await.unwrap_err();
    // Twice as often as there are sessions: none of them is lost.
    for _ in 0..4 {
        answer(&server, &slot, InferOptions::default()).await;
    }
    server.shutdown().await;
    assert_eq!(server.infer(&slot, inputs(1.0)).await, Err(InferError::ShuttingDown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_wait_for_company_waits() {
    let batch = BatchOptions { max_delay: Duration::from_millis(1), ..AUTO };
    let slot = SlotOptions { batch, ..SMALL_SLOT };
    let server = Server::new(FakeRuntime::new(), ServerOptions { slot, ..SMALL });
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    for _ in 0..100 {
        assert!(!ran_here(&answer(&server, &slot, InferOptions::default()).await));
    }
}

/// rten computes on threads of its own kind; anywhere else a run would be handed over twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_runs_on_any_thread_leaves_the_workers() {
    let mut cases = vec![(rten(), "version-1.onnx", false), (rten(), "scaler.onnx", true)];
    cases.extend(onnxruntime().map(|runtime| (runtime, "version-1.onnx", true)));
    for (runtime, file, is_to_leave) in cases {
        let name = runtime.info().name;
        let server = Server::new(runtime, SMALL);
        let slot = server.load(spec(1, fixture(file))).await.unwrap();
        let inputs = tidegate_serve::probe_inputs(slot.signature(), 3);
        let expected = slot.run_blocking(&inputs).unwrap();
        let mut has_left = false;
        for _ in 0..2_000 {
            let inference = server.infer(&slot, inputs.clone()).await.unwrap();
            assert_eq!(floats(&inference.outputs), floats(&expected));
            has_left |= ran_here(&inference);
        }
        assert_eq!(has_left, is_to_leave, "{file} on {name}");
    }
}
