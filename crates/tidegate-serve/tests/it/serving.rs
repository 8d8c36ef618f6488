//! The queue, the workers and the loads, with a runtime that waits to be told.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidegate_serve::{InferError, InferOptions, LoadError, RunError, Server, SlotState, Standing};

use crate::fake::FakeRuntime;
use crate::support::{
    SMALL, fixture, floats, inputs, model_name, one_worker, route, runtimes, spec, tensor, version_id,
    wait_until,
};

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_those_who_left_make_room() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(2));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    fake.runs.take_arrivals();
    fake.runs.set_open(false);

    let running = queued!(server.infer(&slot, inputs(1.0)));
    fake.runs.wait_for_arrivals(1);
    let second = queued!(server.infer(&slot, inputs(2.0)));
    let leaving = queued!(server.infer(&slot, inputs(3.0)));
    assert!(matches!(server.infer(&slot, inputs(4.0)).await, Err(InferError::Overloaded { .. })));
    drop(leaving);
    let fifth = queued!(server.infer(&slot, inputs(5.0)));

    fake.runs.set_open(true);
    assert_eq!(running.await.unwrap().outputs, inputs(1.0));
    assert_eq!(second.await.unwrap().outputs, inputs(2.0));
    assert_eq!(fifth.await.unwrap().outputs, inputs(5.0));
    assert_eq!(fake.runs.take_arrivals(), 3, "the request that left never ran");
}

#[tokio::test]
async fn a_request_that_left_a_queue_with_room_does_not_run_either() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    fake.runs.take_arrivals();
    fake.runs.set_open(false);
    let running = queued!(server.infer(&slot, inputs(1.0)));
    fake.runs.wait_for_arrivals(1);
    drop(queued!(server.infer(&slot, inputs(2.0))));
    let third = queued!(server.infer(&slot, inputs(3.0)));
    fake.runs.set_open(true);
    running.await.unwrap();
    third.await.unwrap();
    assert_eq!(fake.runs.take_arrivals(), 2);
}

#[tokio::test]
async fn a_panic_costs_one_request_and_neither_the_worker_nor_the_session() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    fake.panics.store(true, Ordering::SeqCst);
    let error = server.infer(&slot, inputs(1.0)).await.unwrap_err();
    assert!(matches!(error, InferError::Run(RunError::Failed { .. })), "{error}");
    assert_eq!(server.infer(&slot, inputs(2.0)).await.unwrap().outputs, inputs(2.0));
}

#[tokio::test]
async fn shutting_down_answers_what_is_queued_and_takes_no_more() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    fake.runs.take_arrivals();
    fake.runs.set_open(false);
    let running = queued!(server.infer(&slot, inputs(1.0)));
    let waiting = queued!(server.infer(&slot, inputs(2.0)));
    let shutdown = queued!(server.shutdown());
    assert_eq!(server.infer(&slot, inputs(3.0)).await, Err(InferError::ShuttingDown));
    fake.runs.set_open(true);
    shutdown.await;
    assert!(running.await.is_ok() && waiting.await.is_ok());
    server.shutdown().await;
}

#[tokio::test]
async fn loading_a_version_does_not_hold_up_those_that_serve() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    fake.loads.set_open(false);
    let loading = queued!(server.load(spec(2, "any".into())));
    assert!(server.slot(&version_id(2)).is_none(), "not before it is warm");
    server.infer(&slot, inputs(1.0)).await.unwrap();
    fake.loads.set_open(true);
    assert_eq!(loading.await.unwrap().version_id(), &version_id(2));
    wait_until("a version that nobody keeps is freed", || server.slot(&version_id(2)).is_none());
}

#[tokio::test]
async fn what_somebody_chose_to_send_is_counted_and_is_no_evidence() {
    let server = Server::new(FakeRuntime::new(), one_worker(8));
    let slot = server.load(spec(1, "any".into())).await.unwrap();
    for (value, standing) in [(1.0, Standing::Evidence), (2.0, Standing::Apart), (1.0, Standing::Evidence)] {
        let options = InferOptions { standing, ..InferOptions::default() };
        server.infer_with(&slot, inputs(value), options).await.unwrap();
    }
    slot.report_unusable(Standing::Apart);
    assert_eq!((slot.n_answered(), slot.n_failed()), (3, 1));
    let arm = slot.tally().arm;
    assert_eq!((arm.requests, arm.failures), (2, 0));
    let predicted: Vec<_> =
        arm.predictions.outputs.values().map(|histogram| histogram.occupied().count()).collect();
    assert_eq!(predicted, [1], "both had the same answer");
}

