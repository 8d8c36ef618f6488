//! Rolling: the replicas move to the candidate in batches, and each batch must be healthy before the next one moves.

use serde_json::{Value, json};
use tidegate_core::ReplicaId;

use super::{Stepper, evidence_of};
use crate::analysis::{ArmSummary, Verdict, analyse};
use crate::config::{Rolling, StrategyConfig};
use crate::rollout::{Phase, ReplicaHealth, RouteChange};

impl Stepper {
    /// Nobody moves yet: which replicas there are is only known when they are looked at.
    pub(super) fn begin_rolling(&mut self, why: &str, evidence: Value) {
        let Some(config) = self.rolling() else { return };
        let deadline = self.at + config.progress_deadline;
        let message = format!("{why}; the replicas move to the new version {} at a time", config.batch_size);
        self.record("rolling", &message, evidence);
        let (began, since) = (self.at, self.at);
        self.rollout.phase =
            Phase::Rolling { moved: Vec::new(), n_replicas: 0, failures: 0, began, since, deadline };
    }

    /// A version that is beyond a limit is rolled back at once; otherwise a batch is looked at when it has served long
    /// enough.
    pub(super) fn inspected(
        &mut self,
        replicas: &[ReplicaHealth],
        baseline: &ArmSummary,
        candidate: &ArmSummary,
    ) {
        let Some(config) = self.rolling() else { return };
        let analysis = analyse(baseline, candidate, &config.stages.thresholds);
        if analysis.verdict == Verdict::Fail {
            let cause = format!("the new version is worse: {}", analysis.summary);
            self.roll_back(cause, evidence_of(&analysis));
            return;
        }
        let wait = config.wait_duration;
        let Phase::Rolling { moved, n_replicas, since, .. } = &mut self.rollout.phase else { return };
        *n_replicas = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
        let is_first = moved.is_empty();
        if self.rollout.paused_at.is_some() || replicas.is_empty() || (!is_first && self.at < *since + wait) {
            return;
        }
        let faults = faults(moved, replicas);
        // A replica that is gone takes its batch with it; its successor has another id and moves anew.
        moved.retain(|id| replicas.iter().any(|replica| replica.id == *id));
        match faults.is_empty() {
            true => self.move_next_batch(replicas, is_first),
            false => self.batch_unhealthy(&faults),
        }
    }

    fn move_next_batch(&mut self, replicas: &[ReplicaHealth], is_first: bool) {
        let Some(config) = self.rolling() else { return };
        let (batch_size, deadline) = (config.batch_size as usize, self.at + config.progress_deadline);
        let candidate = self.rollout.plan.candidate.clone();
        let Phase::Rolling { moved, since, deadline: due, .. } = &mut self.rollout.phase else { return };
        let batch: Vec<ReplicaId> = replicas
            .iter()
            .map(|replica| replica.id.clone())
            .filter(|id| !moved.contains(id))
            .take(batch_size)
            .collect();
        let evidence = json!({"batch": batch, "replicas": replicas.len()});
        if batch.is_empty() {
            let all = format!("all {} replicas are healthy with the new version", moved.len());
            self.switch(&all, evidence);
            return;
        }
        moved.extend(batch.iter().cloned());
        (*since, *due) = (self.at, deadline);
        let n_moved = moved.len();
        let change = RouteChange::Move { candidate, replicas: moved.clone() };
        let before = if is_first { "" } else { "the batch is healthy; " };
        let message = format!(
            "{before}{} with the new version: {n_moved} of {} replicas",
            listed(&batch),
            replicas.len()
        );
        self.publish(change);
        self.record("moved", &message, evidence);
        self.rollout.is_held = false;
    }

    fn batch_unhealthy(&mut self, faults: &[String]) {
        let Some(config) = self.rolling() else { return };
        let max_failures = config.max_failures;
        let Phase::Rolling { failures, since, .. } = &mut self.rollout.phase else { return };
        *failures += 1;
        *since = self.at;
        let failures = *failures;
        let found = faults.join("; ");
        let evidence = json!({"failures": failures, "maxFailures": max_failures});
        if failures > max_failures {
            self.roll_back(format!("{found}: more than {max_failures} failed looks at replicas"), evidence);
            return;
        }
        let message =
            format!("{found}; looking again, {failures} of {max_failures} failed looks that may be");
        self.record("unhealthy", &message, evidence);
    }

    pub(super) fn batch_overdue(&mut self) {
        let Some(config) = self.rolling() else { return };
        let cause = format!("the replicas did not become healthy within {}", config.progress_deadline);
        self.roll_back(cause, Value::Null);
    }

    fn rolling(&self) -> Option<&Rolling> {
        match &self.rollout.plan.strategy {
            StrategyConfig::Rolling(config) => Some(config),
            _ => None,
        }
    }
}

/// What is wrong with the replicas that were told to move.
fn faults(moved: &[ReplicaId], replicas: &[ReplicaHealth]) -> Vec<String> {
    let fault_of = |id: &ReplicaId| match replicas.iter().find(|replica| replica.id == *id) {
        None => Some(format!("{id} is gone since it moved")),
        Some(ReplicaHealth { fault: Some(fault), .. }) => Some(format!("{id}: {fault}")),
        Some(ReplicaHealth { serves_candidate: false, .. }) => {
            Some(format!("{id} does not answer with the new version"))
        }
        Some(_) => None,
    };
    moved.iter().filter_map(fault_of).collect()
}

fn listed(batch: &[ReplicaId]) -> String {
    let ids: Vec<&str> = batch.iter().map(ReplicaId::as_str).collect();
    match ids.len() {
        1 => format!("{} answers", ids[0]),
        _ => format!("{} answer", ids.join(", ")),
    }
}
