use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use jiff::SignedDuration;
use serde_json::json;
use tidegate_core::{Environment, HeaderName, ReplicaId, RequestId};
use tidegate_store::{
    AsyncOutcome, AsyncRequest, AsyncResult, AsyncState, Claimed, HandedIn, JsonText, NewAsyncRequest, Store,
};

use crate::bench::Bench;
use crate::samples::at;

const TTL: SignedDuration = SignedDuration::from_secs(10);
const PLENTY: u64 = 1_000;

fn request(id: &str, seconds: i64) -> NewAsyncRequest {
    NewAsyncRequest {
        request_id: RequestId::new(id),
        model: "m".to_owned(),
        environment: Environment::Staging,
        sticky_key: Some("user-7".to_owned()),
        principal: None,
        sticky_header: Some((HeaderName::parse("x-user").unwrap(), b"\0\xff: user".to_vec())),
        trace_id: "abc".to_owned(),
        body: json!({"features": {"x": "it's ü"}}).to_string(),
        requested_at: at(seconds),
    }
}

fn result(y: u32, seconds: i64) -> AsyncResult {
    AsyncResult {
        outcome: AsyncOutcome::Completed {
            prediction: JsonText::of(&json!({"y": y})).unwrap(),
            confidence: Some(0.1 + 0.2),
        },
        version: Some("1.0.0".parse().unwrap()),
        latency_ms: 1.5,
        completed_at: at(seconds),
        expires_at: at(seconds + 100),
    }
}

async fn claim(store: &Store, holder: &str, seconds: i64, limit: u32) -> Vec<Claimed> {
    store.async_requests.claim(&ReplicaId::new(holder), at(seconds), TTL, limit).await.unwrap()
}

async fn state(store: &Store, id: &str) -> Option<AsyncState> {
    let request = store.async_requests.get(&RequestId::new(id)).await.unwrap();
    request.map(|request| request.state)
}

pub async fn a_request_is_answered_once(bench: Arc<Bench>) {
    let requests = &bench.store.async_requests;
    let given = request("r", 0);
    assert!(!requests.is_any_due(at(0)).await.unwrap());
    assert_eq!(requests.hand_in(&given, PLENTY).await.unwrap(), HandedIn::Taken);
    assert_eq!(requests.hand_in(&given, PLENTY).await.unwrap(), HandedIn::Known);
    let expected = AsyncRequest {
        request_id: RequestId::new("r"),
        model: "m".to_owned(),
        environment: Environment::Staging,
        requested_at: at(0),
        state: AsyncState::Queued,
    };
    assert_eq!(requests.get(&RequestId::new("r")).await.unwrap(), Some(expected));
    assert!(requests.is_any_due(at(0)).await.unwrap());

    let claimed = claim(&bench.store, "a", 1, 5).await;
    assert_eq!(claimed.len(), 1);
    assert_eq!((&claimed[0].request, claimed[0].n_lost, claimed[0].n_put_off), (&given, 0, 0));
    assert_eq!(state(&bench.store, "r").await, Some(AsyncState::Running));
    assert_eq!(claim(&bench.store, "b", 2, 5).await, [], "somebody has it");
    assert!(requests.complete(&claimed[0].claim, &result(7, 3)).await.unwrap());
    assert!(!requests.complete(&claimed[0].claim, &result(8, 3)).await.unwrap(), "there is a result");
    assert!(!requests.renew(&claimed[0].claim, at(3), TTL).await.unwrap());
    assert_eq!(state(&bench.store, "r").await, Some(AsyncState::Done(result(7, 3))));
    assert_eq!(claim(&bench.store, "b", 1_000, 5).await, []);
    assert_eq!(requests.hand_in(&given, PLENTY).await.unwrap(), HandedIn::Known);

    assert_eq!(requests.sweep(at(102), 5).await.unwrap(), 0);
    assert_eq!(requests.sweep(at(103), 5).await.unwrap(), 1);
    assert_eq!(state(&bench.store, "r").await, None);
}

pub async fn a_failure_is_a_result_too(bench: Arc<Bench>) {
    let requests = &bench.store.async_requests;
    requests.hand_in(&request("r", 0), PLENTY).await.unwrap();
    let claimed = claim(&bench.store, "a", 0, 5).await;
    let error = JsonText::of(&json!({"code": "INFERENCE_ERROR"})).unwrap();
    let failed = AsyncResult { outcome: AsyncOutcome::Failed { error }, version: None, ..result(0, 1) };
    assert!(requests.complete(&claimed[0].claim, &failed).await.unwrap());
    assert_eq!(state(&bench.store, "r").await, Some(AsyncState::Done(failed)));
}