#[tokio::test]
async fn callers_who_ask_for_one_version_share_one_load() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    fake.loads.set_open(false);
    let first = queued!(server.load(spec(1, "any".into())));
    let second = queued!(server.load(spec(1, "any".into())));
    fake.loads.set_open(true);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let third = server.load(spec(1, "any".into())).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&first, &third));
    assert_eq!(fake.loads.take_arrivals(), 1);
    assert!(Arc::ptr_eq(&server.slot(&version_id(1)).unwrap(), &first));
}

#[tokio::test]
async fn a_failed_load_is_shared_and_may_be_tried_again() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    fake.n_failures.store(1, Ordering::SeqCst);
    fake.loads.set_open(false);
    let first = queued!(server.load(spec(1, "any".into())));
    let second = queued!(server.load(spec(1, "any".into())));
    fake.loads.set_open(true);
    for outcome in [first.await, second.await] {
        assert!(matches!(outcome, Err(LoadError::Runtime { runtime: "fake", .. })));
    }
    assert!(server.loaded().is_empty());
    server.load(spec(1, "any".into())).await.unwrap();
}

#[tokio::test]
async fn a_load_goes_on_when_its_caller_leaves() {
    let fake = FakeRuntime::new();
    let server = Server::new(fake.clone(), one_worker(8));
    fake.loads.set_open(false);
    drop(queued!(server.load(spec(1, "any".into()))));
    let patient = queued!(server.load(spec(1, "any".into())));
    fake.loads.set_open(true);
    patient.await.unwrap();
    assert_eq!(fake.loads.take_arrivals(), 1);
}

#[tokio::test]
async fn inputs_that_do_not_fit_are_refused_before_they_queue() {
    for runtime in runtimes() {
        let server = Server::new(runtime, SMALL);
        let slot = server.load(spec(1, fixture("fixed-batch.onnx"))).await.unwrap();
        for (wrong, reason) in [
            (vec![], "missing"),
            (vec![tensor("x", &[1, 3], &[0f32; 3])], "expected shape [2, 3], got [1, 3]"),
            (vec![tensor("x", &[2, 3], &[0f64; 6])], "expected datatype FP32, got FP64"),
            (vec![tensor("y", &[2, 3], &[0f32; 6])], "no such input"),
        ] {
            let error = server.infer(&slot, wrong).await.unwrap_err();
            assert!(matches!(error, InferError::Mismatch(_)), "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        let inference = server.infer(&slot, vec![tensor("x", &[2, 3], &[1f32; 6])]).await.unwrap();
        assert_eq!(floats(&inference.outputs), [2.0; 6]);
        assert!(!inference.run.is_zero());
    }
}

#[tokio::test]
async fn what_is_loaded_is_told() {
    for runtime in runtimes() {
        let name = runtime.info().name;
        let executes = if runtime.info().accelerator.name == "openvino" { "openvino" } else { name };
        let server = Server::new(runtime, SMALL);
        assert_eq!(server.runtime().name, name);
        let signature = server.inspect(&fixture("picky.onnx")).unwrap();
        assert_eq!(signature.inputs[0].name, "x", "a signature needs no trial run");

        let picky = server.load(spec(3, fixture("version-3.onnx"))).await.unwrap();
        let slots = vec![
            server.load(spec(1, fixture("version-1.onnx"))).await.unwrap(),
            server.load(spec(2, fixture("version-2.onnx"))).await.unwrap(),
        ];
        server.infer(&slots[0], inputs(0.0)).await.unwrap();
        server.apply(route(1, Some(1), &[2]), model_name(), slots);
        let loaded = server.loaded();
        let states: Vec<_> = loaded.iter().map(|status| (status.version.major, status.state)).collect();
        assert_eq!(states, [(1, SlotState::Active), (2, SlotState::Warm), (3, SlotState::Detached)]);
        assert_eq!((loaded[0].requests, loaded[0].errors, loaded[1].requests), (1, 0, 0));
        assert_eq!((loaded[0].runtime, loaded[0].n_sessions), (executes, 2));
        assert!(loaded[0].loaded_in_ms > 0.0 && loaded[0].warm_latency_ms > 0.0);
        drop(picky);
    }
}
