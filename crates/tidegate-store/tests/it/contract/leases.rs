use std::sync::Arc;

use futures::future::join_all;
use jiff::SignedDuration;

use crate::bench::Bench;
use crate::samples::at;

const TTL: SignedDuration = SignedDuration::from_secs(10);

pub async fn pass_from_holder_to_holder(bench: Arc<Bench>) {
    let leases = &bench.store.leases;
    let acquire = async |holder: &str, seconds| leases.acquire("l", holder, at(seconds), TTL).await.unwrap();
    assert_eq!(acquire("a", 0).await, Some(1));
    assert_eq!(acquire("b", 9).await, None, "held until 10");
    assert_eq!(acquire("a", 9).await, Some(1), "renewed until 19");
    assert_eq!(acquire("b", 18).await, None);
    assert_eq!(acquire("b", 19).await, Some(2), "expired");
    assert_eq!(acquire("a", 20).await, None);
    assert_eq!(acquire("b", 100).await, Some(2), "late, but nobody else came");
    for (holder, generation) in [("a", 2), ("b", 1)] {
        leases.release("l", holder, generation).await.unwrap();
        assert_eq!(acquire("c", 101).await, None, "{holder} {generation} is not the holder");
    }
    leases.release("l", "b", 2).await.unwrap();
    assert_eq!(acquire("b", 101).await, Some(3), "given back, so it is new");
    assert_eq!(leases.acquire("other", "a", at(101), TTL).await.unwrap(), Some(1));
}

pub async fn one_of_many_acquires(bench: Arc<Bench>) {
    let others = bench.another_store().await;
    for round in 0..5u64 {
        let now = at(i64::try_from(round).unwrap() * 100);
        let attempts = (0..8).map(|index| {
            let leases = if index % 2 == 0 { &bench.store.leases } else { &others.leases };
            async move { leases.acquire("l", &format!("{round}-{index}"), now, TTL).await.unwrap() }
        });
        let won: Vec<_> = join_all(attempts).await.into_iter().flatten().collect();
        assert_eq!(won, [round + 1]);
    }
    others.close().await;
}