pub async fn who_is_lost_loses_its_claim(bench: Arc<Bench>) {
    let requests = &bench.store.async_requests;
    requests.hand_in(&request("r", 0), PLENTY).await.unwrap();
    let first = claim(&bench.store, "a", 0, 5).await.remove(0);
    assert!(requests.renew(&first.claim, at(9), TTL).await.unwrap(), "until 19");
    assert_eq!(claim(&bench.store, "b", 18, 5).await, []);
    let second = claim(&bench.store, "b", 19, 5).await.remove(0);
    assert_eq!((second.n_lost, second.claim.number), (1, first.claim.number + 1));
    assert!(!requests.renew(&first.claim, at(19), TTL).await.unwrap());
    assert!(!requests.complete(&first.claim, &result(1, 20)).await.unwrap(), "it comes back too late");
    requests.put_off(&first.claim, at(20)).await.unwrap();
    assert_eq!(
        state(&bench.store, "r").await,
        Some(AsyncState::Running),
        "nor can it give away what it lost"
    );
    assert!(requests.complete(&second.claim, &result(2, 20)).await.unwrap());
    assert_eq!(state(&bench.store, "r").await, Some(AsyncState::Done(result(2, 20))));
}

pub async fn what_is_given_back_is_taken_again(bench: Arc<Bench>) {
    let requests = &bench.store.async_requests;
    for (id, second) in [("late", 5), ("early", 0)] {
        requests.hand_in(&request(id, second), PLENTY).await.unwrap();
    }
    assert_eq!(
        claim(&bench.store, "a", 5, 1).await[0].request.request_id.as_str(),
        "early",
        "the longest due"
    );
    let late = claim(&bench.store, "a", 5, 1).await.remove(0);
    requests.put_off(&late.claim, at(8)).await.unwrap();
    assert_eq!(claim(&bench.store, "a", 7, 5).await, []);
    let again = claim(&bench.store, "b", 8, 5).await.remove(0);
    assert_eq!((again.n_put_off, again.n_lost), (1, 0));
    requests.release(&ReplicaId::new("a"), at(9)).await.unwrap();
    let released = claim(&bench.store, "c", 9, 5).await;
    assert_eq!(released.len(), 1, "only what `a` had");
    assert_eq!((released[0].request.request_id.as_str(), released[0].n_lost), ("early", 0));
}

pub async fn no_more_wait_than_may(bench: Arc<Bench>) {
    let requests = &bench.store.async_requests;
    for index in 0..3 {
        let handed_in = requests.hand_in(&request(&format!("r{index}"), index), 2).await.unwrap();
        assert_eq!(handed_in, if index < 2 { HandedIn::Taken } else { HandedIn::Full });
    }
    assert_eq!(requests.hand_in(&request("r0", 0), 2).await.unwrap(), HandedIn::Known);
    let claimed = claim(&bench.store, "a", 5, 1).await.remove(0);
    assert_eq!(requests.hand_in(&request("r2", 2), 2).await.unwrap(), HandedIn::Full, "running is not done");
    requests.complete(&claimed.claim, &result(0, 6)).await.unwrap();
    assert_eq!(requests.hand_in(&request("r2", 2), 2).await.unwrap(), HandedIn::Taken);
}

pub async fn many_take_and_each_request_goes_to_one(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    for index in 0..40 {
        bench.store.async_requests.hand_in(&request(&format!("r{index:02}"), index), PLENTY).await.unwrap();
    }
    let takers = (0..8).map(|index| {
        let store = if index % 2 == 0 { &bench.store } else { &others };
        async move {
            let mut taken = Vec::new();
            loop {
                let claimed = claim(store, &format!("taker-{index}"), 100, 3).await;
                // A taker that finds nothing may have met rows that others were just taking.
                if claimed.is_empty() && !store.async_requests.is_any_due(at(100)).await.unwrap() {
                    return taken;
                }
                taken.extend(claimed.into_iter().map(|claimed| claimed.request.request_id));
            }
        }
    });
    let taken: Vec<_> = join_all(takers).await.into_iter().flatten().collect();
    let distinct: BTreeSet<_> = taken.iter().map(RequestId::as_str).collect();
    assert_eq!((taken.len(), distinct.len()), (40, 40));
    others.close().await;
}
