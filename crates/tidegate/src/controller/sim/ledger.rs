//! The store, in memory, as one process reaches it: calls take a moment, fail, or are the last thing that the process does.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use tidegate_core::{DeploymentId, Environment, ModelId, Route, Timestamp};
use tidegate_delivery::Look;
use tidegate_store::{CommitError, CreateError, DeploymentRecord, NewEvent, StoreError, Transition};
use tokio::time::Instant;

use super::world::{Lease, Process, State, World};
use crate::controller::ledger::Ledger;

const P_FAILS: f64 = 0.01;
const P_CRASHES: f64 = 0.002;

pub struct SimLedger {
    pub world: Arc<World>,
    pub process: Arc<Process>,
}

impl SimLedger {
    /// Before a call reaches the store.
    async fn go(&self) -> Result<(), StoreError> {
        self.process.live_on().await;
        tokio::time::sleep(self.world.draw_ms(0..15)).await;
        self.maybe_crash("before a store call").await;
        if self.world.strikes(P_FAILS) {
            return Err(StoreError::of_race("reach the store", "the simulation cut the line"));
        }
        Ok(())
    }

    /// Before the answer reaches the caller: it happened, and who asked may never know.
    async fn come_back(&self) -> Result<(), StoreError> {
        self.maybe_crash("after a store call").await;
        if self.world.strikes(P_FAILS) {
            return Err(StoreError::of_race("hear from the store", "the simulation cut the line"));
        }
        Ok(())
    }

    async fn maybe_crash(&self, moment: &str) {
        if self.world.strikes(P_CRASHES) {
            self.process.kill();
            self.world.note(format!("{} crashes {moment}", self.process.name));
        }
        self.process.live_on().await;
    }
}

#[async_trait]
impl Ledger for SimLedger {
    async fn deployment(&self, id: &DeploymentId) -> Result<Option<DeploymentRecord>, StoreError> {
        self.go().await?;
        Ok(self.world.state().deployments.get(id).cloned())
    }

    async fn unsettled(&self) -> Result<Vec<DeploymentRecord>, StoreError> {
        self.go().await?;
        Ok(self.world.state().deployments.values().filter(|record| !record.is_settled).cloned().collect())
    }

    async fn newest(&self, _: &ModelId, _: Environment) -> Result<Option<DeploymentRecord>, StoreError> {
        self.go().await?;
        Ok(newest(&self.world.state()))
    }

    async fn route(&self, _: Environment, _: &ModelId) -> Result<Option<Route>, StoreError> {
        self.go().await?;
        Ok(self.world.state().route.clone())
    }

    async fn create(&self, record: &DeploymentRecord, first: &[NewEvent]) -> Result<(), CreateError> {
        self.go().await?;
        {
            let mut state = self.world.state();
            if let Some(other) = state.deployments.values().find(|other| other.status.in_progress()) {
                return Err(CreateError::InProgress { deployment_id: other.id.clone() });
            }
            state.deployments.insert(record.id.clone(), record.clone());
            state.events.insert(record.id.clone(), first.to_vec());
        }
        for event in first {
            self.world.note(format!("{} by {}: {}", record.id, self.process.name, event.message));
        }
        Ok(self.come_back().await?)
    }

    async fn commit(&self, transition: &Transition) -> Result<(), CommitError> {
        self.go().await?;
        commit(&mut self.world.state(), transition)?;
        for event in &transition.events {
            let id = &transition.record.id;
            self.world.note(format!("{id} by {}: {}: {}", self.process.name, event.kind, event.message));
        }
        Ok(self.come_back().await?)
    }

    /// Nobody watches.
    async fn keep_look(&self, _: &DeploymentId, _: &Look) -> Result<(), StoreError> {
        Ok(())
    }

    async fn acquire(
        &self,
        lease: &str,
        holder: &str,
        now: Timestamp,
        ttl: SignedDuration,
    ) -> Result<Option<u64>, StoreError> {
        self.go().await?;
        let generation = {
            let mut state = self.world.state();
            let expires_at = now + ttl;
            let free = Lease { holder: None, generation: 0, expires_at };
            let held = state.leases.entry(lease.to_owned()).or_insert(free);
            let is_mine = held.holder.as_deref() == Some(holder);
            if held.holder.is_some() && !is_mine && held.expires_at > now {
                None
            } else {
                held.generation += u64::from(!is_mine);
                (held.holder, held.expires_at) = (Some(holder.to_owned()), expires_at);
                Some(held.generation)
            }
        };
        self.come_back().await?;
        Ok(generation)
    }

    async fn release(&self, lease: &str, holder: &str, generation: u64) -> Result<(), StoreError> {
        self.go().await?;
        if let Some(held) = self.world.state().leases.get_mut(lease)
            && held.holder.as_deref() == Some(holder)
            && held.generation == generation
        {
            held.holder = None;
        }
        Ok(())
    }
}

fn newest(state: &State) -> Option<DeploymentRecord> {
    state.deployments.values().max_by_key(|record| (record.started_at, &record.id)).cloned()
}

/// As `tidegate-store` does it, and what must hold at every commit.
fn commit(state: &mut State, transition: &Transition) -> Result<(), CommitError> {
    let Transition { record, events, route, fence } = transition;
    if let Some(fence) = fence {
        let lease = state.leases.get(&fence.lease);
        let holds = lease.is_some_and(|lease| {
            lease.holder.as_deref() == Some(&fence.holder) && lease.generation == fence.generation
        });
        if !holds {
            return Err(CommitError::Fenced);
        }
    }
    let stored = state.deployments.get(&record.id).ok_or(CommitError::Conflict)?;
    let stored_generation = state.route.as_ref().map_or(0, |route| route.generation);
    if stored.revision != record.revision
        || route.as_ref().is_some_and(|route| route.generation != stored_generation + 1)
    {
        return Err(CommitError::Conflict);
    }
    if let Some(fence) = fence {
        let actor = state
            .actors
            .entry((fence.lease.clone(), fence.generation))
            .or_insert_with(|| fence.holder.clone());
        assert_eq!(*actor, fence.holder, "two controllers act under one generation of {}", fence.lease);
    }
    assert!(!events.is_empty() || route.is_none(), "traffic moved without a word in the log");
    let next = DeploymentRecord { revision: record.revision + 1, ..record.clone() };
    state.deployments.insert(record.id.clone(), next);
    state.events.get_mut(&record.id).expect("created with it").extend(events.iter().cloned());
    if let Some(route) = route {
        (state.route, state.route_at) = (Some(route.clone()), Some(Instant::now()));
    }
    Ok(())
}
