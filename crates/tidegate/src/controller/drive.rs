//! Driving one deployment, from wherever it stands to its end.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tidegate_core::{DeploymentId, DeploymentStatus, Timestamp};
use tidegate_delivery::{EventKind, Look, Outcome, Phase, Rollout};
use tidegate_store::{DeploymentRecord, Fence};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::apply::{ApplyError, rollout_of};
use super::hands::{Job, Reports};
use super::{Controller, POLL_INTERVAL, RENEWALS_PER_LEASE};

/// Outcomes that may wait for the driver: one per phase, and the observations of a slow store.
const OUTCOME_BUFFER: usize = 16;

/// The work of a phase, being done.
struct Working {
    epoch: u64,
    task: JoinHandle<()>,
}

impl Drop for Working {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Takes the lease, if it is free, and drives until the deployment is settled, the lease is lost, or the process stops.
pub(super) async fn drive(
    controller: &Arc<Controller>,
    id: &DeploymentId,
    stop: &CancellationToken,
) -> Result<(), ApplyError> {
    let lease = format!("deployment/{id}");
    let Some(mut fence) = acquire(controller, &lease).await? else { return Ok(()) };
    let result = drive_held(controller, id, &mut fence, stop).await;
    controller.hands.let_go(id);
    if let Err(error) = controller.ledger.release(&lease, &fence.holder, fence.generation).await {
        tracing::debug!(%error, lease, "failed to release a lease; it runs out by itself");
    }
    result
}

async fn drive_held(
    controller: &Arc<Controller>,
    id: &DeploymentId,
    fence: &mut Fence,
    stop: &CancellationToken,
) -> Result<(), ApplyError> {
    let (outcomes, mut inbox) = mpsc::channel::<(u64, Outcome)>(OUTCOME_BUFFER);
    let mut working: Option<Working> = None;
    controller.apply(id, Some(fence), |_, _| Some(EventKind::TakenUp)).await?;
    let mut pace = Pace::of(controller);
    loop {
        if pace.has_jumped(controller) {
            // Time that the clock has skipped was not watched.
            controller.apply(id, Some(fence), |_, _| Some(EventKind::TakenUp)).await?;
        }
        let changed = controller.changed.notified();
        let record = controller.record(id).await?;
        let rollout = rollout_of(&record)?;
        if rollout.is_settled() {
            return Ok(());
        }
        if rollout.phase == Phase::AwaitingApproval {
            // That may take days; the version loads again when it is needed.
            controller.hands.let_go(id);
        }
        if let Some(kind) = due_event(controller, &record, &rollout).await? {
            controller.apply(id, Some(fence), |_, _| Some(kind.clone())).await?;
            continue;
        }
        if working.as_ref().map(|working| working.epoch) != Some(rollout.epoch) {
            working = rollout.work().map(|work| {
                let (hands, epoch) = (Arc::clone(&controller.hands), rollout.epoch);
                let (job, reports) =
                    (Job { deployment: id.clone(), work }, Reports::new(epoch, outcomes.clone()));
                Working { epoch, task: tokio::spawn(async move { hands.perform(job, reports).await }) }
            });
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some((epoch, outcome)) = inbox.recv() => {
                let look = Look::of(&rollout, &outcome, controller.clock.now());
                let kind = EventKind::Outcome { epoch, outcome };
                controller.apply(id, Some(fence), |_, _| Some(kind.clone())).await?;
                if let Some(look) = look.filter(|_| epoch == rollout.epoch) {
                    keep_look(controller, id, &look).await;
                }
            }
            () = changed => {}
            () = tokio::time::sleep(until_wake(controller, &rollout)) => {}
        }
        match acquire(controller, &fence.lease).await? {
            Some(renewed) if renewed.generation == fence.generation => {}
            _ => return Err(ApplyError::Fenced),
        }
    }
}

/// Whoever watches misses a look that the store does not take; the rollout misses nothing.
async fn keep_look(controller: &Controller, id: &DeploymentId, look: &Look) {
    if let Err(error) = controller.ledger.keep_look(id, look).await {
        tracing::debug!(deployment = %id, %error, "failed to keep a look");
    }
}

/// Tells the clock's jumps from time that has passed.
struct Pace {
    wall: Timestamp,
    passed: Instant,
}

/// More than a busy machine or a clock that is being corrected smoothly makes of it.
const JUMP: SignedDuration = SignedDuration::from_secs(2);

impl Pace {
    fn of(controller: &Controller) -> Self {
        Self { wall: controller.clock.now(), passed: Instant::now() }
    }

    fn has_jumped(&mut self, controller: &Controller) -> bool {
        let now = Self::of(controller);
        let by_wall = now.wall.duration_since(self.wall);
        let passed = SignedDuration::try_from(now.passed - self.passed).unwrap_or(SignedDuration::MAX);
        *self = now;
        (by_wall - passed).abs() > JUMP
    }
}

/// What is due by itself: a turn, a time that has come, a newer deployment.
async fn due_event(
    controller: &Controller,
    record: &DeploymentRecord,
    rollout: &Rollout,
) -> Result<Option<EventKind>, ApplyError> {
    match rollout.phase {
        // It keeps its turn.
        Phase::Pending if rollout.paused_at.is_some() => Ok(None),
        Phase::Pending => {
            let ahead = controller.ledger.unsettled().await?;
            let running = ahead.iter().filter(|other| other.id < record.id && holds_turn(other)).count();
            Ok((running < controller.settings.max_concurrent).then_some(EventKind::Start))
        }
        Phase::KeepingPrevious { .. } => {
            let newest = controller.ledger.newest(&record.model_id, record.environment).await?;
            if let Some(newer) = newest.filter(|newest| newest.id != record.id) {
                return Ok(Some(EventKind::Superseded { by: newer.id }));
            }
            Ok(tick_if_due(controller.clock.now(), rollout))
        }
        _ => Ok(tick_if_due(controller.clock.now(), rollout)),
    }
}

/// One that waits for a person, for days perhaps, keeps nobody waiting behind it. When it goes on it does so at once, so that
/// for a while there may be one more than the setting says.
fn holds_turn(record: &DeploymentRecord) -> bool {
    record.status.in_progress() && record.status != DeploymentStatus::AwaitingApproval
}

fn tick_if_due(now: Timestamp, rollout: &Rollout) -> Option<EventKind> {
    rollout.next_wake().filter(|wake| now >= *wake).map(|_| EventKind::Tick)
}

async fn acquire(controller: &Controller, lease: &str) -> Result<Option<Fence>, ApplyError> {
    let holder = controller.settings.holder.clone();
    let now = controller.clock.now();
    let ttl = SignedDuration::try_from(controller.settings.lease).unwrap_or(SignedDuration::MAX);
    let generation = controller.ledger.acquire(lease, &holder, now, ttl).await?;
    Ok(generation.map(|generation| Fence { lease: lease.to_owned(), holder, generation }))
}

/// Until something is due, or the lease wants to be renewed.
fn until_wake(controller: &Controller, rollout: &Rollout) -> Duration {
    let longest = POLL_INTERVAL.min(controller.settings.lease / RENEWALS_PER_LEASE);
    let Some(wake) = rollout.next_wake() else { return longest };
    let due_in = wake.duration_since(controller.clock.now());
    Duration::try_from(due_in).unwrap_or(Duration::ZERO).min(longest)
}
