//! Tells the others about this process: that it lives, what it has applied and loaded, and what that has answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::VersionId;
use tidegate_serve::Tally;
use tidegate_store::{NewTally, ReplicaReport, ReportKind, StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Fleet;

/// News wait this long for more of them: one change of a route makes several.
const GATHER: Duration = Duration::from_millis(50);

/// How often counts are told while versions share a route: whoever compares them is never further behind.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// After a report that the database did not take.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(5);

type LifeHere = (VersionId, u64);

/// What the database knows of this process.
#[derive(Default)]
struct Told {
    report: Option<ReplicaReport>,
    tallies: HashMap<LifeHere, Tally>,
    at: Option<Instant>,
}

/// Reports until told to stop, then says goodbye. Idle, that is one small statement each heartbeat.
pub async fn report(fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut told = Told::default();
    let mut is_failing = false;
    loop {
        let pause = match tell(&fleet, &mut told).await {
            Ok(()) => {
                if std::mem::replace(&mut is_failing, false) {
                    tracing::info!("this replica reports to the database again");
                }
                until_next(&fleet, &told)
            }
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "failed to report this replica; the others will take it for dead");
                }
                RETRY_PAUSE
            }
        };
        tokio::select! {
            () = fleet.placement.changed(), if !is_failing => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
    }
    if !matches!(tokio::time::timeout(GOODBYE, say_goodbye(&fleet, told)).await, Ok(Ok(()))) {
        tracing::warn!("failed to say goodbye to the other replicas; they will take this one for dead");
    }
}

fn until_next(fleet: &Fleet, told: &Told) -> Duration {
    let since = told.at.map_or(Duration::ZERO, |at| at.elapsed());
    let heartbeat = fleet.me.heartbeat.saturating_sub(since);
    if fleet.placement.compared().is_empty() { heartbeat } else { heartbeat.min(COUNT_INTERVAL) }
}

/// Writes what is new, or what is due; nothing otherwise.
async fn tell(fleet: &Fleet, told: &mut Told) -> Result<(), StoreError> {
    let myself = fleet.myself(fleet.clock.now());
    let kind =
        if told.report.as_ref() == Some(&myself.report) { ReportKind::Routine } else { ReportKind::News };
    let current = count(fleet);
    let is_due = told.at.is_none_or(|at| at.elapsed() >= fleet.me.heartbeat) || kind == ReportKind::News;
    let compared = fleet.placement.compared();
    let nothing = Tally::default();
    let is_wanted = |version: &VersionId| is_due || compared.contains(version);
    let grown = current
        .iter()
        .filter(|(life, tally)| is_wanted(&life.0) && told.tallies.get(*life).unwrap_or(&nothing) != *tally);
    let over = told.tallies.iter().filter(|(life, _)| !current.contains_key(*life));
    let mut tallies: Vec<NewTally> = grown.map(|(life, tally)| new_tally(life, tally, false)).collect();
    tallies.extend(over.map(|(life, tally)| new_tally(life, tally, true)));
    if !is_due && tallies.is_empty() {
        return Ok(());
    }
    fleet.store.replicas.report(&myself, &tallies, kind).await?;
    told.tallies.retain(|life, _| current.contains_key(life));
    for NewTally { version_id, life, .. } in tallies {
        let life = (version_id, life);
        if let Some(tally) = current.get(&life) {
            told.tallies.insert(life, tally.clone());
        }
    }
    told.report = Some(myself.report);
    told.at = Some(Instant::now());
    Ok(())
}

/// What was counted to the end, for the verdicts that the others go on to make.
async fn say_goodbye(fleet: &Fleet, told: Told) -> Result<(), StoreError> {
    let mut last = told.tallies;
    last.extend(count(fleet).into_iter().filter(|(_, tally)| *tally != Tally::default()));
    let tallies: Vec<_> = last.iter().map(|(life, tally)| new_tally(life, tally, true)).collect();
    let myself = fleet.myself(fleet.clock.now());
    fleet.store.replicas.report(&myself, &tallies, ReportKind::Routine).await?;
    fleet.store.replicas.remove(&fleet.me.id).await
}

fn count(fleet: &Fleet) -> HashMap<LifeHere, Tally> {
    let slots = fleet.server.slots();
    slots.iter().map(|slot| ((slot.version_id().clone(), slot.life()), slot.tally())).collect()
}

fn new_tally((version_id, life): &LifeHere, tally: &Tally, is_final: bool) -> NewTally {
    let tally = serde_json::to_value(tally).expect("a tally is numbers");
    NewTally { version_id: version_id.clone(), life: *life, tally, is_final }
}
